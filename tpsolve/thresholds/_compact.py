"""Save less for backward: a threshold's output is kept as the pre-activation from which it is computed anew."""

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
from tpsolve.thresholds._hard_unit import HardUnit


@contextmanager
def compact(model: nn.Module) -> Iterator["Saver"]:
    """Run the forward pass and the loss inside; backward may follow inside or outside.

    The layer above a threshold saves its output h, and the threshold saves z. That is twice the memory of a ReLU, which
    saves only h. Inside, z is saved in place of h, and h is computed from it once more when backward needs it.
    Gradients are the same to the last bit. It does nothing for what is no longer h itself, such as a flattened copy. It
    does nothing under `torch.compile` either, which decides by itself what to save.

    Raises:
        NotAcceptedError: the model has no thresholds and no choices.
    """
    saver = Saver()
    hooks = [module.register_forward_hook(saver.note, with_kwargs=True) for module in find_hard_units(model).values()]
    try:
        with saved_tensors_hooks(saver.pack, saver.unpack):
            yield saver
    finally:
        for hook in hooks:
            hook.remove()
        saver.outputs.clear()


@dataclass(frozen=True)
class Recomputed:
    """A tensor on the storage of a threshold's output, as (size, stride, offset) and what it is computed from."""

    module: HardUnit
    z: Tensor
    version: int
    layout: tuple[Any, ...]


class Saver:
    """What autograd calls for every tensor that it saves, and for each that it needs again."""

    def __init__(self) -> None:
        # By address, which is not used again while the weak reference lives.
        self.outputs: dict[int, tuple[StorageWeakRef, HardUnit, Tensor, int]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Saver":
        """Itself: a model that is copied inside brings its hooks along, and a copied weak reference is freed twice."""
        return self

    def note(self, module: HardUnit, arguments: tuple[Tensor, ...], keywords: dict[str, Any], h: Tensor) -> None:
        """Called after a threshold's forward pass."""
        z = first_input(arguments, keywords).detach()
        if z.stride() == h.stride() and z.numel() == h.untyped_storage().size() // max(1, h.itemsize):
            reference = StorageWeakRef(h.untyped_storage())
            self.outputs[reference.cdata] = (reference, module, z, h._version)

    def pack(self, saved: Tensor) -> Tensor | Recomputed:
        """What is kept for `saved`."""
        found = self.outputs.get(saved.untyped_storage()._cdata)
        if found is None or saved._version != found[3]:
            return saved
        _, module, z, _ = found
        return Recomputed(module, z, z._version, (saved.size(), saved.stride(), saved.storage_offset()))

    def unpack(self, kept: Tensor | Recomputed) -> Tensor:
        """The saved tensor."""
        if isinstance(kept, Tensor):
            return kept
        if kept.z._version != kept.version:
            raise NotAcceptedError(
                "a threshold's pre-activations",
                "a tensor that was changed in place before backward",
                "one that stays as it was",
                "Replace the operation in place, or do without compact().",
            )
        with torch.no_grad():
            return kept.module.activate(kept.z).as_strided(*kept.layout)
