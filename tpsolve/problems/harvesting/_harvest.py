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
from tpsolve.thresholds import HardThreshold


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

    Layers may read outputs in {0, 1} of `HardThreshold(low=0)`. Their problems are in spins all the same: weight, bias
    and importance are those of spins in place of these outputs.

    Args:
        model: calls its `nn.Linear` layers in one chain, each followed by a hard threshold.
        inputs: `(B, ...)`, what the model takes.
        labels: `(B,)` int64 class labels.
        stay: the stay penalty of every problem.

    Raises:
        NotAcceptedError: no linear layer reads hard thresholds, or something else than a hard
            threshold works on the output of one; the topmost one's must be the model's own.
    """
    calls: list[_Call] = []

    def open_gradient(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        # Below frozen layers nothing asks for gradients: then they begin here.
        if _is_two_valued(arguments[0]) and not arguments[0].requires_grad:
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
            low = {i: found for i in linear[1:] if (found := _low(calls, i)) is not None}
            readers = list(low)
            if not readers:
                expected = "a linear layer that reads values in {-1, +1}, or those of HardThreshold(low=0)"
                raise NotAcceptedError("model", "none", expected, "Put a hard threshold below a linear layer.")
            _check_chain(calls, low, outputs)
            loss = functional.cross_entropy(outputs, labels, reduction="sum")
            gradients = torch.autograd.grad(loss, [calls[i].input for i in readers])
    finally:
        for module, training in modes.items():
            module.training = training
        for hook in hooks:
            hook.remove()

    found = []
    uppers = [(gradient, low[reader]) for gradient, reader in zip(gradients[1:], readers[1:], strict=True)]
    for reader, upper in zip(readers, [*uppers, None], strict=True):
        call = calls[reader]
        unit = HardThreshold(low=low[reader])
        own = call.module.weight.detach(), call.module.bias
        bias = torch.zeros_like(own[0][:, 0]) if own[1] is None else own[1].detach()
        weight, shifted = unit.from_spins_linear(own[0], bias)
        layer = {
            "weight": weight.clone(),
            "bias": None if own[1] is None and unit.low else shifted.clone(),
            "start": unit.to_spins(call.input.detach()).clone(),
            "stay": stay,
        }
        if upper is None:
            problem = LayerProblem(targets=labels, loss="cross-entropy", **layer)
            found.append(Instance(f"{call.name}/cross-entropy", problem))
            continue
        # Of spins in place of the outputs.
        above = upper[0] if upper[1] else upper[0] / 2
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


def _check_chain(calls: list[_Call], low: dict[int, int], outputs: Tensor) -> None:
    """Raise unless each reader's output is read by the next through a hard threshold; the last one's is the model's."""
    for reader, following in itertools.pairwise([*low, len(calls)]):
        call, last = calls[reader], following == len(calls)
        if last:
            right = torch.equal(call.output, outputs)
        else:
            spins = HardThreshold(low=low[following]).activate(call.output)
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


def _low(calls: list[_Call], reader: int) -> int | None:
    """-1 or 0: the layer reads spins, or outputs in {0, 1} of a threshold that has them; None: neither."""
    values = calls[reader].input
    if values.dim() != 2:
        return None
    units = [call for call in calls[:reader] if isinstance(call.module, HardThreshold)]
    if units and torch.equal(units[-1].output, values):
        return units[-1].module.low if not bool(values.isnan().any()) else None
    return -1 if bool((values.detach().abs() == 1).all()) else None


def _is_two_valued(values: Tensor) -> bool:
    return values.dim() == 2 and bool(((values.detach().abs() == 1) | (values.detach() == 0)).all())
