"""Training runs: they learn, go on bit for bit after any interruption, and agree across processes."""

import copy
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tpsolve.cli import app
from tpsolve.errors import (
    ArgumentError,
    DeviceError,
    FileFormatError,
    FolderError,
    NotAcceptedError,
    NotFiniteError,
    TpsolveError,
    UnknownNameError,
)
from tpsolve.nn import HardThreshold
from tpsolve.train import (
    Moment,
    Recipe,
    averaged_weights,
    build_model,
    estimate_batch_norm,
    ftprop_mb,
    load_network,
    load_recipe,
    load_weights,
    train,
)
from tpsolve.train._checkpoint import load_checkpoint
from tpsolve.train._optimizer import new_optimizer
from tpsolve.train._run import epoch_seed
from tpsolve.train.data import Resident, load_digits

pytestmark = pytest.mark.rounding

# Dropout, batch norm, augmentation and a schedule of rate and width: all that a checkpoint must bring back.
SMALL = {"epochs": 3, "batch": 128, "widths": (16,), "crop": 1, "flip": True, "width_end": 0.5, "milestones": (2,)}
AVERAGED = {"average": 0.3, "smooth": 0.1}
CURVES = b"\x89PNG"


def small(**changes) -> Recipe:
    return load_recipe("digits-mlp", {"schedule": "steps", **SMALL, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    return content["model"] | (content["averaged"] or {})


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def measured(folder: Path) -> list[dict]:
    """The rows of a run, without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


@pytest.fixture
def pictures() -> None:
    """Asked for by tests that look at the pictures of a run."""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `pictures` none are drawn, as that takes longer than most of these trainings."""
    if "pictures" not in request.fixturenames:
        for name in ("save_curves", "save_diagnostics"):
            monkeypatch.setattr(f"tpsolve.train._run_log.{name}", lambda path, *_: path.write_bytes(CURVES))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `small()` that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(small(), folder)
    return folder


def stop_after(batches: int):
    """A `stop` that says True once, after so many batches."""
    asked = iter(range(10**6))
    return lambda: next(asked) + 1 == batches


def test_a_run_learns_and_leaves_its_files(tmp_path: Path, pictures: None):
    recipe = small(epochs=8, validation=0.1, widths=(64,), crop=0, flip=False, milestones=())
    rows = train(recipe, tmp_path)
    assert rows[-1]["test_accuracy"] >= 0.9
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert "validation_accuracy" in rows[0]
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe
    assert (tmp_path / "curves.png").read_bytes().startswith(CURVES)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == rows


@pytest.mark.nightly
@pytest.mark.slow
def test_tpsolve_train_digits_mlp_reaches_its_bar(tmp_path: Path):
    runner = [sys.executable, "-m", "tpsolve", "train", "digits-mlp", "--runs", str(tmp_path), "--name", "run"]
    done = subprocess.run(runner, capture_output=True, text=True, check=True, timeout=300)
    assert f"Run: {tmp_path / 'run'}" in done.stdout
    rows = measured(tmp_path / "run")
    # Five seeds reach 97.9 in the mean, with a standard deviation of 0.4.
    assert rows[-1]["test_accuracy"] >= 0.96
    again = subprocess.run(runner, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "holds a run already" in again.stderr


@pytest.mark.parametrize("changes", [{}, AVERAGED], ids=["", "averaged"])
def test_measured_accuracy_is_that_of_the_saved_weights(tmp_path: Path, changes: dict):
    train(small(**changes), tmp_path)
    model = build_model(small(), (1, 8, 8), 10)
    load_weights(tmp_path / "checkpoint.pt", model)
    model.eval()
    hits = [(model(x).argmax(1) == y).float().mean() for x, y in Resident(load_digits(), torch.device("cpu"), 9).test()]
    assert float(hits[0]) == pytest.approx(measured(tmp_path)[-1]["test_accuracy"])


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_an_average_weighs_the_last_share_of_the_updates_most(share: float):
    count = 200
    model = nn.Linear(count, 1, bias=False, dtype=torch.float64)
    averaged = averaged_weights(model, share)
    for k in range(count):
        # The k-th update is the k-th unit vector, so entry k of the average is what that update counts there.
        model.weight.data = torch.eye(count, dtype=torch.float64)[k : k + 1]
        averaged.update_parameters(model)
    found = next(averaged.parameters())[0].detach()
    age = torch.arange(count - 1, -1, -1, dtype=torch.float64) / count
    expected = (1 - age) ** (1 / share - 1)
    assert found.sum().item() == pytest.approx(1)
    torch.testing.assert_close(found[20:], (expected / expected.sum())[20:], rtol=0.3, atol=1e-4)


def test_the_batch_norm_of_averaged_weights_has_seen_their_own_images(tmp_path: Path):
    recipe = small(**AVERAGED, crop=0, flip=False)
    train(recipe, tmp_path)
    model = build_model(recipe, (1, 8, 8), 10)
    load_weights(tmp_path / "checkpoint.pt", model)
    assert isinstance(model, nn.Sequential)
    data = Resident(load_digits(), torch.device("cpu"), recipe.batch)
    inputs = torch.cat([x for x, _ in data.train(epoch_seed(recipe.seed, recipe.epochs - 1))])
    place = next(i for i, layer in enumerate(model) if isinstance(layer, nn.BatchNorm1d))
    norm = model[place]
    torch.testing.assert_close(norm.running_mean, model[:place](inputs).mean(0), rtol=1e-4, atol=1e-5)


def test_averaged_weights_of_a_run_stopped_in_mid_epoch_have_their_own_batch_norm(tmp_path: Path):
    recipe = small(**AVERAGED, crop=0, flip=False)
    train(recipe, tmp_path, stop=stop_after(16))
    found, expected = (build_model(recipe, (1, 8, 8), 10) for _ in range(2))
    for model in (found, expected):
        load_weights(tmp_path / "checkpoint.pt", model)
    data = Resident(load_digits(), torch.device("cpu"), recipe.batch)
    estimate_batch_norm(expected, (x for x, _ in data.train(epoch_seed(recipe.seed, 1))))
    for name, buffer in found.named_buffers():
        torch.testing.assert_close(buffer, dict(expected.named_buffers())[name])


def test_an_average_goes_on_by_itself_in_copies_and_pickles():
    model = nn.Linear(1, 1, bias=False)
    first = averaged_weights(model, 0.5)
    for _ in range(5):
        first.update_parameters(model)
    second, third = copy.deepcopy(first), pickle.loads(pickle.dumps(first))
    for _ in range(100):
        first.update_parameters(model)
    before = model.weight.item()
    model.weight.data += 7
    for one in (second, third):
        one.update_parameters(model)
        assert next(one.parameters()).item() == pytest.approx(before + 7 * 2 / 7)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(share: float):
    with pytest.raises(ArgumentError, match="share"):
        averaged_weights(nn.Linear(1, 1), share)


@pytest.mark.slow
def test_averaged_weights_and_smoothed_labels_go_on_bit_for_bit(tmp_path: Path):
    recipe = small(**AVERAGED)
    train(recipe, tmp_path / "a")
    for batches in (1, 10, 12):
        train(recipe, tmp_path / "b", stop=stop_after(batches), resume=True)
    train(recipe, tmp_path / "b", resume=True)
    assert same(tmp_path / "a", tmp_path / "b")
    assert measured(tmp_path / "a") == measured(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, AVERAGED], ids=["", "averaged"])
def test_two_stages_end_with_few_weights_and_go_on_bit_for_bit(tmp_path: Path, changes: dict):
    recipe = small(weights="ternary", weights_from=0.5, epochs=2, widths=(16, 12), **changes)
    train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "first", stop=stop_after(5))
    first = weights(tmp_path / "first")
    train(recipe, tmp_path / "first", resume=True, stop=stop_after(9))
    train(recipe, tmp_path / "first", resume=True)
    assert same(tmp_path / "whole", tmp_path / "first")
    # The first stage has real weights, as a network without the setting.
    assert not any("parametrizations" in name for name in first)
    network = load_network(tmp_path / "first").network
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    sizes = [max(len(set(channel.tolist()) - {0.0}) for channel in layer.weight.abs()) for layer in layers]
    assert sizes[1:-1] == [1] * (len(layers) - 2)
    assert min(sizes[0], sizes[-1]) > 1
    row = measured(tmp_path / "first")[-1]
    data = load_digits()
    found = load_network(tmp_path / "first")(data.test_inputs).argmax(1)
    assert float((found == data.test_labels).double().mean()) == row["test_accuracy"]


def test_smoothed_labels_raise_the_loss_of_training_alone(whole: Path, tmp_path: Path):
    plain, smooth = measured(whole), train(small(smooth=0.3), tmp_path)
    # The entropy of labels that are right with 0.73 and each other class with 0.03.
    assert all(row["train_loss"] > 1.17 for row in smooth)
    assert smooth[-1]["train_accuracy"] == pytest.approx(plain[-1]["train_accuracy"], abs=0.1)


def test_equal_recipes_make_equal_runs_and_seeds_make_others(whole: Path, tmp_path: Path):
    before = torch.get_rng_state()
    train(small(), tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state is its own"
    train(small(seed=1), tmp_path / "other")
    assert same(tmp_path / "again", whole)
    assert measured(tmp_path / "again") == measured(whole)
    assert not same(tmp_path / "other", whole)


@pytest.mark.parametrize("batches", [1, 10, 11, 12, 25], ids=lambda n: f"after {n} batches")
def test_a_stopped_run_goes_on_bit_for_bit(whole: Path, tmp_path: Path, batches: int):
    # 11 batches make an epoch.
    rows = train(small(), tmp_path, stop=stop_after(batches))
    assert len(rows) < 3
    assert not same(tmp_path, whole)
    train(small(), tmp_path, resume=True)
    assert same(tmp_path, whole)
    assert measured(tmp_path) == measured(whole)


@pytest.mark.slow
def test_dropout_goes_on_bit_for_bit(tmp_path: Path):
    files = tmp_path / "data"
    files.mkdir()
    make_cifar(files)
    recipe = load_recipe("cifar10-convnet8", {"epochs": 1, "batch": 4})
    train(recipe, tmp_path / "a", data_root=files)
    train(recipe, tmp_path / "b", data_root=files, stop=stop_after(2))
    train(recipe, tmp_path / "b", data_root=files, resume=True)
    assert same(tmp_path / "a", tmp_path / "b")


def make_cifar(folder: Path) -> None:
    """Four images a batch in the binary layout: a class is a colour."""
    for k, name in enumerate((*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")):
        rows = [bytes([label]) + bytes([25 * label]) * 3072 for label in ((k + i) % 10 for i in range(4))]
        (folder / f"{name}.bin").write_bytes(b"".join(rows))


@pytest.mark.slow
def test_a_solver_of_targets_trains_and_goes_on_bit_for_bit(tmp_path: Path):
    recipe = small(epochs=2, solver="hill-climb:restarts=1", solver_steps=5)
    rows = train(recipe, tmp_path / "a")
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    train(recipe, tmp_path / "b", stop=stop_after(4))
    train(recipe, tmp_path / "b", resume=True)
    assert same(tmp_path / "a", tmp_path / "b")
    train(small(epochs=2), tmp_path / "closed")
    assert not same(tmp_path / "a", tmp_path / "closed")


def test_samples_whose_search_failed_are_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpsolve.search.HillClimb.run", lambda self, problem, budget, generator, report: None)
    words = ["train", "digits-mlp", "--runs", str(tmp_path), "--name", "run", "--solver", "hill-climb"]
    settings = [word for text in ("epochs=2", "batch=128", "widths=16,") for word in ("--set", text)]
    done = CliRunner().invoke(app, [*words, *settings])
    assert [row["fallbacks"] for row in measured(tmp_path / "run")] == [11 * 128] * 2
    assert f"{2 * 11 * 128} targets of a threshold and sample" in done.output


def test_the_sign_of_the_gradient_is_the_closed_form(tmp_path: Path):
    closed = train(small(epochs=2, smooth=0.1), tmp_path / "closed")
    searched = train(small(epochs=2, smooth=0.1, solver="sign-gradient"), tmp_path / "searched")
    assert [row["train_loss"] for row in searched] == pytest.approx([row["train_loss"] for row in closed], rel=1e-4)


@pytest.mark.slow
def test_a_solver_of_the_last_targets_leaves_the_others_their_closed_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr("tpsolve.train._run.ftprop_mb", lambda *a, **k: asked.append(k["solver"]) or ftprop_mb(*a, **k))
    recipe = small(epochs=1, widths=(16, 16), solver="curvature-flip", solver_steps=1)
    train(recipe, tmp_path / "all")
    train(replace(recipe, solver_layers="last"), tmp_path / "last")
    train(replace(recipe, solver=""), tmp_path / "closed")
    assert asked == ["curvature-flip", {-1: "curvature-flip"}, None]
    for one, other in (("all", "last"), ("last", "closed")):
        assert not same(tmp_path / one, tmp_path / other)


def test_more_epochs_may_follow(whole: Path, tmp_path: Path):
    recipe = small(width_end=0.0)
    train(recipe, tmp_path / "a")
    train(small(width_end=0.0, epochs=2), tmp_path / "b")
    train(recipe, tmp_path / "b", resume=True)
    assert same(tmp_path / "a", tmp_path / "b")


def test_epochs_that_a_width_is_spread_over_are_not_free(whole: Path, tmp_path: Path):
    train(small(epochs=2), tmp_path)
    with pytest.raises(ArgumentError, match="epochs 2 there and 3 here"):
        train(small(), tmp_path, resume=True)


def test_fewer_epochs_than_the_checkpoint_has_are_refused(tmp_path: Path):
    train(small(width_end=0.0, epochs=2), tmp_path)
    with pytest.raises(ArgumentError, match="epochs 2 there and 1 here"):
        train(small(width_end=0.0, epochs=1), tmp_path, resume=True)


def test_fresh_deletes_a_run_once_the_new_one_can_begin(whole: Path, tmp_path: Path):
    train(small(epochs=1), tmp_path / "run")
    with pytest.raises(DeviceError):
        train(small(), tmp_path / "run", fresh=True, device="abacus")
    assert len(measured(tmp_path / "run")) == 1
    train(small(), str(tmp_path / "run"), fresh=True)
    assert same(tmp_path / "run", whole)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(FolderError, match="not the folder of a run"):
        train(small(), tmp_path / "mine", fresh=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.slow
def test_fresh_deletes_all_that_a_run_wrote_and_nothing_else(tmp_path: Path, pictures: None):
    folder = tmp_path / "run"
    train(small(epochs=1), folder, diagnose=1)
    mine = [folder / "thesis.tex", folder / "tensorboard" / "notes.txt"]
    (folder / "tensorboard").mkdir()
    for path in [*mine, folder / "tensorboard" / "events.out.tfevents.1", folder / ".checkpoint.pt.k1ll3d_x"]:
        path.write_text("years of work")
    train(small(epochs=1), folder, fresh=True, stop=lambda: True)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left == {"thesis.tex", "tensorboard/notes.txt", "recipe.toml", "metrics.jsonl", "checkpoint.pt"}
    assert (folder / "metrics.jsonl").read_text() == ""
    assert [path.read_text() for path in mine] == ["years of work"] * 2


@pytest.mark.parametrize("resume", [False, True])
def test_rows_without_a_checkpoint_are_a_run_that_is_not_replaced(tmp_path: Path, resume: bool):
    train(small(epochs=1), tmp_path)
    (tmp_path / "checkpoint.pt").unlink()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(FolderError, match="no checkpoint to go on from" if resume else "holds a run already"):
        train(small(epochs=1), tmp_path, resume=resume)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_rows_that_a_checkpoint_does_not_know_are_dropped(whole: Path, tmp_path: Path):
    # As if a kill had come between the row and the checkpoint of an epoch, in the middle of a line.
    train(small(), tmp_path, stop=stop_after(12))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 2, "train_loss": 0.1}\n{"epoch"')
    train(small(), tmp_path, resume=True)
    assert measured(tmp_path) == measured(whole)


def command(folder: Path, *words: str) -> list[str]:
    settings = [f"{k}={','.join(map(str, v)) + ',' if isinstance(v, tuple) else v}" for k, v in SMALL.items()]
    options = [word for text in [*settings, "schedule=steps"] for word in ("--set", text)]
    place = ["--runs", str(folder.parent), "--name", folder.name]
    return [sys.executable, "-m", "tpsolve", "train", "digits-mlp", *options, *place, *words]


@pytest.mark.parametrize(
    "kind", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)]
)
@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path: Path, kind: signal.Signals):
    # So many epochs that it is still running when the signal comes.
    started = subprocess.Popen(
        command(tmp_path / "run", "--epochs", "5000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    rows = tmp_path / "run" / "metrics.jsonl"
    while not (rows.exists() and rows.read_text().count("\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(kind)
    _, err = started.communicate(timeout=60)
    if kind == signal.SIGKILL:
        assert started.returncode == -signal.SIGKILL
    else:
        assert started.returncode == 130
        assert "--resume" in err
    known = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["position"]
    epochs = known["epoch"]
    assert epochs >= 2
    recipe = small(epochs=5000)
    after = train(recipe, tmp_path / "run", resume=True, stop=stop_after(12))
    straight = train(recipe, tmp_path / "straight", stop=stop_after(11 * epochs + known["step"] + 12))
    assert [row["train_loss"] for row in after] == [row["train_loss"] for row in straight]
    assert same(tmp_path / "run", tmp_path / "straight")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def in_two_processes(command: list[str]) -> list[str]:
    """What each prints, once both have ended well."""
    port = free_port()
    workers = [
        subprocess.Popen(
            command,
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ended
    return [out for out, _ in ended]


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path: Path):
    """Without batch norm and dropout, which see a process's own samples, only the order of sums differs."""
    words = ["--set", "batch_norm=false", "--set", "average=0.3", "--epochs", "2"]
    assert in_two_processes(command(tmp_path / "two", *words))[1] == "", "only the first process prints"
    train(small(batch_norm=False, average=0.3, epochs=2), tmp_path / "one")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=2e-4, atol=2e-5)
    for a, b in zip(measured(tmp_path / "one"), measured(tmp_path / "two"), strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-4)
        assert b["test_accuracy"] == pytest.approx(a["test_accuracy"], abs=0.01)


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_go_on_bit_for_bit_in_the_middle_of_an_epoch(tmp_path: Path):
    """Each draws its own dropout and has its own tally."""
    files = tmp_path / "data"
    files.mkdir()
    make_cifar(files)
    # A port for each run, as one process may come to the next before the other has left the last.
    code = f"""
import os
from pathlib import Path
import tpsolve.train._run
from tpsolve.train import load_recipe, train

tpsolve.train._run.TALK_STEPS = 1
place = Path({str(tmp_path)!r})
recipe = load_recipe("cifar10-convnet8", {{"epochs": 1, "batch": 4}})
asked = iter(range(100))
for folder, port, stop in zip("abb", {[free_port() for _ in range(3)]}, (None, lambda: next(asked) == 2, None)):
    os.environ["MASTER_PORT"] = str(port)
    train(recipe, place / folder, data_root=place / "data", resume=True, stop=stop or (lambda: False))
"""
    in_two_processes([sys.executable, "-c", code])
    assert same(tmp_path / "a", tmp_path / "b")
    assert measured(tmp_path / "a") == measured(tmp_path / "b")


def test_the_first_process_goes_on_with_the_tally_of_all_where_their_number_changes(tmp_path: Path):
    train(small(), tmp_path, stop=stop_after(5))
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    tally = content["processes"][0]["tally"]
    assert tally[2] == 5 * 128
    content["processes"].append(content["processes"][0] | {"tally": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    torch.save(content, tmp_path / "checkpoint.pt")
    model = build_model(small(), (1, 8, 8), 10)
    optimizer = new_optimizer(small(), model)
    found = [
        load_checkpoint(tmp_path / "checkpoint.pt", small(), model, None, optimizer, rank, world).tally
        for rank, world in ((0, 1), (0, 2), (1, 2), (0, 3), (2, 3))
    ]
    both = [a + b for a, b in zip(tally, range(1, 7), strict=True)]
    assert found == [both, tally, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], both, [0.0] * 6]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
@pytest.mark.nightly
@pytest.mark.slow
def test_no_thread_of_the_processes_outlives_the_run():
    """One that did would now and then abort a process that exits: an optimizer's imports used to keep the group."""
    code = """
import os, torch
from tpsolve.train._processes import joined

weight = torch.zeros(3, requires_grad=True)
with joined("cpu", 2) as (processes, _):
    processes.total(torch.ones(3))
    weight.sum().backward()
    torch.optim.Adam([weight]).step()
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print([name for name in names if "gloo" in name])
"""
    assert in_two_processes([sys.executable, "-c", code]) == ["[]\n"] * 2


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpsolve.train._run.REPORT_SECONDS", 0.0)
    seen: list[Moment] = []
    rows = train(small(epochs=2), tmp_path, progress=seen.append)
    assert [(m.epoch, m.step) for m in seen] == [(e, s) for e in range(2) for s in range(1, 12)]
    assert [seen[10].loss, seen[10].accuracy] == pytest.approx([rows[0]["train_loss"], rows[0]["train_accuracy"]])


def test_tensorboard_gets_every_row(tmp_path: Path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rows = train(small(epochs=2), tmp_path, tensorboard=True, diagnose=1)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    seen = [(event.step, event.value) for event in events.Scalars("test_loss")]
    assert seen == [(row["epoch"], pytest.approx(row["test_loss"])) for row in rows]
    figures = [json.loads(line) for line in (tmp_path / "diagnostics.jsonl").read_text().splitlines()]
    dead = [event.value for event in events.Scalars(f"dead/{figures[0]['threshold']}")]
    assert dead == pytest.approx([row["dead"] for row in figures])


@pytest.mark.slow
def test_diagnostics_change_nothing_and_go_on_with_the_run(whole: Path, tmp_path: Path, pictures: None):
    recipe = small(epochs=4, width_end=0.0)
    train(recipe, tmp_path / "a", diagnose=2)
    train(recipe, tmp_path / "plain")
    assert same(tmp_path / "a", tmp_path / "plain")
    assert measured(tmp_path / "a") == measured(tmp_path / "plain")
    rows = [json.loads(line) for line in (tmp_path / "a" / "diagnostics.jsonl").read_text().splitlines()]
    names = [name for name, module in build_model(recipe, (1, 8, 8), 10).named_modules() if is_threshold(module)]
    assert [(row["epoch"], row["threshold"]) for row in rows] == [(epoch, name) for epoch in (2, 4) for name in names]
    assert (tmp_path / "a" / "diagnostics.png").read_bytes().startswith(CURVES)
    assert not (tmp_path / "plain" / "diagnostics.jsonl").exists()

    # Stopped in epoch 4, after a row that no checkpoint knows.
    train(recipe, tmp_path / "b", diagnose=2, stop=stop_after(35))
    with (tmp_path / "b" / "diagnostics.jsonl").open("a") as stream:
        stream.write('{"epoch": 3}\n{"ep')
    train(recipe, tmp_path / "b", diagnose=2, resume=True)
    assert [json.loads(line) for line in (tmp_path / "b" / "diagnostics.jsonl").read_text().splitlines()] == rows


def test_diagnostics_are_those_of_the_saved_weights(tmp_path: Path):
    recipe = small(epochs=1)
    train(recipe, tmp_path, diagnose=1)
    (row,) = [json.loads(line) for line in (tmp_path / "diagnostics.jsonl").read_text().splitlines()]
    model = build_model(recipe, (1, 8, 8), 10)
    load_weights(tmp_path / "checkpoint.pt", model)
    data = Resident(load_digits(), torch.device("cpu"), recipe.batch, crop=recipe.crop, flip=recipe.flip)
    inputs, _ = next(iter(data.train(epoch_seed(recipe.seed, 1))))
    assert isinstance(model, nn.Sequential)
    h = model[: int(row["threshold"]) + 1](inputs)
    assert row["dead"] == pytest.approx((h == h[0]).all(0).float().mean().item())
    assert 0 < row["changed"] < 1


def is_threshold(module: nn.Module) -> bool:
    return isinstance(module, HardThreshold)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_not_overwritten(whole: Path):
    with pytest.raises(FolderError, match="holds a run already"):
        train(small(), whole)


def test_a_checkpoint_of_another_recipe_is_refused(whole: Path):
    with pytest.raises(ArgumentError, match=r"rate 0\.003 there and 0\.5 here"):
        train(small(rate=0.5), whole, resume=True)
    with pytest.raises(ArgumentError, match="epochs 3 there"):
        train(small(schedule="cosine", epochs=4), whole, resume=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no checkpoint", "not a checkpoint"),
        ({"format": "other"}, "not a checkpoint of tpsolve"),
        ({"format": "tpsolve-checkpoint", "version": 99}, "version 99"),
    ],
    ids=str,
)
def test_foreign_checkpoints_are_refused(tmp_path: Path, content: object, words: str):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(FileFormatError, match=words):
        train(small(), tmp_path, resume=True)


def test_a_torn_checkpoint_is_refused(whole: Path, tmp_path: Path):
    content = (whole / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        train(small(), tmp_path, resume=True)


def test_the_processes_must_share_a_batch_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ArgumentError, match="a multiple of the number of processes, 3"):
        train(small(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "words"),
    [
        ({"data": "mnist"}, {}, ArgumentError, "TPSOLVE_DATA"),
        ({"batch": 2000}, {}, ArgumentError, "at most 1437"),
        ({"model": "convnet8"}, {}, ArgumentError, "32 x 32"),
        ({"rule": "soft-hing"}, {}, TpsolveError, "soft-hinge"),
        ({"launch": "graphs"}, {}, ArgumentError, "a CUDA device"),
        ({"precision": "tf32"}, {}, ArgumentError, "a CUDA device"),
        ({}, {"device": "abacus"}, DeviceError, "abacus"),
        ({}, {"diagnose": -1}, ArgumentError, "diagnose"),
        ({"activation": "relu", "width_end": 0.0}, {"diagnose": 1}, ArgumentError, "no thresholds"),
        ({"launch": "compile"}, {"diagnose": 1}, ArgumentError, "eager, with diagnose"),
        ({"activation": "relu"}, {}, TpsolveError, "threshold"),
        ({"activation": "relu", "width_end": 0.0, "solver": "hill-climb"}, {}, ArgumentError, "no targets"),
        ({"solver": "hill-climbing"}, {}, UnknownNameError, "'hill-climb'"),
        ({"solver": "ftprop"}, {}, NotAcceptedError, "LayerProblem"),
        ({"solver": "hill-climb", "rule": "ste", "widths": (8, 8)}, {}, NotAcceptedError, "no layer loss"),
        ({"solver_layers": "last"}, {}, ArgumentError, "where there is no solver"),
        ({"batch": 1}, {}, ArgumentError, "at least 2"),
        ({"solver": "hill-climb", "precision": "bf16"}, {}, ArgumentError, "float32, with a solver"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_what_makes_no_sense_is_refused_before_training(
    tmp_path: Path, changes: dict, arguments: dict, error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        train(small(**changes), tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_test_loss_diverges_says_so(tmp_path: Path):
    changes = {"batch": 1437, "activation": "relu", "width_end": 0.0, "batch_norm": False, "optimizer": "sgd"}
    with pytest.raises(NotFiniteError, match="test_loss"):
        train(small(**changes, rate=1e38), tmp_path)


def test_a_run_that_diverges_says_so_and_keeps_its_epochs(tmp_path: Path):
    with pytest.raises(NotFiniteError, match="A lower rate may help"):
        train(small(activation="relu", width_end=0.0, optimizer="sgd", rate=1e38), tmp_path)
