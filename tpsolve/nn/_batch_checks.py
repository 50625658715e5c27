"""Checks of a batch and its loss that passes through a model share."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, ValueSetError
from tpsolve.nn._layer_losses import class_loss
from tpsolve.nn.passes._nests import Nest, arguments_of, call, samples_of
from tpsolve.nn.passes._recording import Call


def check_called(calls: object) -> None:
    """Raise NotAcceptedError unless the forward pass called a threshold or a choice."""
    if not calls:
        raise NotAcceptedError(
            "model", "thresholds or choices that its forward pass never calls", "at least one that it calls"
        )


def check_batch(x: Any, loss_fn: Any) -> None:
    """Raise unless `x` is what a model may be called with, of at least one sample, and `loss_fn` can be called."""
    if not isinstance(x, Tensor | tuple | Mapping):
        raise ArgumentError(
            "x",
            type(x).__name__,
            "a tensor, a tuple of the model's arguments, or a mapping from their names",
            "Pass (x,) where one argument is something else than a tensor.",
        )
    if isinstance(x, Tensor) and (x.dim() == 0 or len(x) == 0):
        raise ShapeError("x", f"shape {tuple(x.shape)}", "(B, ...) with at least one sample")
    if not callable(loss_fn):
        raise ArgumentError("loss_fn", repr(loss_fn), "a function of (output, y)", "Such as nn.CrossEntropyLoss().")


def run_model(model: nn.Module, x: Any) -> Any:
    """The output for `x`.

    Raises:
        ArgumentError: `x` has not the arguments that the model takes; or the model fails, on whole numbers.
        ShapeError: the model fails, on tensors of several lengths.
    """
    try:
        return call(model, x)
    except TypeError as error:
        _check_arguments(model, x, error)
        raise
    except (RuntimeError, IndexError) as error:
        if isinstance(x, Tensor) and not x.is_floating_point():
            raise ArgumentError("x", x.dtype, "what the model takes", "Convert whole numbers with .float().") from error
        lengths = {leaf.shape[:1] for leaf in tree_leaves(x) if isinstance(leaf, Tensor)}
        if len(lengths) < 2:
            raise
        first = (str(error) or type(error).__name__).partition("\n")[0]
        raise ShapeError(
            "x",
            f"{_shapes(x)}, on which the model fails ({first})",
            "(B, ...) of one B in each tensor of the samples",
        ) from error


def _check_arguments(model: nn.Module, x: Any, cause: TypeError) -> None:
    """Raise ArgumentError where arguments are missing or too many; what has no signature is not known."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return
    arguments, keywords = arguments_of(x)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        names = ", ".join(map(repr, keywords)) if keywords else f"{len(arguments)} by place"
        raise ArgumentError(
            "x",
            f"arguments that don't fit the model ({error}): {names}",
            f"those of its forward{signature}",
            "A tuple holds them by place, a mapping by name.",
        ) from cause


def check_batch_axis(call: Call, output: Tensor) -> None:
    """Raise NotAcceptedError unless the threshold's samples are those of the output, along the first axis."""
    if call.h.dim() == 0 or len(call.h) != len(output):
        raise NotAcceptedError(
            f"model.{call.name}",
            f"pre-activations of shape {tuple(call.h.shape)}",
            f"({len(output)}, ...), the samples along the first axis",
            "Keep the batch axis first: batch_first=True, and nn.Linear takes (B, T, n) as it is.",
        )


def check_labels(output: Any, y: Any) -> Nest | None:
    """How the samples stand in the output, of which `y` has one entry each; None: it is a tensor.

    Raises:
        ShapeError: `y` has no such entries, or tensors of several lengths.
        NotAcceptedError: no tensor of the output has.
    """
    samples = samples_of(y)
    if isinstance(output, Tensor):
        if samples is None or output.dim() == 0 or samples != len(output):
            wanted = f"({len(output)}, ...), one entry for each sample" if output.dim() else "outputs (B, ...)"
            raise ShapeError("y", _shapes(y), wanted)
        if not samples:
            raise ShapeError("y", _shapes(y), "at least one sample")
        return None
    if not samples:
        raise ShapeError("y", _shapes(y), "(B, ...), one entry for each sample, in each of its tensors")
    nest = Nest.of(output, lambda leaf: _is_output(leaf, samples), keep=False)
    if not nest.places:
        raise NotAcceptedError(
            "model",
            f"an output of {type(output).__name__}, with {_shapes(output)}",
            f"a floating-point tensor ({samples}, ...) in tuples, lists, mappings or the like",
            "A class of your own that holds tensors is known after torch.export.register_dataclass.",
        )
    return nest


def _is_output(leaf: Tensor, samples: int) -> bool:
    return leaf.is_floating_point() and leaf.dim() > 0 and len(leaf) == samples


def _shapes(nest: Any) -> str:
    if isinstance(nest, Tensor):
        return f"shape {tuple(nest.shape)}"
    shapes = [str(tuple(leaf.shape)) for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]
    return f"shapes {', '.join(shapes)}" if shapes else f"{type(nest).__name__} without tensors"


def detached(nest: Any) -> Any:
    """The same nest with its tensors detached."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, nest)


def find_loss_value(loss_fn: Callable[[Any, Any], Tensor], output: Any, y: Any) -> Tensor:
    """The loss of the batch.

    Raises:
        ValueSetError: labels outside the classes, which torch's losses of classes never see and others fail on.
        ShapeError: it is not one number.
    """
    known = class_loss(loss_fn)
    if known is not None:
        _check_classes(output, y, known[1].get("ignore_index", -100))
    try:
        loss = loss_of_nest(loss_fn, output, y)
    except (
        Exception
    ):  # A loss of the user's own raises what it likes; here it matters only whether labels are to blame.
        _check_classes(output, y, None)
        raise
    if not isinstance(loss, Tensor) or loss.dim():
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ShapeError("loss_fn", got, "one number that depends on the output")
    return loss


def loss_of_nest(loss_fn: Callable[[Any, Any], Tensor], output: Any, y: Any) -> Tensor:
    """The loss; raise NotAcceptedError where it fails on an output or on labels that are no tensor."""
    try:
        return loss_fn(output, y)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        if isinstance(output, Tensor) and isinstance(y, Tensor):
            raise
        what = "y" if isinstance(output, Tensor) else "the model's output"
        kind = type(y if isinstance(output, Tensor) else output).__name__
        raise NotAcceptedError(
            "loss_fn",
            f"one that fails on {what}, of {kind} ({type(error).__name__}: {error})",
            "a function of (output, y)",
            "Such as lambda output, y: cross_entropy(output[0], y).",
        ) from error


def _check_classes(output: Any, y: Any, ignored: int | None) -> None:
    if (
        not isinstance(output, Tensor)
        or not isinstance(y, Tensor)
        or y.is_floating_point()
        or y.dim() != 1
        or output.dim() != 2
    ):
        return
    wrong = (y < 0) | (y >= output.shape[1])
    if ignored is not None:
        wrong &= y != ignored
    if bool(wrong.any()):
        bad = y[wrong][0].item()
        raise ValueSetError(
            "y", bad, f"class labels from 0 to {output.shape[1] - 1}", "Or give the model more outputs."
        )
