"""Samples, labels and weights of samples as scikit-learn's own checks take them; all else is refused by name."""

from typing import Any

import numpy as np
from torch import Tensor, bfloat16

from tpsolve._plain import (
    check_as_float64,
    check_no_gaps,
    from_array,
    from_table,
    plain_labels,
    plain_tensor,
    refuse_sparse,
)
from tpsolve.errors import ArgumentError, DeviceError


def samples_for_sklearn(argument: str, value: Any) -> Any:
    """Samples as scikit-learn's own checks take them: as they are, or a DataFrame of numbers with the same names.

    Those checks know what has NaN, another shape or other names of features, and say it. What they would take for
    other numbers, or refuse without a name, is refused here.

    Raises:
        ArgumentError: sparse or masked arrays, categories, words, dates, records, complex numbers, whole numbers
            beyond 2**53, rows of several lengths, or nothing that numpy reads; the message says how to mend it.
    """
    refuse_sparse(argument, value)
    if isinstance(value, Tensor):
        value = plain_tensor(argument, value)
    check_as_float64(argument, value)
    library = type(value).__module__.partition(".")[0]
    if library in ("pandas", "polars") and hasattr(value, "columns"):
        names = list(value.columns)
        if twice := [name for name in names if names.count(name) > 1]:
            raise ArgumentError(argument, f"two columns named {str(twice[0])!r}", "one")
        if not names:
            raise ArgumentError(argument, "a table without columns", "at least one")
        numbers = from_table(argument, value)
        _refuse_complex(argument, numbers)
        return type(value)(numbers, **{"columns" if library == "pandas" else "schema": value.columns})
    if library in ("pandas", "polars"):
        return value
    try:
        array = np.asanyarray(value)
    except (TypeError, ValueError) as error:
        got = f"what numpy does not read ({_first_line(error)})"
        raise ArgumentError(argument, got, "rows of numbers, all of one length") from error
    if array.ndim == 0 and array.dtype.kind not in "biuf":
        raise ArgumentError(argument, type(value).__name__, "an array, a list of rows or a DataFrame")
    _refuse_complex(argument, array)
    return from_array(argument, array) if array.dtype.kind in "OUSV" else value


def weights_for_sklearn(argument: str, weight: Any) -> Any:
    """Weights of samples as scikit-learn's own checks take them; None stands for 1 each.

    Raises:
        ArgumentError: as `samples_for_sklearn`, or missing ones.
    """
    if weight is None:
        return None
    if type(weight).__name__ != "LazyFrame":
        check_no_gaps(argument, weight)
    weight = samples_for_sklearn(argument, weight)
    if type(weight).__module__.partition(".")[0] in ("pandas", "polars"):
        weight = from_table(argument, weight)
        _refuse_complex(argument, weight)
    return weight


def labels_for_sklearn(argument: str, labels: Any) -> Any:
    """Labels as scikit-learn's own checks take them, which see to their number, and to numbers that are no classes.

    Raises:
        ArgumentError: labels that are missing, or of several kinds, or neither numbers, words nor dates; a sparse
            matrix, or a table of polars; the message says how to mend it.
    """
    refuse_sparse(argument, labels)
    library = type(labels).__module__.partition(".")[0]
    if library == "polars" and hasattr(labels, "columns"):
        raise ArgumentError(argument, "a DataFrame", "one class label a sample", "Take its column: df[name].")
    if isinstance(labels, Tensor):
        labels = plain_tensor(argument, labels).detach()
        if labels.device.type == "meta":
            raise DeviceError(argument, "a tensor on meta", "a device that holds numbers")
        labels = (labels.float() if labels.dtype is bfloat16 else labels).cpu().numpy()
    check_no_gaps(argument, labels)
    kind = str(getattr(labels, "dtype", ""))
    if library in ("pandas", "polars") and getattr(labels, "ndim", 1) == 1 and not kind.startswith(("date", "Date")):
        labels = labels.tolist() if library == "pandas" else labels.to_list()
    if labels is None or (isinstance(labels, np.ndarray) and labels.dtype.kind in "biufUM"):
        return labels
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "cSV":
        what = {"c": "complex numbers", "S": "bytes", "V": "records"}[labels.dtype.kind]
        raise ArgumentError(argument, f"labels that are {what}", "numbers or words")
    if not isinstance(labels, np.ndarray | list | tuple):
        if hasattr(labels, "__array__"):
            return labels
        raise ArgumentError(argument, type(labels).__name__, "one class label a sample")
    if np.ndim(labels) != 1:
        return labels
    plain = plain_labels(argument, labels)
    words = {isinstance(label, str) for label in plain}
    if len(words) > 1:
        raise ArgumentError(argument, "numbers mixed with words", "labels of one kind")
    if any(isinstance(label, int) and abs(label) >= 2**63 for label in plain):
        raise ArgumentError(argument, "whole numbers of more than 64 bits", "shorter ones", "Write them as words.")
    return np.array(plain, dtype=object if words == {True} else None)


def _refuse_complex(argument: str, array: np.ndarray) -> None:
    if array.dtype.kind == "c":
        mend = "Complex data not supported: give real and imaginary parts as columns of their own."
        raise ArgumentError(argument, "complex numbers", "real numbers", mend)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
