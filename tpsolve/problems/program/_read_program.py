"""What a program problem is given, checked and read: symbols, logits, labels, masks."""

from typing import Any

import torch
from torch import Tensor

from tpsolve._check_arguments import check_finite
from tpsolve._plain import plain_array, plain_number
from tpsolve.errors import ArgumentError, ShapeError, ValueSetError
from tpsolve.problems.program._program_calls import plain


def read_symbols(symbols: Any, z: Tensor) -> tuple[Tensor, Tensor]:
    """How many values each unit has `(n,)`, and which units are spins `(n,)`."""
    expected = "'sign', a number of classes of at least 2, or a list of these"
    each = list(symbols) if isinstance(symbols, list | tuple) else [symbols] * z.shape[1]
    sizes: list[int] = []
    for one in each:
        size = 2 if isinstance(one, str) and one == "sign" else plain_number(one)
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise ArgumentError("symbols", repr(symbols), expected, "A unit of one value has nothing to search.")
        sizes.append(size)
    if len(sizes) != z.shape[1]:
        raise ShapeError("symbols", f"{len(sizes)} units", f"{z.shape[1]}, the logits'")
    spins = [one == "sign" for one in each]
    if z.dim() == 2 and not all(spins):
        raise ShapeError("logits", f"shape {tuple(z.shape)}", f"(B, n, {max(sizes)}) for choices")
    if z.dim() == 3 and z.shape[2] < max(1 if s else k for s, k in zip(spins, sizes, strict=True)):
        raise ShapeError(
            "logits", f"{z.shape[2]} logits a unit", f"at least {max(sizes)}, the classes of the largest unit"
        )
    return torch.tensor(sizes, device=z.device), torch.tensor(spins, device=z.device)


def check_logits(logits: Any) -> None:
    """Raise unless `logits` are a tensor of real numbers, `(B, n, K)` or `(B, n)`, of at least one sample and unit."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise ArgumentError("logits", getattr(logits, "dtype", type(logits).__name__), "a tensor of real numbers")
    if logits.layout != torch.strided or logits.is_meta:
        got = "a tensor without values" if logits.is_meta else f"a tensor of layout {logits.layout}"
        raise ArgumentError("logits", got, "a dense tensor", "Take .to_dense(), or a device that holds numbers.")
    if logits.dim() not in (2, 3) or 0 in logits.shape:
        raise ShapeError(
            "logits", f"shape {tuple(logits.shape)}", "(B, n, K) of choices, or (B, n) of spins, none of them 0"
        )


def check_read(z: Tensor, sizes: Tensor, mask: Tensor | None) -> None:
    """Raise NotFiniteError where a logit that is read is NaN or infinite."""
    read = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if mask is None else mask
    if z.dim() == 3:
        read = read[..., None] & (torch.arange(z.shape[2], device=z.device) < sizes[:, None])
    check_finite("logits", torch.where(read, z, 0.0))


def as_choices(z: Tensor, is_spin: Tensor, sizes: Tensor) -> Tensor:
    """Logits `(B, n, K)` of every unit as a choice; of a spin those of -1 and +1, whose difference is z."""
    pre = z if z.dim() == 2 else z[..., 0]
    width = max(2, int(sizes.max()))
    spins = torch.stack([torch.zeros_like(pre), pre, *[pre] * (width - 2)], 2)
    logits = (
        spins
        if z.dim() == 2
        else torch.where(is_spin[:, None], spins, z[..., :width] if z.shape[2] >= width else spins)
    )
    return logits.masked_fill(torch.arange(width, device=z.device) >= sizes[:, None], -torch.inf)


def all_whole(values: list[Any]) -> bool:
    """Whether all are plain whole numbers that numpy compares as Python does."""
    return set(map(type, values)) == {int} and max(values) < 2**63 and min(values) >= -(2**63)


def read_labels(labels: Any, samples: int) -> list[Any]:
    values = plain(labels)
    if not isinstance(values, tuple):
        raise ArgumentError("labels", type(labels).__name__, "a tensor, array or list of one label a sample")
    if len(values) != samples:
        raise ShapeError("labels", f"{len(values)} labels", f"{samples}, the logits'")
    # One object for equal labels: losses of pairs are known by their identity.
    try:
        table: dict[Any, Any] = {}
        return [table.setdefault((type(value), value), value) for value in values]
    except TypeError:  # Some labels have no hash.
        return list(values)


def read_table(name: str, value: Any, device: torch.device) -> Tensor:
    """`value` as a tensor on `device`, of whatever shape and dtype.

    Raises:
        ArgumentError: it can't be read as one; the message calls it `name`.
    """
    try:
        return torch.as_tensor(plain_array(name, value), device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(name, type(value).__name__, "a tensor, array or list of (B, n)") from error


def read_mask(mask: Any, shape: tuple[int, int], device: torch.device) -> Tensor | None:
    if mask is None:
        return None
    mask = read_table("mask", mask, device)
    if tuple(mask.shape) != shape or mask.dtype != torch.bool:
        raise ShapeError("mask", f"{mask.dtype} of shape {tuple(mask.shape)}", f"bool of shape {shape}")
    if not bool(mask.any(1).all()):
        raise ValueSetError(
            "mask", f"no symbol in sample {int((~mask.any(1)).nonzero()[0])}", "at least one in each sample"
        )
    return mask
