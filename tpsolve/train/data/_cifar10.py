"""CIFAR-10 in its original python and binary layouts, and as lossless mosaics."""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsolve._storage._archive import read_arrays
from tpsolve._storage._limits import read_bytes
from tpsolve.errors import FileFormatError, TooLargeError
from tpsolve.train.data._folders import read_image
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


class _Part:
    """What stands in a pickle for an array or its type: what it was made of, and nothing that runs."""

    def __init__(self, *made_of: Any) -> None:
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Numbers(pickle.Unpickler):
    """Reads only bytes and plain containers: a pickle of unknown origin could run anything else."""

    def find_class(self, module: str, name: str) -> Any:
        # Where numpy keeps `_reconstruct` depends on the version that wrote the file.
        if module.split(".")[0] == "numpy" and name in ("ndarray", "dtype", "_reconstruct"):
            return _Part
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding="latin1": text.encode("latin1")
        raise pickle.UnpicklingError(f"{module}.{name} has no place here")


def _unpickled(path: Path) -> Any:
    content = read_bytes(path)
    for count, (code, argument, _) in enumerate(pickletools.genops(content)):
        # A memo is as long as its largest number says.
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not (argument or 0) <= count:
            raise pickle.UnpicklingError("a memo that is not in order")
    return _Numbers(io.BytesIO(content), encoding="bytes").load()


def _python(folder: Path) -> list[tuple[Tensor, Tensor]]:
    def read(path: Path) -> tuple[Tensor, Tensor]:
        content = _unpickled(path)
        data, labels = content[b"data"], content[b"labels"]
        raw = data.state[-1]
        if type(raw) is not bytes or not all(type(label) is int and 0 <= label < CLASSES for label in labels):
            raise ValueError("no pixels and labels")
        pixels = np.frombuffer(raw, np.uint8).reshape(-1, CHANNELS, SIDE, SIDE)
        return torch.from_numpy(pixels.copy()), torch.tensor(labels, dtype=torch.int64)

    return [_read(folder / name, read) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]


def _binary(folder: Path) -> list[tuple[Tensor, Tensor]]:
    def read(path: Path) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(np.frombuffer(read_bytes(path), np.uint8).reshape(-1, 1 + PIXELS).copy())
        return rows[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE).clone(), rows[:, 0].long()

    return [_read(folder / f"{name}.bin", read) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]


def _mosaics(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """One WebP a batch, its images row by row, and all labels in one file."""

    def labels(path: Path) -> list[Tensor]:
        arrays = read_arrays(path, ("train", "test"))
        return [*arrays["train"].long().split(TILES**2), arrays["test"].long()]

    def images(path: Path) -> Tensor:
        tiles = np.asarray(read_image(path)).reshape(TILES, SIDE, TILES, SIDE, CHANNELS)
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
    except TooLargeError:
        raise
    except Exception as error:  # numpy, pickle and Pillow have no common kind for bytes that are not theirs.
        raise FileFormatError(f"{path}: damaged or foreign ({error}). Fetch it again.") from error
