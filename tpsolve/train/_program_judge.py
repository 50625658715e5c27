"""Runs in which only a program's answer for a group of images is labelled: what judges them, and what they refuse."""

from collections.abc import Callable

import torch
from torch import Tensor

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError
from tpsolve.nn import ProgramLoss
from tpsolve.train._recipe import Recipe


def _sum(*symbols: int) -> int:
    return sum(symbols)


def _product(*symbols: int) -> int:
    product = 1
    for symbol in symbols:
        product *= symbol
    return product


def _maximum(*symbols: int) -> int:
    return max(symbols)


PROGRAMS: dict[str, Callable[..., int]] = {"sum": _sum, "product": _product, "maximum": _maximum}
"""Every program by its name in a recipe."""


def check_program(recipe: Recipe, processes: int) -> None:
    """Raise ArgumentError if the recipe has a setting that does not go with its program, or with having none."""
    if not recipe.program:
        for name in ("count", "calls"):
            if getattr(recipe, name) != getattr(Recipe, name):
                usual = getattr(Recipe, name)
                raise ArgumentError(name, getattr(recipe, name), f"{usual}, where there is no program")
        return
    for name in ("solver_layers", "solver_steps", "smooth", "launch", "precision"):
        if getattr(recipe, name) != getattr(Recipe, name):
            raise ArgumentError(name, getattr(recipe, name), f"{getattr(Recipe, name)}, with a program")
    if recipe.data == "imagenet":
        raise ArgumentError("data", recipe.data, "a data set of which groups are made in memory, with a program")
    if processes > 1:
        raise ArgumentError("program", recipe.program, f"none with {processes} processes", "Start one process.")


class ProgramJudge:
    """The loss and the figures of a network that reads groups of `count` images; a group has one label.

    Outputs are `(B * count, K)`, the images of a group one after another; `symbols (B, count)` are their true classes.
    The loss gets only the program's answer of them. The figures also count how many symbols are read rightly.
    """

    loss_fn: ProgramLoss

    def __init__(self, recipe: Recipe, classes: int) -> None:
        self._program, self._count = PROGRAMS[recipe.program], recipe.count
        self.loss_fn = ProgramLoss(
            self._program,
            symbols=classes,
            count=recipe.count,
            solver=recipe.solver or None,
            budget=Budget(calls=recipe.calls),
            # The network that is saved has its classes at their logits.
            reorder=False,
            generator=torch.Generator().manual_seed(recipe.seed),
        )
        self._classes, self._counted = classes, 0

    def try_search(self, symbols: Tensor) -> None:
        """Raise what the search would raise, by one of the first of these symbols `(B, count)`."""
        self.loss(torch.zeros(self._count, self._classes), symbols[:1])

    def loss(self, outputs: Tensor, symbols: Tensor) -> Tensor:
        """The mean over the groups; in `loss_fn.eval()` by remembered answers only."""
        return self.loss_fn(self._groups(outputs), self._labels(symbols))

    def counted(self, loss: Tensor, outputs: Tensor, symbols: Tensor) -> Tensor:
        """The figures of a batch whose loss was the last that was asked for; hits are right answers of the program."""
        report, program = self.loss_fn.report, self.loss_fn.program
        assert report is not None
        assert program is not None
        hits = self.loss_fn.accuracy(self._groups(outputs), self._labels(symbols)) * len(symbols)
        right = int((outputs.argmax(1) == symbols.flatten()).sum())
        calls, self._counted = program.counts.calls - self._counted, program.counts.calls
        missing = report.samples - report.consistent
        figures = [float(loss) * len(symbols), round(hits), len(symbols), missing, right, calls]
        return torch.tensor(figures, dtype=torch.float64, device=outputs.device)

    def _groups(self, outputs: Tensor) -> Tensor:
        return outputs.reshape(-1, self._count, outputs.shape[1])

    def _labels(self, symbols: Tensor) -> list[int]:
        return [self._program(*row) for row in symbols.tolist()]
