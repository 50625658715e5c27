"""Checks of a batch and its loss that passes through a model share."""

from typing import Any

from torch import Tensor

from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, ValueSetError


def check_called(calls: object) -> None:
    """Raise NotAcceptedError unless the forward pass called a threshold."""
    if not calls:
        raise NotAcceptedError("model", "thresholds that its forward pass never calls", "at least one that it calls")


def check_input_type(x: Any, whole: bool = False) -> None:
    """Raise ArgumentError unless `x` is a tensor of floating-point numbers, or with `whole` of whole ones."""
    if not isinstance(x, Tensor) or not (whole or x.is_floating_point()):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError("x", got, "a floating-point tensor", "Convert whole numbers with .float().")


def check_labels(output: Any, y: Any, ignored: int | None) -> None:
    """Raise unless `y` has one entry for each sample of the output, if class labels then those of its classes.

    Args:
        ignored: a label that is no class but may stand; None: there is none.
    """
    if not isinstance(output, Tensor):
        raise NotAcceptedError("model", f"an output of {type(output).__name__}", "a tensor", "Wrap it in a module.")
    if not isinstance(y, Tensor) or y.dim() == 0 or len(y) != len(output):
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ShapeError("y", got, f"({len(output)}, ...), one entry for each sample")
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


def check_loss(loss: Tensor) -> None:
    """Raise ShapeError unless `loss` is one number with a gradient."""
    if loss.dim() or not loss.requires_grad:
        got = f"shape {tuple(loss.shape)}" if loss.dim() else "a number without gradient"
        raise ShapeError("loss_fn", got, "one number that depends on the output")
