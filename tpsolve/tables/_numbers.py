"""Texts as exact numbers: decimals, thousands, units; and the marks of missing values."""

import re
from collections.abc import Collection, Iterable

MISSING_WORDS = frozenset({"", "?", "nan", "NaN", "<NA>", "NaT", "#N/A", "#N/A N/A"})
"""Missing in every column: no program writes them for a word."""

MISSING_NUMBERS = MISSING_WORDS | {
    *("NA", "N/A", "n/a", "na", "N.A.", "n.a.", "null", "NULL", "Null", "None", "none", "NONE", "NAN", "Nan", "-nan"),
    *(
        "-",
        "--",
        "---",
        "\N{EN DASH}",
        "\N{EM DASH}",
        ".",
        "..",
        "...",
        "*",
        "missing",
        "Missing",
        "unknown",
        "Unknown",
    ),
    *("#NA", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NULL!", "1.#QNAN", "-1.#IND", "1.#IND", "\\N"),
}
"""Missing in columns of numbers and dates; in a column of words they are words."""

Exact = tuple[int, int]
"""Whole numbers m and e: the number m * 10**e."""

Style = tuple[str, str]
"""The sign of decimals, and that between thousands; "" for none."""

STYLES: tuple[Style, ...] = (
    (".", ""),
    (",", ""),
    (".", ","),
    (",", "."),
    (".", " "),
    (",", " "),
    (".", "'"),
    (",", "'"),
)
MAX_DIGITS = 400
"""Of a number, and its largest exponent: float64 holds none beyond 1e308."""

_PLAIN_SIGNS = str.maketrans(
    {
        "\N{NO-BREAK SPACE}": " ",
        "\N{NARROW NO-BREAK SPACE}": " ",
        "\N{THIN SPACE}": " ",
        "\N{MINUS SIGN}": "-",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    }
)
_INFINITE = re.compile(r"[+-]?(inf|infinity|∞)", re.IGNORECASE)
_UNIT_BEFORE = re.compile(r"([+-]?)\s*([$€£¥₹]|[A-Z]{3}(?=\s?\d))\s*(?=[+-]?[\d.,])(.*)", re.DOTALL)
_UNIT_AFTER = re.compile(r"([+-]?[\d.,' ]*\d(?:[eE][+-]?\d+)?[.,]?)\s*([^\d\s.,'+-][^\d]{0,11})", re.DOTALL)


ORDINAL = re.compile(r"\d{1,4}(st|nd|rd|th)", re.IGNORECASE)
"""Such as 1st."""

_ONE_PLAIN = r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?"
_PLAIN = re.compile(rf"{_ONE_PLAIN}(?:\n{_ONE_PLAIN})*")


def _pattern(style: Style) -> re.Pattern[str]:
    point, group = re.escape(style[0]), re.escape(style[1])
    whole = rf"[1-9]\d{{0,2}}(?:{group}\d{{3}})+|\d+" if group else r"\d+"
    return re.compile(rf"([+-]?)({whole}|(?={point}\d))(?:{point}(\d*))?(?:[eE]([+-]?\d{{1,6}}))?")


_PATTERNS: dict[Style, re.Pattern[str]] = {style: _pattern(style) for style in STYLES}


def split_unit(text: str) -> tuple[str, str]:
    """The number's text and its unit before or after it, such as "$", "%" or "kg"; "" without one."""
    if not text.isascii():
        text = text.translate(_PLAIN_SIGNS)
    if text[-1:].isdigit() and text.lstrip("+-")[:1].isdigit():
        return text, ""
    if found := _UNIT_BEFORE.fullmatch(text):
        return found[1] + found[3], found[2]
    if found := _UNIT_AFTER.fullmatch(text):
        return found[1], found[2]
    return text, ""


def is_infinite(text: str) -> bool:
    """Whether a text stands for an infinite number."""
    return _INFINITE.fullmatch(text) is not None


def read_number(text: str, style: Style) -> Exact | None:
    """The exact number of a text without unit, or None."""
    found = _PATTERNS[style].fullmatch(text)
    if found is None:
        return None
    sign, whole, decimals, exponent = found.groups()
    decimals = (decimals or "").rstrip("0")
    digits = (whole.replace(style[1], "") if style[1] else whole) + decimals
    power = int(exponent or 0) - len(decimals)
    if abs(power) > MAX_DIGITS or len(digits) > MAX_DIGITS:
        return None
    return int(sign + (digits or "0")), power


def fitting_styles(texts: Collection[str], decimal: str | None) -> list[Style]:
    """The styles in which all `texts`, without units, are numbers; `decimal`: the sign of decimals, if it is known."""
    styles = [style for style in STYLES if decimal in (None, style[0])]
    return [style for style in styles if all(read_number(text, style) is not None for text in texts)]


def are_plain(texts: Iterable[str]) -> bool:
    """Whether all `texts` are numbers such as -12.5 without a unit: one search through all of them."""
    return _PLAIN.fullmatch("\n".join(texts)) is not None


def is_number(text: str) -> bool:
    """Whether a text is a number in some style, with or without a unit."""
    number, _ = split_unit(text)
    return any(read_number(number, style) is not None for style in STYLES)
