"""A whole batch as one sample, for losses and models in which its samples meet."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tpsolve.nn.passes._nests import call


def one_sample(
    model: nn.Module, x: Any, y: Any, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    """The arguments of `target_backward` and `diagnose` by which the batch is one sample.

    Searches set the targets of each sample by itself. Where samples meet, as in a contrastive loss of all pairs or in
    experts that sort the tokens of all samples, they are refused. `target_backward(*one_sample(model, x, y, loss_fn),
    solver=..., budget=...)` searches the targets of the whole batch together: one objective, the loss of the batch.

    Each step of a search then changes targets of the batch, not of each sample, and each pass is one of the whole model
    on the whole batch. So the same budget in steps does less. Gradients of closed-form targets are the same. What
    `diagnose` says of dead units and of separability has no meaning then.

    Args:
        model, x, y, loss_fn: as `target_backward` takes them. Only the output and y need not be `(B, ...)`: `loss_fn`
            may be of any tensors.

    Returns:
        A module around `model`, in which thresholds have names that begin with "model."; `x` and `y` with an axis of
        length 1 before those of their tensors; and the loss of these.
    """

    def loss(output: Any, labels: Any) -> Tensor:
        return loss_fn(_without_axis(output), _without_axis(labels))

    return OneSample(model), _with_axis(x), _with_axis(y), loss


class OneSample(nn.Module):
    """Calls a model without the first axis of each tensor, which has length 1, and puts one before its outputs."""

    one_by_one = True
    """Whether a search must run a copy of it for one set of targets at a time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """As the model."""
        given = _without_axis(keywords if keywords else arguments)
        return _with_axis(call(self.model, given))


def _with_axis(nest: Any) -> Any:
    return tree_map(lambda leaf: leaf[None] if isinstance(leaf, Tensor) else leaf, nest)


def _without_axis(nest: Any) -> Any:
    return tree_map(lambda leaf: leaf[0] if isinstance(leaf, Tensor) else leaf, nest)
