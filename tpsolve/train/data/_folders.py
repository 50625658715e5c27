"""Image folders, as of ImageNet: too large for memory, so read by worker processes during the run."""

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from tpsolve._storage._limits import check_bytes
from tpsolve.errors import ArgumentError, FileFormatError, TooLargeError, TpsolveError
from tpsolve.train.data._resident import Batch

if TYPE_CHECKING:
    from PIL import Image

SIDE, TEST_SIDE = 224, 256
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's training pixels, as everywhere in use."""
ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
PIXEL_BYTES = 16
"""Of a pixel while it is unpacked and converted."""
MIN_AREA, MAX_RATIO = 0.08, 4 / 3
"""A training image is a random part of the original: at least this share of it, sides at most so unequal."""
TEST_BATCH = 250


class Folders:
    """The batches of `root/train/CLASS/*` and `root/val/CLASS/*`, seen as 224 x 224 and normalised by channel.

    Training images are random parts of the originals, mirrored at random; test images are the middle.
    The interface is that of `Resident`, whose docstring explains the other arguments.

    Raises:
        FileFormatError: a folder is missing, or the two have not the same classes.
    """

    classes: int
    names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shape: tuple[int, int, int]
    steps: int

    def __init__(
        self,
        root: Path,
        device: torch.device,
        batch: int,
        *,
        validation: float = 0.0,
        seed: int = 0,
        channels_last: bool = False,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
    ) -> None:
        names, files = _listed(root / "train")
        test_names, self._test = _listed(root / "val")
        if names != test_names:
            odd = sorted(set(names) ^ set(test_names))
            raise FileFormatError(f"{root}: classes of train and val differ: {', '.join(odd[:5])}")
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
        held = round(validation * len(files))
        self._validation, self._files = [files[i] for i in order[:held]], [files[i] for i in sorted(order[held:])]
        if batch > len(self._files):
            raise ArgumentError("batch", batch, f"at most {len(self._files)}, the images of the training set")
        self.names, self.mean, self.std = tuple(names), MEAN, STD
        self.classes, self.shape, self.steps = len(names), (3, SIDE, SIDE), len(self._files) // batch
        self._device, self._batch, self._rank, self._world = device, batch, rank, world
        self._workers = max(1, (os.cpu_count() or 2) // world) if workers is None else workers
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (MEAN, STD))

    def train(self, seed: int, first: int = 0) -> Iterator[Batch]:
        """As `Resident.train`."""
        order = torch.randperm(len(self._files), generator=torch.Generator().manual_seed(seed))
        batches = order[: self.steps * self._batch].split(self._batch)[first:]
        ours = [batch.tensor_split(self._world)[self._rank].tolist() for batch in batches]
        return self._batches(_Decoded(self._files, seed), ours)

    def test(self) -> Iterator[Batch]:
        """As `Resident.test`."""
        return self._plain(self._test)

    def validation(self) -> Iterator[Batch] | None:
        """As `Resident.validation`."""
        return self._plain(self._validation) if self._validation else None

    def _plain(self, files: list[tuple[Path, int]]) -> Iterator[Batch]:
        ours = torch.arange(self._rank, len(files), self._world).split(TEST_BATCH)
        return self._batches(_Decoded(files, None), [part.tolist() for part in ours])

    def _batches(self, decoded: "_Decoded", batches: list[list[int]]) -> Iterator[Batch]:
        loader = DataLoader(
            decoded,
            batch_sampler=batches,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            collate_fn=_together,
        )
        for batch in loader:
            if isinstance(batch, TpsolveError):
                raise batch
            pixels, labels = batch
            ready = (pixels.to(self._device, non_blocking=True).float() - self._mean) / self._std
            yield ready.contiguous(memory_format=self._format), labels.to(self._device, non_blocking=True)


class _Decoded(Dataset):
    """Images as `(3, 224, 224)` uint8; cut and mirrored at random if there is a seed."""

    def __init__(self, files: list[tuple[Path, int]], seed: int | None) -> None:
        self._files, self._seed = files, seed

    def __getitem__(self, index: int) -> tuple[Tensor, int] | TpsolveError:
        from PIL import Image

        path, label = self._files[index]
        try:
            image = read_image(path)
        except TpsolveError as error:
            # Raised in a worker, it would come back as text with a traceback.
            return error
        if self._seed is None:
            scale = TEST_SIDE / min(image.size)
            image = image.resize([max(SIDE, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
            left, top = ((side - SIDE) // 2 for side in image.size)
            image = image.crop((left, top, left + SIDE, top + SIDE))
        else:
            # Each image of each epoch has draws of its own, whichever worker reads it.
            generator = torch.Generator().manual_seed((self._seed * 1_000_003 + index) % 2**63)
            box, mirrored = _random_part(*image.size, torch.rand(5, generator=generator).tolist())
            image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), label


def _together(items: list[Any]) -> Any:
    """A batch of images and labels, or the first error among them."""
    return next((item for item in items if isinstance(item, TpsolveError)), None) or default_collate(items)


def read_image(path: Path) -> "Image.Image":
    """The image at `path` in colour, of whose size the header speaks before it is unpacked.

    Raises:
        FileFormatError: no image that can be read.
        TooLargeError: more pixels than a file may take.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # The limit is the same for all files.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, "r", FORMATS) as found:
                check_bytes(path, PIXEL_BYTES * found.width * found.height)
                return found.convert("RGB")
    except TooLargeError:
        raise
    except Exception as error:  # Pillow has no common kind for bytes that are not an image's.
        raise FileFormatError(f"{path}: no image that can be read ({error}). Fetch it again.") from error


def _random_part(width: int, height: int, draws: list[float]) -> tuple[tuple[float, float, float, float], bool]:
    """A box (left, top, right, bottom) of the image, and whether to mirror it, from five numbers in [0, 1)."""
    area = width * height * (MIN_AREA + (1 - MIN_AREA) * draws[0])
    ratio = MAX_RATIO ** (2 * draws[1] - 1)
    w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = (width - w) * draws[2], (height - h) * draws[3]
    return (left, top, left + w, top + h), draws[4] < 0.5


def _listed(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """The classes of a folder in alphabetical order, and its images with the number of their class."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in ENDINGS
    ]
    if not files:
        raise FileFormatError(
            f"{folder}: no images. Put them into folders named after their classes, such as "
            f"{folder / 'n01440764' / 'picture.JPEG'}; nothing is downloaded."
        )
    return names, files
