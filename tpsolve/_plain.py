"""What callers pass, made plain: scalars of numpy as Python's numbers, tables and odd arrays as torch takes them."""

import functools
import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor, bfloat16, strided

from tpsolve.errors import ArgumentError, DeviceError, NotFiniteError

MAX_WHOLE = 2**53
"""float64 holds all whole numbers up to it."""

TABLE_MEND = "Words and dates become numbers in tpsolve.tables.read_table."


class CellError(ArgumentError, TypeError):
    """A cell that is no number; scikit-learn's checks of an estimator ask for a TypeError and for these words."""

    def __init__(self, argument: str, kind: str) -> None:
        mend = f"A cell of this argument must be neither a string nor a date, but a number. {TABLE_MEND}"
        super().__init__(argument, f"a cell of type {kind}", "numbers", mend)


def plain_number(value: Any) -> Any:
    """A scalar of numpy, or an array of no axes, as Python's number or text; all else as it is."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value


def is_real(value: object) -> bool:
    """Whether a value is a real number, and no truth value; numpy's scalars count."""
    return isinstance(value, Real) and not isinstance(value, bool)


class Settings:
    """A frozen dataclass whose numbers of numpy are Python's before `__post_init__` of a subclass sees them.

    So they print, compare and are saved as Python's.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if check := cls.__dict__.get("__post_init__"):

            @functools.wraps(check)
            def checked(self: Any) -> None:
                make_plain(self)
                check(self)

            cls.__post_init__ = checked

    def __post_init__(self) -> None:
        make_plain(self)


def make_plain(settings: Any) -> None:
    """Turn the numpy scalars among the attributes of a frozen dataclass into Python's numbers."""
    for name, value in vars(settings).items():
        plain = plain_number(value)
        if plain is not value:
            object.__setattr__(settings, name, plain)


def plain_array(argument: str, value: Any) -> Any:
    """A tensor or a list as it is; arrays and tables as arrays of numbers that torch shares or copies.

    Read-only, flipped and big-endian arrays are copied. Tables of pandas and polars with columns of numbers become
    float64, where missing values are NaN. Lists of arrays are stacked.

    Raises:
        ArgumentError: sparse or masked arrays, columns of words or dates, whole numbers that float64 can't hold
            beside others, or more digits than float64 has; the message says how to mend it.
    """
    if isinstance(value, Tensor):
        return plain_tensor(argument, value)
    refuse_sparse(argument, value)
    library = type(value).__module__.partition(".")[0]
    if library in ("pandas", "polars"):
        return from_table(argument, value)
    if isinstance(value, list | tuple):
        if any(isinstance(row, Tensor) and row.dim() for row in value):
            value = [float64_array(argument, row) for row in value]
        nested = value and hasattr(value[0], "__array__") and not isinstance(value[0], Tensor | np.generic)
        if not nested:
            return [plain_number(one) for one in value] if any(isinstance(v, np.generic) for v in value) else value
        rows = [from_array(argument, np.asanyarray(row)) for row in value]
        try:
            return from_array(argument, np.stack(rows))
        except ValueError as error:
            raise ArgumentError(argument, "rows of several lengths", "rows of one length") from error
    if isinstance(value, np.ndarray):
        return from_array(argument, value)
    if hasattr(value, "__array__"):
        return from_array(argument, np.asanyarray(value))
    return value


def refuse_sparse(argument: str, value: Any) -> None:
    """Raise ArgumentError for a sparse matrix or array of scipy."""
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        got = f"a sparse matrix ({type(value).__name__})"
        raise ArgumentError(argument, got, "a dense array", "Write .toarray().")


def plain_tensor(argument: str, value: Tensor) -> Tensor:
    """A dense tensor whose numbers are stored as they are."""
    if value.layout is not strided or value.is_nested:
        layout = "nested tensor" if value.is_nested else f"tensor of layout {value.layout}"
        mend = "Write torch.stack(list(...))." if value.is_nested else "Write .to_dense()."
        raise ArgumentError(argument, f"a {layout}", "a dense one", mend)
    if value.is_quantized:
        raise ArgumentError(argument, f"a tensor of {value.dtype}", "one of real numbers", "Write .dequantize().")
    return value.resolve_conj().resolve_neg()


def check_as_float64(argument: str, value: Any) -> None:
    """Raise for numbers that scikit-learn would take for others: masked ones, dates, and those that float64 rounds.

    All else is left to its own checks.

    Raises:
        ArgumentError: see above; or a LazyFrame.
    """
    frame = type(value).__module__.partition(".")[0] in ("pandas", "polars")
    if type(value).__name__ == "LazyFrame":
        raise ArgumentError(argument, "a LazyFrame", "a DataFrame", "Write .collect().")
    if frame and getattr(value, "ndim", 2) == 2 and hasattr(value, "columns"):
        for k, name in enumerate(value.columns):
            column = value.iloc[:, k] if hasattr(value, "iloc") else value[:, k]
            check_as_float64(f"{argument}, column {str(name)!r}", column)
        return
    if isinstance(value, Tensor) and (value.requires_grad or value.device.type != "cpu" or not _is_of_numpy(value)):
        grad = ", which requires grad" if value.requires_grad else ""
        got = f"a tensor of {value.dtype} and layout {value.layout} on {value.device}{grad}"
        raise ArgumentError(argument, got, "what numpy can read", "Write .detach().cpu().to_dense().double().numpy().")
    try:
        array = _column(argument, value) if frame and hasattr(value, "dtype") else np.asanyarray(value)
    except ArgumentError:
        raise
    except (TypeError, ValueError, RuntimeError):
        return
    if isinstance(array, np.ma.MaskedArray) or array.dtype.kind in "Mm":
        from_array(argument, array)
    largest = 0
    if array.dtype.kind == "O":
        largest = max((abs(cell) for cell in array.ravel().tolist() if type(cell) is int), default=0)
    elif array.dtype.kind in "iu" and array.size:
        largest = max(int(array.max()), -int(array.min()))
    if largest > MAX_WHOLE:
        raise ArgumentError(argument, "whole numbers beyond 2**53", "numbers that float64 holds exactly")


def float64_array(argument: str, value: Any) -> np.ndarray:
    """What `plain_array` takes as an array of float64 numbers that are those of `value`; NaN and infinities may occur.

    Raises:
        ArgumentError: no real numbers, or numbers that float64 can't hold.
    """
    if value is None:
        raise ArgumentError(argument, "None", "numbers")
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            raise DeviceError(argument, "a tensor on meta", "a device that holds numbers")
        plain: Any = plain_array(argument, value).detach().cpu()
        value = (plain if plain.is_complex() or _is_of_numpy(plain) else plain.double()).numpy()
    try:
        check_as_float64(argument, value)
        plain = plain_array(argument, value)
        if np.iscomplexobj(plain):
            raise ArgumentError(argument, "complex numbers", "real numbers")
        return np.asarray(plain, dtype=np.float64)
    except ArgumentError:
        raise
    except (TypeError, ValueError) as error:
        raise ArgumentError(argument, f"values that are no numbers ({error})", "numbers") from error


def _is_of_numpy(value: Tensor) -> bool:
    seen = value.layout is strided and not (value.is_neg() or value.is_conj() or value.is_quantized or value.is_nested)
    return seen and value.dtype is not bfloat16


def plain_labels(argument: str, values: Any) -> list[Any]:
    """Labels of a tensor, array, column or sequence as Python's numbers and texts, each in its place.

    Raises:
        ArgumentError: a table, no sequence, or labels that are neither numbers nor texts.
        NotFiniteError: a label is missing, NaN or infinite.
        DeviceError: a tensor on meta.
    """
    refuse_sparse(argument, values)
    if getattr(values, "columns", None) is not None:
        raise ArgumentError(argument, "a DataFrame", "one class label a sample", "Take its column: df[name].")
    if isinstance(values, Tensor):
        values = plain_tensor(argument, values)
        if values.device.type == "meta":
            raise DeviceError(argument, "a tensor on meta", "a device that holds numbers")
    listed = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    plain = values if listed is None else listed()
    if isinstance(plain, str | bytes) or not isinstance(plain, Sequence):
        raise ArgumentError(argument, type(values).__name__, "one class label a sample")
    # The elements of numpy arrays and of tensors, which are no numbers of Python.
    plain = [v.item() if hasattr(v, "item") and getattr(v, "ndim", 0) == 0 else v for v in plain]
    for i, label in enumerate(plain):
        if label is None or type(label).__name__ in ("NAType", "NaTType"):
            raise NotFiniteError(argument, f"no label at sample {i}", "a class label for every sample")
        if isinstance(label, float) and not math.isfinite(label):
            raise NotFiniteError(argument, f"{label} at sample {i}", "a class label for every sample")
        if not isinstance(label, str | int | float | bool | Sequence) or isinstance(label, bytes):
            mend = "Write them as words: list(map(str, labels))."
            raise ArgumentError(argument, f"a label of type {type(label).__name__}", "numbers or words", mend)
    return plain


def check_no_gaps(argument: str, value: Any) -> None:
    """Raise ArgumentError for masked values, those that polars calls null, and None or NA of pandas among objects."""
    if isinstance(value, np.ma.MaskedArray):
        _check_mask(argument, value)
    elif type(value).__module__.startswith("polars") and (count := getattr(value, "null_count", int)()):
        raise ArgumentError(argument, f"{count} values that are null", "none", "Leave their rows out.")
    elif type(value).__module__.startswith("pandas") and (is_gap := getattr(value, "isna", None)) is not None:
        if count := int(np.asarray(is_gap()).sum()):
            raise ArgumentError(argument, f"{count} values that are missing", "none", "Leave their rows out.")
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        place = next((k for k, v in enumerate(value) if v is None or type(v).__name__ == "NAType"), None)
        if place is not None:
            raise ArgumentError(argument, f"{value[place]} at sample {place}", "no gaps", "Leave their rows out.")


def _check_mask(argument: str, array: np.ma.MaskedArray) -> None:
    count = int(np.ma.getmaskarray(array).sum())
    if count:
        mend = "Fill them in with .filled(), or leave their rows out."
        raise ArgumentError(argument, f"an array with {count} masked values", "an array without", mend)


def from_array(argument: str, array: np.ndarray) -> np.ndarray:
    """A writable array in the machine's own order, of a type that torch knows."""
    if isinstance(array, np.ma.MaskedArray):
        _check_mask(argument, array)
        array = array.data
    array = np.asarray(array)
    kind = array.dtype.kind
    if kind == "O":
        return _from_objects(argument, array)
    if kind not in "biufc":
        what = {"M": "dates", "m": "durations", "U": "words", "S": "words", "V": "records"}.get(kind, str(array.dtype))
        raise ArgumentError(argument, f"an array of {what}", "numbers", TABLE_MEND)
    if kind == "f" and array.dtype.itemsize > 8:
        return _narrowed(argument, array, np.dtype(np.float64))
    if kind == "u" and array.dtype.itemsize > 1:
        return _narrowed(argument, array, np.dtype(np.int64))
    return np.require(array, dtype=array.dtype.newbyteorder("="), requirements=["C", "W"])


def _narrowed(argument: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype)
    same = np.array_equal(narrow.astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
    if not same or (array.dtype.kind == "u" and bool((narrow < 0).any())):
        raise ArgumentError(argument, f"numbers of {array.dtype} that {dtype} would round", "numbers that it holds")
    return narrow


def _from_objects(argument: str, array: np.ndarray) -> np.ndarray:
    """An array of numbers from Python's objects; None and the missing values of pandas become NaN."""
    numbers = [_number(argument, value) for value in array.ravel().tolist()]
    if all(isinstance(number, int) for number in numbers) and all(abs(number) < 2**63 for number in numbers):
        return np.array(numbers, dtype=np.int64).reshape(array.shape)
    for number in numbers:
        if isinstance(number, int) and abs(number) > MAX_WHOLE:
            raise ArgumentError(argument, "whole numbers beyond 2**53", "numbers that float64 holds exactly")
    return np.array(numbers, dtype=np.float64).reshape(array.shape)


def _number(argument: str, value: Any) -> int | float:
    value = plain_number(value)
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return math.nan
    if isinstance(value, bool | int | float):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, Decimal | Fraction):
        return float(value)
    raise CellError(argument, type(value).__name__)


def from_table(argument: str, table: Any) -> np.ndarray:
    """A DataFrame, Series or Index as an array; each column by itself, since together they would be rounded."""
    kind = type(table).__name__
    if kind == "LazyFrame":
        raise ArgumentError(argument, "a LazyFrame", "a DataFrame", "Write .collect().")
    if getattr(table, "ndim", None) == 1 or kind == "Series":
        return from_array(argument, _column(argument, table))
    names = [str(name) for name in table.columns]
    frame = hasattr(table, "iloc")
    columns = [table.iloc[:, k] if frame else table[:, k] for k in range(len(names))]
    named = [(f"{argument}, column {name!r}", column) for name, column in zip(names, columns, strict=True)]
    arrays = [from_array(name, _column(name, column)) for name, column in named]
    if not arrays:
        return np.empty((len(table), 0))
    if len({array.dtype for array in arrays}) > 1:
        for name, array in zip(names, arrays, strict=True):
            if array.dtype.kind in "iu" and array.size and max(-int(array.min()), int(array.max())) > MAX_WHOLE:
                got = f"whole numbers beyond 2**53 in column {name!r}, beside other numbers"
                raise ArgumentError(argument, got, "numbers that float64 holds exactly")
        arrays = [array.astype(np.float64) for array in arrays]
    return np.stack(arrays, axis=1)


def _column(name: str, series: Any) -> np.ndarray:
    words = str(series.dtype)
    if words in ("category", "Categorical", "Enum") or words.startswith(("Categorical", "Enum")):
        raise ArgumentError(name, "a column of categories", "numbers", TABLE_MEND)
    kind = str(getattr(getattr(series, "dtype", None), "base_type", lambda: "")())
    if kind in ("List", "Array", "Struct", "Binary", "Object"):
        raise ArgumentError(name, f"a column of the type {kind}", "numbers", TABLE_MEND)
    if hasattr(series, "to_numpy"):
        # Whole numbers with gaps become floats in polars, and strings objects in pandas. numpy has none of 128 bits.
        missing = hasattr(series, "null_count") and series.null_count() and series.dtype.is_integer()
        if missing or kind in ("Int128", "UInt128"):
            return np.array(series.to_list(), dtype=object)
        return np.asarray(series.to_numpy())
    return np.asarray(series)
