"""Checks of a batch and its loss that passes through a model share."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, ValueSetError
from tpsolve.nn._layer_losses import class_loss
from tpsolve.nn.passes._recording import Call


def check_called(calls: object) -> None:
    """Raise NotAcceptedError unless the forward pass called a threshold or a choice."""
    if not calls:
        raise NotAcceptedError(
            "model", "thresholds or choices that its forward pass never calls", "at least one that it calls"
        )


def check_batch(x: Any, loss_fn: Any) -> None:
    """Raise unless `x` is a tensor of at least one sample and `loss_fn` can be called."""
    if not isinstance(x, Tensor):
        raise ArgumentError("x", type(x).__name__, "a tensor")
    if x.dim() == 0 or len(x) == 0:
        raise ShapeError("x", f"shape {tuple(x.shape)}", "(B, ...) with at least one sample")
    if not callable(loss_fn):
        raise ArgumentError("loss_fn", repr(loss_fn), "a function of (output, y)", "Such as nn.CrossEntropyLoss().")


def run_model(model: nn.Module, x: Tensor) -> Any:
    """The output for `x`; raise ArgumentError where whole numbers are what the model fails on."""
    try:
        return model(x)
    except RuntimeError as error:
        if x.is_floating_point():
            raise
        raise ArgumentError("x", x.dtype, "what the model takes", "Convert whole numbers with .float().") from error


def check_batch_axis(call: Call, output: Tensor) -> None:
    """Raise NotAcceptedError unless the threshold's samples are those of the output, along the first axis."""
    if call.h.dim() == 0 or len(call.h) != len(output):
        raise NotAcceptedError(
            f"model.{call.name}",
            f"pre-activations of shape {tuple(call.h.shape)}",
            f"({len(output)}, ...), the samples along the first axis",
            "Keep the batch axis first: batch_first=True, and nn.Linear takes (B, T, n) as it is.",
        )


def check_labels(output: Any, y: Any) -> None:
    """Raise unless the output is a tensor and `y` has one entry for each of its samples."""
    if not isinstance(output, Tensor):
        raise NotAcceptedError("model", f"an output of {type(output).__name__}", "a tensor", "Wrap it in a module.")
    if not isinstance(y, Tensor) or y.dim() == 0 or len(y) != len(output):
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ShapeError("y", got, f"({len(output)}, ...), one entry for each sample")


def find_loss_value(loss_fn: Callable[[Tensor, Tensor], Tensor], output: Tensor, y: Tensor) -> Tensor:
    """The loss of the batch.

    Raises:
        ValueSetError: labels outside the classes, which torch's losses of classes never see and others fail on.
        ShapeError: it is not one number.
    """
    known = class_loss(loss_fn)
    if known is not None:
        _check_classes(output, y, known[1].get("ignore_index", -100))
    try:
        loss = loss_fn(output, y)
    except (
        Exception
    ):  # A loss of the user's own raises what it likes; here it matters only whether labels are to blame.
        _check_classes(output, y, None)
        raise
    if not isinstance(loss, Tensor) or loss.dim():
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ShapeError("loss_fn", got, "one number that depends on the output")
    return loss


def _check_classes(output: Tensor, y: Tensor, ignored: int | None) -> None:
    if y.is_floating_point() or y.dim() != 1 or output.dim() != 2:
        return
    wrong = (y < 0) | (y >= output.shape[1])
    if ignored is not None:
        wrong &= y != ignored
    if bool(wrong.any()):
        bad = y[wrong][0].item()
        raise ValueSetError(
            "y", bad, f"class labels from 0 to {output.shape[1] - 1}", "Or give the model more outputs."
        )
