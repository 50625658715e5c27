"""Rules of a network in words: inequalities, votes of units, and the scorecard of a single unit."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

from tpsolve._storage._printable import printable
from tpsolve.models._layers import Layers

Scaling = Sequence[tuple[Fraction, Fraction]]
"""Of each feature the offset and the scale: the network reads (v - offset) * scale of a value v."""


def rules(
    layers: Layers, features: Sequence[str], classes: Sequence[object], scaling: Scaling | None = None
) -> list[str]:
    """One line a unit: which inequality each hidden unit tests, and which of them give each class.

    A unit that outputs the same everywhere is left out: what reads it has a threshold that is moved. Inequalities are
    those of the values before `scaling`.
    """
    lines, whole = [], _without_constants(layers)
    names = [printable(name) for name in features]
    for number, layer in enumerate(whole[:-1]):
        own = _unit_names(number, len(layer), len(whole))
        for name, (weight, bias) in zip(own, layer, strict=True):
            if any(weight):
                words = (
                    inequality(*unscaled(weight, bias, scaling), names) if not number else votes(weight, bias, names)
                )
                lines.append(f"{name}: {words}")
        names = own
    shown = [printable(label) for label in classes]

    def above(weight: list[int], bias: int) -> str:
        return votes(weight, bias, names) if len(whole) > 1 else inequality(*unscaled(weight, bias, scaling), names)

    if len(whole[-1]) == 1:
        weight, bias = whole[-1][0]
        if not any(weight):
            return [*lines, f"{shown[min(bias >= 0, len(shown) - 1)]}: always"]
        return [*lines, f"{shown[1]} if {above(weight, bias)}, else {shown[0]}"]
    for label, (weight, bias) in zip(shown, whole[-1], strict=True):
        lines.append(f"{label}: {above(weight, bias) if any(weight) else 'always' if bias >= 0 else 'never'}")
    return [*lines, "Where none or several of these hold: the class whose sum exceeds its threshold most."]


def left_out(layers: Layers) -> list[str]:
    """The names of hidden units that `rules` leave out, since they output the same everywhere."""
    whole = _without_constants(layers)
    named = (zip(_unit_names(n, len(layer), len(whole)), layer, strict=True) for n, layer in enumerate(whole[:-1]))
    return [name for layer in named for name, (weight, _) in layer if not any(weight)]


def _unit_names(number: int, units: int, layers: int) -> list[str]:
    return [f"unit {k + 1}" if layers == 2 else f"unit {number + 1}.{k + 1}" for k in range(units)]


def _without_constants(layers: Layers) -> list[list[tuple[list[int], int]]]:
    """Whole weights and biases in which no unit reads one that outputs the same everywhere."""
    found: list[list[tuple[list[int], int]]] = []
    for layer in layers.whole():
        # Of the units below, what those output that read nothing; None: it depends.
        fixed = [None if any(weight) else 1 if bias >= 0 else -1 for weight, bias in found[-1]] if found else []
        if found:
            layer = [
                (
                    [w if own is None else 0 for w, own in zip(weight, fixed, strict=True)],
                    bias + sum(w * own for w, own in zip(weight, fixed, strict=True) if own is not None),
                )
                for weight, bias in layer
            ]
        found.append(layer)
    return found


def unscaled(weight: Sequence[int], bias: int | Fraction, scaling: Scaling | None) -> tuple[list[int], Fraction]:
    """The same inequality of the values before `scaling`: the smallest whole weights, and a bias."""
    if scaling is None:
        return list(weight), Fraction(bias)
    exact = [w * scale for w, (_, scale) in zip(weight, scaling, strict=True)]
    moved = bias - sum((w * offset for w, (offset, _) in zip(exact, scaling, strict=True)), Fraction(0))
    common = lcm(*(w.denominator for w in exact))
    divisor = gcd(*(int(w * common) for w in exact)) or 1
    return [int(w * common) // divisor for w in exact], moved * common / divisor


def inequality(weight: Sequence[int], bias: Fraction, names: Sequence[str]) -> str:
    """`weight @ x + bias >= 0` in words such as `2 x - y >= 3`."""
    terms = [(w, name) for w, name in zip(weight, names, strict=True) if w]
    if terms and all(w < 0 for w, _ in terms):
        return f"{_sum([(-w, name) for w, name in terms])} <= {number(bias)}"
    return f"{_sum(terms)} >= {number(-bias)}"


def number(value: Fraction) -> str:
    """A decimal with all its digits, or a fraction where there is none."""
    rest = value.denominator
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    fives = 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest > 1:
        return str(value)
    digits = max(twos, fives)
    text = str(abs(int(value * 10**digits))).rjust(digits + 1, "0")
    whole, part = text[: len(text) - digits], text[len(text) - digits :]
    return ("-" if value < 0 else "") + whole + (f".{part}" if part else "")


def votes(weight: Sequence[int], bias: int, names: Sequence[str]) -> str:
    """The same of inputs in {-1, +1}: `at least 2 of 3 hold: a, b, not c`, or with points where weights differ."""
    used = [(w, name) for w, name in zip(weight, names, strict=True) if w]
    # With s the sum of |w| and p that of the |w| of what holds, the sum is 2 p - s + bias.
    total = sum(abs(w) for w, _ in used)
    needed = Fraction(total - bias, 2)
    if needed <= 0 or needed > total:
        return "always" if needed <= 0 else "never"
    held = [name if w > 0 else f"not {name}" for w, name in used]
    sizes = {abs(w) for w, _ in used}
    if len(sizes) > 1:
        points = ", ".join(f"{abs(w)} for {name}" for (w, _), name in zip(used, held, strict=True))
        return f"at least {-(-needed // 1)} points: {points}"
    count = -(-needed // sizes.pop())
    if len(held) == 1:
        return held[0]
    if count == len(held):
        return " and ".join(held)
    if count == 1:
        return " or ".join(held)
    return f"at least {count} of {len(held)} hold: {', '.join(held)}"


def scorecard(
    layers: Layers, features: Sequence[str], classes: Sequence[object], scaling: Scaling | None = None
) -> tuple[list[tuple[str, int]], str]:
    """The points of each feature, and the sentence that says which score gives which class, of a single unit.

    Returns:
        `(feature, points for each one of it)` of those that count, the most first, and the sentence; no points where
        the network does not consist of one unit that the classes depend on.
    """
    whole = layers.whole()
    if len(classes) != 2 or len(whole) > 2 or any(len(layer) != 1 for layer in whole):
        return [], ""
    weight, bias = unscaled(*whole[0][0], scaling)
    low, high = (printable(label) for label in classes)
    if len(whole) == 2:
        (sign,), above = whole[1][0]
        if (sign + above >= 0) == (above - sign >= 0):
            return [], ""
        if sign < 0:
            low, high = high, low
    if not any(weight):
        return [], ""
    words = f"{high} if the score is at least {number(-bias)}, else {low}"
    if sum(w > 0 for w in weight) < sum(w < 0 for w in weight):
        # A person adds more easily than he subtracts: the score of the other class.
        weight = [-w for w in weight]
        words = f"{low} if the score is more than {number(bias)}, else {high}"
    table = [(printable(name), w) for name, w in zip(features, weight, strict=True) if w]
    return sorted(table, key=lambda row: -abs(row[1])), words


def _sum(terms: Sequence[tuple[int, str]]) -> str:
    words = " ".join(f"{'-' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w)} '}{name}" for w, name in terms)
    return f"-{words[2:]}" if words.startswith("-") else words.removeprefix("+ ") or "0"
