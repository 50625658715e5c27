"""Dense networks of torch as layers of threshold units: normalisation and batch norm become part of the weights."""

from itertools import pairwise

import numpy as np
from torch import nn

from tpsolve.errors import NotAcceptedError
from tpsolve.models._layers import Layers
from tpsolve.thresholds import HardThreshold
from tpsolve.thresholds._channel_norm import ChannelNorm, numbers

BITS = 32
"""Of a weight, with its sign: an error of 2^-31 of the largest product, where torch's float32 makes one of 2^-24."""
LEAST_BITS = 24
"""Weights of features with ranges so different that even so many bits for each would exceed 2^53 stay as they are."""
_EXPECTED = "Flatten, Linear, BatchNorm1d, Dropout and HardThreshold in a chain that ends in a Linear"


def fold(network: nn.Module, mean: np.ndarray, std: np.ndarray) -> Layers:
    """The layers of `network`, which reads (x - mean) / std, as layers that read x; in float64.

    In evaluation mode, batch norm is a line for each unit. A unit of a hidden layer keeps its output if its sum is
    multiplied by a positive number. So weights keep their values where they can, and the biases take up the rest.

    Raises:
        NotAcceptedError: another module than those of a dense network of hard thresholds, which is named.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    weight, bias = np.empty(0), np.empty(0)
    state, factor = "start", 1.0
    below: HardThreshold | None = None
    for name, module in _chain(network):
        kind = type(module)
        if kind in (nn.Dropout, nn.Identity) or (kind is nn.Flatten and state == "start" and _flattens(module)):
            continue
        if isinstance(module, nn.Linear) and kind is nn.Linear and state in ("start", "threshold"):
            weight = numbers(module.weight)
            bias = np.zeros(len(weight)) if module.bias is None else numbers(module.bias)
            if below is not None and below.low == 0:
                # Of spins in place of outputs in {0, 1}.
                weight, bias = weight / 2, bias + weight.sum(axis=1) / 2
            if state == "start" and (std == std[0]).all():
                # Times the deviation, so that the weights stay the numbers that they are.
                factor = float(std[0])
                bias = factor * bias - weight @ mean
            elif state == "start":
                weight = weight / std
                bias = bias - weight @ mean
            state = "linear"
        elif isinstance(module, nn.BatchNorm1d) and kind is nn.BatchNorm1d and state == "linear":
            scale, shift = ChannelNorm.of("network", name, module).line()
            # scale * (sum / factor) + shift, by the size of the scale and times the factor.
            size = np.where(scale == 0, 1.0, np.abs(scale))
            weight, bias = weight * np.sign(scale)[:, None], bias * np.sign(scale) + factor * shift / size
            state, factor = "norm", 1.0
        elif isinstance(module, HardThreshold) and kind is HardThreshold and state in ("linear", "norm"):
            found.append((weight, bias))
            state, factor, below = "threshold", 1.0, module
        else:
            raise NotAcceptedError("network", f"{kind.__name__} at {name or 'its top'}", _EXPECTED)
    if state != "linear":
        raise NotAcceptedError("network", f"a network that ends in no Linear ({state})", _EXPECTED)
    if not found:
        raise NotAcceptedError("network", "a network without a HardThreshold", _EXPECTED)
    found.append((weight, bias))
    if not all(np.isfinite(array).all() for pair in found for array in pair):
        raise NotAcceptedError("network", "weights that are no finite numbers", "finite ones")
    sizes = [weight.shape for weight, _ in found]
    if any(above[1] != below[0] for below, above in pairwise(sizes)):
        raise NotAcceptedError("network", f"layers of the shapes {sizes}", _EXPECTED)
    return Layers(tuple(found))


def rounded(layers: Layers, reach: np.ndarray, bits: int, *, whole: bool) -> Layers:
    """`layers` with whole weights: those of a unit in steps of its largest product by at most 2^bits / 4.

    Steps are powers of two. So weights that are whole numbers, or whole multiples of 1/2, 1/4, ..., stay exact, and a
    unit above whole inputs then gets no other output anywhere. The units of the last layer share a step, since their
    sums are compared. Layers stay as they are where `LEAST_BITS` would exceed 2^53.

    Args:
        reach: `(n,)`, the largest absolute value of each input.
        bits: of each weight, with its sign, where all inputs have the same reach.
        whole: whether all inputs are whole numbers.
    """
    found = []
    for number, (weight, bias) in enumerate(layers.weights):
        last = number == len(layers.weights) - 1
        if number and not last:
            # Beyond this the unit is constant.
            bound = 2 * np.abs(weight).sum(axis=1) + (np.abs(weight).max(axis=1, initial=0.0) == 0)
            bias = np.clip(bias, -bound, bound)
        # Of whole numbers of 32 bits, as C reads them, sums then fit into 64.
        longest = 2.0**63 if whole and number == 0 and (reach < 2.0**31).all() else np.inf
        steps = _steps(weight, bias, reach, bits, longest, together=last)
        if steps is None:
            return layers
        weight, bias = np.round(weight * steps[:, None]), bias * steps
        if last:
            bias = np.round(bias)
        elif number or whole:
            # The sums of the products are multiples of this.
            divisor = np.maximum(np.gcd.reduce(weight.astype(np.int64), axis=1), 1)
            weight, bias = weight / divisor[:, None], np.floor(bias / divisor)
        else:
            bias = np.floor(bias)
        found.append((weight + 0.0, bias + 0.0))
        reach = np.ones(len(bias))
    return Layers(tuple(found))


def _steps(
    weight: np.ndarray, bias: np.ndarray, reach: np.ndarray, bits: int, longest: float, *, together: bool
) -> np.ndarray | None:
    """Of each unit `(units,)` by what its weights are multiplied; None: no number of bits serves.

    Where `LEAST_BITS` allow it, sums of inputs below 2^31 stay below `longest`.
    """
    largest = np.maximum(reach.max(initial=0.0), 1.0)
    product = (np.abs(weight) * reach).max(axis=1, initial=0.0)
    # Of a unit of zeros any step serves.
    product = np.where(product > 0, product, np.maximum(np.abs(bias), 1.0))
    size = np.maximum(np.abs(weight).max(axis=1, initial=0.0), np.abs(bias))
    if together:
        product, size = np.full_like(product, product.max()), np.full_like(size, size.max())
    with np.errstate(divide="ignore", over="ignore"):
        steps = (2.0 ** (bits - 1) - 1) / product * largest
        room = (2.0**53 - 1) / size
        least = (2.0 ** (min(bits, LEAST_BITS) - 1) - 1) / product * largest
        short = longest / (2.0**32 * np.abs(weight).sum(axis=1) + 2 * np.abs(bias) + 1e-300)
        room = np.where(short >= least, np.minimum(room, short), room)
        steps = 2.0 ** np.floor(np.log2(np.minimum(steps, room)))
    usable = np.isfinite(steps) & (steps > 0) & (steps >= least / 2)
    return steps if bool(usable.all()) else None


def _chain(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of nested Sequentials, in the order of the forward pass."""
    if type(network) is not nn.Sequential:
        return [("", network)]
    found = []
    for name, module in network.named_children():
        inner = _chain(module)
        found += [(f"{name}.{below}" if below else name, one) for below, one in inner]
    return found


def _flattens(module: nn.Module) -> bool:
    return getattr(module, "start_dim", 1) == 1 and getattr(module, "end_dim", -1) == -1
