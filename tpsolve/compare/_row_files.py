"""The files of rows of a comparison: their names, what a row holds, and where in them each row stands."""

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from tpsolve._storage._documents import Count, Whole
from tpsolve._storage._row_log import RowLog

SETTINGS = "comparison.json"
ROWS, TARGETS = "rows{}.jsonl", "targets{}.jsonl"
"""Files of rows and of their targets, whole or of a shard."""
TRACES = "traces/[0-9][0-9][0-9][0-9].js"
"""Of the instances that the page itself does not hold."""
EXACT = "exact"
"""What a row says of numbers that float64 rounds: objective and bound are those of the numbers before rounding."""

Key = tuple[str, str, int]
"""Instance, solver and seed: what identifies a row within a run."""


class SolveRow(TypedDict):
    """What every row holds that is read again."""

    instance: str
    solver: str
    seed: int
    budget: dict[str, float | Whole | None]
    fingerprint: str
    exact: bool
    loss: str
    n_vars: int
    n_units: int
    start: list[float] | None
    network: NotRequired[str]
    points: NotRequired[int]
    numbers: NotRequired[str]
    assignments: NotRequired[int]
    device: NotRequired[str]
    host: NotRequired[str]
    processor: NotRequired[str]
    load: NotRequired[float | None]
    threads: NotRequired[int]
    versions: NotRequired[dict[str, str]]
    time: NotRequired[str]
    error: NotRequired[str]


class SolveOutcome(TypedDict):
    """And one of a solve that ended without an error: an entry a sample."""

    objective: list[float]
    bound: list[float | None]
    flips: list[float] | None
    seconds: float
    found_at: list[float | None]
    proved_at: list[float | None]
    trace: list[tuple[float, float | None, float | None]]
    tolerance: NotRequired[list[float]]
    status: NotRequired[list[Literal["unknown", "feasible", "optimal", "infeasible"]]]


OF_SAMPLES = ("start", "objective", "bound", "flips", "found_at", "proved_at", "tolerance", "status")
"""What a row holds of each sample."""


class KeptTargets(TypedDict):
    """The targets of a row, in a file beside the rows: spins as bits, classes as numbers.

    Of a network whose weights are of a set also the weights and biases of each layer, which show that the targets are
    possible.
    """

    instance: str
    solver: str
    seed: int
    shape: tuple[Count, Count]
    bits: NotRequired[str]
    values: NotRequired[list[int]]
    weights: NotRequired[list[tuple[list[list[float]], list[float]]]]


def key_of(row: Mapping[str, Any]) -> Key:
    """What identifies a row within a run."""
    return row["instance"], row["solver"], row["seed"]


def parts_of(folder: Path, own: str = "") -> list[str]:
    """What the names of files of rows have besides: of the whole nothing, and of each shard its number.

    Args:
        own: one that is among them, also if it has no file yet.
    """
    found = (re.fullmatch(r"rows(-[0-9]+-of-[0-9]+)\.jsonl", path.name) for path in folder.glob(ROWS.format("-*")))
    return ["", *sorted({match[1] for match in found if match is not None} | ({own} - {""}))]


def row_log(folder: Path, part: str) -> RowLog:
    """The rows of one file; `part`: what its name has besides."""
    return RowLog(folder / ROWS.format(part), SolveRow, SolveOutcome)


def targets_log(folder: Path, part: str) -> RowLog:
    """The targets of rows; `part`: what the name of their file has besides."""
    return RowLog(folder / TARGETS.format(part), KeptTargets)


_OFFSET_BITS = 46
"""Of the place of a row, which has the number of its file and the byte where it begins."""
_SOLVE_BITS = 31


def place_of(file: int, start: int) -> int:
    """The place of a row that begins at a byte of a file, both counted from 0, as one number."""
    return file << _OFFSET_BITS | start


def file_and_start(place: int) -> tuple[int, int]:
    """What `place_of` made one number of."""
    return place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1


def files_of(places: np.ndarray) -> list[int]:
    """The numbers of the files of some places, each once."""
    return np.unique(places >> _OFFSET_BITS).tolist()


class Places:
    """Where rows stand, by what identifies them: 16 bytes a row, besides each name of an instance once.

    Args:
        last: of two rows with one key the last counts; otherwise the first.
    """

    def __init__(self, *, last: bool = False) -> None:
        self._last = last
        self._instances: dict[str, int] = {}
        self._solves: dict[tuple[str, int], int] = {}
        self._codes, self._places = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        self._new_codes, self._new_places = array("q"), array("q")

    def add(self, key: Key, place: int) -> None:
        """Take the place of a row."""
        instance, solver, seed = key
        number = self._instances.setdefault(instance, len(self._instances))
        solve = self._solves.setdefault((solver, seed), len(self._solves))
        self._new_codes.append(number << _SOLVE_BITS | solve)
        self._new_places.append(place)

    def find(self, keys: Iterable[Key]) -> np.ndarray:
        """The place of each key, int64; -1: it has no row."""
        self._settle()
        codes = np.fromiter(map(self._code, keys), dtype=np.int64)
        if not len(self._codes):
            return np.full(len(codes), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[at] == codes, self._places[at], -1)

    def __contains__(self, key: Key) -> bool:
        return bool(self.find([key])[0] >= 0)

    def __len__(self) -> int:
        self._settle()
        return len(self._codes)

    def __iter__(self) -> Iterator[Key]:
        """The keys, those of an instance one after the other."""
        self._settle()
        instances, solves = list(self._instances), list(self._solves)
        for code in self._codes:
            yield instances[code >> _SOLVE_BITS], *solves[code & (1 << _SOLVE_BITS) - 1]

    def by_instance(self) -> Iterator[tuple[str, np.ndarray]]:
        """The places of the rows of each instance, as `in_order`; instances as they came first."""
        self._settle()
        numbers = self._codes >> _SOLVE_BITS
        for number, name in enumerate(self._instances):
            start, end = np.searchsorted(numbers, [number, number + 1])
            if end > start:
                yield name, np.sort(self._places[start:end])

    def in_order(self) -> np.ndarray:
        """The places of all rows, file by file, as they stand in it."""
        self._settle()
        return np.sort(self._places)

    def _code(self, key: Key) -> int:
        number, solve = self._instances.get(key[0], -1), self._solves.get((key[1], key[2]), -1)
        return -1 if number < 0 or solve < 0 else number << _SOLVE_BITS | solve

    def _settle(self) -> None:
        """Sort what was added to what was there."""
        if not self._new_codes:
            return
        codes, places = (
            np.concatenate([old, np.frombuffer(new, dtype=np.int64)])
            for old, new in ((self._codes, self._new_codes), (self._places, self._new_places))
        )
        self._new_codes, self._new_places = array("q"), array("q")
        if (codes[1:] > codes[:-1]).all():  # As one worker makes them.
            self._codes, self._places = codes, places
            return
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        differ = codes[1:] != codes[:-1]
        kept = np.append(differ, True) if self._last else np.insert(differ, 0, True)
        self._codes, self._places = codes[kept], places[order[kept]]
