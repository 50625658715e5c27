"""Training on a table: standardised rows, tests that stay the same, and a file from which new rows become inputs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tpsolve.errors import ArgumentError, FileFormatError, TpsolveError, UnknownNameError
from tpsolve.tables import TableOptions
from tpsolve.train import Recipe, TablePreprocessing, build_model, load_recipe, load_weights, train
from tpsolve.train.data._table_rows import load_table


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    rows = [f"{i};{i % 7},5;{'uvw'[i % 3]};4;{'yes' if i % 7 > 3 else 'no'}" for i in range(60)]
    Path("t.csv").write_text("\n".join([";x;c;same;class", *rows]))
    small = {"epochs": 2, "batch": 16, "widths": (8,), "validation": 0.1}
    return {"table": "t.csv", "target": "class", **small}


def recipe(settings: dict[str, Any], **changed: Any) -> Recipe:
    return load_recipe("table-mlp", {**settings, **changed})


def test_rows_are_standardised_over_those_for_training(settings: dict[str, Any]):
    images, table = load_table(recipe(settings))
    assert table.schema.features == ("x", "c=u", "c=v", "c=w", "same")
    assert (len(images.inputs), len(images.test_inputs)) == (48, 12)
    flat = images.inputs.flatten(1).double()
    assert torch.allclose(flat.mean(0), torch.zeros(5).double(), atol=1e-6)
    assert torch.allclose(flat[:, :4].std(0, correction=0), torch.ones(4).double(), atol=1e-6)
    assert flat[:, 4].unique().tolist() == [0]
    assert table.classes == ("no", "yes")
    again, _ = load_table(recipe(settings, seed=5))
    assert torch.equal(again.test_inputs, images.test_inputs), "whatever the seed"


def test_new_rows_become_inputs_alike_after_a_run(settings: dict[str, Any], no_plots: None):
    chosen = recipe(settings)
    rows = train(chosen, "run")
    assert len(rows) == 2
    table = TablePreprocessing.load("run")
    assert table == load_table(chosen)[1]
    model = build_model(chosen, (5,), 2).eval()
    load_weights(Path("run/checkpoint.pt"), model)
    images, _ = load_table(chosen)
    right = model(images.test_inputs).argmax(1) == images.test_labels
    assert right.double().mean().item() == pytest.approx(rows[-1]["test_accuracy"])
    # As a table of another order of columns, with points and commas.
    Path("new.csv").write_text('c,same,x\nv,4,"3.5"\n')
    assert table.read("new.csv").tolist() == table.standardise(torch.tensor([[3.5, 0, 1, 0, 4]]).double()).tolist()


def test_rows_that_float32_makes_one_and_numbers_that_float64_rounds_are_said(settings: dict[str, Any]):
    assert load_table(recipe(settings))[1].rounding == ""
    lines = Path("t.csv").read_text().splitlines()
    # Two rows that differ by 1e-10 alone, and one number of more digits than float64 holds.
    alike = [lines[1].replace(";0,5;", f";{digits};") for digits in ("0,5000000001", "0,5000000002")]
    Path("t.csv").write_text("\n".join([lines[0], *alike, *lines[2:]]))
    images, table = load_table(recipe(settings))
    assert (table.merged, images.exact) == (2, None)
    assert "in float32 2 rows have the inputs of another row" in table.rounding
    table.save(Path())
    assert TablePreprocessing.load(".") == table
    Path("t.csv").write_text("\n".join([*lines, f"99;1,{'3' * 25};u;4;no"]))
    images, table = load_table(recipe(settings))
    assert table.rounding == "Trained on rounded numbers: float64 rounds the numbers of x."
    assert images.exact is not None
    assert images.exact_test is not None
    numbers = {row[0] for row in (*images.exact, *images.exact_test)}
    assert any(float(number) != number for number in numbers)
    assert (len(images.exact), len(images.exact_test)) == (len(images.inputs), len(images.test_inputs))


def test_a_table_that_has_changed_ends_a_resumed_run(settings: dict[str, Any], no_plots: None):
    train(recipe(settings, epochs=1), "run")
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace("\n0;0,5;", "\n0;1,5;"))
    with pytest.raises(ArgumentError, match=r"t.csv, which has changed"):
        train(recipe(settings, epochs=1), "run", resume=True)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"table": ""}, ArgumentError, "table: got nothing"),
        ({"target": ""}, ArgumentError, "target: got nothing"),
        ({"target": "klass"}, UnknownNameError, "klass"),
        ({"model": "convnet4"}, ArgumentError, "model"),
        ({"flip": True}, ArgumentError, "flip"),
        ({"crop": 2}, ArgumentError, "crop"),
        ({"program": "sum"}, ArgumentError, "program"),
        ({"test": 0.0}, ArgumentError, "test"),
        ({"test": 0.001}, ArgumentError, "test"),
        ({"reading": "{"}, ArgumentError, "reading"),
        ({"reading": "[]"}, FileFormatError, "reading options"),
        ({"reading": json.dumps(TableOptions(drop=("z",)).to_json())}, UnknownNameError, "drop"),
    ],
)
def test_settings_that_do_not_fit_a_table_are_named(
    settings: dict[str, Any], changed: dict[str, Any], error: type[TpsolveError], message: str
):
    with pytest.raises(error, match=message):
        train(dataclasses.replace(recipe(settings), **changed), "run")
    assert not Path("run").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', ""])
def test_preprocessing_that_is_damaged_is_refused(tmp_path: Path, text: str):
    with pytest.raises(FileFormatError):
        TablePreprocessing.load(tmp_path)
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(FileFormatError):
        TablePreprocessing.load(tmp_path)
