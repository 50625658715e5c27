"""The random draws of one forward pass: found by running it once more from its random state, then held."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tpsolve.errors import NotAcceptedError

RRELU = "rrelu_with_noise"
"""Name of torch's operation, which draws a slope for each negative input."""


class _Order(threading.local):
    """How many modules that are running in this thread have time before the samples."""

    time_first = 0


ORDER = _Order()


def time_first_begins(module: nn.Module, arguments: object) -> None:
    """A pre-hook for `nn.LSTM` and its kin: what they draw is `(time, B, ...)`, whatever `batch_first` is."""
    ORDER.time_first += 1


def time_first_ends(module: nn.Module, arguments: object, output: object) -> None:
    """The hook that goes with it."""
    ORDER.time_first -= 1


def _samples_first(draw: Tensor) -> Tensor:
    return draw.transpose(0, 1) if ORDER.time_first and draw.dim() > 2 else draw


def _as_drawn(value: Tensor, shape: torch.Size) -> Tensor:
    """The inverse, of any split of the first axis."""
    if not ORDER.time_first or len(shape) < 3:
        return value.reshape(shape)
    time, samples, *rest = shape
    return value.reshape(samples, time, *rest).transpose(0, 1)


RandomState = tuple[Tensor, Tensor | None]
"""Of torch's global generator on the CPU, and of the present CUDA device where one is in use."""


def random_state() -> RandomState:
    """The state now."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None


def has_drawn(before: RandomState, after: RandomState) -> bool:
    """Whether anything was drawn between two states."""
    return any(
        then is not None and now is not None and not torch.equal(then, now)
        for then, now in zip(before, after, strict=True)
    )


@contextmanager
def restored(state: RandomState | None) -> Iterator[None]:
    """Draw from `state` on, or from where the generators are, and leave them as they were before."""
    cpu, cuda = state or (None, None)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        if cpu is not None:
            torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        yield


class Note(TorchDispatchMode):
    """While it lasts, notes what the operations of torch draw at random, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Tensor | None] = []
        """None for an operation that could draw and did not, such as attention without dropout."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        if RRELU in func._schema.name:
            negative, mean = args[0] <= 0, (args[2] + args[3]) / 2
            result = func(*args, **(kwargs or {}))
            # Only what was negative has drawn its slope; all else gets the one of evaluation.
            self.draws.append(torch.where(negative, args[1], mean) if args[4] else None)
            return result
        before = random_state()
        result = func(*args, **(kwargs or {}))
        if not has_drawn(before, random_state()):
            self.draws.append(None)
        elif func is torch.ops.aten.native_dropout.default:
            self.draws.append(_samples_first(result[1]).clone())
        elif isinstance(result, Tensor) and not _reads(func, args):
            self.draws.append(_samples_first(result.detach()).clone())
        else:
            raise NotAcceptedError(
                "model", f"{func} at random", "draws that can be held, such as those of dropout", "Call eval()."
            )
        return result


class Hold(TorchDispatchMode):
    """While it lasts, what would be drawn at random is given: `draws`, in the order of the calls."""

    def __init__(self, draws: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.left = iter(draws)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        # Another order of calls than in the pass: the check of a replay finds out.
        value = next(self.left, None)
        if value is None:
            return func(*args, **(kwargs or {}))
        if func is torch.ops.aten.native_dropout.default:
            x, p, _ = args
            mask = _as_drawn(value, x.shape)
            return x * mask.to(x.dtype) / (1 - p), mask.bool()
        if RRELU in func._schema.name:
            x, noise = args[0], args[1]
            # What backward reads.
            noise.copy_(torch.where(x <= 0, value.reshape(x.shape).to(x.dtype), 1))
            return x.mul_(noise) if func._schema.name.endswith("_") else x * noise
        if func._schema.is_mutable:
            return args[0].copy_(_as_drawn(value, args[0].shape))
        return value.reshape(-1, *value.shape[2:])


def _reads(func: Any, args: Sequence[Any]) -> bool:
    """Whether the result depends on the entries of an input, so that a draw is not all of it."""
    name = func._schema.name
    return any(part in name for part in ("attention", "dropout"))


def _by_sample(draw: Tensor, samples: int) -> Tensor | None:
    """The draw as `(B, k, ...)`, where its first axis has k entries for each of the samples; None: it has not."""
    if draw.dim() == 0 or len(draw) % samples:
        return None
    return draw.reshape(samples, -1, *draw.shape[1:])


@dataclass
class Draws:
    """What is drawn at random in a block, in the order of the calls.

    Args:
        all: the draws; None for a call that drew nothing, or for a draw that comes from the context.
        of_samples: places of the latter in `all`.
        context: these draws, `(B, k, ...)` each.
    """

    all: list[Tensor | None]
    of_samples: list[int]
    context: list[Tensor]

    @staticmethod
    def of(draws: list[Tensor | None], samples: int) -> "Draws":
        """Those of a pass of this many samples."""
        split = {
            at: own
            for at, draw in enumerate(draws)
            if draw is not None and (own := _by_sample(draw, samples)) is not None
        }
        rest = [None if at in split else draw for at, draw in enumerate(draws)]
        return Draws(rest, list(split), list(split.values()))

    def held(self, context: Sequence[Tensor]) -> AbstractContextManager[Any]:
        """Within it they are drawn, those of the samples from `context`."""
        if not self.all:
            return nullcontext()
        draws = list(self.all)
        for at, draw in zip(self.of_samples, context, strict=True):
            draws[at] = draw
        return Hold(draws)
