"""What every data set is once it is read: images and labels, for training and for testing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError, FileFormatError, ShapeError


@dataclass(frozen=True)
class Images:
    """A data set in memory.

    Args:
        inputs: `(N, C, H, W)` uint8, for training; of a table `(N, n, 1, 1)` float32.
        labels: `(N,)` int64 in [0, classes); of groups, whose images lie one behind the other in C, `(N, count)`.
        test_inputs, test_labels: likewise.
        classes: how many there are.
        mean, std: of each channel, in units of a pixel: the networks see (pixel - mean) / std.
        validation_inputs, validation_labels: what `hold_out` took from the training set; empty before.
        raw, raw_test: of a table, `(N, n)` float64, the rows before they were standardised.
        exact, exact_test: of a table whose numbers float64 rounds, these rows before rounding.

    Raises:
        ShapeError: inputs and labels disagree.
        ArgumentError: a label outside the classes.
    """

    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation_inputs: Tensor | None = None
    validation_labels: Tensor | None = None
    raw: Tensor | None = None
    raw_test: Tensor | None = None
    exact: Sequence[tuple[Fraction, ...]] | None = None
    exact_test: Sequence[tuple[Fraction, ...]] | None = None

    def __post_init__(self) -> None:
        for inputs, labels in ((self.inputs, self.labels), (self.test_inputs, self.test_labels)):
            if inputs.dim() != 4 or len(inputs) != len(labels):
                raise ShapeError("inputs", f"{tuple(inputs.shape)} for {len(labels)} labels", "(labels, C, H, W)")
            if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < self.classes):
                raise ArgumentError("labels", f"{int(labels.min())} to {int(labels.max())}", f"0 to {self.classes - 1}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (C, H, W)."""
        return tuple(self.inputs.shape[1:])

    def limit(self, count: int, seed: int) -> "Images":
        """The same data with only `count` images of the training set, drawn by `seed`."""
        if count > len(self.labels):
            raise ArgumentError("images", count, f"at most {len(self.labels)}, the images of the training set")
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        return self._only(order[:count].sort().values)

    def hold_out(self, share: float, seed: int) -> "Images":
        """The same data with `share` of the training set set aside for validation, drawn by `seed`."""
        if not 0 <= share < 1:
            raise ArgumentError("validation", share, "a share of at least 0 and less than 1")
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        held, kept = order.tensor_split([round(share * len(order))])
        # Sorted, so that without validation the training set is as it was.
        return replace(
            self._only(kept.sort().values),
            validation_inputs=self.inputs[held],
            validation_labels=self.labels[held],
        )

    def _only(self, kept: Tensor) -> "Images":
        """The same data with only the images `kept` of the training set."""
        raw = None if self.raw is None else self.raw[kept]
        exact = None if self.exact is None else [self.exact[row] for row in kept.tolist()]
        return replace(self, inputs=self.inputs[kept], labels=self.labels[kept], raw=raw, exact=exact)


def check_counts(what: str, inputs: Tensor, labels: Tensor) -> None:
    """Raise FileFormatError unless a file of images and one of labels hold equally many."""
    if len(inputs) != len(labels):
        raise FileFormatError(f"{what}: {len(inputs)} images but {len(labels)} labels. Fetch the files again.")
