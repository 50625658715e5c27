"""What a table was taken for, as a whole: fitted once, applied to the same and to new rows."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, Self, TypedDict

import torch
from torch import Tensor

from tpsolve._storage._documents import check_shape
from tpsolve.errors import ArgumentError, FileFormatError, NotFiniteError, TooLargeError, UnknownNameError
from tpsolve.tables._columns import (
    LEFT_OUT,
    MISSING_MEND,
    USED,
    Column,
    Guess,
    as_fraction,
    guess_column,
    settle_style,
)
from tpsolve.tables._fit_scale import fit_scale
from tpsolve.tables._numbers import MAX_DIGITS
from tpsolve.tables._options import TableOptions
from tpsolve.tables._raw_table import Cell, RawTable
from tpsolve.tables._read_source import read_raw

READING = 1
"""Raised if the same file ever gives other numbers than before."""

MAX_NUMBERS = 2**28
"""Of the inputs, 2 GiB: words that hardly repeat would fill the memory."""

MAX_SHORT = 20
"""Rows of a table that is too small to tell words from an id."""

NEW_ROWS_MEND = 'Fill it in, or train with missing="indicator" or "impute" on a table with such gaps (--missing).'
NO_CLASS = (None, "", "?")
NO_CLASS_WORDS = frozenset({"NA", "N/A", "n/a", "nan", "NaN", "<NA>", "NaT", "null", "NULL", "#N/A", "#N/A N/A"})
"""No classes either, unless the target is named among the columns of words."""
_COUNTED = {
    "number": ("number", "numbers"),
    "date": ("date", "dates"),
    "words": ("column of words", "columns of words"),
    "id": ("id left out", "ids left out"),
    "index": ("index left out", "indices left out"),
    "empty": ("empty left out", "empty left out"),
    "date left out": ("date left out", "dates left out"),
    "dropped": ("other left out", "others left out"),
}
"""Names of the kinds of columns: of one, and of several."""

_UNNAMED = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
_ID = re.compile(
    r"(?i:(?:.*[_\W])?(?:id|uuid|guid|rowid)|index|level_0|row.?(?:names?|index|number))|.*[a-z0-9](?:Id|ID)"
)


class _SchemaText(TypedDict):
    reading: int
    target: str | None
    classes: list[str]
    columns: list[dict[str, Any]]
    options: dict[str, Any]


@dataclass(frozen=True)
class TableSchema:
    """What the columns of a table were taken for, and how new rows are read alike.

    Args:
        target: the column of classes; None: there is none.
        classes: its words, in rising order.
        columns: all others, in the order of the table, those that are left out too.
        options: how the table was read.
    """

    target: str | None
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    options: TableOptions = field(default_factory=TableOptions)

    @classmethod
    def fit(cls, source: Any, target: str | None = None, options: TableOptions | None = None) -> Self:
        """The schema of a table.

        Args:
            source: a path (.csv, .tsv, .txt, also .gz or .xz; .parquet, .feather, .xlsx), "-" for standard input, or
                a DataFrame of pandas or polars.
            target: the column that holds the classes.

        Raises:
            FileFormatError: it can't be read, has no rows, a row of another length, two columns of one name, or no
                column but the target.
            UnknownNameError: it has no such column; the message offers the nearest.
            NotFiniteError: a value is missing and `options` say nothing of it, or a number is infinite.
            ValueSetError: numbers or dates among which a cell is none.
            ArgumentError: dates, or numbers with commas, that can be read in two ways; classes that are one number.
            TooLargeError: more than a gigabyte of text, or too many words.
        """
        options = options or TableOptions()
        return cls._fit(read_raw(source, options), target, options)[0]

    @classmethod
    def _fit(cls, raw: RawTable, target: str | None, options: TableOptions) -> tuple[Self, RawTable, tuple[int, ...]]:
        for name, given in (("target", [target]), *((n, getattr(options, n)) for n in ("columns", "drop", "words"))):
            for column in given:
                if column is not None and column not in raw.header:
                    raise UnknownNameError(f"{raw.name}: {name}", column, raw.header)
        if target is not None and target in (*options.columns, *options.drop):
            raise ArgumentError("target", repr(target), "a column that is neither an input nor left out")
        if raw.header == [target]:
            raise FileFormatError(f"{raw.name}: no columns but {target}, the target.")
        guesses = _guesses(raw, target, options)
        decimals = {guess.styles[0][0] for guess in guesses if guess.proves}
        columns = [settle_style(guess, _placer(raw, guess.column.name), decimals) for guess in guesses]
        _check_classes(raw, target, options)
        kept, dropped = _drop_rows(raw, target, columns, options)
        columns = [_finish(column, kept, options) for column in columns]
        if not any(column.kind in USED for column in columns):
            out = ", ".join(f"{c.name or 'unnamed'} ({LEFT_OUT[c.kind]})" for c in columns)
            mend = "Name what to use (--columns)."
            raise ArgumentError(raw.name, f"no columns that can be used; left out: {out}", "one at least", mend)
        classes = tuple(sorted({str(cell) for cell in _cells(kept, target)})) if target is not None else ()
        _refuse_twins(raw, target, classes)
        return cls(target, classes, tuple(columns), options), kept, dropped

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of `inputs`."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def scaling(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """Offset and scale of each feature: a number v of the file is the input `(v - offset) * scale`."""
        return tuple(pair for column in self.columns for pair in column.scaling)

    @property
    def rounded(self) -> tuple[str, ...]:
        """The columns whose numbers float64 rounds: what is proved of the inputs is not proved of the file there."""
        return tuple(column.name for column in self.columns if column.kind in USED and not column.exact)

    def apply(self, source: Any, *, labels: bool = True) -> "LabelledTable":
        """The samples of a table, read as the schema says; new rows give the same numbers as the first ones.

        Columns that are left out may be absent. So may the target.

        Args:
            source: as in `fit`.
            labels: whether the target is read, where there is one.

        Raises:
            ArgumentError: a column is absent, or one that the first table had not.
            ValueSetError: a word that the first table had not, or no number where one is expected.
            NotFiniteError, FileFormatError, TooLargeError: as in `fit`.
        """
        raw = read_raw(source, self.options, [column.name for column in self.columns if column.kind not in USED])
        known = {column.name: column for column in self.columns}
        for column in self.columns:
            if column.kind in USED and column.name not in raw.header:
                raise ArgumentError(raw.name, f"no column {column.name!r}", "the columns that the schema was made from")
        for name in raw.header:
            if name not in known and name != self.target and not _UNNAMED.fullmatch(name):
                mend = f"Known are {', '.join(repr(c.name) for c in self.columns)}. Leave it out of the table."
                raise ArgumentError(raw.name, f"an unknown column {name!r}", "columns that the schema knows", mend)
        target = self.target if labels and self.target in raw.header else None
        _check_classes(raw, target, self.options)
        kept, dropped = _drop_rows(raw, target, self.columns, self.options)
        return self._read(kept, target, dropped, NEW_ROWS_MEND, anew=True)

    def _read(
        self, raw: RawTable, target: str | None, dropped: tuple[int, ...], mend: str = MISSING_MEND, anew: bool = False
    ) -> "LabelledTable":
        rows, features = len(raw.lines), self.features
        if rows * len(features) > MAX_NUMBERS:
            widest = max(self.columns, key=lambda column: len(column.features))
            got = f"{rows:,} rows of {len(features):,} features, {len(widest.features):,} of them of {widest.name!r}"
            raise TooLargeError(
                raw.name, got, f"at most {MAX_NUMBERS:,} numbers", "Leave columns or rows out (--drop)."
            )
        parts: list[Tensor] = []
        unrounded: dict[int, tuple[Fraction, ...]] = {}
        width = 0
        for column in self.columns:
            if column.kind not in USED:
                continue
            cells, typed = _cells(raw, column.name), column.name in raw.typed
            parts.append(column.numbers(cells, _placer(raw, column.name), typed, mend))
            # New rows may have more digits than the first ones.
            if not column.exact or (anew and column.rounds(cells, parts[-1][:, 0], typed)):
                unrounded[width] = column.exact_numbers(cells, typed)
            width += parts[-1].shape[1]
        labels = () if target is None else tuple(map(str, _cells(raw, target)))
        return LabelledTable(torch.cat(parts, dim=1), features, labels, tuple(raw.lines), dropped, self, unrounded)

    def summary(self) -> str:
        """One line, such as "12 numbers, 2 dates, 3 words, 1 id left out -> 19 features"."""
        counts = Counter(column.kind for column in self.columns)
        parts = [f"{counts[kind]} {names[counts[kind] > 1]}" for kind, names in _COUNTED.items() if counts[kind]]
        count = len(self.features)
        return f"{', '.join(parts)} -> {count} {'feature' if count == 1 else 'features'}"

    def table(self) -> list[tuple[str, str, str]]:
        """A row for each column: its name, what it was taken for, and what is worth knowing of it."""
        return [(column.name or "(unnamed)", _kind(column), _details(column)) for column in self.columns]

    def to_json(self) -> dict[str, Any]:
        """Texts, numbers, lists and dicts, for JSON; see `from_json`."""
        return {
            "reading": READING,
            "target": self.target,
            "classes": list(self.classes),
            "columns": [column.to_json() for column in self.columns],
            "options": self.options.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The schema that `to_json` wrote.

        Raises:
            FileFormatError: no such schema, or of another version.
        """
        names = {"reading", "target", "classes", "columns", "options"}
        if not isinstance(data, dict) or data.keys() != names:
            raise FileFormatError(f"schema of a table: got {str(data)[:80]}, expected {', '.join(sorted(names))}.")
        check_shape(data, "schema of a table", _SchemaText)
        if data["reading"] != READING:
            raise FileFormatError(f"schema of a table: of version {data['reading']}, expected {READING}.")
        columns = tuple(Column.from_json(column) for column in data["columns"])
        return cls(data["target"], tuple(data["classes"]), columns, TableOptions.from_json(data["options"]))


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Samples and their classes.

    Args:
        inputs: `(N, n)` float64, in the units of the schema's columns.
        features: n names, such as "age" or "colour=red".
        labels: N class names; none where the table has no target column, or nobody asked for it.
        lines: where the N samples begin: lines of a text file or a sheet, rows of a DataFrame or of Parquet, from 1.
        dropped: the places of the rows that were left out, since a value is missing.
        schema: what the columns were taken for.
        unrounded: of each feature whose numbers float64 rounds, by its place from 0, the N numbers before rounding.
    """

    inputs: Tensor
    features: tuple[str, ...]
    labels: tuple[str, ...]
    lines: tuple[int, ...]
    dropped: tuple[int, ...]
    schema: TableSchema
    unrounded: Mapping[int, tuple[Fraction, ...]] = field(default_factory=dict)

    def exact_rows(self) -> list[tuple[Fraction, ...]] | None:
        """The N rows of `inputs` before rounding; None: nothing is rounded."""
        if not self.unrounded:
            return None
        columns = [self.unrounded.get(k) or tuple(map(Fraction, c)) for k, c in enumerate(self.inputs.T.tolist())]
        return list(zip(*columns, strict=True))

    def check_told_apart(self, name: str) -> None:
        """For whoever reads `inputs` alone: raise ArgumentError where float64 makes one number of two of the table.

        Args:
            name: of the table, for the message.
        """
        for place, exact in self.unrounded.items():
            first: dict[float, int] = {}
            for row, number in enumerate(self.inputs[:, place].tolist()):
                other = first.setdefault(number, row)
                if exact[row] != exact[other]:
                    column, (offset, scale) = self.features[place], self.schema.scaling[place]
                    got = " besides ".join(_decimal(exact[k] / scale + offset) for k in (row, other))
                    where = f"{name}:{self.lines[row]} and {self.lines[other]}:{column}"
                    mend = (
                        f"Leave {column} out, or round it in the file to the digits that matter. tpsolve separate, and "
                        "exact with real weights, read all digits."
                    )
                    raise ArgumentError(where, got, "numbers that float64 tells from each other", mend)


def read_table(source: Any, target: str | None = None, options: TableOptions | None = None) -> LabelledTable:
    """The samples of a table, with the schema that was made from it; arguments and errors as `TableSchema.fit`."""
    options = options or TableOptions()
    schema, kept, dropped = TableSchema._fit(read_raw(source, options), target, options)
    return schema._read(kept, target, dropped)


def _guesses(raw: RawTable, target: str | None, options: TableOptions) -> list[Guess]:
    guesses = []
    for name, cells in zip(raw.header, raw.columns, strict=True):
        if name == target:
            continue
        if name in options.drop or (options.columns and name not in options.columns):
            guesses.append(Guess(Column(name, "dropped")))
            continue
        kind = None if name in options.columns else _left_out(name, cells)
        if kind is not None:
            guesses.append(Guess(Column(name, kind)))
            continue
        guess = guess_column(name, cells, _placer(raw, name), options, words=name in raw.words, typed=name in raw.typed)
        if guess.column.kind == "words" and name not in options.columns and _hardly_repeats(cells):
            guess = Guess(Column(name, "id"))
        guesses.append(guess)
    return guesses


def _left_out(name: str, cells: list[Cell]) -> str | None:
    """Whether a column numbers or names the rows."""
    if len(set(cells)) < len(cells) or len(cells) < 2:
        return None
    whole = all(cell is not None and re.fullmatch(r"[+-]?\d+(\.0)?", cell) for cell in cells)
    words = all(cell is not None and re.search(r"[^\W\d_]", cell) for cell in cells)
    if _UNNAMED.fullmatch(name):
        return "index" if whole else "id" if words else None
    return "id" if (whole or words) and _ID.fullmatch(name) else None


def _hardly_repeats(cells: list[Cell]) -> bool:
    return len(cells) > MAX_SHORT and 2 * len(set(cells)) > len(cells)


def _cells(raw: RawTable, name: str | None) -> list[Cell]:
    return raw.columns[raw.header.index(str(name))]


def _placer(raw: RawTable, name: str) -> Callable[[int], str]:
    return lambda row: raw.place(row, name)


def _check_classes(raw: RawTable, target: str | None, options: TableOptions) -> None:
    if target is None or options.missing == "drop":
        return
    for row, cell in enumerate(_cells(raw, target)):
        if _is_no_class(cell, target, options):
            got, mend = "no class", "Fill it in, or leave such rows out (--missing drop)."
            if cell not in NO_CLASS:
                got = f"{cell!r}, no class"
                mend = f"{mend[:-1]}, or say that it is the name of one (--words {target})."
            raise NotFiniteError(raw.place(row, target), got, f"one for {target}", mend)


def _is_no_class(cell: Cell, target: str, options: TableOptions) -> bool:
    return cell in NO_CLASS or (cell in NO_CLASS_WORDS and target not in options.words)


def _drop_rows(
    raw: RawTable, target: str | None, columns: Any, options: TableOptions
) -> tuple[RawTable, tuple[int, ...]]:
    """The rows that are read, and the lines of those that are left out since a value is missing."""
    if options.missing != "drop":
        return raw, ()
    out: set[int] = set()
    for column in columns:
        if column.kind in USED:
            out |= {row for row, cell in enumerate(_cells(raw, column.name)) if column.is_missing(cell)}
    if target is not None:
        out |= {row for row, cell in enumerate(_cells(raw, target)) if _is_no_class(cell, target, options)}
    if not out:
        return raw, ()
    rows = [row for row in range(len(raw.lines)) if row not in out]
    if not rows:
        raise NotFiniteError(raw.name, "a missing value in every row", "rows without one", 'Use missing="indicator".')
    kept = [[cells[row] for row in rows] for cells in raw.columns]
    lines = [raw.lines[row] for row in rows]
    return dataclasses.replace(raw, columns=kept, lines=lines), tuple(raw.lines[row] for row in sorted(out))


def _finish(column: Column, raw: RawTable, options: TableOptions) -> Column:
    """The column with its words or its scale, and with what stands for missing values."""
    if column.kind not in USED:
        return column
    cells, place = _cells(raw, column.name), _placer(raw, column.name)
    counts = Counter(cell for cell in cells if not column.is_missing(cell))
    gaps = len(cells) - counts.total()
    if gaps and options.missing == "refuse":
        row = next(row for row, cell in enumerate(cells) if column.is_missing(cell))
        got = "no value" if cells[row] in ("", None) else f"{cells[row]!r}, no value"
        raise NotFiniteError(place(row), got, f"one for {column.name or 'the unnamed column'}", MISSING_MEND)
    fill = ""
    if column.kind == "words":
        column = dataclasses.replace(column, words=tuple(sorted(map(str, counts))))
        if options.missing == "impute":
            fill = max(column.words, key=lambda word: counts[word])
    else:
        column = fit_scale(column, cells, place)
        if options.missing == "impute":
            values = sorted(
                as_fraction(value)
                for cell, count in counts.items()
                if (value := column.exact_value(str(cell))) is not None
                for _ in range(count)
            )
            fill = str(values[(len(values) - 1) // 2])
    indicator = options.missing == "indicator" and gaps > 0
    return dataclasses.replace(column, gaps=gaps, fill=fill, indicator=indicator)


def _refuse_twins(raw: RawTable, target: str | None, classes: tuple[str, ...]) -> None:
    """Raise ArgumentError for classes such as 1 and 1.0."""
    numbers: dict[float, str] = {}
    for name in classes:
        if not re.fullmatch(r"[+-]?\d+(\.\d*)?", name):
            return
        twin = numbers.setdefault(float(name), name)
        if twin != name:
            expected = "one text for one class"
            raise ArgumentError(f"{raw.name}:{target}", f"the classes {twin!r} and {name!r}", expected)


def _kind(column: Column) -> str:
    if column.kind in LEFT_OUT:
        return f"left out: {LEFT_OUT[column.kind]}"
    return f"number in {column.unit}" if column.kind == "number" and column.unit else column.kind


def _details(column: Column) -> str:
    parts = []
    if column.kind == "words":
        shown = ", ".join(column.words[:6])
        parts.append(f"{len(column.words)}: {shown}{', ...' if len(column.words) > 6 else ''}")
    if column.kind == "date":
        since = "midnight" if column.form == "clock" else "1970-01-01"
        parts.append(f"{column.unit} since {since}, {'read as ' + column.form}")
    if column.kind == "number" and column.style != (".", ""):
        point, group = column.style
        parts.append(f"decimals {point!r}" + (f", thousands {group!r}" if group else ""))
    if column.doubtful:
        parts.append("points taken for decimals, not thousands: else --decimal ,")
    if not column.exact:
        parts.append("rounded to float64")
    elif column.kind == "number" and (column.scale, column.offset) != (1, 0):
        above = f", above {_short(column.offset)}" if column.offset else ""
        parts.append(f"exact, in units of {_short(1 / column.scale)}{above}")
    if column.gaps:
        stands = "a column of its own" if column.indicator else f"{_fill(column)} instead" if column.fill else ""
        parts.append(f"{column.gaps} missing" + (f", {stands}" if stands else ""))
    return "; ".join(parts)


def _fill(column: Column) -> str:
    return column.fill if column.kind == "words" else f"{float(Fraction(column.fill)):.6g}"


def _as_decimal(value: Fraction) -> Decimal:
    with localcontext(prec=MAX_DIGITS):
        return (Decimal(value.numerator) / value.denominator).normalize()


def _decimal(value: Fraction) -> str:
    return f"{_as_decimal(value):f}"


def _short(value: Fraction) -> str:
    if len(str(value)) <= 24 and value.denominator == 1:
        return str(value)
    try:
        near = float(value)
    except OverflowError:  # Two numbers of float64 may be farther apart than its largest one.
        near = math.inf
    return f"{near:g}" if math.isfinite(near) and (near or not value) else f"{_as_decimal(value):.6g}"
