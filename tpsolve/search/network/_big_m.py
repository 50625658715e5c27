"""BigM: small networks as a mixed-integer linear program in their weights, by HiGHS: a baseline."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import NUMBER_SECONDS, Report, Solver

MARGIN = 1e-3
"""The minimum |z| that the program allows a unit."""

PREPARED = 2
"""HiGHS prepares a program in about so many times the seconds that making it takes."""


@dataclass(frozen=True)
class BigM(Solver):
    """Real weights from -max_weight to max_weight, with a margin of 1e-3 and switched rows (big M), in HiGHS.

    Inputs are scaled to [-1, 1]. Box and margin exclude weights that real networks may have, and HiGHS lets rows be
    violated by a tolerance. So it proves nothing here. `stats["notes"]` says what HiGHS proved of its program. Any
    number of layers and classes is allowed. One step is one node. HiGHS can't be interrupted
    before it has prepared the program. So one that took more than a fifth of the seconds to write down is not given to
    it, which the note says.

    Args:
        max_weight: the largest absolute weight and bias that are allowed.
    """

    max_weight: int = 20

    name = "big-m"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one node of the tree"
    module: ClassVar[str | None] = "scipy.optimize"

    def __post_init__(self) -> None:
        check_count("max_weight", self.max_weight, 1)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        from scipy.optimize import milp

        assert isinstance(problem, NetworkProblem)
        if report.pulse():
            return
        row = torch.zeros(1, dtype=torch.int64)
        program = _Program(problem, float(self.max_weight), report)
        none_left = f"a program of {len(problem.inputs)} points: no time was left to solve it"
        # To put its numbers together takes about twice as long as to write them down.
        if not program.done or report.seconds_left < PREPARED * report.seconds:
            report.note(row, none_left)
            return
        rows = (program.matrix(), np.full(len(program.right), -np.inf), np.array(program.right))
        bounds: Any = (np.array(program.low), np.array(program.high))
        price = np.array(program.price)
        if report.seconds_left < PREPARED * report.seconds:
            report.note(row, none_left)
            return
        # What time is left is read last.
        options: dict[str, float] = {"mip_rel_gap": 0.0}
        if budget.seconds is not None:
            options["time_limit"] = max(1e-3, report.seconds_left)
        if budget.steps is not None:
            options["node_limit"] = budget.steps
        answer = milp(price, integrality=program.whole, bounds=bounds, constraints=rows, options=options)
        report.steps = max(1, int(answer.mip_node_count or 0))
        if answer.x is None:
            report.note(row, f"HiGHS found no weights: {answer.message}")
            return
        total = float(problem.counts.sum())
        layers = [torch.as_tensor(np.where(answer.x[layer] > 0.5, 1.0, -1.0)) for layer in program.outputs]
        targets = problem.pack(*(layer.to(problem.device) for layer in layers))
        report.offer(targets.expand(len(report.objective), -1))
        real = bool(torch.isfinite(problem.select(row).objective(targets[None])).all())
        bound = -np.inf if answer.mip_dual_bound is None else answer.mip_dual_bound
        report.note(
            row,
            f"Weights up to {self.max_weight}, margin {MARGIN:g}: {total + answer.fun:g} errors, "
            f"at least {total + bound:g} there. "
            + ("Other weights may do better." if real else "Its tolerance misled it: no weights give these."),
        )


class _Program:
    """Columns and rows `sum of factors * columns <= right` of the program.

    Attributes:
        done: whether there was time for all.
    """

    def __init__(self, problem: NetworkProblem, box: float, report: Report) -> None:
        self.done = False
        self.right: list[float] = []
        if report.seconds_left < NUMBER_SECONDS * problem.inputs.numel() * problem.layers[0]:
            return
        self.low: list[float] = []
        self.high: list[float] = []
        self.whole: list[int] = []
        self.price: list[float] = []
        self._entries: list[tuple[int, int, float]] = []
        x = problem.inputs / problem.inputs.abs().amax(0).clamp(min=1e-300)
        self.outputs: list[np.ndarray] = []
        below = x.cpu().numpy()
        for number, width in enumerate(problem.layers):
            layer = np.array([[self.column(0, 1, whole=True) for _ in range(width)] for _ in below])
            for unit in range(width):
                weights = [self.column(-box, box) for _ in below[0]]
                bias = self.column(-box, box)
                for row, h in zip(below, layer[:, unit], strict=True):
                    if report.seconds_left <= 0:
                        return
                    terms = list(zip(weights, row, strict=True)) if number == 0 else self._signed(weights, row, box)
                    self._unit([*terms, (bias, 1.0)], h, box * (len(weights) + 1) + MARGIN)
            self.outputs.append(layer)
            below = layer
        for point, counts in zip(layer, problem.counts.tolist(), strict=True):
            if report.seconds_left <= 0:
                return
            for label, count in enumerate(counts):
                named = self.column(0, 1, price=-count)
                wanted = [k == label for k in range(len(point))] if len(point) > 1 else [label == 1]
                for output, on in zip(point, wanted, strict=True):
                    self.row([(named, 1.0), (output, -1.0 if on else 1.0)], 0.0 if on else 1.0)
        self.done = True

    def column(self, low: float, high: float, *, whole: bool = False, price: float = 0.0) -> int:
        """A new column; its number."""
        self.low.append(low)
        self.high.append(high)
        self.whole.append(int(whole))
        self.price.append(price)
        return len(self.low) - 1

    def row(self, terms: list[tuple[int, float]], right: float) -> None:
        """A new row."""
        self._entries += [(len(self.right), column, float(factor)) for column, factor in terms]
        self.right.append(right)

    def matrix(self) -> Any:
        """The rows, sparse."""
        from scipy.sparse import coo_array

        i, j, value = zip(*self._entries, strict=True)
        return coo_array((value, (i, j)), shape=(len(self.right), len(self.low)))

    def _unit(self, z: list[tuple[int, float]], h: int, most: float) -> None:
        # z >= margin where h is 1, z <= -margin where it is 0.
        self.row([*((c, -v) for c, v in z), (h, most)], most - MARGIN)
        self.row([*z, (h, -most)], -MARGIN)

    def _signed(self, weights: list[int], below: np.ndarray, box: float) -> list[tuple[int, float]]:
        """Each weight times the output +-1 that it meets."""
        terms = []
        for weight, h in zip(weights, below, strict=True):
            term = self.column(-box, box)
            for side in (1.0, -1.0):
                self.row([(term, side), (weight, -side), (h, 2 * box)], 2 * box)
                self.row([(term, side), (weight, side), (h, -2 * box)], 0.0)
            terms.append((term, 1.0))
        return terms
