"""Suites: named lists of instances to compare solvers on."""

from collections.abc import Callable, Sequence

from tpsolve._registry import Registry
from tpsolve.compare._digits_suites import digits, wide
from tpsolve.compare._network_suite import networks
from tpsolve.problems import GENERATORS, Instance, Problem, make_instance

Suite = Callable[[int, int], Sequence[Instance[Problem]]]
"""(samples of each instance, seed) -> instances."""


def generated(n: int, m: int) -> Suite:
    """One instance of every built-in generator, with n targets and m units above."""

    def suite(samples: int, seed: int) -> list[Instance[Problem]]:
        return [make_instance(name, n=n, m=m, samples=samples, seed=seed) for name in GENERATORS]

    return suite


SUITES: Registry[Suite] = Registry("suite", "tpsolve.compare:SUITES", "tpsolve.suites")
"""digits: real scans; wide: the same, wider layers; generated-N: the built-in generators with N targets;
networks: small networks, weights free."""
SUITES["digits"] = digits
SUITES["generated-12"] = generated(12, 8)
SUITES["generated-32"] = generated(32, 16)
SUITES["networks"] = networks
SUITES["wide"] = wide
