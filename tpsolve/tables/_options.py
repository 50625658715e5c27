"""How a table is to be read."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from tpsolve.errors import ArgumentError, FileFormatError

MISSING = ("refuse", "drop", "indicator", "impute")
DATES = ("auto", "dmy", "mdy", "drop")
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class TableOptions:
    """How a table is to be read; what is not given is found out from the table.

    Args:
        missing: what becomes of a missing value. "refuse": an error that names its place. "drop": its row is left
            out. "indicator": 0 in the column's place, or no word, and a further column of {0, 1} that is 1 where the
            value is missing. "impute": the median of the column, or its most frequent word.
        dates: "auto": a number; the order of day and month is that which all cells allow. "dmy", "mdy": the order
            where slashes or points separate them. "drop": columns of dates are left out.
        columns: names of the only ones to use; empty: all. One named here is used even if it looks like an id.
        drop: names of those to leave out.
        words: names of those that hold words even where they look like numbers, such as codes.
        delimiter: "," ";" "|" or a tab; None: that which cuts all rows alike.
        decimal: "." or ","; None: that which all cells of a column allow.

    Raises:
        ArgumentError: another value, or a column both used and left out.
    """

    missing: str = "refuse"
    dates: str = "auto"
    columns: Sequence[str] = ()
    drop: Sequence[str] = ()
    words: Sequence[str] = ()
    delimiter: str | None = None
    decimal: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("missing", MISSING), ("dates", DATES)):
            if getattr(self, name) not in known:
                raise ArgumentError(name, repr(getattr(self, name)), f"one of {', '.join(known)}")
        for name, known in (("delimiter", DELIMITERS), ("decimal", (".", ","))):
            if getattr(self, name) not in (None, *known):
                raise ArgumentError(name, repr(getattr(self, name)), f"one of {', '.join(map(repr, known))}")
        for name in ("columns", "drop", "words"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(column, str) for column in value):
                raise ArgumentError(name, repr(value), "names of columns", "For one name write (name,).")
            object.__setattr__(self, name, tuple(value))
        if self.delimiter == self.decimal == ",":
            raise ArgumentError("decimal", "','", "another sign than the delimiter")
        if both := set(self.columns) & set(self.drop):
            raise ArgumentError("drop", repr(min(both)), "a column that is not to be used")

    def to_json(self) -> dict[str, Any]:
        """Lists, texts and None, for JSON; see `from_json`."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The options that `to_json` wrote.

        Raises:
            FileFormatError: no such options.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, dict) or data.keys() != names:
            raise FileFormatError(f"reading options: got {data!r}, expected {', '.join(sorted(names))}.")
        try:
            return cls(**data)
        except (ArgumentError, TypeError) as error:
            raise FileFormatError(f"reading options: {error}") from error
