"""Batches of a data set that lies whole on one device, where it is also augmented."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from tpsolve.errors import ArgumentError
from tpsolve.train.data._images import Images
from tpsolve.train.data._table_rows import TablePreprocessing

TEST_BATCH = 1000
ROOM = 0.5
"""Share of a GPU's free memory that a data set may take; a larger one stays in the memory of the host."""

Batch = tuple[Tensor, Tensor]
"""Inputs `(B, C, H, W)` float32, normalised, and labels `(B,)` int64."""


class Resident:
    """The batches of one process, out of `world` that share each global batch in equal parts.

    An epoch is a random order of the training set, cut into whole batches; what is left over is not seen
    in that epoch. Equal seeds give equal global batches, whatever the device and the number of processes.

    Args:
        batch: images of a global batch.
        crop: pixels of black border; a random part of the original size is cut out. 0: none.
        flip: mirror every image left to right with probability 1/2.
        table: how a table became these inputs; None: they are images.
        rank, world: which process this is, and how many there are.
    """

    classes: int
    shape: tuple[int, ...]
    steps: int
    table: TablePreprocessing | None
    images: Images

    def __init__(
        self,
        images: Images,
        device: torch.device,
        batch: int,
        *,
        crop: int = 0,
        flip: bool = False,
        table: TablePreprocessing | None = None,
        channels_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch > len(images.labels):
            raise ArgumentError("batch", batch, f"at most {len(images.labels)}, the images of the training set")
        self.table, self.images = table, images
        self.classes, self.shape = images.classes, images.shape
        self.steps = len(images.labels) // batch
        self._device, self._batch, self._crop, self._flip = device, batch, crop, flip
        self._rank, self._world = rank, world
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (images.mean, images.std))
        inputs = functional.pad(images.inputs, (crop,) * 4)
        self._home = device if _fits(inputs, device) else torch.device("cpu")
        self._train = inputs.to(self._home), images.labels.to(self._home)
        self._test = images.test_inputs, images.test_labels
        self._validation = None
        if images.validation_inputs is not None and images.validation_labels is not None:
            self._validation = images.validation_inputs, images.validation_labels

    def train(self, seed: int, first: int = 0) -> Iterator[Batch]:
        """The part of this process of every batch from number `first` on, of the epoch that `seed` draws."""
        inputs, labels = self._train
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(labels), generator=generator)[: self.steps * self._batch]
        drawn = [
            torch.randint(0, 2 * self._crop + 1, (2, len(labels)), generator=generator),
            torch.randint(0, 2, (1, len(labels)), generator=generator) * int(self._flip),
        ]
        order, drawn = order.to(self._home), torch.cat(drawn).to(self._home)
        for batch in order.split(self._batch)[first:]:
            index = batch.tensor_split(self._world)[self._rank]
            yield self._ready(self._cut(inputs, index, *drawn[:, index])), labels[index].to(self._device)

    def test(self) -> Iterator[Batch]:
        """The part of this process of the test set."""
        return self._plain(*self._test)

    def validation(self) -> Iterator[Batch] | None:
        """The part of this process of what was held out of the training set; None if nothing was."""
        if self._validation is None or not len(self._validation[1]):
            return None
        return self._plain(*self._validation)

    def _plain(self, inputs: Tensor, labels: Tensor) -> Iterator[Batch]:
        ours = slice(self._rank, None, self._world)
        for x, y in zip(inputs[ours].split(TEST_BATCH), labels[ours].split(TEST_BATCH), strict=True):
            yield self._ready(x), y.to(self._device)

    def _cut(self, inputs: Tensor, index: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
        if not (self._crop or self._flip):
            return inputs[index]
        channels, height, width = (torch.arange(size, device=self._home) for size in self.shape)
        rows = (down[:, None] + height)[:, None, :, None]
        columns = (right[:, None] + torch.where(mirrored[:, None] > 0, width.flip(0), width))[:, None, None]
        return inputs[index[:, None, None, None], channels[:, None, None], rows, columns]

    def _ready(self, pixels: Tensor) -> Tensor:
        normalised = (pixels.to(self._device, torch.float32) - self._mean) / self._std
        return normalised.contiguous(memory_format=self._format)


def _fits(inputs: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return inputs.numel() <= ROOM * free
