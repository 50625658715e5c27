"""Texts of JSON and TOML as values of a shape that is stated once, as a type."""

import re
import tomllib
from os import PathLike
from typing import Annotated, Any

import msgspec

from tpsolve._storage._limits import check_bytes, max_bytes, read_bytes
from tpsolve.errors import FileFormatError

Label = str | int | float | bool
"""A class as files hold it."""
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
SignedWhole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
"""What float64 holds, and all numbers between it and 0."""
Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
"""A whole number that arithmetic with floats takes too."""
FractionText = Annotated[str, msgspec.Meta(pattern=r"\A-?[0-9]{1,1300}(/0*[1-9][0-9]{0,1300})?\Z")]
"""An exact number of at most 1300 digits, which sums of float64 need not exceed; not "1/0", and not "1e999999999"."""
FloatText = Annotated[str, msgspec.Meta(pattern=r"\A-?(inf|nan|[0-9]{1,400}(\.[0-9]{1,400})?(e[+-]?[0-9]{1,4})?)\Z")]
"""What `float` reads; JSON has no infinity of its own."""

_VALUE_BYTES = 100
"""What a value takes as an object, at most, besides its digits or letters."""
_TOML_BYTES = 2**18
_DEEP_KEY = re.compile(rb"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")
"""Reading one takes time that grows as the square of its parts."""


def parse_json(text: str | bytes | bytearray, where: str | PathLike[str], shape: Any = Any) -> Any:
    """The value of a JSON text.

    Args:
        where: what the text is, for messages: the path of its file, mostly.
        shape: a type, such as a TypedDict, that it must have; keys that it does not name may be there.

    Raises:
        FileFormatError: no JSON, nested too deep, a number that is not finite or too long, or another shape.
        TooLargeError: its values would take more than a file may.
    """
    check_values(text, where)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise FileFormatError(f"{where}: no JSON that can be read ({error}).") from error
    check_shape(value, where, shape)
    return value


def check_values(text: str | bytes | bytearray, where: str | PathLike[str]) -> None:
    """Raise TooLargeError if the values of JSON would take more than a file may."""
    if (1 + _VALUE_BYTES) * len(text) <= max_bytes():
        return  # Each value has a sign of its own.
    if isinstance(text, str):
        values = sum(map(text.count, ",:[{"))
    else:
        values = sum(text.count(sign) for sign in (b",", b":", b"[", b"{"))
    check_bytes(where, len(text) + _VALUE_BYTES * values)


def check_shape(value: Any, where: str | PathLike[str], shape: Any) -> None:
    """Raise FileFormatError unless `value`, of plain Python types, has the shape; see `parse_json`."""
    try:
        msgspec.convert(value, shape)
    # Of a checkpoint, objects of other classes are asked for what they have not.
    except (msgspec.MsgspecError, RecursionError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(f"{where}: {error}; the file is damaged, or was not written by tpsolve.") from error


def read_json(path: str | PathLike[str], shape: Any = Any) -> Any:
    """The value of a JSON file; arguments and errors as those of `parse_json` and `read_bytes`."""
    return parse_json(read_bytes(path), path, shape)


def read_toml(path: str | PathLike[str]) -> dict[str, Any]:
    """The table of a TOML file in UTF-8, with or without a byte order mark.

    Raises:
        FileFormatError: it can't be read, is no TOML, is nested too deep, or has a number that is too long.
        TooLargeError: more than 256 KiB.
    """
    content = read_bytes(path, _TOML_BYTES)
    try:
        if _DEEP_KEY.search(content):
            raise ValueError("a key of too many parts")
        table = tomllib.loads(content.decode("utf-8-sig"))
        _check_whole(table)
    except (ValueError, RecursionError) as error:  # Also what is no UTF-8.
        raise FileFormatError(f"{path}: no TOML that can be read ({error}).") from error
    return table


def _check_whole(value: Any) -> None:
    """Raise ValueError for whole numbers of more than 64 bits, which TOML has not; Python reads them in base 16."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_whole(inner)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")
