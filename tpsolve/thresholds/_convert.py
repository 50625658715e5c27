"""Put thresholds in place of a model's activations, and find those that it has."""

import warnings
from collections.abc import Callable
from typing import TypeVar

from torch import nn

from tpsolve.errors import ArgumentError, NotAcceptedError, PartialConversionWarning
from tpsolve.thresholds._base import Threshold
from tpsolve.thresholds._hard_threshold import HardThreshold
from tpsolve.thresholds._hard_unit import HardUnit
from tpsolve.thresholds._left_calls import left_calls, replace_calls

Kind = TypeVar("Kind", bound=nn.Module)


def convert(
    model: nn.Module,
    activation: type[nn.Module],
    threshold: Callable[[], nn.Module] = HardThreshold,
    *,
    functions: bool = False,
) -> nn.Module:
    """`model` with every module of the class `activation` replaced by a new `threshold()`; changed in place.

    Each place gets a threshold of its own, even where one activation served several. Activations that
    the model calls as functions, such as `torch.relu`, are no modules and stay, unless `functions` is set. The source
    of the model's classes is read for them: a `PartialConversionWarning` says what was replaced, and where such calls
    were found.

    Args:
        activation: such as `nn.ReLU`; subclasses count.
        threshold: a function without arguments, such as `lambda: Staircase(4)`.
        functions: whether to replace such calls too. `torch.fx` then writes each module anew whose own code calls the
            function, with its parts under their names; a model that does so itself is returned as a new one. Methods
            and attributes that are no part are lost there.

    Raises:
        ArgumentError: a module is given in place of what makes one, or a function in place of a class.
        NotAcceptedError: the model has no such module; or, with `functions`, torch.fx can't follow the code of a module
            that calls the function, or that code depends on the mode, as by `self.training`.
    """
    if isinstance(activation, nn.Module):
        raise ArgumentError("activation", f"one {type(activation).__name__}", "a class of modules", "Pass nn.ReLU.")
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise ArgumentError(
            "activation",
            repr(activation),
            "a class of modules, such as nn.ReLU",
            "Where the model calls a function, such as torch.relu, write a HardThreshold() module in its place.",
        )
    if isinstance(threshold, nn.Module):
        raise ArgumentError(
            "threshold",
            f"one {type(threshold).__name__} for all places",
            "a function that makes one for each",
            f"Pass lambda: {type(threshold).__name__}(...).",
        )
    if isinstance(model, activation):
        return threshold().train(model.training)
    model, called = replace_calls(model, activation, threshold) if functions else (model, 0)
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if isinstance(child, activation)
    ]
    if not places and not called:
        left = left_calls(model, activation)
        raise NotAcceptedError(
            "model",
            f"no {activation.__name__} module" + (f", but {', '.join(left)}" if left else ""),
            "at least one to convert",
            "Where it is called as a function, as torch.relu, pass functions=True or write a HardThreshold() module.",
        )
    for parent, name, child in places:
        setattr(parent, name, threshold().train(child.training))
        if isinstance(parent, nn.TransformerEncoderLayer):
            # Else its fast path for evaluation goes on with the activation that it was made with.
            parent.activation_relu_or_gelu = 0
    # Now, since a decoder layer of torch calls a function until its activation is replaced.
    if left := left_calls(model, activation):
        warnings.warn(
            f"convert replaced {len(places)} {activation.__name__} modules and left {', '.join(left)}. Pass "
            "functions=True, write a HardThreshold() module in place of a call, or ignore this warning where the call "
            "should stay.",
            PartialConversionWarning,
            stacklevel=2,
        )
    return model


def find_thresholds(model: nn.Module) -> dict[str, Threshold]:
    """The thresholds of `model` by name, in the order of its modules.

    Raises:
        NotAcceptedError: it has none.
    """
    return _found(model, Threshold, "no HardThreshold or Staircase", "a model with thresholds")


def find_hard_units(model: nn.Module) -> dict[str, HardUnit]:
    """The thresholds and choices of `model` by name, in the order of its modules.

    Raises:
        NotAcceptedError: it has none.
    """
    return _found(model, HardUnit, "no HardThreshold, Staircase or Choice", "a model with thresholds or choices")


def _found(model: nn.Module, kind: type[Kind], none: str, wanted: str) -> dict[str, Kind]:
    found = {name: module for name, module in model.named_modules() if isinstance(module, kind)}
    if not found:
        raise NotAcceptedError("model", none, wanted, "Put them in, or let tpsolve.nn.convert(model, nn.ReLU) do it.")
    return found
