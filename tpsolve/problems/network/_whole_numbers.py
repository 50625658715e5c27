"""Sets of whole weights and biases: read, checked, and the outputs that such weights give, without rounding."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from tpsolve._plain import MAX_WHOLE, is_real, plain_number
from tpsolve.errors import ArgumentError, NotFiniteError, ShapeError, TooLargeError, UnknownNameError, ValueSetError
from tpsolve.spins import sign
from tpsolve.units.checking._unrounded import ExactRows

Weights = Sequence[tuple[Any, Any]]
"""Of each layer `(weight (units, n), bias (units,))`: tensors, or nested lists as a saved result has them."""

NAMED_SETS = {"ternary": (-1, 0, 1), "binary": (-1, 1)}
MAX_VALUES = 2**16
"""Of a set."""
_ROUNDING = 2.0**-52
_UNDERFLOW = 2.0**-1021


def read_whole_set(argument: str, values: Any) -> tuple[int, ...]:
    """`values`, a name of `NAMED_SETS`, a range or a sequence of whole numbers, as a sorted tuple.

    Raises:
        UnknownNameError: another name.
        ArgumentError: no sequence, an empty one, or a value twice.
        NotFiniteError: NaN or infinity.
        ValueSetError: a number that is not whole, or a truth value.
        TooLargeError: more than `MAX_VALUES` values, or one beyond 2^53.
    """
    if isinstance(values, str):
        if values not in NAMED_SETS:
            raise UnknownNameError(argument, values, NAMED_SETS)
        return NAMED_SETS[values]
    listed = getattr(values, "tolist", None)
    plain = values if listed is None else listed()
    if isinstance(plain, set | frozenset):
        plain = sorted(plain)
    if not isinstance(plain, Sequence):
        raise ArgumentError(argument, repr(values), "whole numbers", f"For example {argument}=range(-7, 8).")
    # The length of a range may be beyond what len returns.
    if len(plain[: MAX_VALUES + 1]) > MAX_VALUES:
        raise TooLargeError(argument, f"more than {MAX_VALUES} values", f"at most {MAX_VALUES}")
    if not plain:
        raise ArgumentError(argument, "no value", "at least one whole number")
    found = [_whole(argument, plain_number(value)) for value in plain]
    twice = [value for value in found if found.count(value) > 1] if len(set(found)) < len(found) else []
    if twice:
        raise ArgumentError(argument, f"{twice[0]} more than once", "each value once")
    return tuple(sorted(found))


def _whole(argument: str, value: Any) -> int:
    if not is_real(value):
        raise ValueSetError(argument, f"{value!r}", "whole numbers")
    if value != value or abs(value) == math.inf:
        raise NotFiniteError(argument, f"{value}", "whole numbers")
    if abs(value) > MAX_WHOLE:
        raise TooLargeError(argument, "a number beyond 2**53", "whole numbers up to 2**53")
    if value != int(value):
        raise ValueSetError(argument, f"{value}", "whole numbers", "Multiply all of them by a common factor.")
    return int(value)


def check_sums(
    inputs: Tensor, widths: Sequence[int], weights: Sequence[int], biases: Sequence[int] | None, *, whole: bool
) -> None:
    """Raise TooLargeError unless float64 and int64 hold every weighted sum of `whole` `inputs (M, p)` and every bias.

    Sums of other inputs, which are added up as fractions, need only be finite.
    """
    largest = max(map(abs, weights))
    reach = max(float(inputs.abs().sum(1).max()), *map(float, widths))
    # A bias of its own need not exceed the largest sum.
    bias = largest * reach + 1 if biases is None else float(max(map(abs, biases)))
    size = largest * reach + bias
    limit = float(MAX_WHOLE) if whole else 2.0**1000
    if size > limit:
        got = f"weights up to {largest} and biases up to {bias:.3g}, so sums up to {size:.3g}"
        argument = "weight_set" if biases is None or largest * reach >= bias else "bias_set"
        mend = "Give the inputs in a larger unit, or also as fractions: exact=."
        raise TooLargeError(argument, got, f"sums up to {limit:.3g}", mend)


def read_weights(weights: Weights, shapes: Sequence[tuple[int, int]], like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`weights` as float64 tensors on the device of `like`, of `shapes` (units, n).

    Raises:
        ShapeError: another number of layers, units or inputs.
        ArgumentError: no numbers.
    """
    try:
        found = [
            (torch.as_tensor(w).to(like.device, torch.float64), torch.as_tensor(b).to(like.device, torch.float64))
            for w, b in weights
        ]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError("weights", f"{type(weights).__name__}", "(weight, bias) of each layer") from error
    got = [(tuple(w.shape), tuple(b.shape)) for w, b in found]
    if got != [((units, n), (units,)) for units, n in shapes]:
        raise ShapeError("weights", str([w for w, _ in got]), f"{list(shapes)}, one for each layer, and their biases")
    return found


def check_members(
    weights: Sequence[tuple[Tensor, Tensor]], allowed: Sequence[int], biases: Sequence[int] | None, free_first: bool
) -> None:
    """Raise ValueSetError unless all weights are of the set `allowed`, and all biases of `biases`.

    Args:
        biases: None: any whole number.
        free_first: whether a bias of the first layer may be any finite number where `biases` is None.
    """
    for number, (weight, bias) in enumerate(weights):
        _check_within("weights", f"a weight of layer {number}", weight, allowed)
        if biases is not None:
            _check_within("weights", f"a bias of layer {number}", bias, biases)
            continue
        good = torch.isfinite(bias) & (
            (bias == bias.round()) & (bias.abs() <= MAX_WHOLE) | (free_first and number == 0)
        )
        if not bool(good.all()):
            raise ValueSetError("weights", f"a bias {bias[~good][0].item()} in layer {number}", "whole numbers")


def _check_within(argument: str, what: str, values: Tensor, allowed: Sequence[int]) -> None:
    known = torch.tensor(allowed, dtype=torch.float64, device=values.device)
    good = torch.isin(values, known)
    if not bool(good.all()):
        shown = ", ".join(map(str, allowed)) if len(allowed) <= 20 else f"{allowed[0]}, ..., {allowed[-1]}"
        raise ValueSetError(argument, f"{what} that is {values[~good][0].item():g}", f"one of {shown}")


def exact_outputs(inputs: Tensor, weight: Tensor, bias: Tensor, rows: ExactRows | None = None) -> Tensor:
    """Outputs `(M, units)` in {-1, +1}, +1 where weight . x + bias >= 0, taken as the exact numbers that they are.

    Floating point decides where its error bound allows (see `separates`), and fractions where it does not. Sums of
    whole numbers up to 2^53 have no error.

    Args:
        inputs: `(M, n)` float64.
        weight, bias: `(units, n)` and `(units,)` float64, finite.
        rows: M rows of n exact numbers that `inputs` round; None: `inputs` are exact.
    """
    z = torch.addmm(bias, inputs, weight.T)
    largest = float(inputs.abs().sum(1).max()) * float(weight.abs().max()) + float(bias.abs().max())
    if rows is None and largest <= MAX_WHOLE and all(bool((t == t.round()).all()) for t in (inputs, weight, bias)):
        return sign(z)
    size = torch.addmm(bias.abs(), inputs.abs(), weight.abs().T)
    # An input that is rounded adds half a unit in its last place, for which the bound has room.
    unsure = z.abs() <= 2 * (inputs.shape[1] + 2) * (_ROUNDING * size + _UNDERFLOW)
    outputs = sign(z)
    if rows is not None:
        for unit in unsure.any(0).nonzero()[:, 0].tolist():
            exact = list(map(Fraction, weight[unit].tolist())), Fraction(float(bias[unit]))
            outputs[:, unit] = torch.tensor([1.0 if total >= 0 else -1.0 for total in rows.sums(*exact)])
        return outputs
    for i, unit in unsure.nonzero().tolist():
        terms = zip(inputs[i].tolist(), weight[unit].tolist(), strict=True)
        exact = sum((Fraction(x) * Fraction(w) for x, w in terms if w), Fraction(float(bias[unit])))
        outputs[i, unit] = 1.0 if exact >= 0 else -1.0
    return outputs
