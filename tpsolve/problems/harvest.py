"""Layer problems taken from a network: its weights, its activations, the targets it would want."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve.errors import NotAcceptedError
from tpsolve.problems.instances import Instance
from tpsolve.problems.layer import LayerProblem
from tpsolve.spins import sign


def harvest(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    losses: tuple[str, ...] = ("hinge",),
    stay: float = 0.0,
) -> list[Instance]:
    """One instance for each linear layer of `model` that reads hard-threshold outputs.

    The model runs once, in evaluation mode, and the cross-entropy of its outputs, summed over the
    samples, is differentiated. The topmost linear layer gives a cross-entropy problem on the labels.
    Each lower one gives a problem for every name in `losses`: its targets are s = sign(-g) and its
    importance weights |g|, where g is the gradient at the outputs of its threshold (Friesen and
    Domingos (2018), section 3.3). The activations become `start`. Weights, gradients and mode of the
    model are left as they were.

    Args:
        model: calls its `nn.Linear` layers in one chain, each followed by a hard threshold.
        inputs: `(B, ...)`, what the model takes.
        labels: `(B,)` int64 class labels.
        stay: the stay penalty of every problem.

    Raises:
        NotAcceptedError: no linear layer reads values in {-1, +1}, or what follows one is no hard
            threshold of its output.
    """
    calls: list[tuple[str, nn.Linear, Tensor, Tensor]] = []

    def note(name: str, layer: nn.Linear) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
            calls.append((name, layer, arguments[0], output))

        return layer.register_forward_hook(hook)

    hooks = [note(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    training = model.training
    try:
        model.eval()
        with torch.enable_grad():
            outputs = model(inputs)
            loss = functional.cross_entropy(outputs, labels, reduction="sum")
            readers = [call for call in calls if _is_spin(call[2])]
            if not readers:
                expected = "a linear layer that reads values in {-1, +1}"
                raise NotAcceptedError("model", "none", expected, "Put a hard threshold below a linear layer.")
            gradients = torch.autograd.grad(loss, [call[2] for call in readers])
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()

    found = []
    for depth, (name, layer, activations, output) in enumerate(readers):
        bias = None if layer.bias is None else layer.bias.detach()
        shared = {"bias": bias, "start": activations.detach(), "stay": stay}
        weight = layer.weight.detach().clone()
        if depth == len(readers) - 1:
            problem = LayerProblem(weight, labels, loss="cross-entropy", **shared)
            found.append(Instance(f"{name}/cross-entropy", problem))
            continue
        above = readers[depth + 1]
        if not torch.equal(sign(output), above[2]):
            raise NotAcceptedError(
                f"model.{name}",
                f"an output that {above[0]} does not read through a hard threshold",
                "a hard threshold right above it",
                "Fold a normalisation between them into the weights.",
            )
        gradient = gradients[depth + 1]
        for loss_name in losses:
            problem = LayerProblem(weight, -gradient.sign(), loss=loss_name, unit_weight=gradient.abs(), **shared)
            found.append(Instance(f"{name}/{loss_name}", problem))
    return found


def _is_spin(values: Tensor) -> bool:
    return values.dim() == 2 and values.requires_grad and bool((values.detach().abs() == 1).all())
