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
from tpsolve.thresholds._packed import Interval, Layout, Packed, ShapeOnly

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
    of few slopes (all but "soft-hinge", "logistic", "ramp" and one of your own) needs one bit of z beside its sign, so
    that two bits are kept instead of z and h, also behind the modules `nn.MaxPool2d` and `nn.Flatten`. Of the input of
    such a pooling only the shape is kept, and its indices in as few bytes as hold them.

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
        hooks.append(module.register_forward_hook(saver.leave, with_kwargs=True, always_call=True))
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

    how: Packed | Interval | ShapeOnly | HardUnit | torch.dtype
    kept: Tensor | None
    layout: Layout
    version: int = 0


@dataclass
class Call:
    """A module whose forward pass is under way, its input, and what is saved in place of that."""

    module: nn.Module
    given: Tensor
    saved: Interval | ShapeOnly | None = None


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
            if isinstance(module, HardThreshold) and module.is_fused(call.given):
                # It has saved one bit of each already. NaN can't be kept as a bit.
                if not bool(h.detach().sum().isnan()):
                    self._note(h, module, None)
            elif call.saved is not None:
                assert isinstance(module, HardThreshold)
                bits = _pack_outputs(h, module)
                self._note(h, module, None, bits)
                if isinstance(call.saved, Interval) and call.saved.signed:
                    call.saved.signs = Packed(bits.kept, (-1, 1, call.given.dtype), bits.count)
            elif call.given.stride() == h.stride() and _elements(call.given) is not None:
                self._note(h, module, call.given)
        else:
            found = self._output(call.given)
            if found is not None and found.z is None and not _share(h, call.given):
                self._note(h, found.module, None)

    def _note(self, h: Tensor, module: HardUnit, z: Tensor | None, bits: Packed | None = None) -> None:
        storage = StorageWeakRef(h.untyped_storage())
        self.outputs[storage.cdata] = Output(storage, h._version, module, z, bits)

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
            less = _interval(call.module, saved)
            if less is not None:
                call.saved = less
                return Kept(less, less.sizes.kept if isinstance(less, Interval) else None, layout)
        found = self._output(saved)
        if found is None:
            return saved
        if found.z is not None:
            return Kept(found.module, found.z, layout, found.z._version)
        if found.bits is None:
            assert isinstance(found.module, HardThreshold)
            found.bits = _pack_outputs(saved, found.module)
        return Kept(found.bits, found.bits.kept, layout)

    def unpack(self, kept: Tensor | Kept) -> Tensor:
        """The saved tensor."""
        if isinstance(kept, Tensor):
            return kept
        if isinstance(kept.how, Packed | Interval | ShapeOnly):
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


def _pack_outputs(h: Tensor, module: HardThreshold) -> Packed:
    """The storage of `h`, which holds outputs of the threshold; 1 is in it as 1, and the other value as 0."""
    count = h.untyped_storage().size() // h.itemsize
    return Packed.of(h.detach().as_strided((count,), (1,), 0), module.low)


def _interval(module: HardThreshold, z: Tensor) -> Interval | ShapeOnly | None:
    """What the rule of a threshold needs of its pre-activations; None: all of them, or there is NaN among them."""
    if module.width_mode != "fixed" or not isinstance(module.rule, str):
        return None
    if module._width is not None and module._width.dim():
        return None
    elements = _elements(z)
    if elements is None:
        return None
    width, rule = module._width, module.rule
    sums: list[Tensor] = []
    one = elements.new_ones(())

    def in_width(piece: Tensor) -> Tensor:
        # NaN is found in the sums. Comparisons take several times as long.
        sums.append(piece.sum())
        return piece if width is None else piece / width

    def between(piece: Tensor) -> Tensor:
        """1 strictly between the limits, else 0, as in the rules themselves."""
        u = in_width(piece)
        limit = 1.0 if rule == "hinge" else 1 + torch.finfo(u.dtype).eps
        return torch.ops.aten.hardtanh_backward(one, u, -limit, limit)

    def at_all(piece: Tensor) -> Tensor:
        return in_width(piece).sign().abs_()

    if rule == "ste":
        return None if bool(elements.sum().isnan()) else ShapeOnly(z.dtype, z.device)
    if rule not in ("saturated-ste", "saturated-hinge", "hinge", "perceptron"):
        return None
    sizes = torch.tensor([0.0, 2.0] if rule == "perceptron" else [2.0, 0.5], dtype=z.dtype, device=z.device)
    if width is not None:
        sizes = (sizes * width).to(z.dtype)
    bits = Packed.made(at_all if rule == "perceptron" else between, elements, 0, sizes)
    if bool(torch.stack(sums).sum().isnan()):
        return None
    return Interval(bits, signed=not rule.startswith("saturated"))
