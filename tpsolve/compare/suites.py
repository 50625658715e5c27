"""Suites: named lists of instances to compare solvers on."""

from collections.abc import Callable

from tpsolve.compare.digits import digits
from tpsolve.problems import GENERATORS, Instance, make_instance

Suite = Callable[[int, int], list[Instance]]
"""(samples of each instance, seed) -> instances."""


def generated(n: int, m: int) -> Suite:
    """One instance of every built-in generator, with n targets and m units above."""

    def suite(samples: int, seed: int) -> list[Instance]:
        return [make_instance(name, n=n, m=m, samples=samples, seed=seed) for name in GENERATORS]

    return suite


SUITES: dict[str, Suite] = {"digits": digits, "generated-12": generated(12, 8), "generated-32": generated(32, 16)}
"""digits: real scans; generated-N: the built-in generators with N targets."""
