"""CIFAR-10 in its original python and binary layouts, and as lossless mosaics."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsolve.errors import FileFormatError
from tpsolve.train.data._images import Images, check_counts

SIDE, CHANNELS, CLASSES = 32, 3, 10
PIXELS = CHANNELS * SIDE * SIDE
TILES = 100
"""Images along each side of a mosaic."""
MEAN, STD = (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)
"""Of the training pixels, for each channel."""


def load_cifar10(folder: Path) -> Images:
    """50,000 and 10,000 colour images of 32 x 32, from whichever layout is in `folder`.

    Raises:
        FileFormatError: no layout is there, or a file of one is missing or damaged; the message names it.
    """
    for marker, batches in LAYOUTS.items():
        for place in (folder, folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"):
            if (place / marker).is_file():
                *train, (xt, yt) = batches(place)
                x, y = torch.cat([images for images, _ in train]), torch.cat([labels for _, labels in train])
                return Images(x, y, xt, yt, CLASSES, MEAN, STD)
    raise FileFormatError(
        f"{folder}: no CIFAR-10. Put in data_batch_1 to 5 and test_batch (python), the same with .bin (binary), "
        "or cifar10_train_1 to 5.webp, cifar10_test.webp and cifar10_labels.npz; nothing is downloaded."
    )


class _Numbers(pickle.Unpickler):
    """Reads only arrays and plain containers: a pickle of unknown origin could run anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0], name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy", "_reconstruct")}:
            # Where numpy keeps `_reconstruct` depends on the version that wrote the file.
            return np.empty(0).__reduce__()[0] if name == "_reconstruct" else getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            import _codecs

            return _codecs.encode
        raise pickle.UnpicklingError(f"{module}.{name} has no place here")


def _python(folder: Path) -> list[tuple[Tensor, Tensor]]:
    def read(path: Path) -> tuple[Tensor, Tensor]:
        with path.open("rb") as stream:
            content = _Numbers(stream, encoding="bytes").load()
        pixels = np.asarray(content[b"data"], np.uint8).reshape(-1, CHANNELS, SIDE, SIDE)
        return torch.from_numpy(pixels.copy()), torch.as_tensor(content[b"labels"], dtype=torch.int64)

    return [_read(folder / name, read) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]


def _binary(folder: Path) -> list[tuple[Tensor, Tensor]]:
    def read(path: Path) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(np.fromfile(path, np.uint8).reshape(-1, 1 + PIXELS))
        return rows[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE).clone(), rows[:, 0].long()

    return [_read(folder / f"{name}.bin", read) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]


def _mosaics(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """One WebP a batch, its images row by row, and all labels in one file."""
    from PIL import Image

    def labels(path: Path) -> list[Tensor]:
        with np.load(path) as arrays:
            return [*torch.from_numpy(arrays["train"]).long().split(TILES**2), torch.from_numpy(arrays["test"]).long()]

    def images(path: Path) -> Tensor:
        with Image.open(path) as mosaic:
            tiles = np.asarray(mosaic.convert("RGB")).reshape(TILES, SIDE, TILES, SIDE, CHANNELS)
        return torch.from_numpy(tiles.transpose(0, 2, 4, 1, 3).reshape(-1, CHANNELS, SIDE, SIDE).copy())

    names = (*(f"cifar10_train_{i}" for i in range(1, 6)), "cifar10_test")
    split = _guarded(folder / "cifar10_labels.npz", labels)
    if len(split) != len(names):
        raise FileFormatError(f"{folder / 'cifar10_labels.npz'}: not the labels of 60,000 images. Fetch it again.")
    read = [_guarded(folder / f"{name}.webp", images) for name in names]
    for name, x, y in zip(names, read, split, strict=True):
        check_counts(f"{folder / name}.webp", x, y)
    return list(zip(read, split, strict=True))


LAYOUTS = {"data_batch_1": _python, "data_batch_1.bin": _binary, "cifar10_labels.npz": _mosaics}
"""A file that gives a layout away, and what reads its five training batches and its test batch."""


def _read(path: Path, read: Callable[[Path], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = _guarded(path, read)
    check_counts(str(path), images, labels)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < CLASSES:
        raise FileFormatError(f"{path}: labels outside 0 to {CLASSES - 1}; the file is damaged. Fetch it again.")
    return images, labels


def _guarded(path: Path, read: Callable[[Path], Any]) -> Any:
    """`read(path)`, with everything that numpy, pickle or Pillow raises on bytes not theirs as FileFormatError."""
    if not path.is_file():
        raise FileFormatError(f"{path}: missing. Put it there; nothing is downloaded.")
    try:
        return read(path)
    except Exception as error:  # numpy, pickle and Pillow have no common kind for bytes that are not theirs.
        raise FileFormatError(f"{path}: damaged or foreign ({error}). Fetch it again.") from error
