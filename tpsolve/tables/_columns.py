"""What a column of a table was taken for, and the numbers that its cells become."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, NotRequired, Self, TypedDict

import torch
from torch import Tensor

from tpsolve._storage._documents import Count, FractionText, check_shape
from tpsolve.errors import ArgumentError, FileFormatError, NotFiniteError, ValueSetError
from tpsolve.tables._dates import DAY, FORMATS, fitting_formats, is_date, read_date
from tpsolve.tables._numbers import (
    MISSING_NUMBERS,
    MISSING_WORDS,
    ORDINAL,
    STYLES,
    Exact,
    Style,
    are_plain,
    fitting_styles,
    is_infinite,
    is_number,
    read_number,
    split_unit,
)
from tpsolve.tables._options import TableOptions
from tpsolve.tables._raw_table import Cell

USED = ("number", "date", "words")
LEFT_OUT = {
    "id": "an id",
    "index": "the numbers of rows",
    "empty": "no values",
    "date left out": "a date",
    "dropped": "as asked for",
}
"""Kinds of columns that are no features, and why."""

Place = Callable[[int], str]
"""Where the cell of a row stands, for a message."""


class _ColumnText(TypedDict):
    name: str
    kind: str
    words: NotRequired[list[str]]
    style: NotRequired[tuple[str, str]]
    unit: NotRequired[str]
    form: NotRequired[str]
    offset: NotRequired[FractionText]
    scale: NotRequired[FractionText]
    exact: NotRequired[bool]
    doubtful: NotRequired[bool]
    gaps: NotRequired[Count]
    fill: NotRequired[str]
    indicator: NotRequired[bool]


@dataclass(frozen=True)
class Column:
    """What a column was taken for.

    A number v of the file becomes `(v - offset) * scale`. Where `exact`, float64 holds the result for each number that
    the schema was made from, so that what is proved of the results is proved of the numbers in the file.

    Args:
        name: in the header; "" for an unnamed one.
        kind: one of `USED` or `LEFT_OUT`.
        words: distinct words in rising order, of a column of words.
        style: the sign of decimals, and that between thousands.
        unit: "$", "%", "kg" and the like; of a date "days" or "seconds".
        form: the order of the parts of a date.
        offset, scale: see above.
        exact: whether no number was rounded.
        doubtful: whether all numbers look like 1.633, so that the points could be those of thousands.
        gaps: how many values are missing.
        fill: what stands for a missing value: an exact number, or a word; "": nothing does.
        indicator: whether a further column of {0, 1} says where values are missing.
    """

    name: str
    kind: str
    words: tuple[str, ...] = ()
    style: Style = (".", "")
    unit: str = ""
    form: str = ""
    offset: Fraction = Fraction(0)
    scale: Fraction = Fraction(1)
    exact: bool = True
    doubtful: bool = False
    gaps: int = 0
    fill: str = ""
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers that a cell becomes."""
        if self.kind not in USED:
            return ()
        name = self.name or "unnamed"
        own = [f"{name}={word}" for word in self.words] if self.kind == "words" else [name]
        if self.kind == "date":
            own = [f"{name} ({self.unit})"]
        return (*own, *([f"{name} is missing"] if self.indicator else []))

    @property
    def scaling(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """Offset and scale of each of the `features`, in the unit that its name has: a date is seconds, or days."""
        unit = DAY if self.kind == "date" and self.unit == "days" else 1
        own = (self.offset / unit, self.scale * unit) if self.kind in ("number", "date") else (Fraction(0), Fraction(1))
        return tuple(own if k == 0 else (Fraction(0), Fraction(1)) for k in range(len(self.features)))

    def is_missing(self, cell: Cell) -> bool:
        """Whether a cell has no value."""
        return cell is None or cell in (MISSING_WORDS if self.kind == "words" else MISSING_NUMBERS)

    def exact_value(self, cell: str, style: Style | None = None, typed: bool = False) -> Exact | None:
        """The number of a cell that is not missing, in the units of the file, or None.

        Args:
            style: by default that of the column.
            typed: whether the cell was no text; then it has no unit.
        """
        if self.kind == "date":
            # ISO dates mean one thing only, whatever the others were.
            found = read_date(cell, self.form)
            if found is None and self.form != "clock":
                found = read_date(cell, "ymd")
            return None if found is None else found[0]
        if typed:
            # 0.05 may be what the column calls 5 %.
            return None if self.unit == "%" else read_number(cell, (".", ""))
        text, unit = split_unit(cell)
        return read_number(text, style or self.style) if unit == self.unit else None

    def style_of(self, cells: Iterable[Cell]) -> Style:
        """How new texts write their numbers: as the column did, else with its sign of decimals, else in another way."""
        bare = {split_unit(str(cell))[0] for cell in cells if not self.is_missing(cell)}
        if self.kind != "number" or (self.style == (".", "") and are_plain(bare)):
            return self.style
        if all(read_number(text, self.style) is not None for text in bare):
            return self.style
        return (fitting_styles(bare, self.style[0]) or fitting_styles(bare, None) or [self.style])[0]

    def numbers(self, cells: Sequence[Cell], place: Place, typed: bool = False, mend: str = "") -> Tensor:
        """`(N, n)` float64 of N cells, where n is the number of `features`.

        Args:
            typed: whether the cells were no texts.
            mend: of missing values, for a message; by default `MISSING_MEND`.

        Raises:
            NotFiniteError: a value is missing and nothing stands for it, or a number is beyond float64.
            ValueSetError: no number or date, or a word that the schema does not know.
        """
        style = self.style if typed else self.style_of(dict.fromkeys(cells))
        known: dict[Cell, int] = {}
        numbers: list[tuple[float, ...]] = []
        index = []
        for row, cell in enumerate(cells):
            number = known.get(cell)
            if number is None:
                number = known[cell] = len(numbers)
                numbers.append(self._number(cell, style, typed, lambda row=row: place(row), mend or MISSING_MEND))
            index.append(number)
        return torch.tensor(numbers, dtype=torch.float64)[torch.tensor(index)]

    def _number(self, cell: Cell, style: Style, typed: bool, place: Callable[[], str], mend: str) -> tuple[float, ...]:
        missing = self.is_missing(cell)
        if missing and not self.fill and not self.indicator:
            got = "no value" if cell in ("", None) else f"{cell!r}, no value"
            raise NotFiniteError(place(), got, f"one for {self.name or 'the unnamed column'}", mend)
        gap = (float(missing),) if self.indicator else ()
        if self.kind == "words":
            word = self.fill if missing else str(cell)
            if word not in self._places and not (missing and self.indicator):
                shown = ", ".join(map(repr, self.words[:12])) + (", ..." if len(self.words) > 12 else "")
                mend = "It was not among the words that the columns were made from."
                raise ValueSetError(place(), f"the word {word!r}", f"one of {shown}", mend)
            return (*(float(word == known) for known in self.words), *gap)
        if missing and self.indicator:
            return (0.0, *gap)
        found = None if missing else self.exact_value(str(cell), style, typed)
        if not missing and found is None:
            expected = f"a date as the others of the column ({self.form})" if self.kind == "date" else "a number"
            raise ValueSetError(place(), repr(cell), expected + (f" in {self.unit}" if self.unit else ""))
        if found is not None and not self.offset:
            return (scaled(found, self.scale, place), *gap)
        value = as_fraction(found) if found is not None else Fraction(self.fill)
        return (round_scaled(value, self.offset, self.scale, place), *gap)

    def rounds(self, cells: Sequence[Cell], numbers: Tensor, typed: bool = False) -> bool:
        """Whether float64 rounds one of N cells that became `numbers (N,)`."""
        if self.kind == "words":
            return False
        style = self.style if typed else self.style_of(dict.fromkeys(cells))
        for cell, number in dict(zip(cells, numbers.tolist(), strict=True)).items():
            found = None if self.is_missing(cell) else self.exact_value(str(cell), style, typed)
            if found is not None and (as_fraction(found) - self.offset) * self.scale != Fraction(number):
                return True
        return False

    def exact_numbers(self, cells: Sequence[Cell], typed: bool = False) -> tuple[Fraction, ...]:
        """What float64 rounds in the first column of `numbers`, of N cells of numbers or dates that it takes."""
        style = self.style if typed else self.style_of(dict.fromkeys(cells))
        known: dict[Cell, Fraction] = {}
        for cell in dict.fromkeys(cells):
            found = None if self.is_missing(cell) else self.exact_value(str(cell), style, typed)
            if found is None and self.indicator:
                known[cell] = Fraction(0)
                continue
            value = Fraction(self.fill) if found is None else as_fraction(found)
            known[cell] = (value - self.offset) * self.scale
        return tuple(known[cell] for cell in cells)

    @property
    def _places(self) -> frozenset[str]:
        return _frozen(self.words)

    def to_json(self) -> dict[str, Any]:
        """Texts, numbers and lists, for JSON; see `from_json`."""
        data: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING or value != field.default:
                data[field.name] = str(value) if isinstance(value, Fraction) else value
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The column that `to_json` wrote.

        Raises:
            FileFormatError: no such column.
        """
        check_shape(data, "schema of a table", _ColumnText)
        if data.get("fill") and data["kind"] in ("number", "date"):
            check_shape(data["fill"], "schema of a table", FractionText)
        try:
            given = dict(data)
            for name in ("offset", "scale"):
                if name in given:
                    given[name] = Fraction(given[name])
            for name in ("words", "style"):
                if name in given:
                    given[name] = tuple(map(str, given[name]))
            column = cls(**given)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise FileFormatError(f"schema of a table: a column is {data!r}.") from error
        if column.kind not in (*USED, *LEFT_OUT):
            raise FileFormatError(f"schema of a table: a column of the kind {column.kind!r}.")
        if (
            column.style not in STYLES
            or column.form not in ("", *FORMATS)
            or (column.kind == "date") != bool(column.form)
        ):
            got = f"style {column.style!r} and form {column.form!r} of a column of the kind {column.kind!r}"
            raise FileFormatError(f"schema of a table: got {got}.")
        return column


MISSING_MEND = 'Fill it in, or say what becomes of it: missing="drop", "indicator" or "impute" (--missing).'


@cache
def _frozen(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(words)


def as_fraction(value: Exact) -> Fraction:
    """The number m * 10**e."""
    mantissa, power = value
    return Fraction(mantissa * 10**power) if power >= 0 else Fraction(mantissa, 10**-power)


def scaled(value: Exact, scale: Fraction, place: Callable[[], str]) -> float:
    """As `round_scaled` without an offset, faster."""
    mantissa, power = value
    above, below = mantissa * scale.numerator, scale.denominator
    try:
        return above * 10**power / below if power >= 0 else above / (below * 10**-power)
    except OverflowError:
        raise NotFiniteError(place(), "a number beyond float64", "numbers up to 1.8e308") from None


def round_scaled(value: Fraction, offset: Fraction, scale: Fraction, place: Callable[[], str]) -> float:
    """The float64 nearest to `(value - offset) * scale`.

    Raises:
        NotFiniteError: beyond float64.
    """
    try:
        return float((value - offset) * scale)
    except OverflowError:
        raise NotFiniteError(place(), "a number beyond float64", "numbers up to 1.8e308") from None


@dataclass(frozen=True)
class Guess:
    """What a column was taken for, before the rows with missing values are left out.

    Args:
        styles: of a column of numbers, those in which all cells are numbers, each with another meaning: one, or two
            where decimals can't be told from thousands.
        proves: whether the cells show the sign of decimals.
    """

    column: Column
    styles: tuple[Style, ...] = ()
    proves: bool = False


def guess_column(
    name: str, cells: list[Cell], place: Place, options: TableOptions, *, words: bool = False, typed: bool = False
) -> Guess:
    """What a column that is not left out by its name is taken for.

    Args:
        words: whether its type says that it holds words.
        typed: whether its cells were no texts.

    Raises:
        ValueSetError: numbers or dates among which a cell is none; numbers in several units or styles.
        NotFiniteError: an infinite number.
        ArgumentError: dates that can be read in two ways.
    """
    counts = Counter(cells)
    texts = {cell: count for cell, count in counts.items() if cell is not None and cell not in MISSING_NUMBERS}
    if not (words or name in options.words) and texts:
        guess = _guess_numbers(name, texts, options, typed) or _guess_dates(name, texts, place, cells, options)
        if guess is not None:
            return guess
        _refuse_mixture(texts, place, cells, options)
    empty = all(cell is None or cell in MISSING_WORDS for cell in counts) or not (texts or words)
    return Guess(Column(name, "empty" if empty else "words"))


def _guess_numbers(name: str, texts: dict[str, int], options: TableOptions, typed: bool) -> Guess | None:
    split = {text: split_unit(text) for text in texts}
    units = {unit for _, unit in split.values()}
    if len(units) > 1:
        return None
    bare = {number for number, _ in split.values()}
    if options.decimal != "," and are_plain(bare) and not all(len(text.partition(".")[2]) in (0, 3) for text in bare):
        # A point that can't be one of thousands; the other styles need no look.
        return Guess(Column(name, "number", unit=units.pop()), ((".", ""),), proves=True)
    styles = fitting_styles(bare, options.decimal)
    if typed:
        styles = [(".", "")] if all(read_number(text, (".", "")) is not None for text in bare) else []
    if not styles:
        return None
    signs = {sign for text in bare for sign in text if not sign.isdigit()}
    meanings = {tuple(sign if sign in signs else "" for sign in style): style for style in reversed(styles)}
    proves = len(meanings) == 1 and bool({".", ","} & signs)
    return Guess(Column(name, "number", unit=units.pop()), tuple(reversed(meanings.values())), proves)


def settle_style(guess: Guess, place: Place, others: set[str]) -> Column:
    """The column with its style, where it can be read in two ways as the decimal signs of `others` prove it.

    Raises:
        ArgumentError: nothing tells whether a comma is that of decimals or of thousands.
    """
    styles = guess.styles
    if len(styles) > 1:
        proved = [style for style in styles if {style[0]} == others]
        # A point is that of decimals unless something speaks against it.
        styles = proved or [style for style in styles if style == (".", "")]
        if not proved and styles:
            return dataclasses.replace(guess.column, style=styles[0], doubtful=True)
    if guess.styles and not styles:
        mend = 'Say it: decimal="." or "," (--decimal).'
        expected = "commas that are clearly those of decimals or of thousands"
        raise ArgumentError(place(0), "a column of numbers such as 1,234", expected, mend)
    return dataclasses.replace(guess.column, style=styles[0]) if styles else guess.column


def _guess_dates(
    name: str, texts: dict[str, int], place: Place, cells: list[Cell], options: TableOptions
) -> Guess | None:
    forms = fitting_formats(texts)
    if not forms:
        return None
    if options.dates == "drop":
        return Guess(Column(name, "date left out"))
    form = options.dates if options.dates in forms else forms[0]
    both = options.dates == "auto" and {"dmy", "mdy"} <= set(forms)
    if both and any(read_date(text, "dmy") != read_date(text, "mdy") for text in texts):
        first = next(cell for cell in cells if cell in texts)
        mend = f'Say which: dates="dmy" or "mdy" (--dates), or leave {name} out (--drop).'
        expected = "dates of which one order of day and month fits all"
        raise ArgumentError(place(cells.index(first)), repr(first), expected, mend)
    return Guess(Column(name, "date", form=form))


def _refuse_mixture(texts: dict[str, int], place: Place, cells: list[Cell], options: TableOptions) -> None:
    """Raise ValueSetError where at least half of the cells are numbers, or dates, and a cell is none.

    Ordinals such as 1st and 2nd are words here, and no numbers with several units.
    """
    total = sum(texts.values())
    for what, is_one in (("number", is_number), ("date", is_date)):
        good = {text for text in texts if is_one(text) and not ORDINAL.fullmatch(text)}
        if 2 * sum(n for text, n in texts.items() if text in good or is_infinite(text)) < total:
            continue
        row = next((k for k, cell in enumerate(cells) if cell in texts and cell not in good), None)
        if row is not None and is_infinite(str(cells[row])):
            raise NotFiniteError(place(row), cells[row], "a finite number")
        mend = "Correct it, leave the column out (--drop), or take all its cells for words (--words)."
        if row is not None:
            raise ValueSetError(place(row), repr(cells[row]), f"a {what}, as most cells of the column", mend)
        raise ValueSetError(place(0), *_several_ways(what, good, options), mend)


def _several_ways(what: str, texts: set[str], options: TableOptions) -> tuple[str, str]:
    units = sorted({split_unit(text)[1] or "none" for text in texts})
    if what == "number" and len(units) > 1:
        return f"a column of numbers with the units {', '.join(units[:5])}", "one unit in all cells"
    shown = ", ".join(map(repr, sorted(texts)[:3]))
    given = f" with the decimal sign {options.decimal!r}" if what == "number" and options.decimal else ""
    return f"a column such as {shown}", f"{what}s that are all written in one way{given}"
