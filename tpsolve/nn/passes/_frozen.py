"""A copy of a model that does once more, sample by sample, what the model did in one recorded forward pass."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_leaves

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.passes._draws import Note, RandomState, restored, time_first_begins, time_first_ends
from tpsolve.nn.passes._nests import Inputs, Nest
from tpsolve.nn.passes._recording import Recording, unwrap
from tpsolve.nn.passes._sharded import gathered, is_sharded
from tpsolve.problems.block._deep_copied import deep_copied
from tpsolve.thresholds._base import first_input
from tpsolve.thresholds._hard_unit import HardUnit


class Given(nn.Module):
    """Stands where a threshold was; what its calls return is given from outside.

    `values`: the outputs, by turn; where there is none, the threshold answers itself. Those `(b, k, ...)` of a call
    whose pre-activations are `(b k, ...)` are given as it wants them. `seen`: the inputs of the calls so far, alike.
    """

    def __init__(self, unit: HardUnit) -> None:
        super().__init__()
        # No part of this module, which torch.fx takes as one.
        self.unit = (unit,)
        self.values: dict[int, Tensor] = {}
        self.seen: list[Tensor] = []

    def forward(self, *arguments: Tensor, **keywords: Tensor) -> Tensor:
        """The next value; a copy, which may be changed in place."""
        z = first_input(arguments, keywords)
        if not self.values:
            return self.unit[0].activate(z)
        value = self.values.get(len(self.seen))
        if value is None:
            self.seen.append(z.clone())
            return self.unit[0].activate(z)
        if value.dim() == z.dim():
            self.seen.append(z.clone())
            return value.clone()
        self.seen.append(z.clone().unflatten(0, (len(value), -1)))
        return value.flatten(0, 1).clone()

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
        split: the calls whose first axis in the pass was not the samples, but `(B k, ...)`.
        places: path and turn of each call, by name.
        state: the random state before the pass, where something was drawn in it.
        arguments: how the model is called. outputs: how what it returns is packed; None: it is a tensor.
    """

    model: nn.Module
    given: dict[str, Tensor]
    split: frozenset[str]
    places: dict[str, tuple[str, int]]
    state: RandomState | None
    arguments: Nest
    outputs: Nest | None

    def place(self, name: str) -> Given:
        """What stands where the threshold of this call was."""
        module = self.model.get_submodule(self.places[name][0])
        assert isinstance(module, Given)
        return module

    def pack(self, output: Any) -> Tensor:
        """The output as one tensor."""
        return output if self.outputs is None else self.outputs.pack(output)

    def output(self, x: Sequence[Tensor], shared: Sequence[Any] | None = None) -> Tensor:
        """The output `(b, ...)` for inputs `(b, ...)`; `shared`: those besides, by default of the recorded pass.

        Buffers that the pass puts in place of others, as states of spiking neurons, are put back.
        """
        arguments, keywords = self.arguments.join(x, shared)
        buffers = [(module, dict(module._buffers)) for module in self.model.modules() if module._buffers]
        try:
            return self.pack(self.model(*arguments, **keywords))
        finally:
            for module, before in buffers:
                module._buffers.update(before)

    def run(
        self, x: Sequence[Tensor], given: Mapping[str, Tensor], shared: Sequence[Any] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The same, and what each threshold read, by the name of the call."""
        try:
            for name, value in given.items():
                self.place(name).values[self.places[name][1]] = value
            output = self.output(x, shared)
            seen = {name: self.place(name).seen for name in given}
            turns = {name: self.places[name][1] for name in given}
            return output, {name: z[turns[name]] for name, z in seen.items() if turns[name] < len(z)}
        finally:
            for name in given:
                self.place(name).forget()

    def find_draws(self, x: Sequence[Tensor]) -> list[Tensor | None]:
        """What the pass of these inputs drew at random."""
        if self.state is None:
            return []
        with restored(self.state), torch.no_grad(), Note() as note:
            if self.given:
                self.run(x, self.given)
            else:
                self.output(x)
        return note.draws


def freeze(model: nn.Module, recording: Recording, inputs: Inputs, outputs: Nest | None, hold: bool = True) -> Frozen:
    """The copy, which takes `inputs` and gives `outputs`.

    Batch norm keeps the statistics of the recorded batch, and with `hold` each threshold its output. Where something
    was drawn at random, the modules stay in the mode that they were in, so that they draw again. What is narrower
    than float32 is widened; the statistics of batch norms there are those of the wide copy on the same inputs.

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
    adapting: list[_BatchNorm] = []
    for name, read in recording.norms.items():
        norm = frozen.get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        norms = [norm, *(copy.deepcopy(norm) for _ in read[1:])]
        for each, x in zip(norms, read, strict=True):
            each.running_mean, each.running_var = _statistics(x)
            if widened(x) is not x:
                adapting.append(each)
        if len(norms) > 1:
            _put(frozen, norm, Turns(norms))
            frozen.register_forward_pre_hook(begin)
    if recording.state is not None:
        for module in list(frozen.modules()):
            if isinstance(module, _DropoutNd):
                _put(frozen, module, Drawing(module))
            elif isinstance(module, nn.RNNBase) and module.dropout > 0:
                module.register_forward_pre_hook(time_first_begins)
                module.register_forward_hook(time_first_ends, always_call=True)
    places = recording.places()
    split = frozenset(name for name, call in recording.calls.items() if call.places is not None)
    if not hold:
        return Frozen(frozen, {}, split, places, recording.state, inputs.nest, outputs)
    for path in {path: None for path, _ in places.values()}:
        unit = frozen.get_submodule(path)
        assert isinstance(unit, HardUnit)
        _put(frozen, unit, Given(unit))
    values = {name: widened(call.h) for name, call in recording.calls.items()}
    made = Frozen(frozen, values, split, places, recording.state, inputs.nest, outputs)
    if adapting:
        # Sums of narrow weights lie elsewhere than those of the copy, for all samples alike.
        hooks = [norm.register_forward_pre_hook(_adapt_in_place) for norm in adapting]
        try:
            # Where the copy can't run, the check of its pass says so.
            with suppress(Exception), restored(recording.state), torch.no_grad():
                made.run(tuple(map(widened, inputs.tensors)), values)
        finally:
            for hook in hooks:
                hook.remove()
    return made


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of `x (B, channels, ...)`, as a batch norm in training takes them."""
    x = widened(x)
    others = [axis for axis in range(x.dim()) if axis != 1]
    return x.mean(others), x.var(others, correction=0)


def _adapt_in_place(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """Give a batch norm the statistics of what it reads; in place, since other buffers are put back after a pass."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = _statistics(arguments[0])
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` stands in the model, under one name or several."""
    for parent in list(model.modules()):
        for leaf, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, leaf, new)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of `model`; what it keeps of a pass, such as the states of spiking neurons, is detached.

    Of a model of `fully_shard` it is a plain one with whole parameters, which all processes must ask for.

    Raises:
        NotAcceptedError: it can't be copied.
    """
    kept = [leaf for module in model.modules() for leaf in tree_leaves(vars(module)) if isinstance(leaf, Tensor)]
    try:
        with gathered(model) if is_sharded(model) else nullcontext({}) as memo:
            return deep_copied(
                model, memo | {id(leaf): leaf.detach().clone() for leaf in kept if leaf.grad_fn is not None}
            )
    except Exception as error:  # Modules of any origin; whatever they raise, they can't be copied.
        raise NotAcceptedError(
            "model",
            f"{type(error).__name__} ({error}) when copied",
            "a model that copy.deepcopy copies",
            "Keep locks, files and the like out of its modules.",
        ) from error


def widened(tensor: Tensor) -> Tensor:
    """As float32 where it is a narrower floating-point one: a frozen copy runs without autocast."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
