"""A copy of a model that does once more, sample by sample, what the model did in one recorded forward pass."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.passes._recording import Recording, unwrap
from tpsolve.thresholds._base import first_input


class Given(nn.Module):
    """Stands where a threshold or a dropout was; what it returns is given from outside.

    `value`: the output of the threshold, or what the dropout multiplies with. `seen`: the last input.
    """

    def __init__(self, multiplies: bool) -> None:
        super().__init__()
        self.multiplies = multiplies
        self.value: Tensor | None = None
        self.seen: Tensor | None = None

    def forward(self, *arguments: Tensor, **keywords: Tensor) -> Tensor:
        """`value`, or the input z times `value`."""
        self.seen = z = first_input(arguments, keywords)
        assert self.value is not None
        value = self.value.to(z.dtype) if self.multiplies else self.value
        return z * value if self.multiplies else value

    def forget(self) -> None:
        """Keep nothing of the last call."""
        self.value = self.seen = None


def freeze(model: nn.Module, recording: Recording, hold: bool = True) -> tuple[nn.Module, dict[str, Tensor]]:
    """The copy, and what its `Given` modules are given `(B, ...)`, by name.

    Batch norm keeps the statistics of the recorded batch, dropout its mask, and with `hold` each
    threshold its output. What is narrower than float32 is widened.

    Raises:
        NotAcceptedError: the output of a threshold was changed in place, a batch norm in training or a dropout
            was called twice, or the model can't be copied.
    """
    for name, module in recording.twice.items():
        raise NotAcceptedError(
            f"model.{name}",
            f"one {type(module).__name__} that is used twice in a forward pass",
            "a module of its own for each place",
            f"Write a further {type(module).__name__}.",
        )
    for name, call in recording.calls.items():
        if call.h._version != call.version:
            raise NotAcceptedError(
                f"model.{name}",
                "an output that was changed in place after the call",
                "one that stays as it was",
                "Write out = out + x for out += x, and inplace=False in the module above.",
            )
    inner = unwrap(model)
    frozen = copied(inner).eval().requires_grad_(False)
    if any(widened(value) is not value for value in frozen.parameters()):
        frozen.float()
    for name, x in recording.norms.items():
        norm = frozen.get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        others = [axis for axis in range(x.dim()) if axis != 1]
        x = widened(x)
        norm.running_mean = x.mean(others)
        norm.running_var = x.var(others, correction=0)
    given = {name: widened(call.h.detach()) for name, call in recording.calls.items()} if hold else {}
    masks = {name: _mask(inner.get_submodule(name), *kept) for name, kept in recording.dropouts.items()}
    for name in (*given, *masks):
        parent, _, leaf = name.rpartition(".")
        setattr(frozen.get_submodule(parent), leaf, Given(multiplies=name in masks))
    return frozen, given | masks


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


def _mask(dropout: nn.Module, x: Tensor, state: Tensor) -> Tensor:
    """What the dropout multiplied `x` by: its draw depends only on shape and random state."""
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        if x.device.type == "cuda":
            torch.cuda.set_rng_state(state, x.device)
        else:
            torch.set_rng_state(state)
        return dropout(torch.ones_like(widened(x)))


def widened(tensor: Tensor) -> Tensor:
    """As float32 where it is a narrower floating-point one: a frozen copy runs without autocast."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
