"""Texts as dates and times: exact seconds since 1970-01-01."""

import re
from collections.abc import Collection
from datetime import date

from tpsolve.tables._numbers import Exact

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAY = 86_400

_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,12}))?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_ZONE = r"(?:\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}))?"
_TIME = rf"(?:(?:[T ]|,\s*)\s*{_CLOCK}{_ZONE})?"
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_YEAR = r"(?P<year>\d{4}|\d{2})"

_PATTERNS = {
    "ymd": rf"(?P<year>\d{{4}})([-/.])(?P<month>\d{{1,2}})(?:\2(?P<day>\d{{1,2}}))?{_TIME}",
    "dmy": rf"(?P<day>\d{{1,2}})([-/.])\s?(?P<month>\d{{1,2}})\2\s?{_YEAR}{_TIME}",
    "mdy": rf"(?P<month>\d{{1,2}})([-/.])(?P<day>\d{{1,2}})\2{_YEAR}{_TIME}",
    "d month y": rf"(?:[A-Za-z]{{3,9}},?\s)?(?P<day>\d{{1,2}})\.?[-\s/]{_NAME}[-\s/,]\s?{_YEAR}{_TIME}",
    "month d y": rf"{_NAME}[-\s](?P<day>\d{{1,2}}),?[-\s]{_YEAR}{_TIME}",
    "clock": _CLOCK,
}
FORMATS = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
"""Orders of the parts of a date; "clock" is a time of the day alone."""


def read_date(text: str, form: str) -> tuple[Exact, bool] | None:
    """Exact seconds since 1970-01-01, and whether the text names its time zone; None: no such date.

    A year of two digits is one of 1969 to 2068. A text without a zone counts as UTC. A clock counts from midnight.
    """
    found = FORMATS[form].fullmatch(text)
    if found is None:
        return None
    part = found.groupdict()
    seconds, fraction = 0, ""
    if part.get("hour") is not None:
        hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
        if half := part["half"]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if half in "Pp" else 0)
        if hour > 24 or minute > 59 or second > 60:
            return None
        seconds, fraction = 3600 * hour + 60 * minute + second, (part["part"] or "").rstrip("0")
    if form != "clock":
        year = int(part["year"])
        if len(part["year"]) == 2:
            year += 1900 if year >= 69 else 2000
        if "name" in part:
            if part["name"][:3].lower() not in MONTHS:
                return None
            month = MONTHS.index(part["name"][:3].lower()) + 1
        else:
            month = int(part["month"])
        try:
            days = date(year, month, int(part["day"] or 1)).toordinal() - date(1970, 1, 1).toordinal()
        except ValueError:
            return None
        seconds += DAY * days - _zone_seconds(part["zone"])
    return (seconds * 10 ** len(fraction) + int(fraction or 0), -len(fraction)), part.get("zone") is not None


def fitting_formats(texts: Collection[str]) -> list[str]:
    """The formats in which all `texts` are dates, each with a zone or each without one."""
    fitting = []
    for form in FORMATS:
        found = [read_date(text, form) for text in texts]
        if all(one is not None for one in found) and len({one[1] for one in found if one}) == 1:
            fitting.append(form)
    return fitting


def is_date(text: str) -> bool:
    """Whether a text is a date or a time in some format."""
    return any(read_date(text, form) is not None for form in FORMATS)


def _zone_seconds(zone: str | None) -> int:
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (3600 * int(digits[:2]) + 60 * int(digits[2:])) * (-1 if zone[0] == "-" else 1)
