"""Files of problems and results: what is saved comes back, and what is no such file is refused with a reason."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.zoo import ALL_LOSSES, make_problem, zoo
from torch import Tensor

from tpsolve import Budget, LayerProblem, Progress, Result, Status, load_problem, load_result, solve
from tpsolve._storage._archive import VERSION, digest, write_archive
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import FileFormatError, FolderError, TpsolveError

FIELDS = ("weight", "targets", "bias", "unit_weight", "start", "stay_weight")


def full_problem(loss: str = "hinge", dtype: torch.dtype = torch.float64) -> LayerProblem:
    """One with every field set."""
    return make_problem(3, n=4, m=3, loss=loss, batch=(2, 2), dtype=dtype, weighted=True, stay=0.3)


def some_result() -> Result:
    """One with every status, infinities, a trace and notes."""
    inf = float("inf")
    return Result(
        targets=torch.tensor([[1.0, -1.0]] * 4),
        objective=torch.tensor([0.1, 2.0, inf, inf], dtype=torch.float64),
        bound=torch.tensor([0.1, 1.0, -inf, inf], dtype=torch.float64),
        trace=(Progress(1, 0.25, inf, -inf), Progress(7, 1 / 3, 0.1, 0.05)),
        stats={
            "solver": "made-up",
            "steps": 7,
            "seconds": 1 / 3,
            "found_at": torch.tensor([0.1, inf, inf, inf], dtype=torch.float64),
            "notes": {2: "ran out"},
        },
    )


def same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_problem_comes_back_whole(loss: str, dtype: torch.dtype, tmp_path: Path):
    problem = full_problem(loss, dtype)
    problem.save(tmp_path / "problem.npz")
    loaded = load_problem(tmp_path / "problem.npz")
    for name in FIELDS:
        assert getattr(problem, name) is not None
        assert same(getattr(loaded, name), getattr(problem, name)), name
    assert (loaded.loss, loaded.stay, loaded.batch_shape) == (problem.loss, problem.stay, problem.batch_shape)
    assert loaded.fingerprint == problem.fingerprint
    targets = 2 * torch.randint(0, 2, (2, 2, 4), generator=torch.Generator().manual_seed(1)).to(dtype) - 1
    assert torch.equal(loaded.objective(targets), problem.objective(targets))


@pytest.mark.parametrize("instance", zoo(), ids=str)
def test_zoo_comes_back_whole(instance: Any, tmp_path: Path):
    problem = instance.problem
    problem.save(tmp_path / "p")
    loaded = load_problem(tmp_path / "p")
    assert loaded.fingerprint == problem.fingerprint
    assert all(same(getattr(loaded, name), getattr(problem, name)) for name in FIELDS)


def test_result_comes_back_whole(tmp_path: Path):
    result = some_result()
    result.save(tmp_path / "result.npz", fingerprint="abc")
    loaded, fingerprint = load_result(tmp_path / "result.npz")
    assert fingerprint == "abc"
    for name in ("targets", "objective", "bound", "gap", "optimal"):
        assert same(getattr(loaded, name), getattr(result, name)), name
    assert loaded.status == [Status.OPTIMAL, Status.FEASIBLE, Status.UNKNOWN, Status.INFEASIBLE]
    assert loaded.trace == result.trace
    assert {k: loaded.stats[k] for k in ("solver", "steps", "seconds")} == {
        "solver": "made-up",
        "steps": 7,
        "seconds": 1 / 3,
    }
    assert [float(v) for v in loaded.stats["found_at"]] == result.stats["found_at"].tolist()
    assert {int(k): v for k, v in loaded.stats["notes"].items()} == {2: "ran out"}


def test_result_of_a_single_sample_comes_back_whole(tmp_path: Path):
    problem = make_problem(1, n=4, m=3)
    result = solve(problem, "hill-climb", budget=Budget(steps=5))
    result.save(tmp_path / "r")
    loaded, fingerprint = load_result(tmp_path / "r")
    assert fingerprint == ""
    assert loaded.status is result.status
    assert same(loaded.targets, result.targets)
    assert loaded.objective.shape == ()


def test_names_are_kept_as_given(tmp_path: Path):
    # numpy would have made it "problem.npz".
    for name in ("problem", "problem.npz", "problem.txt", "émile"):
        full_problem().save(str(tmp_path / name))
        assert load_problem(str(tmp_path / name)).fingerprint == full_problem().fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["problem", "problem.npz", "problem.txt", "émile"])


def test_saving_replaces_an_older_file(tmp_path: Path):
    full_problem().save(tmp_path / "p")
    other = full_problem("squared")
    other.save(tmp_path / "p")
    assert load_problem(tmp_path / "p").fingerprint == other.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_files_get_the_ordinary_mode(tmp_path: Path):
    full_problem().save(tmp_path / "p")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "p").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_digest_tells_apart_names_shapes_and_types_of_equal_bytes():
    zeros = torch.zeros(2, 3)
    given = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.T.contiguous()},
        {"a": zeros.flatten()},
        {"a": zeros.int()},
        {"a": zeros[:1], "b": zeros[1:]},
    ]
    assert len({digest([], tensors) for tensors in given}) == len(given)
    assert digest([], {"a": zeros, "b": None}) == digest([], {"a": zeros.clone()})


def test_nothing_in_a_file_is_pickled(tmp_path: Path):
    full_problem().save(tmp_path / "p")
    with np.load(tmp_path / "p", allow_pickle=False) as archive:
        assert set(archive.files) == {*FIELDS, "header"}
        header = json.loads(str(archive["header"]))
    assert (header["format"], header["version"], header["kind"]) == ("tpsolve", VERSION, "layer-problem")


# --- files that are no such files -------------------------------------------------------------------------------------


def foreign(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    return path


def headed(path: Path, **header: Any) -> Path:
    arrays = {"weight": np.ones((1, 2), np.float32), "targets": np.ones((1,), np.float32)}
    return foreign(path, header=np.array(json.dumps(header)), **arrays)


def text(path: Path) -> Path:
    path.write_text("weights: 1 2 3\n")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def single_array(path: Path) -> Path:
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))
    return path


def pickled(path: Path) -> Path:
    with path.open("wb") as stream:
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path


FOREIGN: dict[str, Callable[[Path], Path]] = {
    "text": text,
    "empty": empty,
    "npz-without-header": lambda path: foreign(path, weight=np.ones(3)),
    "npz-with-numbers-for-header": lambda path: foreign(path, header=np.ones(3)),
    "npz-with-another-format": lambda path: headed(path, format="other", version=VERSION, kind="layer-problem"),
    "npz-with-a-list-for-header": lambda path: foreign(path, header=np.array("[1, 2]")),
    "npz-with-pickles": lambda path: foreign(path, header=np.array([{"a": 1}], dtype=object)),
    "npy": single_array,
    "pickled-npy": pickled,
}


@pytest.mark.parametrize("load", [load_problem, load_result], ids=["problem", "result"])
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_file_is_refused(make: Callable[[Path], Path], load: Callable[[Path], Any], tmp_path: Path):
    path = make(tmp_path / "foreign")
    with pytest.raises(FileFormatError, match=r"foreign: not a tpsolve file, or truncated\. Expected an \.npz"):
        load(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path):
    with pytest.raises(FileFormatError, match=r"nowhere: can't be read \(No such file or directory\)"):
        load_problem(tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match=r"can't be read \(Is a directory\)"):
        load_result(tmp_path)


def test_truncated_file_is_refused_wherever_it_is_cut(tmp_path: Path):
    full_problem().save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    for length in {*range(0, len(whole), 37), 1, 2, 4, 30, len(whole) - 1, len(whole) - 2, len(whole) - 22}:
        cut.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="not a tpsolve file, or truncated"):
            load_problem(cut)


def test_damaged_byte_is_refused_with_a_typed_error_or_harmless(tmp_path: Path):
    problem = full_problem()
    problem.save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    damaged = tmp_path / "damaged"
    # Contents have checksums; the table of contents at the end has none.
    contents, refused = whole.index(b"PK\x01\x02"), 0
    for place in range(0, len(whole), 5):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            loaded = load_problem(damaged)
        except TpsolveError:
            refused += 1
        else:
            # A date, say: nothing that defines the problem.
            assert loaded.fingerprint == problem.fingerprint or place > contents
    assert refused > len(whole) / 5 / 3


def test_the_other_kind_is_refused_by_its_name(tmp_path: Path):
    full_problem().save(tmp_path / "p")
    some_result().save(tmp_path / "r")
    with pytest.raises(FileFormatError, match="p: holds a layer-problem, not a result"):
        load_result(tmp_path / "p")
    with pytest.raises(FileFormatError, match="r: holds a result, not a problem"):
        load_problem(tmp_path / "r")


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_another_version_is_refused_by_its_number(version: Any, tmp_path: Path):
    path = headed(tmp_path / "p", format="tpsolve", version=version, kind="layer-problem", loss="hinge", stay=0.0)
    expected = rf"written in version {version} of the format, this tpsolve reads version {VERSION}\. Write it again"
    with pytest.raises(FileFormatError, match=expected):
        load_problem(path)


def test_lacking_array_is_named(tmp_path: Path):
    header = {"format": "tpsolve", "version": VERSION, "kind": "layer-problem", "loss": "hinge", "stay": 0.0}
    path = foreign(tmp_path / "p", header=np.array(json.dumps(header)), weight=np.ones((1, 2)))
    with pytest.raises(FileFormatError, match="p: lacks targets; the file is damaged"):
        load_problem(path)


def test_result_that_lacks_a_header_field_is_refused(tmp_path: Path):
    arrays = {name: np.ones((1, 2) if name == "targets" else 1) for name in ("targets", "objective", "bound")}
    full = {"format": "tpsolve", "version": VERSION, "kind": "result", "fingerprint": "", "stats": {}, "trace": []}
    assert load_result(foreign(tmp_path / "r", header=np.array(json.dumps(full)), **arrays))[0].trace == ()
    for name in ("fingerprint", "stats", "trace"):
        header = {k: v for k, v in full.items() if k != name}
        with pytest.raises(TpsolveError):
            load_result(foreign(tmp_path / "r", header=np.array(json.dumps(header)), **arrays))


def test_problem_that_lacks_a_header_field_or_has_a_surplus_array_is_refused(tmp_path: Path):
    for change in ("loss", "stay"):
        header = {"format": "tpsolve", "version": VERSION, "kind": "layer-problem", "loss": "hinge", "stay": 0.0}
        del header[change]
        with pytest.raises(TpsolveError):
            load_problem(headed(tmp_path / "p", **header))
    header = {"format": "tpsolve", "version": VERSION, "kind": "layer-problem", "loss": "hinge", "stay": 0.0}
    arrays = {"weight": np.ones((1, 2)), "targets": np.ones(1), "surplus": np.ones(1)}
    with pytest.raises(TpsolveError):
        load_problem(foreign(tmp_path / "p", header=np.array(json.dumps(header)), **arrays))


def test_contents_that_make_no_sense_together_are_a_typed_error(tmp_path: Path):
    header = {"format": "tpsolve", "version": VERSION, "kind": "layer-problem", "loss": "hing", "stay": 0.0}
    with pytest.raises(TpsolveError, match="Did you mean 'hinge'"):
        load_problem(headed(tmp_path / "p", **header))


# --- folders that can't be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [full_problem().save, some_result().save], ids=["problem", "result"])
def test_folder_that_is_missing_or_a_file_is_named(save: Callable[[Path], None], tmp_path: Path):
    with pytest.raises(
        FolderError, match=r"nowhere.p: can't be written \(No such file or directory\)\. Choose a folder"
    ):
        save(tmp_path / "nowhere" / "p")
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"file.p: can't be written \(Not a directory\)\. Choose a folder"):
        save(tmp_path / "file" / "p")
    assert isinstance(FolderError(), OSError)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_named(tmp_path: Path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(FolderError, match="can't be written"):
        full_problem().save(folder / "p")


def test_target_that_is_a_folder_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "p").mkdir()
    with pytest.raises(FolderError, match=r"p: can't be written \(Is a directory\)"):
        full_problem().save(tmp_path / "p")
    assert [p.name for p in tmp_path.iterdir()] == ["p"]
    assert list((tmp_path / "p").iterdir()) == []


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(OSError(28, "No space left on device"), FolderError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["disk-full", "interrupted"],
)
def test_failed_write_leaves_the_old_file_and_no_partial_one(
    failure: BaseException, expected: type[BaseException], tmp_path: Path
):
    full_problem().save(tmp_path / "p")
    before = (tmp_path / "p").read_bytes()

    def write(stream: Any) -> None:
        stream.write(b"half of it")
        stream.flush()
        assert len(list(tmp_path.iterdir())) == 2
        raise failure

    with pytest.raises(expected):
        write_whole(tmp_path / "p", write)
    assert [p.name for p in tmp_path.iterdir()] == ["p"]
    assert (tmp_path / "p").read_bytes() == before


def test_header_that_is_no_json_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(TypeError):
        write_archive(tmp_path / "p", "result", {"targets": torch.ones(1)}, {"thing": object()})
    assert list(tmp_path.iterdir()) == []
