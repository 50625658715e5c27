"""Errors in exact arithmetic: what is always paid, and the number of which all errors are multiples."""

from fractions import Fraction

from torch import Tensor

from tpsolve._gap import common_measure
from tpsolve.problems import NetworkProblem


def always_paid(problem: NetworkProblem, points: Tensor | None = None) -> Fraction:
    """What contradictory labels cost every network, exactly; with `points (k,)` int64 at these alone."""
    counts = problem.counts if points is None else problem.counts[points]
    most, all_of_them = counts.amax(1).tolist(), counts.flatten().tolist()
    return sum(map(Fraction, all_of_them), Fraction(0)) - sum(map(Fraction, most), Fraction(0))


def error_measure(problem: NetworkProblem) -> Fraction:
    """The largest number of which the weights of all classes at all points are multiples; 1 if all are 0."""
    return common_measure(problem.counts.cpu().numpy()) or Fraction(1)
