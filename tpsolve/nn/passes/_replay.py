"""Checks that a frozen copy, or a part of it, does once more what the model did in the recorded pass."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.passes._frozen import Given, freeze, widened
from tpsolve.nn.passes._recording import Call, Recording, unwrap
from tpsolve.nn.passes._segments import OUTPUT, Segment

OTHERWISE = "whose copy in eval mode does not give what they gave in this pass"
ALLOWED = "only batch norm and nn.Dropout to act on this pass alone"
MEND = "Write dropout as nn.Dropout modules and draw nothing else at random"


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
                f"modules between it and {above} {OTHERWISE}",
                ALLOWED,
                f"{MEND}, or let SignGradient() set these targets.",
            )


def check_whole(model: nn.Module, recording: Recording, x: Tensor, output: Tensor) -> None:
    """Run a frozen copy of `model`, with all thresholds held, on its inputs and on half of them, against the record.

    Raises:
        NotAcceptedError: they differ by more than rounding, or there is no such copy.
    """
    frozen, given = freeze(model, recording)
    held: dict[str, Given] = {}
    for name in given:
        place = frozen.get_submodule(name)
        assert isinstance(place, Given)
        held[name] = place
    for count in dict.fromkeys((len(x), max(1, len(x) // 2))):
        for name, value in given.items():
            held[name].value = value[:count]
        try:
            with torch.no_grad():
                found: Tensor | None = frozen(widened(x)[:count])
        except RuntimeError:
            if count == len(x):
                raise
            found = None
        reads = [(f"model.{name}", held[name].seen, call.z[:count]) for name, call in recording.calls.items()]
        for name, seen, recorded in [*reads, ("the output", found, output.detach()[:count])]:
            if seen is not None and _agree(seen, recorded):
                continue
            if count == len(x):
                raise NotAcceptedError(
                    "model", f"modules below {name} {OTHERWISE}", ALLOWED, f"{MEND}, or call eval()."
                )
            mixing = f"modules below {name} that do something else with half of the batch"
            raise NotAcceptedError("model", mixing, "samples that don't meet, along the first axis of every tensor")


def _agree(found: Tensor, recorded: Tensor) -> bool:
    """Whether they are equal up to rounding in the dtype of `recorded`, in the samples that are finite there.

    A hundredth of how far the samples lie apart passes too: what all share, such as a large bias, must not
    hide what differs.
    """
    if found.shape != recorded.shape:
        return False
    finite = torch.isfinite(recorded).reshape(len(recorded), -1).all(1)
    eps = torch.finfo(recorded.dtype).eps
    if recorded.is_cuda:
        # Products there may be rounded to TF32.
        eps = max(eps, 2**-11)
    found, recorded = found[finite], widened(recorded[finite])
    apart = recorded - recorded.mean(0) if len(recorded) > 1 else recorded
    return bool((found - recorded).norm() <= 1e-2 * apart.norm() + 16 * eps * recorded.norm())
