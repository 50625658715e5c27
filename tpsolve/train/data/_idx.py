"""MNIST and Fashion-MNIST in idx files: raw, .gz or .xz."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tpsolve._storage._limits import DAMAGED, PACKED, check_bytes, opened, read_part
from tpsolve.errors import FileFormatError
from tpsolve.train.data._images import Images, check_counts

PARTS = ("train_images", "train_labels", "test_images", "test_labels")
ORIGINAL = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
UNSIGNED_BYTES = 8
"""The code of the only type of numbers that these sets use."""


def load_mnist(folder: Path) -> Images:
    """Handwritten digits, 60,000 and 10,000 of 28 x 28; see `load_idx`."""
    return load_idx(folder, ("mnist", "MNIST"), mean=33.3184, std=78.5675)


def load_fashion_mnist(folder: Path) -> Images:
    """Articles of clothing, 60,000 and 10,000 of 28 x 28; see `load_idx`."""
    return load_idx(folder, ("fashion", "FashionMNIST"), mean=72.9404, std=90.0212)


def load_idx(folder: Path, names: tuple[str, str], mean: float, std: float) -> Images:
    """A set of four files, named as in the original or like fashion_train_images.idx.

    They lie in `folder`, or below it in a folder with one of the `names` of the set, or in that one's `raw`.
    Each may be compressed, with .gz or .xz at the end of its name.

    Raises:
        FileFormatError: a file is missing or damaged; the message names it.
    """
    read = [_read(_find(folder, names, part)) for part in range(len(PARTS))]
    for images, labels in (read[:2], read[2:]):
        if images.dim() != 3 or labels.dim() != 1:
            raise FileFormatError(f"{folder}: the files of images and of labels are mixed up. Fetch them again.")
        check_counts(f"{folder}", images, labels)
    x, y, xt, yt = read
    return Images(x[:, None], y.long(), xt[:, None], yt.long(), 10, mean=(mean,), std=(std,))


def _find(folder: Path, names: tuple[str, str], part: int) -> Path:
    folders = [folder, *(folder / name / below for name in names for below in ("", "raw"))]
    # The names of our own first: the original ones are the same for both sets.
    stems = (f"{names[0]}_{PARTS[part]}.idx", ORIGINAL[part])
    for path in (place / (stem + ending) for stem in stems for place in folders for ending in ("", *PACKED)):
        if path.is_file():
            return path
    raise FileFormatError(
        f"{folder}: no file {' or '.join(stems)}, with or without .gz or .xz. "
        f"Put the four files of the set into it, or into {folder / names[1]}; nothing is downloaded."
    )


def _read(path: Path) -> Tensor:
    with opened(path, PACKED.get(path.suffix, open)) as stream:
        try:
            start = stream.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] != UNSIGNED_BYTES or start[3] not in (1, 3):
                raise FileFormatError(f"{path}: not an idx file of bytes. Fetch it again.")
            axes = start[3]
            sizes = stream.read(4 * axes)
            shape = np.frombuffer(sizes, ">u4").tolist() if len(sizes) == 4 * axes else [-1]
            size = math.prod(shape)
            check_bytes(path, size)
            # A byte that is too many is enough to tell: the rest is not unpacked.
            content = read_part(stream, max(size, 0) + 1)
        except DAMAGED as error:
            raise FileFormatError(f"{path}: can't be read ({error}). Fetch it again.") from error
    if len(content) != size:
        raise FileFormatError(f"{path}: holds other bytes than its header says. Fetch it again.")
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())
