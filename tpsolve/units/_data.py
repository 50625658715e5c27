"""The samples of a fit: checked, and with duplicates merged."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve._check_arguments import check_device, check_shape, check_tensor, check_values
from tpsolve._plain import MAX_WHOLE, plain_array
from tpsolve.errors import ArgumentError, DeviceError, ShapeError, TooLargeError, ValueSetError

WORKING_ELEMENTS = 2**25
"""Numbers in one working array of a chunk; a learner keeps a handful of such arrays."""


@dataclass(frozen=True)
class Samples:
    """Checked samples of m units.

    Args:
        inputs: `(N, n)` float32 or float64, finite.
        targets: `(N, m)` in {-1, 0, +1}, same dtype.
        weight: `(N, m)` >= 0, or None for 1 everywhere.
        group: `(N0,)` int64, the distinct point that each sample given equals; None: unmerged.
        point: `(N,)` int64, the distinct point of each merged row; None: unmerged.
    """

    inputs: Tensor
    targets: Tensor
    weight: Tensor | None = None
    group: Tensor | None = None
    point: Tensor | None = None

    def chunks(self, chunk: int | None) -> list[slice]:
        """Slices of the units, of `chunk` units each or as many as the working memory holds."""
        rows, units = self.targets.shape
        size = chunk or max(1, WORKING_ELEMENTS // max(rows, self.inputs.shape[1], 1))
        return [slice(k, min(k + size, units)) for k in range(0, units, size)]


def read_numbers(argument: str, value: object, dtype: torch.dtype | None = None) -> Tensor:
    """As `check_tensor`, but whole numbers become float64, which holds them exactly up to 2**53.

    `dtype`: of Python's numbers that aren't whole.

    Raises:
        ArgumentError: whole numbers that float64 can't hold.
    """
    value = plain_array(argument, value)
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return check_tensor(argument, value, dtype=dtype)
    if tensor.device.type == "meta":
        raise DeviceError(
            argument, "a tensor on meta", "a device that holds numbers", "Move it with .to_empty() and fill it."
        )
    if not tensor.is_floating_point() and not tensor.is_complex():
        if tensor.numel() and max(-int(tensor.min()), int(tensor.max())) > MAX_WHOLE:
            raise ArgumentError(argument, "whole numbers beyond 2**53", "numbers that float64 holds exactly")
        return tensor.to(torch.float64)
    if isinstance(value, list | tuple) and _largest_whole(value) > MAX_WHOLE:
        raise ArgumentError(argument, "whole numbers beyond 2**53", "numbers that float64 holds exactly")
    return check_tensor(
        argument, tensor if hasattr(value, "dtype") else value, dtype=None if hasattr(value, "dtype") else dtype
    )


def _largest_whole(values: list[object] | tuple[object, ...]) -> int:
    """The size of the largest int in nested lists, or 0."""
    sizes = (_largest_whole(v) if isinstance(v, list | tuple) else abs(v) if isinstance(v, int) else 0 for v in values)
    return max(sizes, default=0)


def check_samples(inputs: object, targets: object, weight: object | None = None) -> Samples:
    """The arguments of a fit as `Samples`, unmerged; a weight of 0 makes its target 0.

    Raises:
        ShapeError: `inputs` is not (N, n) with N, n >= 1, or the others don't match it, or there are no units.
        NotFiniteError: NaN or infinity; the message says where.
        ValueSetError: a target outside {-1, 0, +1}, or a negative weight.
        DeviceError: the tensors lie on different devices.
        TooLargeError: the working arrays would not fit in memory.
    """
    x = read_numbers("inputs", inputs)
    if x.dim() != 2 or 0 in x.shape:
        raise ShapeError("inputs", f"shape {tuple(x.shape)}", "(samples, features), at least one of each")
    t = _beside(x, "targets", targets)
    if t.dim() != 2 or t.shape[0] != x.shape[0] or t.shape[1] == 0:
        mend = "For one unit give targets[:, None]." if t.dim() == 1 else ""
        raise ShapeError(
            "targets", f"shape {tuple(t.shape)}", f"({x.shape[0]}, units) = (samples, units), at least one unit", mend
        )
    check_values("targets", t, (-1, 0, 1), "0 stands for: don't care.", given=targets)
    _check_memory(x, t)
    if weight is None:
        return Samples(x, t)
    c = _beside(x, "weight", weight)
    check_shape("weight", c, t.shape, "(samples, units)")
    if bool((c < 0).any()):
        raise ValueSetError("weight", f"{int((c < 0).sum())} negative values", "values >= 0")
    return Samples(x, torch.where(c > 0, t, 0.0), c)


def merge_duplicates(samples: Samples) -> Samples:
    """The same problem with equal inputs merged: at most one row a sign, and weights that count.

    A row on which the targets of some unit disagree is kept twice, once for each sign.
    """
    group = group_rows(samples.inputs)
    rows = int(group.max()) + 1
    # Merging costs a weight matrix; it must save enough to pay for it.
    if rows > 0.9 * len(group):
        return samples
    distinct = samples.inputs.new_empty(rows, samples.inputs.shape[1])
    distinct[group] = samples.inputs
    counts = samples.targets.abs() if samples.weight is None else samples.weight * samples.targets.abs()
    empty = samples.inputs.new_zeros(rows, samples.targets.shape[1])
    plus = empty.index_add(0, group, counts * (samples.targets > 0))
    minus = empty.index_add(0, group, counts * (samples.targets < 0))
    split = ((plus > 0) & (minus > 0)).any(dim=1)
    only_minus = torch.where(split[:, None], 0.0, minus)
    first = plus + only_minus
    targets = torch.cat([torch.sign(plus - only_minus), -torch.sign(minus[split])])
    point = torch.cat([torch.arange(rows, device=group.device), split.nonzero()[:, 0]])
    return Samples(distinct[point], targets, torch.cat([first, minus[split]]), group, point)


def raw_rows(merged: Samples, targets: Tensor, rows: Tensor, units: Tensor) -> Tensor:
    """Rows `(c, s)` of merged samples as samples given, rising, -1 last: the first at that point with that target.

    Args:
        targets: `(N0, c)`, of the samples given, for these units.
        rows: -1 stands for none.
        units: `(c,)`, whose targets the merged rows have.
    """
    count = len(targets)
    if merged.group is not None and merged.point is not None:
        inner = rows.clamp(min=0)
        sign, point = merged.targets[inner, units[:, None]], merged.point[inner]
        number, place = torch.arange(count, device=rows.device)[:, None], merged.group[:, None].expand_as(targets)
        empty = torch.full((int(merged.group.max()) + 1, len(units)), count, device=rows.device)
        column = torch.arange(len(units), device=rows.device)[:, None]
        plus, minus = (
            empty.scatter_reduce(0, place, torch.where(targets == s, number, count), "amin")[point, column]
            for s in (1, -1)
        )
        rows = torch.where(rows >= 0, torch.where(sign > 0, plus, minus), -1)
    rising = torch.where(rows < 0, count, rows).sort(dim=1).values
    return torch.where(rising < count, rising, -1)


def group_rows(inputs: Tensor) -> Tensor:
    """`(N,)` int64: equal numbers for equal rows of `inputs`, counted from 0; -0 equals 0."""
    wide = (inputs.to(torch.float64) + 0.0).contiguous()
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (wide.shape[1],), generator=generator) * 2 + 1
    keys = wide.view(torch.int64)
    # Sums of whole numbers that wrap around don't depend on their order, so equal rows have equal hashes.
    hashes = ((keys ^ (keys >> 29)) * odd.to(keys.device)).sum(dim=1)
    _, group = torch.unique(hashes, return_inverse=True)
    first = wide.new_empty(int(group.max()) + 1, wide.shape[1])
    first[group] = wide
    if bool((first[group] == wide).all()):
        return group
    return torch.unique(wide, dim=0, return_inverse=True)[1]


def measure(samples: Samples, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Errors `(m,)` int64 and smallest margins `(m,)` of these units on unmerged samples."""
    errors, margins = [], []
    for part in samples.chunks(None):
        z = torch.addmm(bias[part], samples.inputs, weight[part].T)
        t = samples.targets[:, part]
        errors.append((((z >= 0) != (t > 0)) & (t != 0)).sum(dim=0))
        margins.append(torch.where(t != 0, t * z, torch.inf).amin(dim=0))
    return torch.cat(errors), torch.cat(margins)


def _beside(inputs: Tensor, argument: str, value: object) -> Tensor:
    if isinstance(value, Tensor):
        check_device(argument, value, inputs.device, "where the inputs lie")
    return check_tensor(argument, value, inputs.device).to(inputs.dtype)


def _check_memory(inputs: Tensor, targets: Tensor) -> None:
    rows, features = inputs.shape
    # Rotated inputs, the smaller Gram matrix in float64, and weights with their direction and gradient.
    need = inputs.element_size() * (2 * rows * features + 6 * features * targets.shape[1])
    need += 8 * 3 * min(rows, features, 2048) ** 2
    have = memory_of(inputs.device)
    if have is None:
        return
    if need > have:
        raise TooLargeError(
            "inputs",
            f"{rows} samples, {features} features and {targets.shape[1]} units: {need / 1e9:.1f} GB to work with",
            f"at most the {have / 1e9:.1f} GB of the device",
            "Fit fewer units or samples a call, or reduce the features.",
        )


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that the device has; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
