"""Errors in exact arithmetic: what is always paid, and the number of which all errors are multiples."""

import math
from fractions import Fraction

from tpsolve.problems import NetworkProblem


def always_paid(problem: NetworkProblem) -> Fraction:
    """What contradictory labels cost every network, exactly."""
    most, all_of_them = problem.counts.amax(1).tolist(), problem.counts.flatten().tolist()
    return sum(map(Fraction, all_of_them), Fraction(0)) - sum(map(Fraction, most), Fraction(0))


def common_measure(problem: NetworkProblem) -> Fraction:
    """The largest number of which the weights of all classes at all points are multiples; 1 if all are 0."""
    weights = {Fraction(value) for value in problem.counts.unique().tolist()}
    below = math.lcm(*(weight.denominator for weight in weights))
    return Fraction(math.gcd(*(int(weight * below) for weight in weights)) or below, below)
