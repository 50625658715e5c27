"""The block target problem: which outputs of a layer serve the module above best?"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from os import PathLike
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from tpsolve._check_arguments import check_count, check_device, check_shape, check_tensor, check_values, own
from tpsolve._plain import is_real, plain_array
from tpsolve._storage._archive import digest
from tpsolve.errors import (
    ArgumentError,
    BlockError,
    DeviceError,
    NotAcceptedError,
    ShapeError,
    UnknownNameError,
    ValueSetError,
)
from tpsolve.losses import ClassLoss, Loss, find_loss
from tpsolve.problems._base import FlipProblem
from tpsolve.problems._broadcast_checks import check_stay, check_targets, check_weight
from tpsolve.problems._meter import Meter
from tpsolve.problems.block._block_check import check_block, check_mode, first_output, tolerance, trying
from tpsolve.problems.block._block_passes import BlockLoss, Passes
from tpsolve.problems.block._block_state import BlockState
from tpsolve.problems.block._convolution import Convolution
from tpsolve.problems.block._convolution_state import ConvolutionState
from tpsolve.problems.block._deep_copied import deep_copied


class BlockProblem(FlipProblem):
    """For every sample of a batch, find t in {-1, +1}^n, shaped as an activation, that minimises

        E(t) = loss(block(t), targets) + stay sum_j kappa_j [t_j != a_j]

    where the block is any torch module that treats each sample by itself: convolutions, batch norm with
    frozen statistics, pooling, residual branches, several layers. E is computed by forward passes.

    Args:
        block: takes `(b, *shape)`, returns `(b, ...)`. A copy of it is kept, so that later training of
            the module does not change the problem.
        targets: what the loss compares the output with. For a layer loss {-1, 0, +1}, shaped as the
            output, 0 = don't care; for the cross-entropy class labels `(B,)`; for a loss of your own
            any tensor `(B, ...)`.
        start: a, the current activations `(B, *shape)` in {-1, +1}.
        loss: a name of `tpsolve.losses.LOSSES`, of which a layer loss is summed over the output; or a
            function (output, targets) -> `(b,)`, of which nothing is known.
        unit_weight: not negative; broadcast to the output's shape for a layer loss, to `(B,)` for the
            cross-entropy. By default 1. A loss of your own has its weights in itself.
        stay: cost of leaving an activation, not negative.
        stay_weight: kappa, not negative, broadcast to `(B, *shape)`. By default 1.
        smoothing: share of a class label that goes to all classes alike, as torch's `label_smoothing`, in [0, 1];
            for the cross-entropy.
        context: further inputs of the block that do not depend on t, `(B, ...)` each, passed after it.
        candidates: how many flips of a sample a search tries by forward passes at each step; all, where n is no
            larger.
        ranking: what chooses them, "gradient" or "curvature": the predicted change to first or second
            order. The second costs a forward and 8 backward passes more a step, 16 with a loss of your own.
        max_bytes: the maximum memory that the tensors of one forward pass may take; larger batches are chunked.
        check: whether to try the block on a few samples first. Without this check, a block that is random or
            mixes samples gives wrong objectives, and nothing says so.

    A copy of the block computes the objective in float64. Where the module can't be copied to float64, it
    computes in its own dtype (`judge_dtype` says which), and `rounding` is larger. A sample whose forward
    pass raises, or gives NaN, has the objective +inf. The other samples are not affected.

    The problem can be pickled if its block can and its loss has a name or is a function of a module. For a
    lambda take cloudpickle.

    Raises:
        BlockError: the block is in training mode, keeps state, is random, mixes samples, changes shape
            with the batch, can't be copied, or fails on every sample.
        ArgumentError: another argument makes no sense; the message names it and the cure.
    """

    loss: str | BlockLoss
    smoothing: float
    targets: Tensor
    start: Tensor
    unit_weight: Tensor | None
    stay: float
    stay_weight: Tensor | None
    context: tuple[Tensor, ...]
    candidates: int
    max_bytes: int
    shape: tuple[int, ...]
    n_vars: int
    batch_shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype
    judge_dtype: torch.dtype

    def __init__(
        self,
        block: nn.Module,
        targets: Any,
        start: Any,
        loss: str | BlockLoss = "cross-entropy",
        unit_weight: Any = None,
        stay: float = 0.0,
        stay_weight: Any = None,
        *,
        smoothing: float = 0.0,
        context: Sequence[Tensor] = (),
        candidates: int = 32,
        ranking: str = "gradient",
        max_bytes: int = 2**28,
        check: bool = True,
    ) -> None:
        if not isinstance(block, nn.Module):
            raise ArgumentError("block", type(block).__name__, "a torch.nn.Module")
        if not isinstance(loss, str) and not callable(loss):
            raise ArgumentError("loss", type(loss).__name__, "a name, or a function of (output, targets)")
        check_count("candidates", candidates, 1)
        check_count("max_bytes", max_bytes, 1)
        if ranking not in RANKINGS:
            raise UnknownNameError("ranking", str(ranking), RANKINGS)
        self.smoothing = _smoothing(smoothing, loss)
        self.loss, self.candidates, self.ranking, self.max_bytes = loss, candidates, ranking, max_bytes
        targets, unit_weight, stay_weight = own(targets), own(unit_weight), own(stay_weight)
        given, start = start, check_tensor("start", own(start))
        check_values("start", start, (-1, 1), given=given)
        if start.dim() < 2 or 0 in start.shape:
            raise ShapeError("start", f"shape {tuple(start.shape)}", "(samples, ...), with at least one target each")
        self.device, self.shape = start.device, tuple(start.shape[1:])
        self.n_vars = start[0].numel()
        self.batch_shape = (len(start),)
        self.dtype = _dtype(block, start)
        self.start = start.to(self.dtype)
        _check_devices(block, self.device)
        self.context = tuple(self._per_sample(f"context[{i}]", own(part)) for i, part in enumerate(context))
        self.stay = check_stay(stay, self.start)
        self.stay_weight = check_weight("stay_weight", stay_weight, tuple(start.shape), self.device, self.dtype)
        self.targets = self._check_targets(targets)
        check_mode(block)
        self._copies = _copies(block, self.dtype)
        self.unit_weight, self._chunks = None, dict.fromkeys(self._copies, 1)
        self.judge_dtype, output = self._find_judge()
        self._check_output(output)
        if check:
            check_block(self._passes(self.judge_dtype), self._flat(self.start).to(self.judge_dtype))
        self.unit_weight = self._check_unit_weight(unit_weight)
        self._chunks = self._find_chunks()

    @property
    def target_shape(self) -> tuple[int, ...]:
        """That of an activation; `(n,)` once the problem is flat."""
        return tuple(self.start.shape[1:])

    @cached_property
    def passes(self) -> Passes:
        """Forward passes in the problem's dtype, in which searches run."""
        return self._passes(self.dtype)

    @cached_property
    def judge(self) -> Passes:
        """Forward passes in `judge_dtype`."""
        return self._passes(self.judge_dtype)

    def objective(self, targets: Tensor) -> Tensor:
        """E, `(..., B)` float64, of `targets (..., B, *target_shape)` in {-1, +1}; +inf where a pass fails.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        check_targets(targets, (*self.batch_shape, *self.target_shape), self.device)
        lead = targets.shape[: targets.dim() - 1 - len(self.target_shape)]
        values = self.judge.objective(targets.reshape(-1, self.n_vars).to(self.judge_dtype))
        return values.double().reshape((*lead, *self.batch_shape))

    def failures(self, targets: Tensor) -> dict[int, str]:
        failed = torch.isinf(self.objective(targets)).nonzero()[:, 0].tolist()
        flat = self._flat(targets).to(self.judge_dtype)
        return {row: self.judge.failure(flat[row], row) for row in failed}

    def gradient(self, at: Tensor | None = None) -> Tensor:
        """Coefficients g `(B, *target_shape)` of E linearised at the activations `at`, by default `start`.

        By one forward-backward pass. The stay penalty is linear in t and enters exactly. 0 where the
        pass fails, or where a step of the block has no gradient.
        """
        if self.meter is not None:
            self.meter.spend(2)
        h = self._flat(self.start if at is None else at).to(self.dtype)
        return self.passes.gradient(h).reshape((*self.batch_shape, *self.target_shape))

    def predicted_change(self, at: Tensor | None = None) -> Tensor:
        """Change of E if one activation were negated, to second order: -2 h g + 2 H_jj, `(B, *target_shape)`.

        g is the gradient of E in the activations h = `at`, by default `start`, and H the Gauss-Newton part
        of its Hessian, which leaves out the curvature of the block itself; the diagonal of H is
        estimated from 8 random directions, the same for all samples. The stay penalty enters exactly.
        0 where the pass fails.

        A loss of your own is differentiated twice. Where it is piecewise linear, its curvature is 0.

        Raises:
            NotAcceptedError: a loss of your own that can't be differentiated twice.
        """
        self._check_curvature()
        h = self._flat(self.start if at is None else at).to(self.dtype)
        shape = (*self.batch_shape, *self.target_shape)
        form = self.convolution
        if form is not None and form.exact_curvature and self._fits(form):
            state = ConvolutionState(form, self.passes, h, self.candidates, self.meter)
            return state.predicted_change().reshape(shape)
        if self.meter is not None:
            self.meter.spend(self.passes.curvature_passes)
        return self.passes.predicted_change(h).reshape(shape)

    @property
    def look_passes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One, and those that rank the flips where there are more than `candidates`."""
        if self.n_vars <= self.candidates:
            return 1
        if self.ranking == "curvature":
            return 1 + self.passes.curvature_passes
        return 2 if self.convolution is not None and self._fits(self.convolution) else 3

    @property
    def curvature_passes(self) -> int:
        """Passes of a sample that `predicted_change` takes."""
        form = self.convolution
        exact = form is not None and form.exact_curvature and self._fits(form)
        return 3 if exact else self.passes.curvature_passes

    def flip_delta(self, targets: Tensor) -> Tensor:
        """Change of E when each single target is negated: `(B, *target_shape)`, in the problem's dtype.

        All n are tried, by B n forward passes.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        shape = (*self.batch_shape, *self.target_shape)
        if tuple(targets.shape) != shape:
            raise ShapeError("targets", f"shape {tuple(targets.shape)}", f"{shape}, the batch alone")
        check_targets(targets, shape, self.device)
        flat = self._flat(targets).to(self.dtype)
        return self._state(flat, self.n_vars).flip_delta().reshape(shape)

    def lower_bound(self) -> Tensor:
        """0, `(B,)`, for the losses of `LOSSES`, which are never negative; -inf for a loss of your own."""
        least = -torch.inf if callable(self.loss) else 0.0
        return torch.full(self.batch_shape, least, device=self.device, dtype=torch.float64)

    def rounding(self) -> Tensor:
        """How far two evaluations of `objective` may differ, `(B,)`: what `check` lets pass.

        A module has no formula, so that nothing is proved of its distance from exact arithmetic: E is
        what the block computes in `judge_dtype`.
        """
        size = torch.where(torch.isfinite(self._at_start), self._at_start.abs(), 0.0)
        unit = torch.ones_like(size) if self.unit_weight is None else self.unit_weight.double().amax(self._own_axes)
        return tolerance(self.judge_dtype) * torch.maximum(size, unit)

    @property
    def _own_axes(self) -> tuple[int, ...]:
        """Axes of `unit_weight` other than that of the samples."""
        assert self.unit_weight is not None
        return tuple(range(1, self.unit_weight.dim()))

    @cached_property
    def _at_start(self) -> Tensor:
        # For its size alone, so that the quicker passes serve.
        return self.passes.objective(self._flat(self.start).to(self.dtype)).double()

    @cached_property
    def convolution(self) -> Convolution | None:
        """The convolution that the block is, of which flips are computed where they are felt; None: another block.

        One `nn.Conv2d` without groups and dilation, below layer losses, with frozen `nn.BatchNorm2d` and one
        `nn.MaxPool2d` or `nn.AvgPool2d` of windows side by side, or without these.
        """
        if callable(self.loss) or not isinstance(find_loss(self.loss), Loss):
            return None
        return Convolution.of(self._copies[self.dtype], self.shape)

    def state(self, targets: Tensor) -> BlockState | ConvolutionState:
        """The search state of `targets (B, n)` under single flips, of which `candidates` are tried.

        Below a `convolution` each flip is computed from the outputs that it reaches; else by forward passes.
        """
        if self.ranking == "curvature":
            self._check_curvature()
        return self._state(targets.to(self.dtype), self.candidates)

    def _state(self, targets: Tensor, candidates: int) -> BlockState | ConvolutionState:
        form = self.convolution
        ranked = self.ranking == "gradient" or self.n_vars <= candidates
        if form is not None and ranked and self._fits(form):
            return ConvolutionState(form, self.passes, targets, candidates, self.meter)
        return BlockState(self.passes, targets, candidates, self.ranking, self.meter)

    def _fits(self, form: Convolution) -> bool:
        """Whether what a state keeps of the convolution takes no more than `max_bytes`."""
        kept = 4 * math.prod(form.outputs) * form.weight.shape[0] * (math.prod(form.window) + len(form.chain.heads))
        return kept * len(self.start) * self.start.element_size() <= self.max_bytes

    def flatten(self) -> Self:
        return self._change(lambda tensor: tensor, self.meter)

    def select(self, keep: Tensor) -> Self:
        return self._change(lambda tensor: tensor[keep], None if self.meter is None else self.meter.select(keep))

    def repeat(self, copies: int) -> Self:
        meter = None if self.meter is None else self.meter.repeat(copies)
        return self._change(lambda tensor: tensor.repeat(copies, *[1] * (tensor.dim() - 1)), meter)

    def to(self, device: torch.device | str) -> Self:
        moved = self._change(lambda tensor: tensor.to(device), None)
        moved.start = moved.start.reshape((*self.batch_shape, *self.target_shape))
        moved._copies = {dtype: deep_copied(block).to(device) for dtype, block in self._copies.items()}
        moved.device = moved.start.device
        return moved

    def save(self, path: str | PathLike[str]) -> NoReturn:
        """Not possible: a module is code, which a file without pickle can't hold.

        Raises:
            NotAcceptedError: always; the message says what to keep instead.
        """
        raise NotAcceptedError(
            "problem",
            "a BlockProblem, whose module is code",
            "a LayerProblem",
            "Keep the code that builds the module, its state_dict() and the tensors; results can be saved.",
        )

    @property
    def fingerprint(self) -> str:
        """A hash of the numbers that define the problem and of the block's printed form; code is not in it."""
        loss = self.loss if isinstance(self.loss, str) else getattr(self.loss, "__qualname__", type(self.loss).__name__)
        tensors = {name: getattr(self, name) for name in _BATCHED}
        tensors |= {f"context[{i}]": part for i, part in enumerate(self.context)}
        tensors |= self._copies[self.dtype].state_dict()
        named = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
        smoothing = [self.smoothing] if self.smoothing else []
        return digest([loss, self.stay, repr(self._copies[self.dtype]), *smoothing], named)

    def __getstate__(self) -> dict[str, Any]:
        # What is computed from the rest is computed anew in every copy.
        return {name: value for name, value in vars(self).items() if name not in _COMPUTED}

    def __repr__(self) -> str:
        return (
            f"BlockProblem({type(self._copies[self.dtype]).__name__}, batch_shape={self.batch_shape}, "
            f"shape={self.shape}, loss={self.loss!r}, smoothing={self.smoothing}, stay={self.stay}, "
            f"candidates={self.candidates}, ranking={self.ranking!r}, "
            f"dtype={self.dtype}, judge_dtype={self.judge_dtype}, device={str(self.device)!r})"
        )

    def _facts(self) -> dict[str, object]:
        block = type(self._copies[self.dtype]).__name__
        loss = self.loss if isinstance(self.loss, str) else getattr(self.loss, "__qualname__", type(self.loss).__name__)
        more = {"module above": block, "shape of the targets": self.shape, "loss": loss, "stay": self.stay}
        return {**super()._facts(), **more, "flips": f"{self.candidates} ranked by {self.ranking}"}

    def _check_curvature(self) -> None:
        if callable(self.loss) and (why := self.passes.why_no_curvature(self._flat(self.start).to(self.dtype))):
            got = f"a loss whose second derivative raises ({why})"
            raise NotAcceptedError("problem", got, "one that can be differentiated twice, or a loss with a name")

    def _flat(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.n_vars)

    def _passes(self, dtype: torch.dtype) -> Passes:
        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(dtype) if tensor.is_floating_point() else tensor

        stay = None
        if self.stay:
            kappa = 1.0 if self.stay_weight is None else self._flat(self.stay_weight).to(dtype)
            stay = self.stay * kappa * self._flat(self.start).to(dtype)
        return Passes(
            self._copies[dtype],
            find_loss(self.loss) if isinstance(self.loss, str) else self.loss,
            self.shape,
            dtype,
            cast(self.targets),
            None if self.unit_weight is None else cast(self.unit_weight),
            tuple(map(cast, self.context)),
            stay,
            self._chunks[dtype],
            self.smoothing,
        )

    def _change(self, change: Callable[[Tensor], Tensor], meter: Meter | None) -> Self:
        """The flat problem whose tensors are those of this one, changed along the batch."""
        other = copy.copy(self)
        other.meter = meter
        for name in _BATCHED:
            value = getattr(self, name)
            setattr(other, name, None if value is None else change(value))
        other.start = other._flat(other.start)
        other.context = tuple(map(change, self.context))
        other.batch_shape = (len(other.start),)
        return other

    def _per_sample(self, argument: str, value: Any) -> Tensor:
        value = plain_array(argument, value)
        tensor = torch.as_tensor(value, device=None if isinstance(value, Tensor) else self.device).detach()
        check_device(argument, tensor, self.device)
        if tensor.dim() == 0 or len(tensor) != len(self.start):
            raise ShapeError(argument, f"shape {tuple(tensor.shape)}", f"({len(self.start)}, ...), as start")
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _find_judge(self) -> tuple[torch.dtype, Tensor]:
        """The dtype that judges, float64 where the block runs in it, and its output for one sample."""
        start = self._flat(self.start)
        if self.dtype != torch.float64:
            try:
                return torch.float64, first_output(self._passes(torch.float64), start.double())
            except BlockError:
                pass
        return self.dtype, first_output(self._passes(self.dtype), start)

    def _check_targets(self, targets: Any) -> Tensor:
        if callable(self.loss):
            return self._per_sample("targets", targets)
        if not isinstance(find_loss(self.loss), ClassLoss):
            values = self._per_sample("targets", check_tensor("targets", targets, self.device, self.dtype))
            check_values("targets", values, (-1, 0, 1), "Use 0 for don't care.", given=targets)
            return values
        labels = self._per_sample("targets", check_tensor("targets", targets, self.device))
        check_shape("targets", labels, self.batch_shape, "one class label a sample")
        if bool((labels != labels.long()).any()):
            raise ValueSetError("targets", f"{labels[labels != labels.long()][0].item():g}", "whole class labels")
        return labels.long()

    def _check_output(self, output: Tensor) -> None:
        """Raise unless the targets fit the output of one sample `(1, ...)`."""
        shape = tuple(output.shape[1:])
        if callable(self.loss):
            return
        if not isinstance(find_loss(self.loss), ClassLoss):
            check_shape("targets", self.targets, (*self.batch_shape, *shape), "samples, output of the block")
            return
        if len(shape) != 1:
            raise ShapeError("block", f"outputs {tuple(output.shape)}", "(b, classes)", "Flatten or pool in the block.")
        least, most = int(self.targets.min()), int(self.targets.max())
        if least < 0 or most >= shape[0]:
            raise ValueSetError("targets", least if least < 0 else most, f"class labels from 0 to {shape[0] - 1}")

    def _check_unit_weight(self, unit_weight: Any) -> Tensor | None:
        if unit_weight is not None and callable(self.loss):
            raise ArgumentError("unit_weight", "weights", "None with a loss of your own", "Weigh in the loss.")
        # Of the targets' shape, which is that of the output or, for class labels, of the batch.
        return check_weight("unit_weight", unit_weight, tuple(self.targets.shape), self.device, self.dtype)

    def _find_chunks(self) -> dict[torch.dtype, int]:
        """How many samples fit in one pass of each dtype."""
        passes = self._passes(self.dtype)
        start = self._flat(self.start).to(self.dtype)
        failure = None
        for row in range(len(start)):
            try:
                with trying(self.device):
                    needed = passes.bytes_needed(start[row], row)
            except Exception as error:  # Block and loss may raise anything; what they raise on every sample is told.
                failure = error
                continue
            # What a wider judge makes is at most as much wider.
            dtypes = {self.dtype, self.judge_dtype}
            return {dtype: self._chunk(dtype.itemsize // self.dtype.itemsize, *needed) for dtype in dtypes}
        raise ArgumentError("loss", f"{type(failure).__name__} ({failure}) on every sample", "one that takes outputs")

    def _chunk(self, wider: int, each: int, besides: int) -> int:
        """How many samples fit in one pass of `wider` times these bytes for each sample, and besides."""
        each, besides = wider * each, wider * besides
        if each + besides > self.max_bytes:
            raise ArgumentError("max_bytes", self.max_bytes, f"at least {each + besides} bytes, for a sample")
        fitting = (self.max_bytes - besides) // each
        # On a processor, tensors that stay in its caches take half of the time.
        return fitting if self.device.type != "cpu" else min(fitting, max(LEAST_CHUNK, CACHED_BYTES // each))


CACHED_BYTES, LEAST_CHUNK = 2**23, 128
"""What the tensors of one forward pass take on a processor, and how many samples it has however large they are."""
RANKINGS = ("gradient", "curvature")
_COMPUTED = ("passes", "judge", "convolution", "_at_start")
_BATCHED = ("start", "targets", "unit_weight", "stay_weight")


def _smoothing(smoothing: Any, loss: str | BlockLoss) -> float:
    if not is_real(smoothing) or not 0 <= smoothing <= 1:
        raise ArgumentError("smoothing", smoothing, "a number from 0 to 1")
    if smoothing and loss != "cross-entropy":
        raise ArgumentError("smoothing", smoothing, f"0 with the loss {loss!r}", "Only class labels can be smoothed.")
    return float(smoothing)


def _dtype(block: nn.Module, start: Tensor) -> torch.dtype:
    """That of the block's parameters, of `start` without any; float32 for what is narrower."""
    own = [value.dtype for value in block.parameters() if value.is_floating_point()]
    dtype = own[0] if own else start.dtype
    return dtype if dtype == torch.float64 else torch.float32


def _check_devices(block: nn.Module, device: torch.device) -> None:
    for name, value in [*block.named_parameters(), *block.named_buffers()]:
        if value.device != device:
            raise DeviceError("block", f"{name} on {value.device}", f"{device}, where start lies", "Move one of them.")


def _copies(block: nn.Module, dtype: torch.dtype) -> dict[torch.dtype, nn.Module]:
    try:
        copied = deep_copied(block).to(dtype).requires_grad_(False)
        return {dtype: copied, torch.float64: deep_copied(copied).double()}
    except Exception as error:  # Modules of any origin; whatever they raise, they can't be copied.
        raise BlockError(
            "block", f"{type(error).__name__} ({error}) when copied", "a module that copy.deepcopy copies"
        ) from error
