"""A copy of a model that does once more, sample by sample, what the model did in one recorded forward pass."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.passes._draws import Note, RandomState, restored
from tpsolve.nn.passes._recording import Recording, unwrap
from tpsolve.thresholds._base import first_input


class Given(nn.Module):
    """Stands where a threshold was; what its calls return is given from outside.

    `values`: the outputs, by turn. `seen`: the inputs of the calls so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[int, Tensor] = {}
        self.seen: list[Tensor] = []

    def forward(self, *arguments: Tensor, **keywords: Tensor) -> Tensor:
        """The next value; a copy, which may be changed in place."""
        z = first_input(arguments, keywords)
        self.seen.append(z.clone())
        return self.values[len(self.seen) - 1].clone()

    def forget(self) -> None:
        """Keep nothing of the last calls."""
        self.values, self.seen = {}, []


class Drawing(nn.Module):
    """A dropout in training whose draws are given, so that a block with it is a function of its inputs."""

    def __init__(self, dropout: _DropoutNd) -> None:
        super().__init__()
        # No part of this module: by itself it is random, and blocks are refused for it.
        self.dropout = (dropout,)
        self.p, self.inplace = dropout.p, dropout.inplace

    def forward(self, *arguments: Tensor, **keywords: Tensor) -> Tensor:
        """As the dropout."""
        return self.dropout[0](*arguments, **keywords)


class Turns(nn.Module):
    """Stands where one batch norm was called several times: each call has statistics of its own."""

    def __init__(self, norms: list[_BatchNorm]) -> None:
        super().__init__()
        self.norms, self.turn = nn.ModuleList(norms), 0

    def forward(self, x: Tensor) -> Tensor:
        """As the batch norm of this turn."""
        self.turn += 1
        return self.norms[self.turn - 1](x)


def begin(model: nn.Module, *arguments: object) -> None:
    """Let all turns of `model` begin anew; a pre-hook, which copies keep."""
    for module in model.modules():
        if isinstance(module, Turns):
            module.turn = 0


@dataclass
class Frozen:
    """A copy of a model that does once more what the model did in a recorded pass.

    Args:
        given: what its thresholds return, by the name of the call, `(B, ...)`; empty where they are left in it.
        places: path and turn of each call, by name.
        state: the random state before the pass, where something was drawn in it.
    """

    model: nn.Module
    given: dict[str, Tensor]
    places: dict[str, tuple[str, int]]
    state: RandomState | None

    def place(self, name: str) -> Given:
        """What stands where the threshold of this call was."""
        module = self.model.get_submodule(self.places[name][0])
        assert isinstance(module, Given)
        return module

    def run(self, x: Tensor, given: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The output `(b, ...)` for `x (b, ...)`, and what each threshold read, by the name of the call."""
        try:
            for name, value in given.items():
                self.place(name).values[self.places[name][1]] = value
            output = self.model(x)
            seen = {name: self.place(name).seen for name in given}
            turns = {name: self.places[name][1] for name in given}
            return output, {name: z[turns[name]] for name, z in seen.items() if turns[name] < len(z)}
        finally:
            for name in given:
                self.place(name).forget()

    def find_draws(self, x: Tensor) -> list[Tensor | None]:
        """What the pass of `x` drew at random."""
        if self.state is None:
            return []
        with restored(self.state), torch.no_grad(), Note() as note:
            if self.given:
                self.run(x, self.given)
            else:
                self.model(x)
        return note.draws


def freeze(model: nn.Module, recording: Recording, hold: bool = True) -> Frozen:
    """The copy.

    Batch norm keeps the statistics of the recorded batch, and with `hold` each threshold its output. Where something
    was drawn at random, the modules stay in the mode that they were in, so that they draw again. What is narrower
    than float32 is widened.

    Raises:
        NotAcceptedError: the output of a threshold was changed in place after the pass, or the model can't be copied.
    """
    for name, call in recording.calls.items():
        if call.h._version != call.version:
            raise NotAcceptedError(
                f"model.{name}", "an output that was changed in place after the pass", "one that stays as it was"
            )
    frozen = copied(unwrap(model)).requires_grad_(False)
    if recording.state is None:
        frozen.eval()
    if any(widened(value) is not value for value in frozen.parameters()):
        frozen.float()
    for module in frozen.modules():
        # What they do in training changes them, and they have done it once.
        if isinstance(module, _NormBase | ParametrizationList):
            module.eval()
    for name, inputs in recording.norms.items():
        norm = frozen.get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        norms = [norm, *(copy.deepcopy(norm) for _ in inputs[1:])]
        for each, x in zip(norms, inputs, strict=True):
            others = [axis for axis in range(x.dim()) if axis != 1]
            x = widened(x)
            each.running_mean = x.mean(others)
            each.running_var = x.var(others, correction=0)
        if len(norms) > 1:
            _put(frozen, norm, Turns(norms))
            frozen.register_forward_pre_hook(begin)
    if recording.state is not None:
        for module in list(frozen.modules()):
            if isinstance(module, _DropoutNd):
                _put(frozen, module, Drawing(module))
    places = recording.places()
    if not hold:
        return Frozen(frozen, {}, places, recording.state)
    for path in {path: None for path, _ in places.values()}:
        _put(frozen, frozen.get_submodule(path), Given())
    values = {name: widened(call.h) for name, call in recording.calls.items()}
    return Frozen(frozen, values, places, recording.state)


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` stands in the model, under one name or several."""
    for parent in list(model.modules()):
        for leaf, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, leaf, new)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of `model`.

    Raises:
        NotAcceptedError: it can't be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:  # Modules of any origin; whatever they raise, they can't be copied.
        raise NotAcceptedError(
            "model",
            f"{type(error).__name__} ({error}) when copied",
            "a model that copy.deepcopy copies",
            "Use nn.utils.parametrizations.weight_norm or spectral_norm in place of those of nn.utils, "
            "and after pruning nn.utils.prune.remove.",
        ) from error


def widened(tensor: Tensor) -> Tensor:
    """As float32 where it is a narrower floating-point one: a frozen copy runs without autocast."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
