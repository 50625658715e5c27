"""Suites: named lists of instances to compare solvers on."""

from collections.abc import Callable, Sequence
from functools import partial

from tpsolve._registry import Registry
from tpsolve.compare._digits_suites import digits, wide
from tpsolve.compare._network_suite import networks
from tpsolve.compare._programs_suite import programs
from tpsolve.problems import GENERATORS, Instance, Problem, make_instance

Suite = Callable[[int, int], Sequence[Instance[Problem]]]
"""(samples of each instance, seed) -> instances."""


def generated(samples: int, seed: int, *, n: int, m: int) -> list[Instance[Problem]]:
    """One instance of every built-in generator, with n targets and m units above."""
    return [make_instance(name, n=n, m=m, samples=samples, seed=seed) for name in GENERATORS]


SUITES: Registry[Suite] = Registry("suite", "tpsolve.compare:SUITES", "tpsolve.suites")
"""digits: real scans; wide: the same, wider layers; generated-N: the built-in generators with N targets;
networks: small networks, weights free; programs: small programs that read digits."""
SUITES["digits"] = digits
SUITES["generated-12"] = partial(generated, n=12, m=8)
SUITES["generated-32"] = partial(generated, n=32, m=16)
SUITES["networks"] = networks
SUITES["programs"] = programs
SUITES["wide"] = wide
