"""How well a network's thresholds learn: figures for each of them, on one batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from tpsolve._check_arguments import check_count, check_finite
from tpsolve._result import Budget
from tpsolve.errors import NotAcceptedError
from tpsolve.nn._batch_checks import (
    check_batch,
    check_batch_axis,
    check_called,
    check_labels,
    find_loss_value,
    run_model,
)
from tpsolve.nn._build_problem import Top
from tpsolve.nn._flips import Flips
from tpsolve.nn.passes._frozen import copied
from tpsolve.nn.passes._nests import Inputs
from tpsolve.nn.passes._recording import Call, record, unwrap
from tpsolve.nn.passes._replay import check_whole
from tpsolve.thresholds._base import Threshold, find_width, first_input
from tpsolve.thresholds._convert import find_hard_units
from tpsolve.units import Separability


@dataclass(frozen=True)
class Diagnosis:
    """Figures of one threshold on a batch; a unit is one output of a sample. NaN where a figure has no meaning.

    A staircase of k thresholds has k activations and targets a unit; a flip moves its output by 1 / k.

    Args:
        changed: share of targets sign(-g) that differ from the activation.
        flip_quality: share of a sample of those flips that, each made by itself, lower the network's loss.
        cosine: between the gradients g at the outputs and the true difference quotients of the network's
            loss, (L(+1) - L(-1)) / 2 for a hard threshold, over a sample of flips.
        saturated: share of units outside of the rule's width.
        separable: share of units (of the layer, not of a sample) for which some weights and bias meet
            their targets of the whole batch, proved; where the layer is linear.
        dead: share of units (places in the layer) whose output is the same for every sample.
    """

    changed: float
    flip_quality: float
    cosine: float
    saturated: float
    separable: float
    dead: float


def diagnose(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    flips: int = 256,
    separability: Budget | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Diagnosis]:
    """Diagnose every threshold of `model` on the batch `(x, y)`, by name in the order of their calls.

    A copy of the model runs, in the mode that the model is in, so nothing of it changes. Batch norm
    is held at the statistics of the batch, dropout and other draws of torch as they were drawn. The flips cost about
    `flips` / B forward passes each way for each threshold.

    Args:
        x, y, loss_fn: as in `target_backward`; x may hold whole numbers where the model takes them.
        flips: how many to try in each layer, and as many of those that its targets propose.
        separability: what `Separability` may spend on each layer; None: until all units are decided. Units
            left undecided don't count as separable.
        generator: draws the flips to try; None: one of seed 0.

    Raises:
        NotAcceptedError: a model without thresholds or with choices; a threshold whose first axis is not the batch;
            a model that mixes samples, or of which a copy does not do once more what this pass did, as with draws of
            other generators than torch's; or a loss that is neither sum nor mean over the samples.
        NotFiniteError: NaN or infinity in x or in the output.
        ArgumentError: another argument makes no sense.
    """
    check_count("flips", flips, 1)
    check_batch(x, loss_fn)
    for leaf in tree_leaves(x):
        if isinstance(leaf, Tensor):
            check_finite("x", leaf)
    for name, module in find_hard_units(unwrap(model)).items():
        if not isinstance(module, Threshold):
            raise NotAcceptedError(f"model.{name}", "a module of choices", "thresholds, which the figures are made for")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    own = copied(unwrap(model))
    with torch.random.fork_rng(devices=_devices(x)), torch.enable_grad():
        reader = _LinearInputs(own)
        with record(own) as recording, reader:
            # So that gradients begin at the first threshold even below frozen layers.
            output = run_model(own, tree_map(_open, x))
        check_called(recording.calls)
        nest = check_labels(output, y)
        top = Top.of(output, y, loss_fn, nest)
        check_finite("output of the model", top.output)
        loss = find_loss_value(loss_fn, output, y)
        recording.split(len(top.output))
        for call in recording.calls.values():
            check_batch_axis(call, top.output)
        edges = {call.name: call.edge for call in recording.calls.values() if call.edge is not None}
        found = torch.autograd.grad(loss, list(edges.values()), allow_unused=True)
        calls = [recording.calls[name] for name in edges]
        gradients = [
            torch.zeros_like(call.h) if g is None else call.split(g) for call, g in zip(calls, found, strict=True)
        ]
        inputs = Inputs.of(x, len(top.output))
        check_whole(own, recording, inputs, top.output, nest)
    tried = Flips(own, recording, inputs, top)
    return {
        call.name: _diagnose(call, g, tried, flips, reader.of(call.z), separability, generator)
        for call, g in zip(calls, gradients, strict=True)
    }


def _diagnose(
    call: Call,
    g: Tensor,
    tried: Flips,
    flips: int,
    inputs: "tuple[Tensor, bool] | None",
    budget: Budget | None,
    generator: torch.Generator,
) -> Diagnosis:
    h, flat = call.h.detach().flatten(1), g.flatten(1)
    assert isinstance(call.module, Threshold)
    spins = call.module.to_spins(h).reshape(len(h), -1, h.shape[1])
    gain, stretch, _ = call.module.parts(each=True)[0]
    # How far a flip moves the output; of a hard threshold from h to -h.
    steps = -2 * (gain / stretch) * spins
    # Where spin and g have one sign, the target sign(-g) is the other one.
    proposed = flat[:, None] * spins > 0
    drawn = _draw(torch.ones_like(proposed), flips, generator)
    samples, _, units = drawn
    difference = tried.change(call.name, samples, units, steps[drawn]).double() / steps[drawn].double()
    cosine = torch.cosine_similarity(flat[samples, units].double(), difference, dim=0)
    quality = math.nan
    if bool(proposed.any()):
        drawn = _draw(proposed, flips, generator)
        quality = _share(tried.change(call.name, drawn[0], drawn[2], steps[drawn]) < 0)
    separable = math.nan
    if inputs is not None and bool(torch.isfinite(flat).all()):
        targets = torch.where(flat == 0, 0.0, -flat.sign())
        certificate = Separability(bias=inputs[1]).fit(inputs[0], targets.to(inputs[0].dtype), budget=budget)
        separable = _share(certificate.status == 1)
    alike = float(cosine) if bool(difference.any()) and bool(flat.any()) else math.nan
    dead = _share((h == h[:1]).all(0))
    return Diagnosis(_share(proposed), quality, alike, _saturated(call), separable, dead)


def _open(leaf: Any) -> Any:
    """A copy of a tensor at which gradients can begin; all else itself."""
    return leaf.detach().clone().requires_grad_(leaf.is_floating_point()) if isinstance(leaf, Tensor) else leaf


def _devices(x: Any) -> list[torch.device]:
    leaves = (leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor))
    return list({leaf.device for leaf in leaves if leaf.device.type == "cuda"})


def _share(where: Tensor) -> float:
    return float(where.double().mean())


def _draw(allowed: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """At most `count` of the places `(sample, threshold, unit)` that are allowed, without repetition."""
    places = allowed.nonzero()
    picked = torch.randperm(len(places), generator=generator, device=generator.device)[:count].to(places.device)
    return places[picked].unbind(1)


def _saturated(call: Call) -> float:
    outside = torch.ones_like(call.z, dtype=torch.bool)
    assert isinstance(call.module, Threshold)
    width, _, _, mode, _ = call.module.settings()
    for _, stretch, shift in call.module.parts():
        part = call.z * stretch - shift
        found = find_width(part, width, mode)
        outside &= part.abs() > (1.0 if found is None else found)
    return _share(outside)


class _LinearInputs:
    """While it lasts, notes what each `nn.Linear` reads, also through a batch norm above it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: dict[int, tuple[Tensor, Tensor, bool]] = {}

    def __enter__(self) -> None:
        self.hooks = [
            module.register_forward_hook(self._note, with_kwargs=True)
            for module in self.model.modules()
            if isinstance(module, nn.Linear | nn.BatchNorm1d)
        ]

    def __exit__(self, *error: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def of(self, z: Tensor) -> tuple[Tensor, bool] | None:
        """The inputs `(B, n)` of the units with pre-activations `z (B, m)`, and whether they have a bias."""
        found = self.seen.get(z.untyped_storage()._cdata)
        return found[1:] if found is not None and z.dim() == 2 else None

    def _note(self, module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Any], output: Tensor) -> None:
        x = first_input(arguments, keywords).detach()
        # The output is kept, so that its storage is not used again.
        if isinstance(module, nn.Linear):
            if x.dim() == 2:
                self.seen[output.untyped_storage()._cdata] = (output.detach(), x, module.bias is not None)
        elif (below := self.seen.get(x.untyped_storage()._cdata)) is not None:
            # A batch norm gives every unit a bias of its own.
            self.seen[output.untyped_storage()._cdata] = (output.detach(), below[1], True)
