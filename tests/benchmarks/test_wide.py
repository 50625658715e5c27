"""The benchmark of wide networks: budgets are equal, saved rows are found again, failures are rows."""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wide():
    """By its path: the benchmarks are no part of the installed package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        spec = importlib.util.spec_from_file_location("wide", ROOT / "benchmarks" / "wide.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "wide", module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("model", ["mlp", "convnet4"])
def test_every_strategy_tries_equally_many_settings(wide: ModuleType, model: str):
    for name, settings in wide.strategies(model).items():
        assert len(set(settings)) == len(settings) == 8, name


def test_saved_rows_are_of_strategies_and_settings_that_there_are(wide: ModuleType):
    for line in (ROOT / "benchmarks" / "results" / "wide.jsonl").read_text().splitlines():
        row = json.loads(line)
        given = asdict(wide.Setting()) | {k: v for k, v in row.items() if k in asdict(wide.Setting())}
        assert wide.Setting(**given) in wide.strategies(row["model"])[row["strategy"]]
        assert wide.key(row) == wide.key({**row, **given})


def test_the_best_setting_is_that_of_the_highest_mean_validation(wide: ModuleType, monkeypatch: pytest.MonkeyPatch):
    settings = wide.strategies("mlp")["soft hinge"]
    rows = [
        {
            "model": "mlp",
            "strategy": "soft hinge",
            "seed": seed,
            **asdict(setting),
            "validation": place + 10 * (seed == 100),
        }
        for place, setting in enumerate(settings[:-1])
        for seed in wide.TUNE_SEEDS
    ]
    monkeypatch.setattr(wide.TUNING.__class__, "read", lambda self: rows)
    with pytest.raises(SystemExit, match="soft hinge: 1 settings are not tuned"):
        wide.best("mlp", "soft hinge")
    # A failed run has no accuracy.
    rows += [{**rows[0], **asdict(settings[-1]), "seed": seed, "validation": 99} for seed in wide.TUNE_SEEDS]
    del rows[-1]["validation"]
    assert wide.best("mlp", "soft hinge") == settings[-2]


@pytest.fixture
def blobs(wide: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten classes of 28 x 28 images that are easy to tell apart."""
    torch.manual_seed(0)
    y = torch.arange(640) % 10
    x = torch.randn(10, 1, 28, 28)[y] + 0.5 * torch.randn(640, 1, 28, 28)
    monkeypatch.setattr(wide, "images", lambda count: dict.fromkeys(("train", "validation", "test"), (x, y)))


@pytest.mark.parametrize("solver", ["", "curvature-flip"])
def test_a_run_learns(wide: ModuleType, blobs: None, solver: str):
    row = wide.train("mlp", wide.Setting(epochs=2, average=0.5, smooth=0.1, solver=solver), seed=0)
    assert row["test"] > 90
    assert row["seconds"] > 0
    assert "failed" not in row


def test_a_run_that_diverges_is_a_row_with_its_reason(wide: ModuleType, blobs: None):
    row = wide.train("mlp", wide.Setting(rate=1e38, epochs=2), seed=0)
    assert "the loss became" in row["failed"]
