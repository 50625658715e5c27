"""Which offset and scale make the numbers of a column exact in float64."""

import dataclasses
import math
from fractions import Fraction

from tpsolve._plain import MAX_WHOLE
from tpsolve.tables._columns import Column, Place, round_scaled
from tpsolve.tables._dates import DAY
from tpsolve.tables._numbers import Exact
from tpsolve.tables._raw_table import Cell

_MAX_OFFSETS = 8
"""That are tried until float64 tells all numbers of a column from each other."""


def fit_scale(column: Column, cells: list[Cell], place: Place) -> Column:
    """The column of numbers or dates with the offset and the scale that make its numbers exact in float64.

    In this order: as they are; times a power of ten; with the smallest subtracted, and divided by what divides all.
    Where none of them does, numbers are rounded.

    Raises:
        NotFiniteError: a number beyond float64.
    """
    values: dict[Exact, str] = {}
    for cell in dict.fromkeys(cells):
        if not column.is_missing(cell) and (value := column.exact_value(str(cell))) is not None:
            values[value] = str(cell)
    if column.kind == "date":
        days = column.form != "clock" and all(power >= 0 and mantissa % DAY == 0 for mantissa, power in values)
        column = dataclasses.replace(column, unit="days" if days else "seconds")
        if days:
            return dataclasses.replace(column, scale=Fraction(1, DAY))
    digits = max(0, *(-power for _, power in values))
    wholes = {mantissa * 10 ** (power + digits): cell for (mantissa, power), cell in values.items()}
    low, high = min(wholes), max(wholes)
    for end in (low, high):
        where = wholes[end]
        round_scaled(Fraction(end, 10**digits), Fraction(0), Fraction(1), lambda where=where: place(cells.index(where)))
    largest, fives = max(abs(low), abs(high)), 5**digits
    if largest // fives <= MAX_WHOLE and all(value % fives == 0 for value in wholes):
        return column
    if largest <= MAX_WHOLE:
        return dataclasses.replace(column, scale=Fraction(10**digits))
    divisor = math.gcd(*(value - low for value in wholes)) or 1
    if (high - low) // divisor <= MAX_WHOLE:
        return dataclasses.replace(column, offset=Fraction(low, 10**digits), scale=Fraction(10**digits, divisor))
    return _told_apart(column, wholes, digits)


def _told_apart(column: Column, wholes: dict[int, str], digits: int) -> Column:
    """The column with an offset that lets float64 tell its numbers from each other, though it rounds some of them.

    Near the offset float64 is finest. So where two numbers become one, one of them is the next offset that is tried.
    Where no offset does it, there is none: some numbers become one in float64.

    Args:
        wholes: the numbers times 10**digits, and their cells.
    """
    offset, scale = 0, Fraction(1)
    for _ in range(_MAX_OFFSETS):
        found: set[float] = set()
        exact, last = True, offset
        for whole in wholes:
            value = Fraction(whole - offset, 10**digits) * scale
            number = float(value)
            if number in found:
                offset, scale = whole, Fraction(10**digits)
                break
            found.add(number)
            exact = exact and number == value
        else:
            return dataclasses.replace(column, offset=Fraction(offset, 10**digits), scale=scale, exact=exact)
        if offset == last:
            break
    return dataclasses.replace(column, exact=False)
