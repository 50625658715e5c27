"""What a run leaves to be used: the raw data give the accuracy that the run reported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tpsolve import cli, load_model
from tpsolve.errors import ArgumentError, FileFormatError, ShapeError, UnknownNameError, ValueSetError
from tpsolve.train import load_network, load_recipe, train
from tpsolve.train.data import load_digits
from tpsolve.train.data._table_rows import load_table

pytestmark = pytest.mark.rounding

SMALL = {"epochs": 2, "widths": (12,), "batch": 128}
TEA = "kind,minutes,milk,good\n" + "".join(
    f"{kind},{minutes / 10},{milk},{'yes' if (kind == 'green') == (minutes < 40) else 'no'}\n"
    for kind in ("green", "black")
    for milk in ("yes", "no")
    for minutes in range(11, 90, 7)
)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"batch_norm": False, "average": 0.5, "crop": 1, "validation": 0.1}])
def test_raw_pixels_give_the_accuracy_of_the_run(changes: dict, tmp_path: Path):
    row = train(load_recipe("digits-mlp", SMALL | changes), tmp_path)[-1]
    data = load_digits()
    model, network = load_model(tmp_path), load_network(tmp_path)
    for found in (model.predict(data.test_inputs), network(data.test_inputs).argmax(1).numpy()):
        assert (found == data.test_labels.numpy()).mean() == row["test_accuracy"]
    assert model.counts["right"] / model.counts["test"] == row["test_accuracy"]
    assert model.counts["others"] == 0
    assert (model.shape, model.classes) == ((1, 8, 8), tuple(range(10)))
    with pytest.raises(ShapeError):
        network(torch.zeros(2, 63))


@pytest.mark.slow
def test_other_networks_are_read_from_their_checkpoints(tmp_path: Path):
    data = load_digits()
    for name, changes in (("conv", {"model": "convnet4", "epochs": 1}), ("stairs", {"activation": "staircase"})):
        row = train(load_recipe("digits-mlp", SMALL | changes), tmp_path / name)[-1]
        assert not (tmp_path / name / "model.npz").exists()
        with torch.no_grad():
            found = load_network(tmp_path / name / "checkpoint.pt")(data.test_inputs).argmax(1)
        assert (found == data.test_labels).double().mean().item() == row["test_accuracy"]
        with pytest.raises(FileFormatError, match="no model, as for all networks but dense ones"):
            load_model(tmp_path / name)


@pytest.mark.slow
def test_rows_of_a_table_give_the_accuracy_of_the_run(tmp_path: Path):
    (tmp_path / "tea.csv").write_text(TEA)
    settings = {"table": str(tmp_path / "tea.csv"), "target": "good", "epochs": 8, "widths": (8,), "batch": 8}
    recipe = load_recipe("table-mlp", settings)
    row = train(recipe, tmp_path / "run")[-1]
    model = load_model(tmp_path / "run")
    images, _ = load_table(recipe)
    assert images.raw_test is not None
    assert (model.layers.classes(images.raw_test.numpy()) == images.test_labels.numpy()).mean() == row["test_accuracy"]
    network = load_network(tmp_path / "run")
    with torch.no_grad():
        assert (network(images.raw_test).argmax(1) == images.test_labels).double().mean().item() == row["test_accuracy"]
    # By name, in any order; unknown words are refused.
    (tmp_path / "new.csv").write_text("milk,kind,minutes\nno,green,2\n")
    assert set(model.predict(tmp_path / "new.csv")) <= {"yes", "no"}
    (tmp_path / "new.csv").write_text("milk,kind,minutes\nno,white,2\n")
    with pytest.raises(ValueSetError, match="white"):
        model.predict(tmp_path / "new.csv")


@pytest.mark.slow
def test_a_checkpoint_without_its_inputs_is_refused(tmp_path: Path):
    train(load_recipe("digits-mlp", SMALL | {"epochs": 1}), tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["inputs"] == {
        "shape": [1, 8, 8],
        "mean": [8.0],
        "std": [8.0],
        "classes": [*range(10)],
        "table": False,
    }
    without = {name: value for name, value in content.items() if name != "inputs"}
    for other in (without, content | {"recipe": "digits-mlp"}, content | {"recipe": torch.zeros(1)}):
        torch.save(other, tmp_path / "old.pt")
        with pytest.raises(FileFormatError, match="does not say what its network reads"):
            load_network(tmp_path / "old.pt")
    torch.save(content | {"version": torch.zeros(1).to_sparse()}, tmp_path / "old.pt")
    with pytest.raises(FileFormatError, match="a checkpoint of version Tensor"):
        load_network(tmp_path / "old.pt")
    with pytest.raises(FileFormatError, match="No such file"):
        load_network(tmp_path / "none.pt")


@pytest.mark.cli
@pytest.mark.slow
def test_a_run_is_used_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def call(line: str):
        return CliRunner().invoke(cli.app, line.split(), prog_name="tpsolve")

    done = call("train digits-mlp --epochs 2 --set widths=12 --name a --runs .")
    assert done.exit_code == 0, done.output
    right = load_model("a").counts["right"]
    assert f"Model: a/model.npz, {right} of 360 test rows right" in done.output
    data = load_digits()
    np.savez("test.npz", images=data.test_inputs, label=data.test_labels)
    np.save("test.npy", data.test_inputs[:3, 0])
    for model in ("a", "a/model.npz", "a/checkpoint.pt"):
        done = call(f"predict {model} test.npz --target label")
        assert f"{right} of 360 right" in done.output, done.output
    done = call("predict a test.npy")
    assert done.stdout.split() == ["predicted", *map(str, load_model("a").predict(data.test_inputs[:3]))]
    np.savez("two.npz", a=data.test_inputs, b=data.test_inputs)
    np.save("half.npy", data.test_inputs / 16)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "test.npz").read_bytes()[:-700])
    for line, error in (
        ("predict a two.npz", ArgumentError),
        ("predict a half.npy", ValueSetError),
        ("predict a test.csv", ArgumentError),
        ("predict a text.npy", FileFormatError),
        ("predict a cut.npz", FileFormatError),
        ("predict a missing.npy", FileFormatError),
        ("predict a test.npz --target truth", UnknownNameError),
        ("predict a test.npy --target truth", UnknownNameError),
        ("predict a two.npz --target a", ArgumentError),
        ("predict none test.npy", FileFormatError),
    ):
        assert isinstance(call(line).exception, error), line
    done = call("show a --picture units.png")
    assert f"test rows right: {right} of 360" in done.output
    assert "unit 1: " in done.output
    assert (tmp_path / "units.png").stat().st_size > 5000
