"""Groups of images, of which a program knows something only as a whole."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError
from tpsolve.train.data._images import Images
from tpsolve.train.data._resident import Batch, Resident


class Groups:
    """The batches of a data set whose images stand in fixed groups: each image is in one, or left over.

    Batches are inputs `(B * count, C, H, W)`, the images of a group one after another, and their classes `(B, count)`.
    Order and augmentation are those of `Resident`. The images of a group are cut and mirrored alike.

    Args:
        count: images of a group.
        batch: groups of a batch.
        seed: draws the groups for training and validation. Those for testing are always the same ones.
        options: of `Resident`.

    Raises:
        ArgumentError: there are fewer images than a group has, or fewer groups than a batch has.
    """

    classes: int
    shape: tuple[int, ...]
    steps: int
    images: Images

    def __init__(
        self,
        images: Images,
        count: int,
        device: torch.device,
        batch: int,
        *,
        seed: int = 0,
        channels_last: bool = False,
        **options: Any,
    ) -> None:
        least = min(len(images.labels), len(images.test_labels))
        if count > least:
            raise ArgumentError("count", count, f"at most {least}, the images of a set")
        if batch > len(images.labels) // count:
            there = len(images.labels) // count
            raise ArgumentError("batch", batch, f"at most {there}, the groups of {count} images of the training set")
        self.images = images
        self.classes, self.shape, self._count = images.classes, images.shape, count
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        inputs, labels = _grouped(images.inputs, images.labels, count, seed)
        test_inputs, test_labels = _grouped(images.test_inputs, images.test_labels, count, 0)
        held = images.validation_inputs, images.validation_labels
        if held[0] is not None and held[1] is not None:
            held = _grouped(held[0], held[1], count, seed)
        grouped = replace(
            images,
            inputs=inputs,
            labels=labels,
            test_inputs=test_inputs,
            test_labels=test_labels,
            validation_inputs=held[0],
            validation_labels=held[1],
            mean=images.mean * count,
            std=images.std * count,
        )
        self._groups = Resident(grouped, device, batch, **options)
        self.steps = self._groups.steps

    def train(self, seed: int, first: int = 0) -> Iterator[Batch]:
        """Every batch from number `first` on, of the epoch that `seed` draws."""
        return self._single(self._groups.train(seed, first))

    def test(self) -> Iterator[Batch]:
        """The test set."""
        return self._single(self._groups.test())

    def validation(self) -> Iterator[Batch] | None:
        """What was held out of the training set; None if nothing was."""
        batches = self._groups.validation()
        return None if batches is None else self._single(batches)

    def _single(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for inputs, labels in batches:
            yield inputs.reshape(-1, *self.shape).contiguous(memory_format=self._format), labels


def _grouped(inputs: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs `(N, count * C, H, W)` and labels `(N, count)` of groups that `seed` draws."""
    _, channels, height, width = inputs.shape
    groups = len(labels) // count
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[: groups * count]
    return inputs[order].reshape(groups, count * channels, height, width), labels[order].reshape(groups, count)
