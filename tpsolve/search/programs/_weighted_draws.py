"""WeightedDraws: symbols drawn around the network's belief, and weights that make their gradient the marginal's."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.search._base import Report, Solver
from tpsolve.search.programs._listing import longest_list
from tpsolve.search.programs._orders import perturbed_best
from tpsolve.search.programs._recalled import recalled
from tpsolve.search.programs._target_sets import offer_cheapest, weighted_set

MAX_COMPARED = 2**24
"""Symbols that are compared at once."""


@dataclass(frozen=True)
class WeightedDraws(Solver):
    """Different assignments, drawn around the network's belief, all consistent ones kept and weighted.

    The proposal q is the network's p of each symbol, mixed with the uniform distribution. The present symbols come
    first. The others are drawn without replacement, in the order of log q plus Gumbel noise of whole assignments. The
    weight of an assignment is p over the chance that it is drawn, given the largest noise that was left out. The layer
    loss of the set estimates -log P(label) up to a constant, and its gradient tends to the exact marginal's as draws
    grow. Where a sample has no more assignments than draws, it is the exact marginal, and the answer is proved.

    Assignments that earlier searches found for the same label are recalled: all of them are in the set, with weight p.
    So the set of a program with few assignments soon holds all that is consistent, without further calls.

    A single cheapest assignment locks a network in the first consistent reading of its inputs; the set does not. All
    draws are one step. The cheapest of them is the result's targets.
    Source of the weights: Kool, van Hoof and Welling, Stochastic beams and where to find them (ICML 2019).

    Args:
        draws: of each sample; None: the budget's calls, or 64.
        uniform: share of the uniform distribution in the proposal, from 0 to 1.
        first: draws that are called at first. A sample makes do with them if one of them is consistent, and if they
            hold `mass` of the network's belief. The others go on to all draws.
        mass: share of the belief, from 0 to 1.
        max_recalled: of a sample; 0: what earlier searches found is not used.
    """

    draws: int | None = None
    uniform: float = 0.2
    first: int = 8
    mass: float = 0.9
    max_recalled: int = 1024

    name = "weighted-draws"
    accepts: ClassVar[tuple[type[Problem], ...]] = (ProgramProblem,)
    one_step = "all draws"
    stochastic = True

    def __post_init__(self) -> None:
        if self.draws is not None:
            check_count("draws", self.draws, 1)
        check_count("first", self.first, 1)
        check_count("max_recalled", self.max_recalled, 0)
        for name in ("uniform", "mass"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ArgumentError(name, share, "a share from 0 to 1")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, ProgramProblem)
        log_p = torch.log_softmax(problem.logits, 2)
        known, there, whole = recalled(problem, self.max_recalled)
        targets = problem.symbols_of(known).transpose(0, 1)
        weight = _total(log_p, known).masked_fill(~there, -math.inf)
        rows = there.any(1).nonzero()[:, 0]
        if len(rows):
            # By the problem's own sums, so that nothing that is proved depends on how log p rounds.
            cheapest = problem.disturbance(targets).masked_fill(~there.T, math.inf).argmin(0)
            offer_cheapest(report, targets[cheapest[rows], rows][None], rows)
        if whole:
            report.stats["draws"] = torch.zeros(len(log_p), dtype=torch.int64)
            report.prove(report.objective)
        else:
            drawn, weight_drawn = self._draw(problem, budget, generator, report, known, there)
            targets, weight = torch.cat([targets, drawn]), torch.cat([weight, weight_drawn], 1)
        report.target_set = weighted_set(targets, weight.T)
        report.step()

    def _draw(
        self,
        problem: ProgramProblem,
        budget: Budget,
        generator: torch.Generator,
        report: Report,
        known: Tensor,
        there: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Targets `(C, B, n)` and the log of their weights `(B, C)`, -inf for those that don't count."""
        count = budget.calls or 64
        count = count if self.draws is None else min(self.draws, budget.calls or self.draws)
        log_p = torch.log_softmax(problem.logits, 2)
        log_q = self._proposal(log_p).log()
        values, noisy = longest_list(lambda most: _present_first(problem, log_q, most, generator), count, report)
        count, first = values.shape[1], min(self.first, values.shape[1])
        targets = problem.symbols_of(values).transpose(0, 1)

        value = torch.full(targets.shape[:2], math.inf, dtype=torch.float64, device=problem.device)
        tried = offer_cheapest(report, targets[:first])
        first = len(tried)
        value[:first] = tried
        listed = noisy[:, :count] > -math.inf
        log_p_of = _total(log_p, values).masked_fill(~listed, -math.inf)
        going_on = torch.isinf(value).all(0) | (log_p_of[:, :first].exp().sum(1) < self.mass)
        rows = going_on.nonzero()[:, 0]
        last = first
        if first < count and len(rows) and report.seconds_left > 0:
            tried = offer_cheapest(report, targets[first:, rows], rows)
            last = first + len(tried)
            value[first:last, rows] = tried
        left_out = torch.where(going_on, noisy[:, last], noisy[:, first])
        called = torch.where(going_on, listed[:, :last].sum(1), listed[:, :first].sum(1))
        report.stats["draws"] = called
        # Values whose q is 0 within rounding are never drawn, so that assignments are counted.
        every = torch.tensor([n == c for n, c in zip(problem.count_assignments(), called.tolist(), strict=True)])
        report.prove(torch.where(every.to(problem.device), report.objective, -math.inf))
        chance = _log_chance(_total(log_q, values) - left_out[:, None])
        counts = torch.isfinite(value.T)
        counts[counts.clone()] = ~_among(values, known, there, counts)
        return targets, (log_p_of - chance).masked_fill(~counts, -math.inf)

    def _proposal(self, log_p: Tensor) -> Tensor:
        possible = torch.isfinite(log_p)
        return (1 - self.uniform) * log_p.exp() + self.uniform * possible / possible.sum(2, keepdim=True)


def _present_first(
    problem: ProgramProblem, log_q: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The present symbols and `count` - 1 other assignments at most, in falling order of log q plus noise.

    Returns:
        value numbers `(B, C, n)`, and log q plus noise `(B, C + 1)`: +inf of the present symbols; the last one is that
        of the next assignment; -inf stands where a sample has no more.
    """
    values, noise = perturbed_best(log_q, count + 1, generator)
    present = problem.values_of(problem.present)[:, None]
    noise = (-noise).masked_fill((values == present).all(2), -math.inf)
    others, place = noise.topk(min(count, noise.shape[1]), dim=1)
    listed = values.gather(1, place[..., None].expand(-1, -1, values.shape[2]))
    # What is not there is the present symbols again, which costs no call.
    values = torch.cat([present, torch.where(torch.isfinite(others)[..., None], listed, present)], 1)
    noise = torch.cat([torch.full_like(others[:, :1], math.inf), others, torch.full_like(others[:, :1], -math.inf)], 1)
    kept = min(count, int(torch.isfinite(others).sum(1).amax()) + 1)
    return values[:, :kept], noise[:, : kept + 1]


def _total(log_p: Tensor, values: Tensor) -> Tensor:
    """The sum `(B, C)` over the units of `log_p (B, n, K)` at value numbers `values (B, C, n)`."""
    return log_p.gather(2, values.transpose(1, 2)).sum(1)


def _among(values: Tensor, known: Tensor, there: Tensor, asked: Tensor) -> Tensor:
    """Of the values `(B, C, n)` those asked for, `(B, C)` bool: which are known `(B, R, n)` and there, `(M,)` bool."""
    rows, places = asked.nonzero(as_tuple=True)
    found = torch.zeros(len(rows), dtype=torch.bool, device=values.device)
    at_once = max(1, MAX_COMPARED // max(1, known.shape[1] * known.shape[2]))
    for first in range(0, len(rows) if known.shape[1] else 0, at_once):
        part = slice(first, first + at_once)
        row = rows[part]
        equal = (values[row, places[part]][:, None] == known[row]).all(2)
        found[part] = (equal & there[row]).any(1)
    return found


def _log_chance(above: Tensor) -> Tensor:
    """log(1 - exp(-exp(x))): of the chance that x plus Gumbel noise is above 0."""
    return torch.where(above < -30, above, torch.log(-torch.expm1(-torch.exp(above.clamp(min=-31)))))
