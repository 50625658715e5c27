"""What one forward pass through a model with thresholds and choices leaves behind."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.passes._draws import RandomState, has_drawn, random_state
from tpsolve.thresholds._base import Threshold, first_input
from tpsolve.thresholds._convert import find_hard_units
from tpsolve.thresholds._hard_unit import HardUnit


@dataclass
class Call:
    """The call of one threshold, or of a module of choices.

    Args:
        name: of the call: that of the module, with "#1", "#2" and so on behind it where it is called several times.
        path: name of the module in the model.
        turn: which of the calls of its module it is, from 0.
        z: pre-activations `(B, ...)`, of choices the logits `(B, ..., K)`, detached.
        h: its output, detached.
        version: of h, which grows where something changes h in place.
        graph: whether autograd was on.
        head: the output as part of the graph, None once the pass is over.
        edge: where the gradient at the output arrives, whatever changes it in place later; None without gradient.
        settings: of a threshold, as they were: parameters that are sharded are whole only during the pass.
        listener: what is called with that gradient, and may return another.
        places: where the first axis in the pass was `(B k, ...)`, a sample's k places side by side, this k; then z and
            h are `(B, k, ...)`.
    """

    name: str
    path: str
    turn: int
    module: HardUnit
    z: Tensor
    h: Tensor
    version: int
    graph: bool
    head: Tensor | None
    edge: GradientEdge | None
    settings: tuple[Any, ...] = ()
    listener: Callable[[Tensor], Tensor] | None = None
    places: int | None = None

    def hear(self, gradient: Tensor) -> Tensor | None:
        """Called with the gradient at the output."""
        return None if self.listener is None else self.joined(self.listener(self.split(gradient)))

    def split(self, value: Tensor) -> Tensor:
        """A tensor that lies as the output did in the pass, with the samples along its first axis."""
        return value if self.places is None else value.unflatten(0, (-1, self.places))

    def joined(self, value: Tensor) -> Tensor:
        """The inverse of `split`."""
        return value if self.places is None else value.flatten(0, 1)

    def __getstate__(self) -> dict[str, Any]:
        # A copied tensor counts its changes anew: what travels is the number of changes since the call.
        return {**vars(self), "version": self.h._version - self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.version = self.h._version - self.version


@dataclass
class Recording:
    """The calls of thresholds and choices in a forward pass, and what made other modules act only on this batch.

    Args:
        norms: inputs of the batch norms that used the statistics of the batch, by name, one for each call.
        state: torch's random state before the pass, where something was drawn in it.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    norms: dict[str, list[Tensor]] = field(default_factory=dict)
    state: RandomState | None = None

    def split(self, samples: int) -> None:
        """Take outputs `(B k, ...)`, as of words or frames in one axis, as `(B, k, ...)`, B being `samples`."""
        for call in self.calls.values():
            if samples and call.h.dim() and len(call.h) > samples and len(call.h) % samples == 0:
                call.places = len(call.h) // samples
                call.z, call.h = call.split(call.z), call.split(call.h)

    def places(self) -> dict[str, tuple[str, int]]:
        """Path and turn of each call, by name."""
        return {name: (call.path, call.turn) for name, call in self.calls.items()}


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record the forward pass made inside.

    Raises:
        NotAcceptedError: no thresholds and no choices, or one is in a module that torch.compile returned.
    """
    recording, model = Recording(), unwrap(model)
    units = find_hard_units(model)
    for name in units:
        compiled, inside, _ = name.partition("_orig_mod")
        if inside:
            raise NotAcceptedError(
                f"model.{compiled}".rstrip("."),
                "a compiled module with thresholds or choices",
                "the module itself",
                "Put in what torch.compile was given; its method compile() works in place and may be called.",
            )
    calls: list[Call] = []
    hooks = [module.register_forward_hook(_note_unit(calls, name), with_kwargs=True) for name, module in units.items()]
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            hooks.append(module.register_forward_pre_hook(_note_norm(recording, name), with_kwargs=True))
    before = random_state()
    try:
        yield recording
    finally:
        for hook in hooks:
            hook.remove()
        if has_drawn(before, random_state()):
            recording.state = before
        _fill(recording, calls)


def unwrap(model: nn.Module) -> nn.Module:
    """The module that a data-parallel one wraps; any other itself."""
    return model.module if isinstance(model, DataParallel | DistributedDataParallel) else model


def called(unit: HardUnit) -> str:
    """What messages call it."""
    return "a threshold" if isinstance(unit, Threshold) else "a module of choices"


def _note_unit(calls: list[Call], path: str) -> Any:
    def note(module: HardUnit, arguments: tuple[Tensor, ...], keywords: dict[str, Any], output: Tensor) -> None:
        z, graph = first_input(arguments, keywords).detach(), torch.is_grad_enabled()
        turn = sum(call.path == path for call in calls)
        edge = get_gradient_edge(output) if output.requires_grad else None
        told = module.settings() if isinstance(module, Threshold) else ()
        settings = tuple(one.detach() if isinstance(one, Tensor) else one for one in told)
        call = Call(path, path, turn, module, z, output.detach(), output._version, graph, output, edge, settings)
        if output.requires_grad:
            # Now, since a later hook would get the gradient behind what changes the output in place.
            output.register_hook(call.hear)
        calls.append(call)

    return note


def _fill(recording: Recording, calls: list[Call]) -> None:
    """Name the calls, and compute outputs anew that were changed in place."""
    counts = Counter(call.path for call in calls)
    for call in calls:
        if counts[call.path] > 1:
            call.name = f"{call.path}#{call.turn + 1}"
        if call.h._version != call.version:
            with torch.no_grad():
                call.h = call.module.activate(call.z)
            call.version = call.h._version
        recording.calls[call.name] = call


def _note_norm(recording: Recording, name: str) -> Any:
    def note(module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Any]) -> None:
        recording.norms.setdefault(name, []).append(first_input(arguments, keywords).detach())

    return note
