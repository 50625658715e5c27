"""Runs that know only what a program makes of a group of images: they learn, go on, and refuse what makes no sense."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tpsolve.cli import app
from tpsolve.errors import ArgumentError, FileFormatError, NotAcceptedError, TpsolveError, UnknownNameError
from tpsolve.nn import ProgramLoss, diagnose_program
from tpsolve.train import Recipe, build_model, load_recipe, load_weights, train
from tpsolve.train._launch import check_launch
from tpsolve.train._program_judge import PROGRAMS
from tpsolve.train.data import Groups, Images, load_digits

pytestmark = pytest.mark.rounding

CPU = torch.device("cpu")
SMALL = {"epochs": 2, "images": 320, "widths": (16,), "batch": 32, "crop": 1}


def small(**changes: Any) -> Recipe:
    return load_recipe("sum-of-digits", {**SMALL, **changes})


def measured(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run, without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def stop_after(batches: int):
    """A `stop` that says True once, after so many batches."""
    asked = iter(range(10**6))
    return lambda: next(asked) + 1 == batches


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `small()` that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(small(), folder)
    return folder


@pytest.mark.slow
def test_a_run_learns_from_sums_and_leaves_its_files(tmp_path: Path):
    rows = train(load_recipe("sum-of-digits", {"epochs": 2, "validation": 0.1}), tmp_path)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    # One in ten is chance.
    assert rows[-1]["test_symbol_accuracy"] > 0.6
    assert rows[0]["train_symbol_accuracy"] < rows[-1]["train_symbol_accuracy"]
    assert {"consistent", "validation_accuracy", "validation_symbol_accuracy"} < set(rows[0])
    assert 0 < sum(row["calls"] for row in rows) <= 100
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == rows
    assert (tmp_path / "curves.png").exists()
    assert load_recipe(str(tmp_path / "recipe.toml")).program == "sum"


@pytest.mark.slow
def test_tpsolve_train_sum_of_digits_reaches_its_bar(tmp_path: Path):
    done = CliRunner().invoke(app, ["train", "sum-of-digits", "--runs", str(tmp_path), "--name", "run"])
    assert done.exit_code == 0
    last = measured(tmp_path / "run")[-1]
    assert last["test_symbol_accuracy"] > 0.9
    assert f"Symbols read rightly: {last['test_symbol_accuracy']:.2%} in the test set, after 100 calls." in done.output


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 4, 5, 8])
def test_a_stopped_run_goes_on_bit_for_bit(whole: Path, tmp_path: Path, batches: int):
    # 5 batches make an epoch.
    assert len(train(small(), tmp_path, stop=stop_after(batches))) < 2
    train(small(), tmp_path, resume=True)
    assert measured(tmp_path) == measured(whole)
    left, right = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (tmp_path, whole))
    assert all(torch.equal(left["model"][name], right["model"][name]) for name in right["model"])
    memories = [dict(content["processes"][0]["program"]["answers"]) for content in (left, right)]
    assert memories[0] == memories[1]
    assert all(answer == sum(symbols) for symbols, answer in memories[0].items())


def test_measured_accuracies_are_those_of_the_saved_weights(whole: Path):
    recipe = small()
    model = build_model(recipe, (1, 8, 8), 10)
    load_weights(whole / "checkpoint.pt", model)
    data = Groups(load_digits(), 2, CPU, 32)
    inputs, symbols = next(data.test())
    logits = model.eval()(inputs).reshape(-1, 2, 10)
    found = diagnose_program(ProgramLoss(PROGRAMS["sum"]), logits, symbols.sum(1), symbols=symbols)
    row = measured(whole)[-1]
    assert found.accuracy == pytest.approx(row["test_accuracy"])
    assert found.symbol_accuracy == pytest.approx(row["test_symbol_accuracy"])


@pytest.mark.slow
def test_seeds_and_solvers_make_other_runs(whole: Path, tmp_path: Path):
    for name, changes in (("seed", {"seed": 1}), ("solver", {"solver": "k-best"}), ("average", {"average": 0.5})):
        train(small(**changes), tmp_path / name)
        assert measured(tmp_path / name) != measured(whole)


@pytest.mark.slow
def test_other_programs_and_counts_are_taken(tmp_path: Path):
    for name, changes in (("a", {"program": "maximum"}), ("b", {"program": "product", "count": 3})):
        rows = train(small(epochs=1, **changes), tmp_path / name)
        assert 0 < rows[0]["calls"] <= 10 ** (2 if name == "a" else 3)
        assert 0 < rows[0]["consistent"] <= 1


def test_programs_are_what_they_are_called():
    assert [PROGRAMS[name](2, 3, 4) for name in ("sum", "product", "maximum")] == [9, 24, 4]


def toy(train: int, test: int) -> Images:
    """Images of one pixel, whose class it is."""
    return Images(
        (torch.arange(train) % 10).to(torch.uint8)[:, None, None, None],
        torch.arange(train) % 10,
        (torch.arange(test) % 10).to(torch.uint8)[:, None, None, None],
        torch.arange(test) % 10,
        10,
        mean=(0.0,),
        std=(1.0,),
    )


def test_groups_are_fixed_and_images_keep_their_classes():
    data = Groups(toy(100, 32), 3, CPU, 11, seed=4)
    assert data.steps == 3
    seen = []
    for seed in (0, 1):
        batches = list(data.train(seed))
        for inputs, symbols in batches:
            assert tuple(symbols.shape) == (11, 3)
            assert torch.equal(inputs.flatten().long(), symbols.flatten())
        seen.append([tuple(row) for _, symbols in batches for row in symbols.tolist()])
    assert seen[0] != seen[1]
    assert sorted(seen[0]) == sorted(seen[1])
    (inputs, symbols) = next(data.test())
    assert tuple(inputs.shape) == (30, 1, 1, 1)
    assert torch.equal(symbols, next(Groups(toy(100, 32), 3, CPU, 5, seed=9).test())[1])
    assert data.validation() is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"solver_layers": "last"}, ArgumentError, "solver_layers: got last, expected all, with a program"),
        ({"solver_steps": 3}, ArgumentError, "solver_steps: got 3, expected 20, with a program"),
        ({"smooth": 0.1}, ArgumentError, "smooth: got 0.1"),
        ({"launch": "compile"}, ArgumentError, "launch: got compile, expected eager"),
        ({"precision": "bf16"}, ArgumentError, "precision: got bf16"),
        ({"program": "quotient"}, UnknownNameError, "program: got 'quotient'"),
        ({"count": 1}, ArgumentError, "count: got 1"),
        ({"count": 400}, ArgumentError, "count: got 400, expected at most 320"),
        ({"calls": 0}, ArgumentError, "calls: got 0"),
        ({"batch": 161}, ArgumentError, "batch: got 161, expected at most 160, the groups of 2 images"),
        ({"solver": "cp-sat"}, NotAcceptedError, "solver: got cp-sat"),
        ({"solver": "k-bets"}, UnknownNameError, "k-best"),
        ({"program": "", "calls": 3}, ArgumentError, "calls: got 3, expected 64, where there is no program"),
        ({"program": "", "count": 3}, ArgumentError, "count: got 3, expected 2, where there is no program"),
    ],
)
def test_what_makes_no_sense_is_refused_before_there_is_a_file(
    tmp_path: Path, changes: dict[str, Any], error: type[TpsolveError], words: str
):
    with pytest.raises(error) as raised:
        train(small(**changes), tmp_path / "run")
    assert words in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_diagnose_several_processes_and_folders_of_images_are_refused(tmp_path: Path):
    with pytest.raises(ArgumentError, match="diagnose: got 1, expected 0, with a program"):
        train(small(), tmp_path / "run", diagnose=1)
    with pytest.raises(ArgumentError, match="program: got sum, expected none with 2 processes"):
        check_launch(small(), CPU, 2)
    with pytest.raises(ArgumentError, match="data: got imagenet"):
        check_launch(small(data="imagenet", images=0), CPU, 1)


def test_a_checkpoint_of_another_program_is_refused(whole: Path):
    with pytest.raises(ArgumentError, match="program 'sum' there and 'product' here"):
        train(small(program="product"), whole, resume=True)


def test_a_checkpoint_without_the_memory_is_refused(whole: Path, tmp_path: Path):
    content = torch.load(whole / "checkpoint.pt", weights_only=True)
    content["processes"][0]["program"] = None
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(FileFormatError, match="Begin anew"):
        train(small(), tmp_path, resume=True)
