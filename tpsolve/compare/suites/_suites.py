"""Suites: named lists of instances to compare solvers on."""

import runpy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from tpsolve._registry import Registry
from tpsolve.compare.suites._digits_suites import digits, wide
from tpsolve.compare.suites._network_suite import networks
from tpsolve.compare.suites._programs_suite import programs
from tpsolve.errors import ArgumentError, FileFormatError
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


def suite(source: str | Suite) -> str:
    """The name of a suite, as `Comparison` takes it; a suite of one's own is made known first.

    Args:
        source: a name in `SUITES`; a function of (samples of each instance, seed) that returns a list of `Instance`,
            which is called after its own name; or "file.py:function", which is run and called file.function.

    Raises:
        ArgumentError: a function whose name is another suite's, or one that is not in the file; or no such source.
        FileFormatError: the file can't be run.
    """
    if callable(source):
        name = getattr(source, "__name__", "suite")
        if SUITES.setdefault(name, source) is not source:
            raise ArgumentError("suite", f"a function called {name}", "another name", "A suite is called so already.")
        return name
    if not isinstance(source, str):
        raise ArgumentError("suite", repr(source), "a name or a function", "Files go into FileSuite([...]).")
    if source in SUITES or ".py:" not in source:
        return source
    path, _, function = source.rpartition(":")
    name = f"{Path(path).stem}.{function}"
    # The file may have changed since it was last read.
    SUITES[name] = _from_file(path, function)
    return name


def _from_file(path: str, function: str) -> Suite:
    try:
        # Under a name of its own, so that what the file does as a script isn't done.
        found: Any = runpy.run_path(path, run_name=Path(path).stem).get(function)
    except Exception as error:  # Whatever the file does.
        raise FileFormatError(f"{path}: can't be run ({type(error).__name__}: {error}).") from error
    if not callable(found):
        raise ArgumentError("suite", f"{path}:{function}", f"a function in {path}", f"It has none called {function}.")
    return cast(Suite, found)
