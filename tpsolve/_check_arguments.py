"""Checks of what callers pass: tensors, finite numbers, values, shapes, devices, counts; each raises a typed error."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsolve._plain import plain_array
from tpsolve.errors import ArgumentError, DeviceError, NotFiniteError, ShapeError, TooLargeError, ValueSetError

MAX_SIZE = 2.0**300


def check_tensor(
    argument: str, value: object, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """`value` as a detached tensor of `dtype`; lists, arrays, tables of numbers and integers are converted.

    What is no tensor yet is put on `device`, where a tensor must lie already. Without `dtype`, float64
    and float32 stay what they are, and all else becomes float32 or torch's default dtype.

    Raises:
        ArgumentError: it can't be read as a tensor of numbers, or holds whole numbers that `dtype` would round.
        DeviceError: it is a tensor on another device.
        NotFiniteError: it holds NaN or infinity; the message counts them.
        TooLargeError: it holds numbers beyond the range of `dtype`.
    """
    value = plain_array(argument, value)
    if isinstance(value, Tensor):
        tensor = value.detach()
        if device is not None:
            check_device(argument, tensor, device)
    else:
        try:
            # Python's numbers keep all their digits on the way to dtype, and are finite where they are.
            tensor = torch.as_tensor(value, device=device, dtype=None if hasattr(value, "dtype") else dtype)
            if not hasattr(value, "dtype") and tensor.dtype == torch.float32:
                tensor, dtype = torch.as_tensor(value, device=device, dtype=torch.float64), torch.float32
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError(argument, type(value).__name__, "a tensor, array or list of numbers") from error
    if tensor.device.type == "meta":
        mend = "Move it with .to_empty() and fill it."
        raise DeviceError(argument, "a tensor on meta", "a device that holds numbers", mend)
    if tensor.is_complex():
        raise ArgumentError(argument, tensor.dtype, "real numbers")
    if dtype is None and tensor.dtype not in (torch.float32, torch.float64):
        dtype = torch.float32 if tensor.is_floating_point() else torch.get_default_dtype()
    check_finite(argument, tensor)
    found = tensor.to(dtype or tensor.dtype)
    if found.dtype != tensor.dtype and bool(torch.isinf(found).any()):
        size = float(tensor.abs().max())
        mend = "Pass a float64 tensor or array, or scale them down."
        raise TooLargeError(argument, f"numbers up to {size:.3g}", f"numbers that {found.dtype} holds", mend)
    if not tensor.is_floating_point() and not torch.equal(found.to(tensor.dtype), tensor):
        got = f"whole numbers that {str(found.dtype).removeprefix('torch.')} would round"
        raise ArgumentError(argument, got, "numbers that it holds exactly", "Give real numbers of more digits.")
    return found


def own(value: Any) -> Any:
    """`value`, or a copy of a tensor or numpy array, so that later changes of it in place change nothing here."""
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested:
        value = value.detach()
        # One copy of what is repeated along an axis.
        once = value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())]
        return once.clone().expand(value.shape) if once.shape != value.shape else value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def check_size(argument: str, tensor: Tensor | None) -> None:
    """Raise TooLargeError if `tensor` holds numbers beyond `MAX_SIZE`, so that sums of products of three are finite."""
    size = 0.0 if tensor is None or not tensor.numel() else float(tensor.abs().max())
    if size > MAX_SIZE:
        mend = "Give them in a larger unit: it changes no targets."
        raise TooLargeError(argument, f"numbers up to {size:.3g}", f"absolute values up to {MAX_SIZE:.3g}", mend)


def check_finite(argument: str, tensor: Tensor) -> None:
    """Raise NotFiniteError if `tensor` holds NaN or infinity."""
    if bool(torch.isfinite(tensor).all()):
        return
    nan, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    first = (~torch.isfinite(tensor)).nonzero()[0].tolist()
    raise NotFiniteError(
        argument,
        f"{nan} NaN and {infinite} infinite values, the first at {first}",
        "finite numbers",
        "Look where they arise; dropping them would change the problem.",
    )


def check_values(argument: str, tensor: Tensor, allowed: Sequence[int], mend: str = "", *, given: object) -> None:
    """Raise ValueSetError unless every entry of `tensor` is one of `allowed`, or if `given` holds booleans.

    `given`: what the caller was given and has made `tensor` of. False would pass as 0, don't care.
    """
    expected = "only " + ", ".join(f"{v:+d}" if v else "0" for v in allowed)
    plain = plain_array(argument, given)
    dtype = plain.dtype if hasattr(plain, "dtype") else np.asarray(plain).dtype
    if str(dtype) in ("torch.bool", "bool"):
        raise ValueSetError(argument, "booleans", expected, f"Write torch.where({argument}, 1, -1).")
    good = torch.zeros_like(tensor, dtype=torch.bool)
    for value in allowed:
        good |= tensor == value
    if bool(good.all()):
        return
    bad = tensor[~good]
    raise ValueSetError(argument, f"{bad.numel()} other values, such as {bad[0].item():g}", expected, mend)


def check_shape(argument: str, tensor: Tensor, expected: Sequence[int], meaning: str) -> None:
    """Raise ShapeError unless `tensor` has exactly this shape; `meaning` names its axes."""
    if tuple(tensor.shape) != tuple(expected):
        raise ShapeError(argument, f"shape {tuple(tensor.shape)}", f"{tuple(expected)} = {meaning}")


def check_device(argument: str, tensor: Tensor, device: torch.device, where: str = "where the weight lies") -> None:
    """Raise DeviceError unless `tensor` lies on `device`; `where` says what else lies there."""
    if tensor.device != device:
        raise DeviceError(argument, f"a tensor on {tensor.device}", f"{device}, {where}", "Move it with .to().")


def find_device(name: str) -> torch.device:
    """The device of this name, such as "cpu" or "cuda:0".

    Raises:
        DeviceError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # the meta device has no numbers
    # An unknown name, a device that torch was built without, the meta device, a backend that is not installed.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise DeviceError("device", repr(name), f"one of {', '.join(here)}") from error
    return device


def check_count(argument: str, value: object, minimum: int) -> None:
    """Raise ArgumentError unless `value` is a whole number of at least `minimum`; numpy's are."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        raise ArgumentError(argument, value, f"a whole number of at least {minimum}")
