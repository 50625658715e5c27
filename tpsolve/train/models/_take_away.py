"""What a run leaves to be used: a network that reads raw pixels or numbers, and a model file of dense networks."""

import os
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from tpsolve._storage._documents import Label, Positive, check_shape
from tpsolve.errors import FileFormatError, NotAcceptedError, ShapeError
from tpsolve.models import model_of_network
from tpsolve.nn import plain_weights
from tpsolve.train._checkpoint import load_weights, read_checkpoint, recipe_of
from tpsolve.train._recipe import Recipe
from tpsolve.train.data._folders import Folders
from tpsolve.train.data._groups import Groups
from tpsolve.train.data._resident import Resident
from tpsolve.train.models._build import build_model
from tpsolve.train.models._few_weights import has_few_weights

MODEL = "model.npz"
CHECKPOINT = "checkpoint.pt"
BEFORE = "checkpoint-before.pt"
"""The checkpoint before it."""


class _Inputs(TypedDict):
    """What a checkpoint says of the inputs of its network."""

    shape: Annotated[list[Positive], Meta(min_length=3, max_length=3)]
    mean: list[float]
    std: list[float]
    classes: list[Label]
    table: bool


class Normalised(nn.Module):
    """A network that reads what came before normalisation.

    Args:
        network: reads `(N, *shape)` float32, normalised.
        shape: of one input, (C, H, W); of a row of a table (n, 1, 1).
        mean, std: of each channel, or of each feature.
        classes: the labels of the outputs.
        table: whether inputs are rows of a table, normalised in float64.
    """

    network: nn.Module
    mean: Tensor
    std: Tensor
    shape: tuple[int, ...]
    classes: tuple[Any, ...]
    table: bool

    def __init__(
        self, network: nn.Module, shape: tuple[int, ...], mean: Any, std: Any, classes: tuple[Any, ...], table: bool
    ) -> None:
        super().__init__()
        self.network, self.shape, self.classes, self.table = network, shape, classes, table
        dtype = torch.float64 if table else torch.float32
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value, dtype=dtype)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """The outputs `(N, classes)` of raw inputs `(N, *shape)`, or `(N, n)` with n numbers in all.

        Raises:
            ShapeError: another shape.
        """
        if x.dim() < 2 or x[0].numel() != self.mean.new_empty(self.shape).numel():
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"(N, {', '.join(map(str, self.shape))})")
        x = x.reshape(-1, *self.shape).to(self.mean.dtype)
        return self.network(((x - self.mean) / self.std).float())


def inputs_of(source: Resident | Groups | Folders) -> dict[str, Any]:
    """What a checkpoint says of the inputs of its network, for `load_network`."""
    table = getattr(source, "table", None)
    if table is not None:
        mean, std = table.mean, table.std
    elif isinstance(source, Folders):
        mean, std = source.mean, source.std
    else:
        mean, std = source.images.mean, source.images.std
    classes = table.classes if table is not None else getattr(source, "names", range(source.classes))
    return {
        "shape": list(source.shape),
        "mean": list(mean),
        "std": list(std),
        "classes": list(classes),
        "table": table is not None,
    }


def load_network(path: str | PathLike[str]) -> Normalised:
    """The network of a run, from its folder or checkpoint; it reads raw pixels, or the numbers of a table's schema.

    It is in evaluation mode, on the CPU, with the weights that the run measured. `classes` are the labels of its
    outputs, and `shape` is that of one input.

    Raises:
        FileFormatError: no checkpoint, or one of an earlier version, which does not know its inputs.
    """
    path = Path(path)
    path = path / CHECKPOINT if os.path.isdir(path) else path
    content = read_checkpoint(path)
    try:
        inputs = content["inputs"]
        check_shape(inputs, path, _Inputs)
        if not len(inputs["mean"]) == len(inputs["std"]) in (1, inputs["shape"][0]):
            raise ValueError(f"{len(inputs['mean'])} means for {inputs['shape'][0]} channels")
        recipe = recipe_of(content)
        shape, classes = tuple(inputs["shape"]), tuple(inputs["classes"])
        network = build_model(recipe, shape, len(classes))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        mend = "Go on with the run for an epoch, or begin it anew."
        raise FileFormatError(f"{path}: does not say what its network reads ({error!r}). {mend}") from error
    load_weights(path, network)
    return Normalised(network, shape, inputs["mean"], inputs["std"], classes, bool(inputs["table"])).eval()


def save_model(folder: Path, network: nn.Module, source: Resident | Groups | Folders, recipe: Recipe) -> None:
    """Write `MODEL` into the folder of a run, if its network is a dense one of hard thresholds."""
    if isinstance(source, Folders):
        return
    images, inputs = source.images, inputs_of(source)
    rows = images.inputs if images.raw is None else images.raw
    test = images.test_inputs if images.raw_test is None else images.raw_test
    table = getattr(source, "table", None)
    if has_few_weights(network.state_dict()):
        network = plain_weights(deepcopy(network))
    try:
        model = model_of_network(
            network,
            np.asarray(rows.cpu()),
            classes=inputs["classes"],
            labels=np.asarray(images.labels.cpu()),
            test_rows=np.asarray(test.cpu()),
            test_labels=np.asarray(images.test_labels.cpu()),
            mean=inputs["mean"],
            std=inputs["std"],
            shape=() if table is not None else source.shape,
            features=None if table is None else table.schema.features,
            target=recipe.target,
            schema=None if table is None else table.schema,
            exact=images.exact,
            exact_test=images.exact_test,
            merged=0 if table is None else table.merged,
        )
    except NotAcceptedError:
        return
    model.save(folder / MODEL)
