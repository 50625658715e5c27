"""scikit-learn's digits: 1,797 scans of 8 x 8, which come with the library."""

from functools import cache

import torch
from torch import Tensor

from tpsolve.train.data._images import Images

TEST = 360
"""Scans for testing, always the same ones."""


@cache
def scans() -> tuple[Tensor, Tensor]:
    """Pixels `(1797, 64)` float64 from 0 to 16, and labels `(1797,)` int64; read once, not to be changed."""
    from sklearn.datasets import load_digits as load

    pixels, labels = load(return_X_y=True)
    return torch.as_tensor(pixels), torch.as_tensor(labels)


def load_digits() -> Images:
    """1,437 scans for training and 360 for testing, 10 classes; pixels from 0 to 16 are seen as -1 to 1."""
    pixels, labels = scans()
    inputs = pixels.to(torch.uint8).reshape(-1, 1, 8, 8)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:TEST], order[TEST:]
    return Images(inputs[train], labels[train], inputs[test], labels[test], 10, mean=(8.0,), std=(8.0,))
