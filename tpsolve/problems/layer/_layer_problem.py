"""The layer target problem: which outputs of a layer serve the layer above best?"""

import copy
import math
from functools import cached_property
from os import PathLike
from typing import Any, Self, TypedDict

import torch
from torch import Tensor

from tpsolve._check_arguments import check_shape, check_size, check_tensor, check_values, own
from tpsolve._storage._archive import digest, read_archive, write_archive
from tpsolve._storage._limits import check_bytes
from tpsolve.errors import NotAcceptedError, ShapeError, ValueSetError
from tpsolve.losses import ClassLoss, find_loss
from tpsolve.problems._base import FlipProblem
from tpsolve.problems._broadcast_checks import check_broadcast, check_stay, check_targets, check_weight
from tpsolve.problems.layer._class_state import ClassState
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.problems.layer._layer_state import LayerState
from tpsolve.problems.layer._squared_state import SquaredState

KIND = "layer-problem"


class LayerProblem(FlipProblem):
    """For every sample of a batch, find t in {-1, +1}^n that minimises

        E(t) = sum_k c_k loss(V_k . t + b_k, s_k) + stay sum_j kappa_j [t_j != a_j]

    Source: Friesen and Domingos (2018), equation 2 and section 3.3, with downstream weights fixed.

    Args:
        weight: V `(m, n)` float32 or float64: weights of the layer above, whose m units read the n targets.
        targets: s `(*batch, m)` in {-1, 0, +1}, 0 = don't care; for the cross-entropy, class labels
            `(*batch,)` in {0, ..., m - 1}.
        bias: b `(m,)`, by default 0.
        loss: a name of `tpsolve.losses.LOSSES`.
        unit_weight: c, not negative, broadcast to `(*batch, m)`; for the cross-entropy one number a
            sample, broadcast to `(*batch,)`. By default 1.
        start: a, the current activations, broadcast to `(*batch, n)`, in {-1, +1}.
        stay: cost of leaving an activation, not negative; needs `start`.
        stay_weight: kappa, not negative, broadcast to `(*batch, n)`. By default 1.
        pull: r `(*batch, n)` by broadcasting, by default 0: the last term becomes sum_j |p_j| [t_j p_j < 0] with
            p_j = r_j + stay kappa_j a_j. So a linear term d . t enters as r = -2 d, up to the sum of |d_j|.

    All tensors lie on the device of `weight` and are converted to its dtype; lists are moved there. The problem has
    copies of its own: what is done to the arguments afterwards, such as an optimizer's step, doesn't change it.

    Raises:
        ShapeError, ValueSetError, NotFiniteError, TooLargeError, DeviceError, UnknownNameError, NotAcceptedError:
            an argument makes no sense; the message names it and the cure.
    """

    weight: Tensor
    targets: Tensor
    bias: Tensor
    unit_weight: Tensor | None
    start: Tensor | None
    stay: float
    stay_weight: Tensor | None
    pull: Tensor | None
    n_vars: int
    batch_shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype

    def __init__(
        self,
        weight: Any,
        targets: Any,
        bias: Any = None,
        loss: str = "hinge",
        unit_weight: Any = None,
        start: Any = None,
        stay: float = 0.0,
        stay_weight: Any = None,
        pull: Any = None,
    ) -> None:
        weight, targets, bias, unit_weight = own(weight), own(targets), own(bias), own(unit_weight)
        start, stay_weight, pull = own(start), own(stay_weight), own(pull)
        self.loss = loss
        by_class = isinstance(find_loss(loss), ClassLoss)
        self.weight = check_tensor("weight", weight)
        if self.weight.dim() != 2 or 0 in self.weight.shape:
            raise ShapeError("weight", f"shape {tuple(self.weight.shape)}", "(m, n): units above, targets sought")
        m, self.n_vars = self.weight.shape
        self.device, self.dtype = self.weight.device, self.weight.dtype

        if by_class:
            self.targets = self._check_labels(targets, m)
            self.batch_shape = tuple(self.targets.shape)
            weight_shape = self.batch_shape
        else:
            self.targets = self._convert("targets", targets)
            check_values("targets", self.targets, (-1, 0, 1), "Use 0 for don't care.", given=targets)
            if self.targets.dim() == 0 or self.targets.shape[-1] != m:
                raise ShapeError("targets", f"shape {tuple(self.targets.shape)}", f"(*batch, {m}): m = {m} units above")
            self.batch_shape = tuple(self.targets.shape[:-1])
            weight_shape = (*self.batch_shape, m)
        if 0 in self.batch_shape:
            raise ShapeError("targets", f"shape {tuple(self.targets.shape)}", "at least one sample")

        self.bias = (
            torch.zeros(m, device=self.device, dtype=self.dtype) if bias is None else self._convert("bias", bias)
        )
        check_shape("bias", self.bias, (m,), "(m,)")
        shape, kind = (*self.batch_shape, self.n_vars), (self.device, self.dtype)
        self.unit_weight = check_weight("unit_weight", unit_weight, weight_shape, *kind)
        self.start = check_broadcast("start", start, shape, *kind)
        if self.start is not None:
            check_values("start", self.start, (-1, 1), given=start)
        self.stay = check_stay(stay, self.start)
        self.stay_weight = check_weight("stay_weight", stay_weight, shape, *kind)
        self.pull = check_broadcast("pull", pull, shape, *kind)
        for name in ("weight", "bias", "unit_weight", "stay_weight", "pull"):
            check_size(name, getattr(self, name))

    @property
    def n_units(self) -> int:
        """m, the units of the layer above."""
        return self.weight.shape[0]

    @property
    def n_samples(self) -> int:
        """B, the samples of the batch."""
        return math.prod(self.batch_shape)

    @cached_property
    def energy(self) -> LayerEnergy:
        """The objective's arithmetic over the batch as one axis; for solvers that read the numbers."""
        return self._energy(self.dtype)

    @cached_property
    def energy64(self) -> LayerEnergy:
        """`energy` in float64: what judges."""
        return self._energy(torch.float64)

    def _energy(self, dtype: torch.dtype) -> LayerEnergy:
        loss, weight, bias = find_loss(self.loss), self.weight.to(dtype), self.bias.to(dtype)
        stay, parts = None, None
        if self.stay and self.start is not None:
            stay = self.stay * self.start.to(dtype).reshape(-1, self.n_vars)
            if self.stay_weight is not None:
                stay = stay * self.stay_weight.to(dtype).reshape(-1, self.n_vars)
        if self.pull is not None:
            pull = self.pull.to(dtype).reshape(-1, self.n_vars)
            parts = None if stay is None else stay.abs() + pull.abs()
            stay = pull if stay is None else stay + pull
        given = None if self.unit_weight is None else self.unit_weight.to(dtype)
        if isinstance(loss, ClassLoss):
            c = weight.new_ones(self.batch_shape) if given is None else given
            return LayerEnergy(loss, weight, bias, self.targets.reshape(-1), c.reshape(-1, 1), stay, parts)
        s = self.targets.to(dtype).reshape(-1, self.n_units)
        c = torch.ones_like(s[:1]) if given is None else given.reshape(-1, self.n_units)
        # One row where it serves for all: the squared loss then shares one Gram matrix.
        c = c[:1] if bool((c == c[:1]).all()) else c
        c = c if bool((s != 0).all()) else c * (s != 0)
        return LayerEnergy(loss, weight, bias, torch.where(s == 0, 1.0, s), c, stay, parts)

    def objective(self, targets: Tensor) -> Tensor:
        """E, `(..., *batch)` float64, of `targets (..., *batch, n)` in {-1, +1}; computed in float64.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        check_targets(targets, (*self.batch_shape, self.n_vars), self.device)
        flat = targets.reshape(-1, self.n_samples, self.n_vars).double()
        lead = targets.shape[: targets.dim() - len(self.batch_shape) - 1]
        return self.energy64.total(self.energy64.pre(flat), flat).reshape((*lead, *self.batch_shape))

    def gradient(self, at: Tensor | None = None) -> Tensor:
        """Coefficients g `(*batch, n)` of E linearised at h = `at`: E(t) is about const + g . t.

        `at (*batch, n)` real, by default `start`. The stay penalty is linear in t and enters exactly.

        Raises:
            NotAcceptedError: neither `at` nor `start` is given.
        """
        h = self.start if at is None else at
        if h is None:
            raise NotAcceptedError("problem", "no start", "a problem with start", "Pass the activations as start=.")
        if self.meter is not None:
            self.meter.spend(2)
        g = self.energy.gradient(h.reshape(-1, self.n_vars).to(self.dtype))
        return g.reshape((*self.batch_shape, self.n_vars))

    def predicted_change(self, at: Tensor | None = None) -> Tensor:
        """Change of E if one activation were negated, to second order: -2 h g + 2 H_jj, `(*batch, n)`.

        g and H are gradient and Hessian of E in the activations h = `at`, by default `start`. Exact for
        the squared loss; for piecewise-linear losses H is 0. The size of the change is an importance
        weight for whoever learns the target. The stay penalty enters exactly.

        Raises:
            NotAcceptedError: neither `at` nor `start` is given.
        """
        gradient = self.gradient(at)
        h = (self.start if at is None else at).to(self.dtype)  # pyright: ignore[reportOptionalMemberAccess]
        if self.meter is not None:
            self.meter.spend(1)
        curvature = self.energy.curvature(h.reshape(-1, self.n_vars)).reshape(gradient.shape)
        return 2 * (curvature - h * gradient)

    curvature_passes = 3
    """Passes of a sample that `predicted_change` takes: products with the weight."""

    def flip_delta(self, targets: Tensor) -> Tensor:
        """Change of E when each single target is negated: `(*batch, n)`, in the problem's dtype.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        check_targets(targets, (*self.batch_shape, self.n_vars), self.device)
        shape = (*self.batch_shape, self.n_vars)
        if tuple(targets.shape) != shape:
            raise ShapeError("targets", f"shape {tuple(targets.shape)}", f"{shape}, the batch alone")
        return self.state(targets.reshape(-1, self.n_vars)).flip_delta().reshape(shape)

    def lower_bound(self) -> Tensor:
        """A proven lower bound on E, `(*batch,)` float64: each unit above at its own best.

        V_k . t + b_k lies in [b_k - |V_k|_1, b_k + |V_k|_1]; the bound sums the minimum weighted loss
        over that interval, as though each unit could choose t for itself. For the cross-entropy the
        intervals are those of the differences z_k - z_label. `rounding()` is subtracted.
        """
        bound = self.energy64.lower_bound().reshape(self.batch_shape)
        return (bound - self.rounding()).clamp(min=0)

    def rounding(self) -> Tensor:
        """How far `objective` may be from exact arithmetic, `(*batch,)` float64.

        A zero-one loss jumps at 0: there a pre-activation within floating-point reach of 0 is judged
        by its float64 value, and every bound counts it as the more favourable one.
        """
        return self.energy64.rounding().reshape(self.batch_shape)

    def least_difference(self) -> Tensor:
        """Of the zero-one loss alone, `(*batch,)` float64: its sums are whole multiples of what weights share."""
        return self.energy64.least_difference().reshape(self.batch_shape)

    def state(self, targets: Tensor) -> LayerState:
        """The search state of `targets (B, n)` under single flips."""
        kind = {"squared": SquaredState, "cross-entropy": ClassState}.get(self.loss, LayerState)
        return kind(self.energy, targets.to(self.dtype), self.meter)

    def flatten(self) -> Self:
        return self._rebatch(lambda tensor, tail: tensor.reshape(-1, *tail), (self.n_samples,))

    def select(self, keep: Tensor) -> Self:
        flat = self.flatten()
        count = int(keep.sum()) if keep.dtype == torch.bool else len(keep)
        other = flat._rebatch(lambda tensor, tail: tensor[keep], (count,))
        other.meter = None if self.meter is None else self.meter.select(keep)
        return other

    def repeat(self, copies: int) -> Self:
        flat = self.flatten()
        count = copies * self.n_samples
        other = flat._rebatch(lambda tensor, tail: tensor.repeat(copies, *[1] * len(tail)), (count,))
        other.meter = None if self.meter is None else self.meter.repeat(copies)
        return other

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        for name in ("weight", "bias", *_BATCHED):
            value = getattr(self, name)
            setattr(moved, name, None if value is None else value.to(device))
        moved.device, moved.meter = moved.weight.device, None
        return moved

    def save(self, path: str | PathLike[str]) -> None:
        """Write the problem to `path` (.npz, no pickle).

        Raises:
            FolderError: the folder does not exist or can't be written.
        """
        write_archive(path, KIND, self._tensors(), {"loss": self.loss, "stay": self.stay})

    @property
    def fingerprint(self) -> str:
        """A hash of everything that defines the problem, the same on every device."""
        return digest([self.loss, self.stay], self._tensors())

    def __getstate__(self) -> dict[str, Any]:
        # What is computed from the rest is computed anew in every copy.
        return {name: value for name, value in vars(self).items() if name not in ("energy", "energy64")}

    def __repr__(self) -> str:
        return (
            f"LayerProblem(batch_shape={tuple(self.batch_shape)}, n_vars={self.n_vars}, n_units={self.n_units}, "
            f"loss={self.loss!r}, stay={self.stay}, dtype={self.dtype}, device={str(self.device)!r})"
        )

    def _facts(self) -> dict[str, object]:
        given = [name for name in ("unit_weight", "pull") if getattr(self, name) is not None]
        more = {"units above": self.n_units, "loss": self.loss, "stay": self.stay}
        return {**super()._facts(), **more, **({"also given": ", ".join(given)} if given else {})}

    def _tensors(self) -> dict[str, Tensor | None]:
        return {name: getattr(self, name) for name in ("weight", "bias", *_BATCHED)}

    def _rebatch(self, change: Any, batch_shape: tuple[int, ...]) -> Self:
        other = copy.copy(self)
        for name in _BATCHED:
            value = getattr(self, name)
            if value is not None:
                tail = value.shape[len(self.batch_shape) :]
                setattr(other, name, change(value, tail))
        other.batch_shape = batch_shape
        return other

    def _convert(self, argument: str, value: Any) -> Tensor:
        return check_tensor(argument, value, self.device, self.dtype)

    def _check_labels(self, labels: Any, m: int) -> Tensor:
        tensor = check_tensor("targets", labels, self.device)
        whole = tensor.long()
        wrong = (whole != tensor) | (whole < 0) | (whole >= m)
        if bool(wrong.any()):
            raise ValueSetError("targets", f"{tensor[wrong][0].item():g}", f"class labels from 0 to {m - 1}")
        return whole


_BATCHED = ("targets", "unit_weight", "start", "stay_weight", "pull")


class _Header(TypedDict):
    loss: str
    stay: float


def read_layer_problem(path: str | PathLike[str]) -> LayerProblem:
    """The layer problem saved at `path`, on the CPU.

    Raises:
        FileFormatError: no layer problem of tpsolve, truncated, or of another version.
        ArgumentError: the file's contents make no sense together.
    """
    arrays, header = read_archive(path, KIND, _Header, ("weight", "targets"), ("bias", *_BATCHED[1:]))
    # A search holds the targets of all samples.
    check_bytes(path, 8 * arrays["targets"].numel() * max(1, arrays["weight"][:1].numel()))
    return LayerProblem(**arrays, loss=header["loss"], stay=header["stay"])
