"""Checks that a frozen copy, or a part of it, does once more what the model did in the recorded pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.passes._draws import Draws
from tpsolve.nn.passes._frozen import freeze, widened
from tpsolve.nn.passes._nests import Inputs, Nest
from tpsolve.nn.passes._recording import Call, Recording, unwrap
from tpsolve.nn.passes._segments import OUTPUT, Segment
from tpsolve.nn.passes._sharded import is_sharded

OTHERWISE = "whose copy does not give what they gave in this pass"
ALLOWED = "modules that act on this pass alone only by batch norm and by draws of torch's generators"
MEND = "Draw at random by functions of torch, along the samples"
ROUNDINGS = 16
"""Of how many epsilons of its dtype what is computed once more may be off."""
SHARE = 1e-2
"""By what share of how far samples lie apart it may be off."""


def find_segment(
    name: str, segments: Iterable[Segment], model: nn.Module, recording: Recording, output: Tensor
) -> Segment:
    """The first segment above the call `name` that does once more what was recorded above it.

    A block that raises in all of `segments` is passed over here: it may do so for a few samples, which a search leaves
    out. So is a linear map, where no hook could come between it and what was recorded.

    Args:
        model: what ran.
        recording: of that pass.
        output: of the model in the recorded pass, `(B, ...)`.

    Raises:
        NotAcceptedError: they differ by more than rounding.
    """
    segment, differing, calls = None, None, recording.calls
    for segment in segments:
        hooks = [calls[sink].module._forward_pre_hooks for sink in segment.sinks if sink != OUTPUT]
        if segment.linear is not None and not any((*hooks, model._forward_hooks, unwrap(model)._forward_hooks)):
            return segment
        try:
            differing = _first_difference(calls[name], segment, model, recording, output)
        except Exception:  # The user's modules may raise anything, and the search itself finds the samples to blame.
            if any(calls[one].places for one in (name, *segment.sinks) if one in calls):
                differing = next((sink for sink in segment.sinks if sink == OUTPUT or calls[sink].places), OUTPUT)
            continue
        if differing is None:
            return segment
    assert segment is not None
    if differing is not None and (
        split := [one for one in (name, *segment.sinks) if one in calls and calls[one].places]
    ):
        call = calls[split[0]]
        raise NotAcceptedError(
            f"model.{call.name}",
            f"pre-activations of shape {tuple(call.joined(call.z).shape)}, where a copy does not find {call.places} "
            f"places of each sample side by side",
            f"({len(call.h)}, ...), the samples along the first axis",
            f"{MEND}, pass *one_sample(model, x, y, loss_fn) if samples meet, or let SignGradient() set these targets.",
        )
    if differing is not None:
        above = "the output" if differing == OUTPUT else f"model.{differing}"
        raise NotAcceptedError(
            f"model.{name}",
            f"modules between it and {above} {OTHERWISE}",
            ALLOWED,
            f"{MEND}, or let SignGradient() set these targets.",
        )
    return segment


def _first_difference(
    call: Call, segment: Segment, model: nn.Module, recording: Recording, output: Tensor
) -> str | None:
    """The first sink that reads something else than was recorded; None: all agree."""
    h, calls = call.h, recording.calls
    # The draws of half of the samples are theirs only if they lie along the samples; so it is with places side by side.
    split = any(calls[sink].places for sink in segment.sinks if sink != OUTPUT)
    for count in dict.fromkeys((len(h), max(1, len(h) // 2) if segment.draws or split or call.places else len(h))):
        with torch.no_grad():
            again = segment.block(widened(h[:count]).clone(), *(part[:count] for part in segment.context))
        for sink, found in zip(segment.sinks, again, strict=True):
            recorded = (output if sink == OUTPUT else calls[sink].z)[:count]
            if not _agree(found, recorded, lambda: noise_of_norms(model, recording)):
                return sink
    return None


def check_whole(model: nn.Module, recording: Recording, inputs: Inputs, output: Tensor, outputs: Nest | None) -> None:
    """Run a frozen copy of `model`, with all thresholds held, on its inputs and on half of them, against the record.

    Raises:
        NotAcceptedError: they differ by more than rounding, or there is no such copy.
    """
    frozen, samples, x = freeze(model, recording, inputs, outputs), len(output), tuple(map(widened, inputs.tensors))
    draws = Draws.of(frozen.find_draws(x), samples)
    for count in dict.fromkeys((samples, max(1, samples // 2))):
        given = {name: value[:count] for name, value in frozen.given.items()}
        seen: dict[str, Tensor] = {}
        found, raised = None, ""
        try:
            with torch.no_grad(), draws.held([draw[:count] for draw in draws.context]):
                found, seen = frozen.run([tensor[:count] for tensor in x], given)
        except Exception as error:  # Whatever the user's modules raise.
            raised = f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        reads = [(f"model.{name}", seen.get(name), call.z[:count]) for name, call in recording.calls.items()]
        for name, again, recorded in [*reads, ("the output", found, output.detach()[:count])]:
            if again is not None and _agree(again, recorded, lambda: noise_of_norms(model, recording)):
                continue
            if count == samples:
                raise NotAcceptedError(
                    "model", f"modules below {name} {OTHERWISE}{raised}", ALLOWED, f"{MEND}, or call eval()."
                )
            mixing = f"modules below {name} that do something else with half of the batch{raised}"
            raise NotAcceptedError("model", mixing, "samples that don't meet, along the first axis of every tensor")


def noise_of_norms(model: nn.Module, recording: Recording) -> float:
    """By how much rounding may move a number that a batch norm gave in the recorded pass; 0 where there was none.

    Maxima of spins, for example, make channels that are constant in all or most samples. What a batch norm makes of
    them is rounding, divided by a small deviation. At most a hundredth of the norm's weight counts, its outputs being
    of size 1 before that. Weights that are spread over processes count as 1.
    """
    largest, sharded = 0.0, is_sharded(model)
    for name, read in recording.norms.items():
        norm = unwrap(model).get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        for x in read:
            rounding, x = ROUNDINGS * _epsilon(x), widened(x).detach()
            others = [axis for axis in range(x.dim()) if axis != 1]
            noise = rounding * x.abs().amax(others) / (x.var(others, correction=0) + norm.eps).sqrt()
            noise = noise.clamp(max=SHARE)
            if norm.weight is not None and not sharded:
                noise = noise * norm.weight.detach().abs()
            largest = max(largest, float(noise.nan_to_num(posinf=SHARE).max()))
    return largest


def _agree(found: Tensor, recorded: Tensor, noise: Callable[[], float]) -> bool:
    """Whether they are equal up to rounding in the dtype of `recorded`, in the samples that are finite there.

    A hundredth of how far the samples lie apart passes too: what all share, such as a large bias, must not
    hide what differs. So does what `noise` says of each number, which is asked only if the rest does not pass.
    """
    if found.shape != recorded.shape:
        return False
    finite = torch.isfinite(recorded).reshape(len(recorded), -1).all(1)
    eps = _epsilon(recorded)
    found, recorded = found[finite], widened(recorded[finite])
    apart = recorded - recorded.mean(0) if len(recorded) > 1 else recorded
    off, room = (found - recorded).norm(), SHARE * apart.norm() + ROUNDINGS * eps * recorded.norm()
    return bool(off <= room) or bool(off <= room + noise() * recorded.numel() ** 0.5)


def _epsilon(tensor: Tensor) -> float:
    eps = torch.finfo(tensor.dtype).eps
    # Products on a GPU may be rounded to TF32.
    return max(eps, 2**-11) if tensor.is_cuda else eps
