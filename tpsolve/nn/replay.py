"""A check that a part of a frozen copy does once more what the model did in the recorded pass."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.frozen import widened
from tpsolve.nn.recording import Call, unwrap
from tpsolve.nn.segments import OUTPUT, Segment


def check_replay(name: str, segment: Segment, model: nn.Module, calls: Mapping[str, Call], output: Tensor) -> None:
    """Run the segment above the threshold `name` at its recorded activations, against what was recorded above it.

    A block that raises is passed over here: it may do so for a few samples, which a search leaves out. So is
    a linear map, where no hook could come between it and what was recorded.

    Args:
        model: what ran.
        calls: of all thresholds.
        output: of the model in the recorded pass, `(B, ...)`.

    Raises:
        NotAcceptedError: they differ by more than rounding.
    """
    hooks = [calls[sink].module._forward_pre_hooks for sink in segment.sinks if sink != OUTPUT]
    if segment.linear is not None and not any((*hooks, model._forward_hooks, unwrap(model)._forward_hooks)):
        return
    try:
        with torch.no_grad():
            again = segment.block(widened(calls[name].h.detach()).clone(), *segment.context)
    except Exception:  # The user's modules may raise anything, and the search itself finds the samples to blame.
        return
    for sink, found in zip(segment.sinks, again, strict=True):
        recorded = output if sink == OUTPUT else calls[sink].z
        if not _agree(found, recorded):
            above = "the output" if sink == OUTPUT else f"model.{sink}"
            raise NotAcceptedError(
                f"model.{name}",
                f"modules between it and {above} whose copy in eval mode does not give what they gave in this pass",
                "only batch norm and nn.Dropout to act on this pass alone",
                "Write dropout as nn.Dropout modules and draw nothing else at random, "
                "or let SignGradient() set these targets.",
            )


def _agree(found: Tensor, recorded: Tensor) -> bool:
    """Whether they are equal up to rounding in the dtype of `recorded`, in the samples that are finite there."""
    if found.shape != recorded.shape:
        return False
    finite = torch.isfinite(recorded).flatten(1).all(1)
    tolerance = max(1e-2, 16 * torch.finfo(recorded.dtype).eps)
    found, recorded = found[finite], widened(recorded[finite])
    return bool((found - recorded).norm() <= tolerance * recorded.norm())
