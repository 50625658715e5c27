"""Layer problems taken from a network: its weights, its activations, the targets it would want."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve.errors import NotAcceptedError
from tpsolve.problems.instances import Instance
from tpsolve.problems.layer._layer_problem import LayerProblem
from tpsolve.spins import sign


def harvest(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    losses: tuple[str, ...] = ("hinge",),
    stay: float = 0.0,
) -> list[Instance[LayerProblem]]:
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
        NotAcceptedError: no linear layer reads values in {-1, +1}, or something else than a hard
            threshold works on the output of one; the topmost one's must be the model's own.
    """
    calls: list[_Call] = []

    def open_gradient(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        # Below frozen layers nothing asks for gradients: then they begin here.
        if _is_spin(arguments[0]) and not arguments[0].requires_grad:
            return (arguments[0].detach().requires_grad_(), *arguments[1:])
        return None

    def note(name: str) -> Any:
        return lambda module, arguments, output: calls.append(_Call(name, module, arguments[0], output))

    hooks, modes = [], {module: module.training for module in model.modules()}
    for name, module in model.named_modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(note(name)))
        if isinstance(module, nn.Linear):
            hooks.append(module.register_forward_pre_hook(open_gradient))
    try:
        model.eval()
        with torch.enable_grad():
            outputs = model(inputs)
            linear = [i for i, call in enumerate(calls) if isinstance(call.module, nn.Linear)]
            # The first one reads the data, even where these happen to be spins.
            readers = [i for i in linear[1:] if _is_spin(calls[i].input)]
            if not readers:
                expected = "a linear layer that reads values in {-1, +1}"
                raise NotAcceptedError("model", "none", expected, "Put a hard threshold below a linear layer.")
            _check_chain(calls, readers, outputs)
            loss = functional.cross_entropy(outputs, labels, reduction="sum")
            gradients = torch.autograd.grad(loss, [calls[i].input for i in readers])
    finally:
        for module, training in modes.items():
            module.training = training
        for hook in hooks:
            hook.remove()

    found = []
    for reader, above in zip(readers, [*gradients[1:], None], strict=True):
        call = calls[reader]
        layer = {
            "weight": call.module.weight.detach().clone(),
            "bias": None if call.module.bias is None else call.module.bias.detach().clone(),
            "start": call.input.detach().clone(),
            "stay": stay,
        }
        if above is None:
            problem = LayerProblem(targets=labels, loss="cross-entropy", **layer)
            found.append(Instance(f"{call.name}/cross-entropy", problem))
            continue
        for name in losses:
            problem = LayerProblem(targets=-above.sign(), loss=name, unit_weight=above.abs(), **layer)
            found.append(Instance(f"{call.name}/{name}", problem))
    return found


@dataclass(frozen=True)
class _Call:
    """One call of a module without children."""

    name: str
    module: Any
    input: Tensor
    output: Any


def _check_chain(calls: list[_Call], readers: list[int], outputs: Tensor) -> None:
    """Raise unless each reader's output is read by the next through a hard threshold; the last one's is the model's."""
    for reader, following in itertools.pairwise([*readers, len(calls)]):
        call, last = calls[reader], following == len(calls)
        if last:
            right = torch.equal(call.output, outputs)
        else:
            spins = sign(call.output)
            between = [part.output for part in calls[reader + 1 : following]]
            # What works on the output must leave it alone, as an idle dropout does, or be the threshold.
            right = torch.equal(calls[following].input, spins) and all(
                isinstance(value, Tensor) and (torch.equal(value, call.output) or torch.equal(value, spins))
                for value in between
            )
        if not right:
            raise NotAcceptedError(
                f"model.{call.name}",
                "an output that is worked on"
                if last
                else f"an output that {calls[following].name} does not read through a hard threshold",
                "the model's own output" if last else "a hard threshold right above it",
                "Fold a normalisation between them into the weights.",
            )


def _is_spin(values: Tensor) -> bool:
    return values.dim() == 2 and bool((values.detach().abs() == 1).all())
