"""What one forward pass through a model with thresholds and choices leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel

from tpsolve.errors import NotAcceptedError
from tpsolve.thresholds._base import Threshold, first_input
from tpsolve.thresholds._convert import find_hard_units
from tpsolve.thresholds._hard_unit import HardUnit

MULTIPLYING = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d
"""The dropouts that multiply with a mask."""


@dataclass
class Call:
    """The call of one threshold, or of a module of choices.

    Args:
        name: of the module in the model.
        z: pre-activations `(B, ...)`, of choices the logits `(B, ..., K)`, detached.
        h: its output, part of the graph.
        version: of h, which grows where something changes h in place.
        graph: whether autograd was on.
    """

    name: str
    module: HardUnit
    z: Tensor
    h: Tensor
    version: int
    graph: bool

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
        norms: inputs of the batch norms that used the statistics of the batch, by name.
        dropouts: inputs of the dropouts that dropped, and torch's random state before, by name.
        twice: those of them that were called again: what each call did can't be told apart.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    dropouts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    twice: dict[str, nn.Module] = field(default_factory=dict)


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record the forward pass made inside.

    Raises:
        NotAcceptedError: no thresholds and no choices, one is called twice, or one is in a module that torch.compile
            returned.
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
    hooks = [
        module.register_forward_hook(_note_unit(recording, name), with_kwargs=True) for name, module in units.items()
    ]
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            hooks.append(module.register_forward_pre_hook(_note_norm(recording, name), with_kwargs=True))
        elif isinstance(module, MULTIPLYING) and module.training and module.p > 0:
            hooks.append(module.register_forward_pre_hook(_note_dropout(recording, name), with_kwargs=True))
    try:
        yield recording
    finally:
        for hook in hooks:
            hook.remove()


def unwrap(model: nn.Module) -> nn.Module:
    """The module that a data-parallel one wraps; any other itself."""
    return model.module if isinstance(model, DataParallel | DistributedDataParallel) else model


def called(unit: HardUnit) -> str:
    """What messages call it."""
    return "a threshold" if isinstance(unit, Threshold) else "a module of choices"


def random_state(device: torch.device) -> Tensor:
    """The state of torch's global generator on this device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _note_unit(recording: Recording, name: str) -> Any:
    def note(module: HardUnit, arguments: tuple[Tensor, ...], keywords: dict[str, Any], output: Tensor) -> None:
        if name in recording.calls:
            raise NotAcceptedError(
                f"model.{name}",
                f"{called(module)} that is used twice in one forward pass",
                "a module of its own for each place",
                f"Targets belong to places. Write a further {type(module).__name__}(), or let convert() put them in.",
            )
        z, graph = first_input(arguments, keywords).detach(), torch.is_grad_enabled()
        recording.calls[name] = Call(name, module, z, output, output._version, graph)

    return note


def _note_norm(recording: Recording, name: str) -> Any:
    def note(module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Any]) -> None:
        if name in recording.norms:
            recording.twice[name] = module
        recording.norms[name] = first_input(arguments, keywords).detach()

    return note


def _note_dropout(recording: Recording, name: str) -> Any:
    def note(module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Any]) -> None:
        if name in recording.dropouts:
            recording.twice[name] = module
        x = first_input(arguments, keywords)
        recording.dropouts[name] = (x.detach(), random_state(x.device))

    return note
