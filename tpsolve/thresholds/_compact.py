"""Save less for backward: what a threshold's backward pass needs of its pre-activations and outputs, and no more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from tpsolve.errors import NotAcceptedError
from tpsolve.thresholds._base import first_input
from tpsolve.thresholds._convert import find_hard_units
from tpsolve.thresholds._hard_threshold import HardThreshold
from tpsolve.thresholds._hard_unit import HardUnit
from tpsolve.thresholds._packed import Layout, Packed, ShapeOnly, pack_bits, pack_pairs

DIMENSIONS: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
POOLS = tuple(DIMENSIONS)
INDEXED = ("cpu", "cuda")
"""Devices on which the backward pass of such a pooling goes by its indices, and reads no element of its input."""
CARRIERS = (*POOLS, nn.Flatten, nn.Unflatten, nn.Identity)
"""Modules whose outputs are outputs of a threshold if their inputs are."""
MAX_INT16 = torch.iinfo(torch.int16).max


@contextmanager
def compact(model: nn.Module) -> Iterator["Saver"]:
    """Run the forward pass and the loss inside; backward may follow inside or outside.

    The layer above a threshold saves its output h, and the threshold saves z. That is twice the memory of a ReLU, which
    saves only h. Inside, z is saved in place of h, and h is computed from it once more when backward needs it. A rule
    of few slopes (all but "soft-hinge", "logistic", "ramp" and one of your own) needs only to know in which of four
    intervals z lies: two bits instead of z, and one instead of h, also behind the modules `nn.MaxPool2d` and
    `nn.Flatten`. Of the input of such a pooling only the shape is kept, and its indices in as few bytes as hold them.

    Gradients are the same to the last bit. It does nothing for outputs that an operation has copied, nor for NaN. It
    does nothing under `torch.compile` either, which decides by itself what to save.

    Raises:
        NotAcceptedError: the model has no thresholds and no choices.
    """
    saver = Saver()
    units = find_hard_units(model)
    modules = {id(m): m for m in (*units.values(), *(m for m in model.modules() if isinstance(m, CARRIERS)))}
    hooks: list[Any] = []
    for module in modules.values():
        hooks.append(module.register_forward_pre_hook(saver.enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(saver.leave, with_kwargs=True))
    try:
        with saved_tensors_hooks(saver.pack, saver.unpack):
            yield saver
    finally:
        for hook in hooks:
            hook.remove()
        saver.outputs.clear()


@dataclass
class Output:
    """A storage that holds outputs of a threshold and nothing else.

    Args:
        alive: a reference that doesn't keep it. version: of the tensor then. module: that made it. z: from which it can
            be computed; None: it has two values, and is kept as bits. bits: these, once they are made.
    """

    alive: StorageWeakRef
    version: int
    module: HardUnit
    z: Tensor | None
    bits: Packed | None = None


@dataclass(frozen=True)
class Kept:
    """What is saved in place of a tensor: `kept`, a tensor or None, and how to get it back."""

    how: Packed | ShapeOnly | HardUnit | torch.dtype
    kept: Tensor | None
    layout: Layout
    version: int = 0


@dataclass
class Call:
    """A module whose forward pass is under way, its input, and whether codes were saved in place of that."""

    module: nn.Module
    given: Tensor
    coded: bool = False


class Saver:
    """What autograd calls for every tensor that it saves, and for each that it needs again."""

    def __init__(self) -> None:
        # By address, which is not used again while the weak reference lives.
        self.outputs: dict[int, Output] = {}
        # Of each thread: nn.DataParallel runs copies of a model side by side.
        self._running = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Saver":
        """Itself: a model that is copied inside brings its hooks along, and a copied weak reference is freed twice."""
        return self

    @property
    def calls(self) -> list[Call]:
        """The forward passes under way in this thread, the innermost last."""
        if not hasattr(self._running, "calls"):
            self._running.calls = []
        return self._running.calls

    def enter(self, module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Any]) -> None:
        """Called before the forward pass of a threshold or of what hands its outputs on."""
        self.calls.append(Call(module, first_input(arguments, keywords).detach()))

    def leave(self, module: nn.Module, arguments: tuple[Tensor, ...], keywords: dict[str, Any], h: Any) -> None:
        """Called after it."""
        call = self.calls.pop()
        if not isinstance(h, Tensor) or _elements(h) is None:
            return
        if isinstance(module, HardUnit):
            if call.coded:
                self._note(h, module, None)
            elif call.given.stride() == h.stride() and _elements(call.given) is not None:
                self._note(h, module, call.given)
        else:
            found = self._output(call.given)
            if found is not None and found.z is None and not _share(h, call.given):
                self._note(h, found.module, None)

    def _note(self, h: Tensor, module: HardUnit, z: Tensor | None) -> None:
        storage = StorageWeakRef(h.untyped_storage())
        self.outputs[storage.cdata] = Output(storage, h._version, module, z)

    def _output(self, tensor: Tensor) -> Output | None:
        found = self.outputs.get(tensor.untyped_storage()._cdata)
        return found if found is not None and found.version == tensor._version else None

    def pack(self, saved: Tensor) -> Tensor | Kept:
        """What is kept for `saved`."""
        layout = saved.size(), saved.stride(), int(saved.storage_offset())
        call = self.calls[-1] if self.calls else None
        if call is not None and isinstance(call.module, POOLS) and saved.device.type in INDEXED:
            if _share(saved, call.given):
                return Kept(ShapeOnly(saved.dtype, saved.device), None, layout)
            if saved.dtype == torch.int64:
                sides = call.given.size()[-next(n for kind, n in DIMENSIONS.items() if isinstance(call.module, kind)) :]
                small = torch.int16 if sides.numel() <= MAX_INT16 else torch.int32
                return Kept(torch.int64, saved.to(small), layout)
        if call is not None and isinstance(call.module, HardThreshold) and _share(saved, call.given):
            codes = _codes(call.module, saved)
            if codes is not None:
                call.coded = True
                return Kept(codes, codes.kept, layout)
        found = self._output(saved)
        if found is None:
            return saved
        if found.z is not None:
            return Kept(found.module, found.z, layout, found.z._version)
        if found.bits is None:
            assert isinstance(found.module, HardThreshold)
            values = torch.tensor([found.module.low, 1], dtype=saved.dtype, device=saved.device)
            count = saved.untyped_storage().size() // saved.itemsize
            found.bits = pack_bits(saved.detach().as_strided((count,), (1,), 0) > 0, values)
        return Kept(found.bits, found.bits.kept, layout)

    def unpack(self, kept: Tensor | Kept) -> Tensor:
        """The saved tensor."""
        if isinstance(kept, Tensor):
            return kept
        if isinstance(kept.how, ShapeOnly):
            return kept.how.unpacked(kept.layout)
        if isinstance(kept.how, Packed):
            return kept.how.unpacked(kept.layout)
        assert kept.kept is not None
        if isinstance(kept.how, torch.dtype):
            return kept.kept.to(kept.how)
        if kept.kept._version != kept.version:
            raise NotAcceptedError(
                "a threshold's pre-activations",
                "a tensor that was changed in place before backward",
                "one that stays as it was",
                "Replace the operation in place, or do without compact().",
            )
        with torch.no_grad():
            return kept.how.activate(kept.kept).as_strided(*kept.layout)


def _share(one: Tensor, other: Tensor) -> bool:
    """Whether they lie on one storage."""
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def _elements(tensor: Tensor) -> Tensor | None:
    """All elements of the storage, `(n,)`, if it holds those of `tensor` and no more; else None."""
    count = tensor.untyped_storage().size() // max(1, tensor.itemsize)
    return tensor.detach().as_strided((count,), (1,), 0) if count == tensor.numel() and count else None


def _codes(module: HardUnit, z: Tensor) -> Packed | None:
    """In which of four intervals each z of a threshold lies, where its rule needs no more; None: it does, or z has NaN.

    The values that stand for the intervals have the signs of z, and the rule gives for them what it gives for z.
    """
    if not isinstance(module, HardThreshold) or module.width_mode != "fixed" or not isinstance(module.rule, str):
        return None
    elements = _elements(z)
    if elements is None:
        return None
    u = elements if module._width is None else elements / module._width
    if module.rule in ("saturated-ste", "saturated-hinge"):
        parts = (u >= -1, u >= 0, u > 1)
    elif module.rule == "hinge":
        parts = (u > -1, u >= 0, u >= 1)
    elif module.rule in ("perceptron", "ste"):
        parts = (u >= 0, u > 0, u > 0)
    else:
        return None
    if bool(u.sum().isnan()):
        return None
    middle = 0.0 if module.rule in ("perceptron", "ste") else -0.5
    values = torch.tensor([-2.0, middle, 0.5, 2.0], dtype=z.dtype, device=z.device)
    if module._width is not None:
        values = values * module._width
    codes = parts[0].view(torch.uint8) + parts[1].view(torch.uint8) + parts[2].view(torch.uint8)
    return pack_pairs(codes, values.to(z.dtype))
