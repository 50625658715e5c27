"""Fold: a program that reads its symbols one after another, and the trellis of its states."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError
from tpsolve.problems.program._program_calls import is_simple, plain

MAX_EDGES = 10_000_000
"""Of the trellises that a `Fold` keeps."""


@dataclass(frozen=True)
class Layer:
    """The transitions of one symbol: E edges between states before and states after it.

    Args:
        before, value, after: `(E,)` int64: number of a state, number of a value of the symbol, number of a state.
        states: how many there are before.
    """

    before: np.ndarray
    value: np.ndarray
    after: np.ndarray
    states: int


class Fold:
    """A program that keeps a state and reads one symbol after another: an automaton with states of any kind.

    `state = start`, then `state = step(state, symbol)` for every symbol, then the answer `finish(state)`. It is called
    as any program is: `Fold(step, start)(*symbols)`. The solver "forward-backward" does more with it: symbols that lead
    to equal states are one case, so that all consistent assignments count, exactly, however many there are.

    Args:
        step: called with a state and a symbol, whole numbers or spins as `ProgramCalls` says; returns the next state.
            It must not change the state. An exception says that nothing consistent goes on from here.
        start: the state before the first symbol. States are hashable.
        finish: makes the answer of the last state; None: the answer is that state.
        possible: called with a state and a label: False says that no further symbols lead from this state to that
            label. It keeps the states few; what it says is taken for true. None: every state may lead to every label.
        max_states: more of them after some symbol are refused.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    step: Callable[[Any, int], Any]
    start: Any
    finish: Callable[[Any], Any] | None
    possible: Callable[[Any, Any], bool] | None
    max_states: int

    def __init__(
        self,
        step: Callable[[Any, int], Any],
        start: Any = 0,
        *,
        finish: Callable[[Any], Any] | None = None,
        possible: Callable[[Any, Any], bool] | None = None,
        max_states: int = 100_000,
    ):
        for name, function in (("step", step), ("finish", finish), ("possible", possible)):
            if not callable(function) and (function is not None or name == "step"):
                raise ArgumentError(name, type(function).__name__, "a function")
        check_count("max_states", max_states, 1)
        _check_state("start", start)
        self.step, self.start, self.finish, self.possible = step, start, finish, possible
        self.max_states = max_states
        self._kept: dict[tuple[Any, ...], list[Layer] | None] = {}
        self._edges = 0

    def __getstate__(self) -> dict[str, Any]:
        """All but the trellises, which are made again."""
        return {**vars(self), "_kept": {}, "_edges": 0}

    def __call__(self, *symbols: int) -> Any:
        """The answer."""
        state = self.start
        for symbol in symbols:
            state = self.step(state, symbol)
        return state if self.finish is None else self.finish(state)

    def trellis(
        self, label: Any, values: Sequence[tuple[int, ...]], is_answer: Callable[[Any, Any], bool]
    ) -> list[Layer] | None:
        """All ways through the states that end in `label`, a `Layer` a symbol; None where there is none.

        Args:
            values: of each symbol, as `step` takes them. is_answer: whether an answer is equal to a label.

        Raises:
            ArgumentError: a state is not hashable, or they are too many.
        """
        key = (label, *values)
        if not is_simple(label):
            return self._build(label, values, is_answer)
        kept = self._kept
        if key in kept:
            return kept[key]
        layers = self._build(label, values, is_answer)
        size = 1 + sum(len(layer.value) for layer in layers or ())
        if self._edges + size > MAX_EDGES:
            self._kept, self._edges = {}, 0
        self._edges += size
        self._kept[key] = layers
        return layers

    def _build(
        self, label: Any, values: Sequence[tuple[int, ...]], is_answer: Callable[[Any, Any], bool]
    ) -> list[Layer] | None:
        numbers: dict[Any, int] = {self.start: 0}
        found: list[tuple[list[int], list[int], list[int], int]] = []
        for place, symbols in enumerate(values):
            following: dict[Any, int] = {}
            before: list[int] = []
            value: list[int] = []
            after: list[int] = []
            for state, number in numbers.items():
                for k, symbol in enumerate(symbols):
                    reached = self._reached(state, symbol, label, following)
                    if reached is not None:
                        before.append(number)
                        value.append(k)
                        after.append(reached)
                if len(following) > self.max_states:
                    raise ArgumentError(
                        "program",
                        f"a Fold of more than {self.max_states:,} states after {place + 1} symbols",
                        f"at most {self.max_states:,}",
                        "Give possible=, which leaves out what can't lead to the label, or take weighted-draws.",
                    )
            found.append((before, value, after, len(numbers)))
            numbers = following
        ends = [number for state, number in numbers.items() if self._ends(state, label, is_answer)]
        return _pruned(found, ends, len(numbers)) if ends else None

    def _reached(self, state: Any, symbol: int, label: Any, following: dict[Any, int]) -> int | None:
        try:
            reached = self.step(state, symbol)
        except Exception:  # Whatever the program raises: nothing consistent goes on from here.
            return None
        try:
            number = following.get(reached)
        except TypeError:
            _check_state("step", reached)
            raise
        if number is None:
            if not self._is_possible(reached, label):
                # Asked again for each way that leads here, but not kept as a state.
                return None
            number = following[reached] = len(following)
        return number

    def _is_possible(self, state: Any, label: Any) -> bool:
        if self.possible is None:
            return True
        try:
            return bool(self.possible(state, label))
        except Exception as error:  # The user's own function, whatever it raises.
            raise ArgumentError(
                "possible",
                f"a function that raises {type(error).__name__} ({error}) for the state {state!r}",
                "one that answers True or False for every state and label",
            ) from error

    def _ends(self, state: Any, label: Any, is_answer: Callable[[Any, Any], bool]) -> bool:
        try:
            answer = plain(state if self.finish is None else self.finish(state))
        except Exception:  # Whatever the program raises: there is no answer.
            return False
        return is_answer(answer, label)


def _check_state(name: str, state: Any) -> None:
    try:
        hash(state)
    except TypeError as error:
        raise ArgumentError(
            name,
            f"a state of type {type(state).__name__}, which has no hash",
            "states that are hashable",
            "Take tuples.",
        ) from error


def _pruned(found: list[tuple[list[int], list[int], list[int], int]], ends: list[int], last: int) -> list[Layer] | None:
    """The edges from which some end can be reached, the states numbered anew; all ends are one state."""
    renumbered = np.full(last, -1)
    renumbered[ends] = 0
    layers: list[Layer] = []
    for before, value, after, count in reversed(found):
        edges = np.array([before, value, after], dtype=np.int64).reshape(3, -1)
        edges = edges[:, renumbered[edges[2]] >= 0]
        alive = np.unique(edges[0])
        numbers = np.full(count, -1)
        numbers[alive] = np.arange(len(alive))
        layers.append(Layer(numbers[edges[0]], edges[1], renumbered[edges[2]], len(alive)))
        renumbered = numbers
    return layers[::-1] if renumbered[0] >= 0 else None
