"""`tpsolve verify` of a comparison: claims that hold pass, and each false one is told."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tpsolve import load_problem
from tpsolve.compare import SUITES, Comparison, run_comparison
from tpsolve.compare._stored_rows import read_rows
from tpsolve.compare.running import _check_rows
from tpsolve.compare.running._check_rows import BY_ENUMERATION, NOT_ABOVE, OWN, RowCheck, check_rows
from tpsolve.errors import FileFormatError, FolderError
from tpsolve.problems import Instance, NetworkProblem, make_instance

Row = dict[str, Any]


def two_sizes(samples: int, seed: int) -> list[Instance]:
    return [Instance(f"n-{n}", make_instance("random", n=n, m=4, samples=samples, seed=seed).problem) for n in (7, 26)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "two-sizes", two_sizes)
        run_comparison(Comparison(folder, "two-sizes", ("keep", "random", "branch"), samples=3, seeds=(0, 1)))
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def change(path: Path, key: tuple[str, str, int], to: Callable[[Row], object]) -> None:
    rows = lines(path)
    for row in rows:
        if (row["instance"], row["solver"], row["seed"]) == key:
            to(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def false_claims(folder: Path) -> dict[tuple[str, str, int], list[str]]:
    return {check.key: check.false for check in check_rows(folder) if check.false}


def test_targets_beside_the_rows_have_the_objectives_of_the_rows(finished: Path):
    # Unpacked by hand.
    kept = {(k["instance"], k["solver"], k["seed"]): k for k in lines(finished / "targets.jsonl")}
    names = [entry["name"] for entry in json.loads((finished / "instances" / "index.json").read_text())]
    rows = lines(finished / "rows.jsonl")
    assert len(rows) == len(kept) == 2 * (1 + 2 + 1)
    for row in rows:
        one = kept[row["instance"], row["solver"], row["seed"]]
        problem = load_problem(finished / "instances" / f"{names.index(row['instance']):02d}.npz")
        whole = int.from_bytes(base64.b64decode(one["bits"]), "big")
        size = 8 * len(base64.b64decode(one["bits"]))
        spins = [1.0 if whole >> (size - 1 - i) & 1 else -1.0 for i in range(np.prod(one["shape"]))]
        assert problem.objective(torch.tensor(spins).reshape(one["shape"])).tolist() == row["objective"]


def test_rows_of_a_comparison_hold_and_it_is_said_which_bounds_are_checked(finished: Path):
    checks = {check.key: check for check in check_rows(finished)}
    assert all(check == RowCheck(key, objectives=3, bounds=check.bounds) for key, check in checks.items())
    assert checks["n-7", "branch", 0].bounds == {BY_ENUMERATION: 3}
    assert checks["n-26", "branch", 0].bounds.total() == 3
    assert checks["n-26", "branch", 0].bounds.keys() <= {OWN, NOT_ABOVE}
    assert {check.bounds.total() for check in check_rows(finished, max_enumerated=5)} == {3}
    assert not any(check.bounds[BY_ENUMERATION] for check in check_rows(finished, max_enumerated=5))


BRANCH, KEEP = ("n-26", "branch", 0), ("n-26", "keep", 0)


@pytest.mark.parametrize(
    ("key", "to", "words"),
    [
        pytest.param(
            KEEP,
            lambda row: row["objective"].__setitem__(1, row["objective"][1] - 0.01),
            "sample 1: the objective is",
            id="objective",
        ),
        pytest.param(
            ("n-7", "keep", 0),
            lambda row: row["bound"].__setitem__(0, row["objective"][0]),
            "above the optimum",
            id="bound enumerated",
        ),
        (KEEP, lambda row: row["bound"].__setitem__(2, row["objective"][2]), "above an objective that was found"),
        pytest.param(KEEP, lambda row: row["tolerance"].__setitem__(0, 1e9), "not 1e+09", id="tolerance"),
        (KEEP, lambda row: row["status"].__setitem__(0, "optimal"), "make it not optimal"),
        (KEEP, lambda row: row.update(fingerprint="0" * 64), "another problem"),
        (KEEP, lambda row: row.update(instance="n-27"), "another problem"),
        (KEEP, lambda row: row["tolerance"].__setitem__(0, -1.0), "not -1"),
        (KEEP, lambda row: row["status"].__setitem__(0, "infeasible"), "make it not optimal"),
        (KEEP, lambda row: row.update(flips=None), "which targets differ"),
        (KEEP, lambda row: row.update(exact=True), "its solver is heuristic, not exact"),
        (KEEP, lambda row: row.update(settings={"restarts": 9}), "its settings are not those of keep"),
        (KEEP, lambda row: row["budget"].update(seconds=7.0), "its budget"),
        (KEEP, lambda row: row["budget"].update(steps=7), "its budget"),
        (KEEP, lambda row: row.update(threads=row["threads"] + 1), "threads, and others of the folder were"),
        (KEEP, lambda row: row["versions"].update(torch="0"), "torch 0"),
        (KEEP, lambda row: row.update(seconds=-row["seconds"]), "not within"),
        (KEEP, lambda row: row["found_at"].__setitem__(0, -0.1), "not within"),
        (KEEP, lambda row: row["found_at"].__setitem__(0, row["seconds"] + 1), "not within"),
        (KEEP, lambda row: row["proved_at"].__setitem__(0, 0.0), "proved at no moment"),
        (("n-7", "branch", 0), lambda row: row["proved_at"].__setitem__(0, None), "proved at no moment"),
        (KEEP, lambda row: row.update(trace=[]), "no moments"),
        (KEEP, lambda row: row["trace"][-1].__setitem__(1, min(row["objective"]) - 1), "its trace"),
        (KEEP, lambda row: row["trace"].append([0.0, None, None]), "its trace"),
        (KEEP, lambda row: row["trace"].insert(0, [0.0, None, 1e9]), "its trace"),
    ],
)
def test_a_false_claim_is_told_and_no_other_one(copied: Path, key: Any, to: Any, words: str):
    change(copied / "rows.jsonl", key, to)
    told = false_claims(copied)
    assert len(told) == 1, told
    assert any(words in claim for claim in next(iter(told.values()))), told


def test_a_row_without_status_claims_none(copied: Path, monkeypatch: pytest.MonkeyPatch):
    change(copied / "rows.jsonl", KEEP, lambda row: row.pop("status"))
    assert [check for check in check_rows(copied) if check.false or check.missing] == []
    assert "all objectives were recomputed" in resume(copied, monkeypatch)[0]


def test_targets_of_another_row_or_none_are_told(copied: Path):
    path = copied / "targets.jsonl"
    other = lines(path)[0]["bits"]
    change(path, ("n-7", "random", 1), lambda kept: kept.update(bits=other))
    assert list(false_claims(copied)) == [("n-7", "random", 1)]
    path.write_text("".join(json.dumps(kept) + "\n" for kept in lines(path) if kept["solver"] != "random"))
    assert {check.key[1] for check in check_rows(copied) if check.missing} == {"random"}


@pytest.mark.parametrize(
    "to",
    [
        lambda kept: kept.update(bits="?"),
        lambda kept: kept.update(bits=kept["bits"] * 2),
        lambda kept: kept.update(shape=[3, 10**15]),
        lambda kept: kept.update(shape=[-1, 7]),
        lambda kept: kept.pop("bits"),
        lambda kept: kept.pop("bits") and kept.update(values=[1]),
        lambda kept: kept.pop("bits") and kept.update(values=[10**400] * 21),
    ],
)
def test_targets_that_are_none_are_a_typed_error(copied: Path, to: Any):
    change(copied / "targets.jsonl", ("n-7", "keep", 0), to)
    with pytest.raises(FileFormatError):
        list(check_rows(copied))


def test_numbers_that_no_float_holds_are_a_typed_error(copied: Path):
    settings = json.loads((copied / "comparison.json").read_text())
    (copied / "comparison.json").write_text(json.dumps({**settings, "samples": 10**400}))
    with pytest.raises(FileFormatError, match="samples"):
        list(check_rows(copied))
    change(copied / "rows.jsonl", KEEP, lambda row: row["budget"].update(steps=10**400))
    with pytest.raises(FileFormatError, match="budget"):
        read_rows(copied)


def test_only_the_folder_of_a_comparison_is_checked(tmp_path: Path):
    with pytest.raises(FolderError, match="not the folder of a comparison"):
        list(check_rows(tmp_path))


@pytest.mark.slow
def test_instances_that_are_not_saved_are_made_again(tmp_path: Path):
    comparison = Comparison(tmp_path / "run", "programs", ("keep", "k-best"), samples=1, seconds=0.2)
    rows = run_comparison(comparison)
    checks = list(check_rows(comparison.folder))
    assert len(checks) == len(rows) > 8
    assert not any(check.false or check.missing for check in checks), checks
    assert any("values" in kept for kept in lines(comparison.folder / "targets.jsonl"))


def test_whole_weights_are_kept_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    problem = NetworkProblem([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], [2], weight_set="ternary", penalty=0.125)
    monkeypatch.setitem(SUITES, "whole", lambda samples, seed: [Instance("xor", problem)])
    folder = tmp_path / "run"
    (row,) = run_comparison(Comparison(folder, "whole", ("integer-search",), samples=1, steps=30, seeds=(0,)))
    (check,) = check_rows(folder)
    assert (check.objectives, check.false, check.missing) == (1, [], "")
    (kept,) = lines(folder / "targets.jsonl")
    layers = [(np.array(weight), np.array(bias)) for weight, bias in kept["weights"]]
    # The objective by hand: errors of the network, and the price of each weight.
    h = problem.samples.numpy()
    for weight, bias in layers:
        h = np.where(h @ weight.T + bias >= 0, 1.0, -1.0)
    price = 0.125 * sum(np.count_nonzero(weight) for weight, _ in layers)
    assert row["objective"] == [np.sum(h[:, 0] != [-1, 1, 1, -1]) + price]
    for change_weights, words in (
        (lambda weights: weights[0][0][0].__setitem__(0, 3.0), "weights"),
        (lambda weights: weights[0][1].__setitem__(0, 99.0), "objective is inf"),
        (lambda weights: weights[0][0].pop(), "weights"),
        (lambda weights: weights[0][0][0].pop(), "weights"),
    ):
        (changed,) = lines(folder / "targets.jsonl")
        change_weights(changed["weights"])
        (folder / "targets.jsonl").write_text(json.dumps(changed) + "\n")
        assert any(words in claim for claim in next(iter(false_claims(folder).values()))), words
        (folder / "targets.jsonl").write_text(json.dumps(kept) + "\n")
    del kept["weights"]
    (folder / "targets.jsonl").write_text(json.dumps(kept) + "\n")
    assert [check.missing for check in check_rows(folder)] == ["its objective is that of weights, which are not kept"]


def resume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setitem(SUITES, "two-sizes", two_sizes)
    run_comparison(
        Comparison(folder, "two-sizes", ("keep", "random", "branch"), samples=3, seeds=(0, 1)), note=told.append
    )
    return told


def lower(row: Row) -> None:
    """All that hangs together with a lower objective, so that the row alone can't tell."""
    row["objective"] = [value - 0.5 for value in row["objective"]]
    row["bound"] = [None] * 3
    row["status"] = ["feasible"] * 3


def copy_other(row: Row) -> None:
    name, fingerprint = row["instance"], row["fingerprint"]
    row |= {**row, "objective": [0.25, 0.5, 0.75], "bound": [None] * 3, "status": ["feasible"] * 3}
    row |= {"instance": name, "fingerprint": fingerprint}


@pytest.mark.parametrize(
    ("to", "words"),
    [
        (lower, "the objective is"),
        (copy_other, "the objective is"),
        (lambda row: row["bound"].__setitem__(1, row["objective"][1] + 1), "is above the objective"),
        (lambda row: row["status"].__setitem__(2, "optimal"), "make it not optimal"),
        (lambda row: row.update(start=[0.0, 0.0, 0.0]), "the start"),
        (lambda row: row.update(flips=[0.7, 0.7, 0.7]), "other targets"),
        (lambda row: row.update(n_units=5), "n_units 5"),
        (lambda row: row.update(fingerprint="0" * 64), "another problem"),
    ],
    ids=["objective", "content", "bound", "status", "start", "flips", "size", "fingerprint"],
)
def test_a_comparison_takes_over_no_false_row(copied: Path, to: Any, words: str, monkeypatch: pytest.MonkeyPatch):
    change(copied / "rows.jsonl", KEEP, to)
    before = (copied / "rows.jsonl").read_bytes()
    with pytest.raises(FolderError, match=words):
        resume(copied, monkeypatch)
    assert (copied / "rows.jsonl").read_bytes() == before


def test_a_comparison_says_what_it_has_recomputed(copied: Path, monkeypatch: pytest.MonkeyPatch):
    assert resume(copied, monkeypatch) == ["8 rows of earlier runs: all objectives were recomputed from their targets."]
    path = copied / "targets.jsonl"
    path.write_text("".join(json.dumps(kept) + "\n" for kept in lines(path) if kept["solver"] != "random"))
    (told,) = resume(copied, monkeypatch)
    assert "objectives of 4, drawn" in told
    assert "Not checked: 4, since no targets are kept of it." in told
    monkeypatch.setattr(_check_rows, "KEPT_SECONDS", -1.0)
    (told,) = resume(copied, monkeypatch)
    assert "objectives of 0, drawn" in told
    assert "no time for more: `tpsolve verify" in told
