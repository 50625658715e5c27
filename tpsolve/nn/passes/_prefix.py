"""What a pass computes before a threshold is called: it is the same for all targets, and need not be run again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tpsolve.nn.passes._draws import Note, restored, time_first_begins, time_first_ends
from tpsolve.nn.passes._frozen import Frozen, Given, Turns
from tpsolve.nn.passes._nests import Nest

OF_ORDER = {time_first_begins, time_first_ends}
"""Hooks that only tell of draws how they lie."""


@dataclass(frozen=True)
class Known:
    """The one call of a module in a pass, which returned before the threshold was called.

    Args:
        path: of the module in the model.
        nest: how the tensors of the samples stand in what it returned.
    """

    path: str
    nest: Nest


@dataclass
class _Event:
    """A call: `first` and `last` count the calls that began and ended around it, `draws` those of random numbers."""

    path: str
    first: int
    last: int
    output: Any
    draws: tuple[int, int]


@dataclass
class _Log:
    """The calls of all modules in a pass; `before`: those that had returned when the threshold was called."""

    note: Note
    began: list[str] = field(default_factory=list)
    open: list[tuple[int, int, list[_Event]]] = field(default_factory=lambda: [(0, 0, [])])
    before: list[_Event] = field(default_factory=list)


@dataclass
class Prefix:
    """Calls that need not be run again, the largest ones.

    Args:
        known: the calls.
        values: what they returned, `(B, ...)` each.
        draws: what the rest of the pass draws at random.
    """

    known: list[Known]
    values: list[Tensor]
    draws: list[Tensor | None]


def find_prefix(frozen: Frozen, inputs: Sequence[Tensor], name: str, samples: int) -> Prefix:
    """What a pass of `inputs` computes before the threshold's call `name`, by calls that are made once.

    Raises:
        Exception: of any kind, as the pass runs the model's own code.
    """
    modules = {path: module for path, module in frozen.model.named_modules() if path}
    hooked = {
        path
        for path, module in modules.items()
        if not {*module._forward_hooks.values(), *module._forward_pre_hooks.values()} <= OF_ORDER
    }
    _, turn = frozen.places[name]
    with restored(frozen.state), torch.no_grad(), Note() as note:
        log, stop = _Log(note), frozen.place(name)
        hooks = []
        for path, module in modules.items():
            hooks.append(module.register_forward_pre_hook(_note_begin(log, path, stop, turn)))
            hooks.append(module.register_forward_hook(_note_end(log, path)))
        try:
            frozen.run(inputs, frozen.given)
        finally:
            for hook in hooks:
                hook.remove()
    found = [event for event in log.before if event.path not in hooked and _can_stay(event, log, modules, samples)]
    nests = [Nest.of(event.output, lambda leaf: True) for event in found]
    values = [tensor for event, nest in zip(found, nests, strict=True) for tensor in nest.split(event.output)]
    left_out = {at for event in found for at in range(*event.draws)}
    draws = [draw for at, draw in enumerate(note.draws) if at not in left_out]
    return Prefix([Known(e.path, nest) for e, nest in zip(found, nests, strict=True)], values, draws)


def _note_begin(log: _Log, path: str, stop: Given, turn: int) -> Any:
    def hook(module: nn.Module, arguments: Any) -> None:
        if module is stop and len(stop.seen) == turn:
            log.before = [event for _, _, ended in log.open for event in ended]
        log.open.append((len(log.began), len(log.note.draws), []))
        log.began.append(path)

    return hook


def _note_end(log: _Log, path: str) -> Any:
    def hook(module: nn.Module, arguments: Any, output: Any) -> None:
        first, draws, _ = log.open.pop()
        event = _Event(path, first, len(log.began), output, (draws, len(log.note.draws)))
        log.open[-1][2].append(event)

    return hook


def _can_stay(event: _Event, log: _Log, modules: dict[str, nn.Module], samples: int) -> bool:
    """Whether a call may be left out of the next passes: nothing that is counted by turns goes wrong without it."""
    module = modules[event.path]
    if isinstance(module, Given | torch.jit.ScriptModule) or "forward" in vars(module):
        return False
    inside = range(event.first, event.last)
    # A module that is called again, here or inside, would take its next turn for this one.
    for at, path in enumerate(log.began):
        if at not in inside and (path == event.path or path.startswith(f"{event.path}.")):
            return False
    by_turns = {id(part) for part in modules.values() if isinstance(part, Given | Turns)}
    own = {id(part) for part in module.modules()}
    elsewhere = {id(modules[path]) for at, path in enumerate(log.began) if at not in inside}
    called = {id(modules[log.began[at]]) for at in inside}
    if by_turns & (called | own) & elsewhere or any(isinstance(part, Turns) for part in module.modules()):
        return False
    leaves = [leaf for leaf in tree_leaves(event.output) if isinstance(leaf, Tensor)]
    return bool(leaves) and all(leaf.dim() > 0 and len(leaf) == samples for leaf in leaves)


@contextmanager
def without(model: nn.Module, known: Sequence[Known], values: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the calls that are `known` return their `values` at once, copies that may be changed in place."""
    modules, left = [], list(values)
    try:
        for one in known:
            module = model.get_submodule(one.path)
            own, left = left[: len(one.nest.places)], left[len(one.nest.places) :]
            vars(module)["forward"] = _giving(one.nest, own)
            modules.append(module)
        yield
    finally:
        for module in modules:
            del vars(module)["forward"]


def _giving(nest: Nest, values: Sequence[Tensor]) -> Any:
    return lambda *arguments, **keywords: nest.join([value.clone() for value in values])
