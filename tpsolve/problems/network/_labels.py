"""Class labels of samples: read, sorted, coded as +-1 outputs, and counted at each distinct point."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from tpsolve._plain import plain_labels
from tpsolve.errors import ArgumentError, ShapeError, TooLargeError
from tpsolve.units._data import group_rows

MAX_CLASSES = 64
"""A target column with more values than that is a number to predict, not a class."""

Label = str | int | float | bool


@dataclass(frozen=True)
class Labels:
    """The classes of N samples.

    Args:
        classes: their names, sorted.
        index: `(N,)` int64, the class of each sample.
    """

    classes: tuple[Label, ...]
    index: Tensor

    @property
    def outputs(self) -> int:
        """Output units: one for two classes (+1: the second of them) or fewer, else one a class."""
        return 1 if len(self.classes) <= 2 else len(self.classes)


def read_labels(argument: str, values: Any, count: int) -> Labels:
    """`values`, a tensor, array or sequence of `count` numbers or words, as `Labels`.

    Raises:
        ShapeError: not `count` labels in one axis.
        NotFiniteError: NaN, infinity, or no label.
        ArgumentError: labels of kinds that can't be sorted.
        TooLargeError: more than `MAX_CLASSES` classes.
    """
    plain = plain_labels(argument, values)
    if len(plain) != count or any(isinstance(label, Sequence) and not isinstance(label, str) for label in plain):
        rows = {len(each) for each in plain if isinstance(each, Sequence) and not isinstance(each, str)}
        shape = tuple(getattr(values, "shape", (len(plain), *(rows if len(rows) == 1 else ()))))
        got = f"rows of {len(rows)} lengths" if len(rows) > 1 else f"shape {shape}"
        mend = "Take its column: y[:, 0], or a flat list." if shape == (count, 1) else ""
        raise ShapeError(argument, got, f"({count},): one class label a sample", mend)
    try:
        classes = tuple(sorted(set(plain)))
    except TypeError as error:
        raise ArgumentError(argument, "numbers mixed with words", "labels of one kind") from error
    if len(classes) > MAX_CLASSES:
        mend = "Is it a number to predict? Put it into a few classes."
        raise TooLargeError(argument, f"{len(classes)} classes", f"at most {MAX_CLASSES}", mend)
    place = {label: k for k, label in enumerate(classes)}
    return Labels(classes, torch.tensor([place[label] for label in plain], dtype=torch.int64))


def merge_samples(
    inputs: Tensor, index: Tensor, weight: Tensor, classes: int, exact: Sequence[Sequence[Fraction]] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct points `(M, p)`, the weight of each class there `(M, classes)`, and each sample's point `(N,)`.

    Points stand in the order in which they first appear. With `exact` rows, which `inputs` round, those are distinct.
    """
    group = group_rows(inputs)
    if exact is not None:
        numbers: dict[tuple[Fraction, ...], int] = {}
        group = torch.tensor([numbers.setdefault(tuple(row), len(numbers)) for row in exact], device=inputs.device)
    count = int(group.max()) + 1
    rows = torch.arange(len(group), device=group.device)
    first = torch.full((count,), len(group), device=group.device).scatter_reduce(0, group, rows, "amin")
    order = first.argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=order.device)
    group = rank[group]
    counts = inputs.new_zeros(count, classes, dtype=torch.float64)
    counts.index_put_((group, index), weight, accumulate=True)
    return inputs[first[order]], counts, group


def code(index: Tensor, outputs: int) -> Tensor:
    """Wanted outputs `(M, outputs)` of the classes `index (M,)`: float64 in {-1, +1}."""
    if outputs == 1:
        return 2.0 * index[:, None].double() - 1
    return 2.0 * torch.nn.functional.one_hot(index, outputs).double() - 1


def decode(outputs: Tensor) -> Tensor:
    """The class that `outputs (..., outputs)` in {-1, +1} name: `(...,)` int64; -1 if not just one of several fires."""
    fires = outputs > 0
    if outputs.shape[-1] == 1:
        return fires[..., 0].long()
    return torch.where(fires.sum(-1) == 1, fires.long().argmax(-1), -1)
