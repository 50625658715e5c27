"""Rows in columns: what a report is drawn from, in a few hundred bytes a row."""

from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np

from tpsolve.errors import FileFormatError

_CODED = (
    *("instance", "solver", "seed", "exact", "budget", "loss", "n_vars", "n_units", "fingerprint", "error"),
    *("network", "points", "assignments", "numbers", "device", "host", "processor", "versions", "threads", "time"),
)
"""What many rows have in common: each value is kept once."""
_OF_SAMPLES = ("start", "objective", "bound", "tolerance", "flips", "found_at", "proved_at")
_NOTHING, _NONE = -1, -2
"""Codes of what a row lacks, and of lists that are null."""

Row = Mapping[str, Any]
"""A row, as its file has it, or as `RowTable` has it."""


class _Column(Protocol):
    def append(self, row: Row) -> None:
        """Take what the row says."""
        ...

    def at(self, number: int) -> Any:
        """What a row says; KeyError: nothing."""
        ...

    def close(self) -> None:
        """No more rows will come."""
        ...


class _Coded:
    """A column of few different values.

    Attributes:
        codes: of each row the place of its value in `values`; -1: it has none.
    """

    def __init__(self, name: str) -> None:
        self._name, self.values, self._codes = name, list[Any](), array("i")
        self._seen: dict[Any, int] = {}
        self.codes = np.empty(0, dtype=np.int32)

    def append(self, row: Row) -> None:
        value = row.get(self._name, self)
        if value is self:
            self._codes.append(_NOTHING)
            return
        # 1 and 1.0 and True are equal, and dicts have no hash.
        key = value if isinstance(value, str) else (repr(value),)
        code = self._seen.get(key)
        if code is None:
            code = self._seen[key] = len(self.values)
            self.values.append(value)
        self._codes.append(code)

    def at(self, number: int) -> Any:
        code = self.codes[number]
        if code < 0:
            raise KeyError(self._name)
        return self.values[code]

    def close(self) -> None:
        self._seen, self.codes = {}, np.frombuffer(self._codes, dtype=np.int32)


class _Lists:
    """A column of lists of numbers, one behind the other; null is NaN in `values`.

    Attributes:
        values: of all rows. first: of each row the place of its first one, and behind the last row their number.
        kinds: of each row 0, or `_NOTHING` or `_NONE` where it has no list.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._values, self._first, self._kinds = array("d"), array("q", [0]), array("b")

    def append(self, row: Row) -> None:
        value = row.get(self._name, self)
        self._kinds.append(_NOTHING if value is self else _NONE if value is None else 0)
        if value is not self and value is not None:
            self._values.extend([np.nan if one is None else one for one in value])
        self._first.append(len(self._values))

    def at(self, number: int) -> Any:
        kind = self.kinds[number]
        if kind == _NOTHING:
            raise KeyError(self._name)
        if kind == _NONE:
            return None
        found = self.values[self.first[number] : self.first[number + 1]].tolist()
        return [None if one != one else one for one in found]

    def close(self) -> None:
        self.values = np.frombuffer(self._values, dtype=float)
        self.first = np.frombuffer(self._first, dtype=np.int64)
        self.kinds = np.frombuffer(self._kinds, dtype=np.int8)


class _Seconds:
    """The seconds of solves; NaN: the row has none."""

    def __init__(self) -> None:
        self._values = array("d")

    def append(self, row: Row) -> None:
        self._values.append(row.get("seconds", np.nan))

    def at(self, number: int) -> Any:
        value = float(self.values[number])
        if value != value:
            raise KeyError("seconds")
        return value

    def close(self) -> None:
        self.values = np.frombuffer(self._values, dtype=float)


class _Traces:
    """Moments and objectives of traces; their bounds are left out, and moments without an objective."""

    def __init__(self) -> None:
        self._moments, self._objectives, self._first, self._there = array("d"), array("d"), array("q", [0]), array("b")

    def append(self, row: Row) -> None:
        trace = row.get("trace")
        self._there.append(trace is not None)
        for seconds, objective, *_ in trace or ():
            if objective is not None:
                self._moments.append(seconds)
                self._objectives.append(objective)
        self._first.append(len(self._moments))

    def at(self, number: int) -> Any:
        if not self._there[number]:
            raise KeyError("trace")
        seconds, objective = self.of(number)
        return [(*point, None) for point in zip(seconds.tolist(), objective.tolist(), strict=True)]

    def of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Moments and objectives of one row."""
        part = slice(self.first[number], self.first[number + 1])
        return self.moments[part], self.objectives[part]

    def close(self) -> None:
        self.moments, self.objectives = (np.frombuffer(v, dtype=float) for v in (self._moments, self._objectives))
        self.first = np.frombuffer(self._first, dtype=np.int64)


class RowTable(Sequence[Row]):
    """Rows of a comparison, of which reports are drawn; each is made anew when it is asked for, and can't be changed.

    It has what a report needs: neither settings, notes and steps of solves nor bounds in traces.

    Args:
        columns: all rows. numbers: those that count, int64, in their order.
    """

    __slots__ = ("_columns", "numbers")

    def __init__(self, columns: Mapping[str, Any], numbers: np.ndarray) -> None:
        self._columns, self.numbers = columns, numbers

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "RowTable":
        """The rows, read once, one after the other.

        Raises:
            FileFormatError: a row, or two of one instance, have lists of different numbers of samples.
        """
        if isinstance(rows, RowTable):
            return rows
        columns: dict[str, _Column] = {name: _Coded(name) for name in _CODED}
        columns |= {name: _Lists(name) for name in _OF_SAMPLES}
        columns |= {"seconds": _Seconds(), "trace": _Traces()}
        count = 0
        for row in rows:
            for column in columns.values():
                column.append(row)
            count += 1
        for column in columns.values():
            column.close()
        table = cls(columns, np.arange(count))
        _check_samples(table)
        return table

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "RowTable": ...
    def __getitem__(self, index: int | slice) -> "Row | RowTable":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return _RowOfTable(self._columns, int(self.numbers[index]))

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Row]:
        return (_RowOfTable(self._columns, number) for number in self.numbers.tolist())

    def take(self, which: np.ndarray) -> "RowTable":
        """The rows that these numbers, or these truth values, choose."""
        return RowTable(self._columns, self.numbers[which])

    def codes(self, name: str) -> np.ndarray:
        """Of each row the number of its value among `values`, `(rows,)` int32; -1: it has none."""
        return self._columns[name].codes[self.numbers]

    def values(self, name: str) -> list[Any]:
        """The different values of a column; there may be some that no row of this table has."""
        return self._columns[name].values

    def firsts(self, name: str) -> "RowTable":
        """The rows that are the first with each value of a column, in their order; of the rows that have one."""
        codes = self.codes(name)
        found, first = np.unique(codes, return_index=True)
        return self.take(np.sort(first[found >= 0]))

    def numbered(self, name: str) -> tuple[list[Any], np.ndarray]:
        """The different values of a column that all rows have, in the order in which they come first, and of each row
        the place of its value among them, `(rows,)` int64.
        """
        codes = self.codes(name)
        found, first, back = np.unique(codes, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty(len(found), dtype=np.int64)
        place[order] = np.arange(len(found))
        values = self.values(name)
        return [values[code] for code in found[order].tolist()], place[back]

    def having(self, name: str, values: Container[Any]) -> "RowTable":
        """The rows whose value in a column is one of these."""
        wanted = np.array([value in values for value in self.values(name)], dtype=bool)
        codes = self.codes(name)
        return self.take((codes >= 0) & wanted[codes] if len(wanted) else codes >= 0)

    def grouped(self, name: str) -> dict[Any, "RowTable"]:
        """The rows by their values in a column that all rows have, in the order in which these come first."""
        return {value: self.take(numbers) for value, numbers in self.numbers_by(name)}

    def numbers_by(self, name: str) -> Iterator[tuple[Any, np.ndarray]]:
        """As `grouped`, but the numbers of the rows in place of the rows."""
        values, numbers = self.numbered(name)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(values))).tolist()
        for value, start, end in zip(values, [0, *ends], ends, strict=False):
            yield value, order[start:end]

    @property
    def failed(self) -> np.ndarray:
        """Which rows have an error, `(rows,)` bool."""
        return self.codes("error") >= 0

    @property
    def seconds(self) -> np.ndarray:
        """Of each solve, `(rows,)`; NaN: it has none."""
        return self._columns["seconds"].values[self.numbers]

    def lengths(self, name: str) -> np.ndarray:
        """How many numbers each list of a column has, `(rows,)`; 0 of rows without one."""
        first = self._columns[name].first
        return first[self.numbers + 1] - first[self.numbers]

    def lists(self, name: str) -> np.ndarray:
        """The numbers in the lists of a column, those of one row behind those of the one before; null is NaN."""
        column = self._columns[name]
        return column.values[spans(column.first[self.numbers], self.lengths(name))]

    def lists_or(self, name: str, default: float, lengths: np.ndarray) -> np.ndarray:
        """As `lists`, where lists of so many of the default stand in place of those that are missing or null."""
        own = self.lengths(name)
        found = np.full(int(lengths.sum()), default)
        found[np.repeat(own > 0, lengths)] = self.lists(name)
        return found

    def trace(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Moments and objectives of the trace of one row, where it has an objective."""
        return self._columns["trace"].of(self.numbers[number])


class _RowOfTable(Row):
    __slots__ = ("_columns", "_number")

    def __init__(self, columns: Mapping[str, Any], number: int) -> None:
        self._columns, self._number = columns, number

    def __getitem__(self, name: str) -> Any:
        return self._columns[name].at(self._number)

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._columns if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def spans(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The places of numbers that lie side by side: of each span its first one and how many."""
    if not len(lengths):
        return np.empty(0, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    return np.repeat(first - before, lengths) + np.arange(int(lengths.sum()))


def _check_samples(table: RowTable) -> None:
    """Raise FileFormatError where lists of samples differ in length; a row that failed tells only of its start."""
    good = table.take(~table.failed)
    lengths, instances = good.lengths("objective"), good.codes("instance")
    wrong = lengths == 0
    for name in _OF_SAMPLES:
        own = good.lengths(name)
        wrong |= (own > 0) & (own != lengths)
    _, first, back = np.unique(instances, return_index=True, return_inverse=True)
    wrong |= lengths != lengths[first][back] if len(lengths) else False
    if wrong.any():
        row = good[int(np.flatnonzero(wrong)[0])]
        raise FileFormatError(
            f"The row of {row['solver']}, seed {row['seed']}, on {row['instance']} holds other numbers of samples than "
            "it, or another row of the instance, has."
        )
