"""The data set of a recipe, as batches for one process."""

from pathlib import Path

import torch

from tpsolve.errors import ArgumentError
from tpsolve.train._recipe import Recipe
from tpsolve.train.data._cifar10 import load_cifar10
from tpsolve.train.data._digits import load_digits
from tpsolve.train.data._folders import Folders
from tpsolve.train.data._groups import Groups
from tpsolve.train.data._idx import load_fashion_mnist, load_mnist
from tpsolve.train.data._resident import Resident
from tpsolve.train.data._table_rows import load_table

READERS = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist, "cifar10": load_cifar10}
"""Data sets that are read from files into memory."""


def load_data(
    recipe: Recipe, root: Path | None, device: torch.device, rank: int = 0, world: int = 1
) -> Resident | Groups | Folders:
    """The batches of process `rank` out of `world`, from the files in `root`.

    Raises:
        ArgumentError: the data set needs a `root` and got none, or the settings do not fit it.
        FileFormatError: files are missing or damaged; the message says which.
    """
    if recipe.data not in ("digits", "table") and root is None:
        raise ArgumentError("data_root", None, f"the folder of {recipe.data}", "Give it, or set TPSOLVE_DATA.")
    process = {"channels_last": recipe.channels_last, "rank": rank, "world": world}
    if recipe.data == "imagenet":
        assert root is not None
        if recipe.images:
            raise ArgumentError("images", recipe.images, "0: image folders are used whole")
        if recipe.crop:
            raise ArgumentError("crop", recipe.crop, "0: image folders are cut at random anyway")
        return Folders(root, device, recipe.batch, validation=recipe.validation, seed=recipe.seed, **process)
    table = None
    if recipe.data == "table":
        images, table = load_table(recipe)
    else:
        images = load_digits() if root is None or recipe.data == "digits" else READERS[recipe.data](root)
    if recipe.images:
        images = images.limit(recipe.images, recipe.seed)
    images = images.hold_out(recipe.validation, recipe.seed)
    if recipe.program:
        augmented = {"crop": recipe.crop, "flip": recipe.flip, "channels_last": recipe.channels_last}
        return Groups(images, recipe.count, device, recipe.batch, seed=recipe.seed, **augmented)
    return Resident(images, device, recipe.batch, crop=recipe.crop, flip=recipe.flip, table=table, **process)
