"""Registries: what joins them, what is refused, and how plug-ins are loaded and told of."""

import copy
import pickle
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

import tpsolve
from tpsolve import SOLVERS, LayerProblem, _registry
from tpsolve._registry import Registry
from tpsolve.compare import SUITES
from tpsolve.errors import ArgumentError, PluginWarning, UnknownNameError
from tpsolve.search import Keep, LocalSolver, Solver, find_solver
from tpsolve.units import LEARNERS, Hinge, UnitLearner


def make_solver(name: str = "mine", **attributes: Any) -> Any:
    @dataclass(frozen=True)
    class Mine(Keep):
        """A solver of a user."""

    Mine.name = name
    for attribute, value in attributes.items():
        setattr(Mine, attribute, value)
    return Mine


@pytest.fixture
def mine() -> Iterator[type[Solver]]:
    yield tpsolve.register(make_solver())
    del SOLVERS["mine"]


@dataclass(frozen=True)
class Point:
    """An entry point that loads `item`, or raises it."""

    name: str
    item: Any
    dist: Any = None

    def load(self) -> Any:
        if isinstance(self.item, Exception):
            raise self.item
        return self.item


def registry(monkeypatch: pytest.MonkeyPatch, *points: Point) -> Registry[Any]:
    monkeypatch.setattr(_registry, "entry_points", lambda group: points if group == "tests.functions" else ())
    return Registry("function", "nowhere:NOTHING", "tests.functions")


def test_registered_solver_is_found_by_its_name(mine: type[Solver]):
    assert find_solver("mine") == mine()
    assert list(SOLVERS)[-1] == "mine"


def test_learner_joins_the_learners():
    @tpsolve.register
    @dataclass(frozen=True)
    class Mine(Hinge):
        """A learner of a user."""

        name = "mine"

    try:
        assert LEARNERS["mine"] is Mine
        assert "mine" not in SOLVERS
    finally:
        del LEARNERS["mine"]


def test_class_that_is_defined_once_more_takes_the_place_of_the_first(mine: type[Solver]):
    again = tpsolve.register(make_solver(one_step="another"))
    assert SOLVERS["mine"] is again is not mine


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (5, "kind: got 5, expected a class derived from Solver or UnitLearner"),
        (Keep(), "expected a class derived from Solver or UnitLearner"),
        (LayerProblem, "expected a class derived from Solver or UnitLearner"),
        (LocalSolver, "got LocalSolver, expected a class derived from Solver that has step"),
        (UnitLearner, "got UnitLearner, expected a class derived from UnitLearner that has learn"),
        (make_solver(""), "without name"),
        (make_solver(one_step=""), "without one_step"),
        (make_solver(accepts=()), "without accepts"),
        (make_solver("a:b"), "name: got 'a:b', expected letters, digits"),
        (make_solver("polish(a, b)"), "expected letters, digits"),
        (
            make_solver("keep"),
            "solver: got the name 'keep', expected another name. tpsolve.search.rules._keep.Keep has",
        ),
    ],
    ids=str,
)
def test_what_can_not_be_registered_is_refused(kind: Any, words: str):
    before = list(SOLVERS)
    with pytest.raises(ArgumentError) as refused:
        tpsolve.register(kind)
    assert words in str(refused.value)
    assert list(SOLVERS) == before


def test_name_of_a_class_is_its_own():
    with pytest.raises(ArgumentError, match=r"the name 'other' for .*Mine, expected its own name, 'mine'"):
        SOLVERS["other"] = make_solver()
    wrong: Any = "no function"
    with pytest.raises(ArgumentError, match="suite: got 'no function', expected a function"):
        SUITES["wrong"] = wrong


def test_registries_are_the_same_after_a_copy_and_in_another_process():
    for one in (SOLVERS, LEARNERS, SUITES):
        for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert twin is one


# --- plug-ins ---------------------------------------------------------------------------------------------------------


def test_plugins_are_loaded_when_a_name_is_missing_and_only_once(monkeypatch: pytest.MonkeyPatch):
    loaded = []

    class Counted(Point):
        def load(self) -> Any:
            loaded.append(self.name)
            return self.item

    table = registry(monkeypatch, Counted("b", max), Counted("a", min))
    table["own"] = abs
    assert table["own"] is abs
    assert loaded == []
    assert table["a"] is min
    assert list(table) == ["own", "a", "b"]
    assert len(table) == 3
    assert loaded == ["a", "b"]


def test_broken_plugin_is_named_in_one_line_and_the_rest_works(monkeypatch: pytest.MonkeyPatch):
    package = SimpleNamespace(name="tpsolve-old", version="1.2")
    points = [
        Point("broken", ImportError("no such\n   module"), package),
        Point("wrong", 5),
        Point("own", min),
        Point("good", max),
    ]
    table = registry(monkeypatch, *points)
    table["own"] = abs
    with pytest.warns(PluginWarning) as told:
        assert set(table) == {"own", "good"}
    assert [str(one.message) for one in told] == [
        "function plug-in broken (package tpsolve-old 1.2) was not loaded: ImportError: no such module",
        "function plug-in own was not loaded: ArgumentError: function: got the name 'own', expected another name. "
        "builtins.abs has this one.",
        "function plug-in wrong was not loaded: ArgumentError: function: got 5, expected a function.",
    ]
    assert table["own"] is abs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "broken" not in table


def test_warning_made_an_error_comes_after_all_are_loaded(monkeypatch: pytest.MonkeyPatch):
    table = registry(monkeypatch, Point("a", RuntimeError("no")), Point("b", max))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PluginWarning):
            len(table)
        assert list(table) == ["b"]


def test_plugin_that_reads_the_registry_while_it_is_loaded_meets_what_is_there(monkeypatch: pytest.MonkeyPatch):
    seen = []

    class Curious(Point):
        def load(self) -> Any:
            seen.append(list(table))
            return self.item

    table = registry(monkeypatch, Curious("late", max))
    table["own"] = abs
    assert list(table) == ["own", "late"]
    assert seen == [["own"]]


def test_another_thread_waits_until_all_plugins_are_there(monkeypatch: pytest.MonkeyPatch):
    began, go = threading.Event(), threading.Event()

    class Slow(Point):
        def load(self) -> Any:
            began.set()
            assert go.wait(30)
            return self.item

    table = registry(monkeypatch, Slow("slow", max))
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(table["slow"]))
    first.start()
    assert began.wait(30)
    second = threading.Thread(target=lambda: found.append(list(table)))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go.set()
    first.join()
    second.join()
    assert max in found
    assert ["slow"] in found


def test_unknown_name_offers_those_of_plugins_too(mine: type[Solver]):
    with pytest.raises(UnknownNameError, match="Did you mean 'mine'"):
        find_solver("min")
