"""Losses that train symbols through a program: tpsolve's, exact inference, and estimators written from their papers.

Each is made for a task, `calls` of the program for each sample and epoch, and a seed. It takes logits `(B, n, 10)` and
labels `(B,)`, and counts in `calls` the assignments that it asked for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.program_tasks import Task
from tpsolve import Budget
from tpsolve.nn import ProgramLoss

EXACT_COUNT = 4
"""Most images for which all assignments are listed."""


class Exact:
    """-log P(label) by the sum over all assignments."""

    def __init__(self, task: Task, calls: int, seed: int):
        every = np.stack(np.meshgrid(*[np.arange(task.classes)] * task.count, indexing="ij"), -1).reshape(
            -1, task.count
        )
        self.answers = torch.from_numpy(task.program(every).astype(np.int64))
        self.calls = 0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, 2)
        joint = log_p[:, 0]
        for unit in range(1, logits.shape[1]):
            joint = (joint[:, :, None] + log_p[:, None, unit]).flatten(1)
        self.calls += joint.numel()
        # Finite, so that a label that nothing explains any more has a gradient of 0 and no NaN.
        return -torch.logsumexp(joint.masked_fill(self.answers != labels[:, None], -1e9), 1).mean()


class Searched:
    """tpsolve's ProgramLoss."""

    def __init__(self, task: Task, calls: int, seed: int, **settings: Any):
        def program(symbols: np.ndarray) -> list[int]:
            return task.program(symbols).tolist()

        generator = torch.Generator().manual_seed(seed)
        budget = Budget(calls=calls)
        self.loss = ProgramLoss(
            program, task.classes, task.count, batched="numpy", budget=budget, generator=generator, **settings
        )
        self.calls = 0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = self.loss(logits, labels)
        assert self.loss.program is not None
        self.calls = self.loss.program.counts.calls
        return loss

    def read(self, logits: Tensor) -> Tensor:
        """The symbols `(B,)` of logits `(B, K)`."""
        place = self.loss.order.get(logits.shape[1])
        return (logits if place is None else logits[:, place]).argmax(1)


class _Estimator:
    def __init__(self, task: Task, calls: int, seed: int):
        self.task, self.per_sample = task, calls
        self.generator = torch.Generator().manual_seed(seed)
        self.calls = 0

    def _draws(self, log_p: Tensor, count: int) -> Tensor:
        """`(B, count, n)` assignments drawn from p."""
        p = log_p.detach().exp()
        drawn = torch.multinomial(p.flatten(0, 1), count, replacement=True, generator=self.generator)
        return drawn.view(*p.shape[:2], count).transpose(1, 2)

    def _answers(self, symbols: Tensor) -> Tensor:
        """Of symbols `(..., n)`."""
        flat = symbols.reshape(-1, symbols.shape[-1])
        self.calls += len(flat)
        return torch.from_numpy(self.task.program(flat.numpy()).astype(np.int64)).view(symbols.shape[:-1])


class Reinforce(_Estimator):
    """The score-function estimator of the expected reward, 1 where the label is met, with the mean of the other draws
    as baseline (Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free, 2019).
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, 2)
        drawn = self._draws(log_p, self.per_sample)
        reward = (self._answers(drawn) == labels[:, None]).float()
        baseline = (reward.sum(1, keepdim=True) - reward) / (self.per_sample - 1)
        score = log_p.gather(2, drawn.transpose(1, 2)).sum(1)
        return -((reward - baseline) * score).mean(1).mean()


class Indecater(_Estimator):
    """Rao-Blackwellised draws: every value of every symbol beside draws of the others (De Smet, Sansone and Zuidberg
    Dos Martires, Differentiable sampling of categorical distributions using the CatLog-derivative trick, NeurIPS 2023).

    Of -log of the estimated P(label). n K calls a draw, so at least one draw whatever the calls.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, 2)
        _, n, values = log_p.shape
        count = max(1, self.per_sample // (n * values))
        drawn = self._draws(log_p, count)[:, :, None, None].expand(-1, -1, n, values, -1).clone()
        units = torch.arange(n)
        drawn[:, :, units, :, units] = torch.arange(values)
        met = (self._answers(drawn) == labels[:, None, None, None]).float().mean(1)  # (B, n, K)
        p = log_p.exp()
        total = (p * met).sum(2)  # of each unit an estimate of P(label)
        return -(total / total.detach().mean(1, keepdim=True).clamp(min=1e-3)).sum(1).mean()


class Ised(_Estimator):
    """Draws, their answers as classes whose scores are the summed probabilities of the draws, and the binary
    cross-entropy of these classes (Solko-Breslin and others, Data-efficient learning with neural programs, NeurIPS
    2024).
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, 2)
        drawn = self._draws(log_p, self.per_sample)
        answers = self._answers(drawn)
        score = log_p.gather(2, drawn.transpose(1, 2)).sum(1).exp()  # (B, C)
        code = (drawn * self.task.classes ** torch.arange(drawn.shape[2])).sum(2)
        again = torch.tril(code[:, :, None] == code[:, None], -1).any(2)
        score = score.masked_fill(again, 0.0)
        classes, place = torch.unique(torch.cat([labels, answers.flatten()]), return_inverse=True)
        scores = score.new_zeros(len(labels), len(classes)).scatter_add(1, place[len(labels) :].view_as(answers), score)
        share = scores / scores.sum(1, keepdim=True).clamp(min=1e-12)
        wanted = torch.nn.functional.one_hot(place[: len(labels)], len(classes)).to(share)
        return torch.nn.functional.binary_cross_entropy(share.clamp(1e-6, 1 - 1e-6), wanted, reduction="sum") / len(
            labels
        )


Method = Callable[[Task, int, int], Any]
METHODS: dict[str, Method] = {
    "exact inference": Exact,
    "tpsolve": Searched,
    "tpsolve, terms left out": lambda task, calls, seed: Searched(task, calls, seed, balance=0, confidence=0),
    "tpsolve, values not moved": lambda task, calls, seed: Searched(task, calls, seed, reorder=False),
    "tpsolve, cheapest symbols": lambda task, calls, seed: Searched(
        task, calls, seed, solver="k-best", balance=0, confidence=0
    ),
    "tpsolve, half the calls": lambda task, calls, seed: Searched(task, calls // 2, seed),
    "tpsolve, a quarter of the calls": lambda task, calls, seed: Searched(task, calls // 4, seed),
    "REINFORCE": Reinforce,
    "IndeCateR-like": Indecater,
    "ISED-like": Ised,
}
