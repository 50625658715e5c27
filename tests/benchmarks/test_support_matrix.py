"""The support matrix in small: some parts of its models, where their libraries are installed."""

import copy
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

LIBRARIES = {
    "timm vit_tiny": "timm",
    "transformers T5": "transformers",
    "PyG GCN, graphs": "torch_geometric",
    "SpikingJelly": "spikingjelly",
    "snnTorch": "snntorch",
}


@pytest.fixture(scope="module")
def matrix() -> Any:
    """By its path: the benchmarks are no part of the installed package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))
        return importlib.import_module("benchmarks.support_matrix")


@pytest.mark.parametrize("name", ["LSTM and head", "recurrent cell", "U-Net", *LIBRARIES])
def test_a_stock_model_goes_through(name: str, matrix: Any):
    library = LIBRARIES.get(name)
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stock = matrix.MODELS[name]()
        model = stock.thresholds(stock.make())
        for part in ("rule", "search all", "accumulation"):
            assert matrix.tried(lambda part=part: matrix.PARTS[part](copy.deepcopy(model), stock))[1] == ""


def test_a_failure_is_told(matrix: Any):
    def fail() -> None:
        raise ValueError("no\nmore")

    assert matrix.tried(fail) == (None, "ValueError: no")
