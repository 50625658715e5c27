"""Sweep: the best single unit, by a look at all hyperplanes through points."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch

from tpsolve._result import Budget
from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.problems.network._labels import code
from tpsolve.search._base import Report, Solver
from tpsolve.search.network._error_measure import error_measure
from tpsolve.search.network.sweep._pencils import Cut, Pencils, StoppedError, count_turns
from tpsolve.units.patterns._all_dichotomies import essential

MAX_TURNS = 2**34
"""Points that change sides, in all pencils together: an hour."""
_WHOLE = 2**60


@dataclass(frozen=True)
class Sweep(Solver):
    """Exact optimum of networks with one unit in the first hidden layer, for few features.

    Let p be the dimension that the N points span. Some hyperplane through p of them has the fewest errors, if the
    points on it may choose their sides. A pencil is all hyperplanes through p - 1 points. It turns around them, the
    others are sorted by angle, and cumulative sums of their weights give the errors of all its hyperplanes: N^p log N
    work in all. Angles are computed in float64 with a bound of their errors. Where points lie on one hyperplane, or
    rounding can't tell, whole numbers decide, if it matters. So the optimum is proved for any real weights, any number
    of classes and any weights of the samples. Layers above the single unit can't tell more than its two sides apart.

    One step is one batch of pencils.
    """

    name = "sweep"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one batch of pencils of hyperplanes"
    exact = True

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        if problem.widths[0] > 1:
            raise NotAcceptedError(
                "problem", f"{problem.widths[0]} units in the first layer", f"one for {self.name}", "Use Circuits()."
            )
        turns = count_turns(*problem.inputs.shape)
        if turns > MAX_TURNS:
            raise TooLargeError(
                "problem",
                f"{len(problem.inputs)} points of {problem.inputs.shape[1]} features: {turns:.2g} changes of sides",
                f"at most {MAX_TURNS:.2g} for {self.name}",
                "Use fewer samples or features, or Circuits().",
            )

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        measure, counts = error_measure(problem), [[Fraction(v) for v in row] for row in problem.counts.tolist()]
        totals = [sum(column, Fraction(0)) for column in zip(*counts, strict=True)]
        total = sum(totals)
        report.offer(problem.start.expand(len(report.objective), -1))
        # Named rightly if one class stands at -1 and the other at +1, in multiples of one number where that is exact.
        pairs = list(combinations([k for k, own in enumerate(totals) if own], 2))
        whole = total / measure < _WHOLE
        kind, unit = (np.int64, measure) if whole else (np.longdouble, Fraction(1))
        table = np.array([[int(v / unit) if whole else kind(float(v)) for v in row] for row in counts], dtype=kind)
        gains = np.array([table[:, b] - table[:, a] for a, b in pairs], dtype=kind).reshape(len(pairs), len(counts))
        bases = np.array([table[:, a].sum() for a, _ in pairs], dtype=kind)

        def tell(cut: Cut) -> None:
            column = torch.from_numpy(cut.signs).to(problem.samples)[:, None]
            low, high = pairs[cut.question]
            named = torch.where(column[:, 0] > 0, high, low)
            hidden = [column.expand(-1, units) for units in problem.widths]
            report.offer(problem.pack(*hidden, code(named, problem.layers[-1])).expand(len(report.objective), -1))

        if report.pulse():
            return
        # At least the value of the best network; it may come from elsewhere, and is rounded.
        least = (total - Fraction(float(report.objective.min())) + Fraction(float(problem.rounding().max()))) / unit
        known = math.floor(least) if whole else np.longdouble(math.nextafter(float(least), math.inf))
        if pairs:
            try:
                best = Pencils(essential(problem.inputs).cpu().numpy(), report.step).best(gains, bases, known, tell)
            except StoppedError:
                return
            known = known if best is None else best.value
        # Sums of N terms, each rounded a few times; whole numbers not at all.
        error = 0 if whole else 16 * len(counts) * total * Fraction(float(np.finfo(np.longdouble).eps))
        most = Fraction(int(known)) * unit if whole else Fraction(*known.as_integer_ratio())
        report.prove(round_down(total - most - error))
        report.step()


def round_down(value: Fraction) -> float:
    """The largest float64 that is at most `value`."""
    near = float(value)
    return near if Fraction(near) <= value else math.nextafter(near, -math.inf)
