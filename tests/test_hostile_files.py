"""Files that nobody trusts: whatever they claim, they end in one typed error, in time, in memory, and run nothing."""

import contextlib
import gzip
import io
import json
import lzma
import os
import pickle
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import hostile

from tpsolve import NetworkProblem, load_problem, load_result
from tpsolve._storage import _limits
from tpsolve._storage._documents import parse_json, read_toml
from tpsolve._storage._limits import VARIABLE, max_bytes
from tpsolve._storage._row_log import RowLog
from tpsolve.cli.models._saved import read_arrays
from tpsolve.errors import ArgumentError, FileFormatError, TooLargeError, TpsolveError
from tpsolve.models import load_model
from tpsolve.problems.program._answer_file import AnswerFile
from tpsolve.search import load_proof
from tpsolve.search.proofs._proof import Proof
from tpsolve.tables import read_table
from tpsolve.train import Recipe, load_recipe
from tpsolve.train._checkpoint import load_checkpoint
from tpsolve.train._optimizer import new_optimizer
from tpsolve.train.data._cifar10 import load_cifar10
from tpsolve.train.data._folders import Folders, read_image
from tpsolve.train.data._idx import load_idx
from tpsolve.train.models._build import build_model

DEEP = 100_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of 1 MiB."""
    monkeypatch.setenv(VARIABLE, str(2**20))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def layer_with(path: Path, **members: bytes) -> Path:
    """A layer problem some of whose members are these bytes."""
    whole = hostile.unzipped(hostile.saved(hostile.layer().save))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**whole, **{f"{key}.npy": value for key, value in members.items()}}.items():
            archive.writestr(name, content)
    return path


def claiming(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The header of an array of this shape, and no numbers."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


# --- changed files of all kinds ---------------------------------------------------------------------------------------


def broken(numbers: range) -> list[tuple[int, hostile.Outcome]]:
    tried = [(number, hostile.try_file(number, seed=1)) for number in numbers]
    return [(number, outcome) for number, outcome in tried if outcome.end not in ("read", "refused")]


QUICK = ("layer problem", "recipe", "preprocessing", "rows of training", "image", "CIFAR-10")


@pytest.mark.parametrize("kind", QUICK)
def test_changed_files_are_read_or_refused(kind: str):
    first = list(hostile.KINDS).index(kind)
    assert broken(range(first, 135, len(hostile.KINDS))) == []


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_more_changed_files_of_all_kinds_are_read_or_refused(kind: str):
    first = list(hostile.KINDS).index(kind)
    assert broken(range(first, 375, len(hostile.KINDS))) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_files_are_valid_before_they_are_changed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if kind == "text table":
        pytest.skip("there each is made anew")
    monkeypatch.chdir(tmp_path)
    files = hostile.valid(kind)
    if kind in ("typed table", "image"):
        # Each of them is one of several.
        files = dict([min(files.items())])
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    hostile.KINDS[kind].read(tmp_path)


def test_the_harness_notices_what_it_is_made_for(monkeypatch: pytest.MonkeyPatch):
    def read(folder: Path) -> None:
        raise deeds.pop(0)

    deeds: list[Any] = [KeyError("x"), MemoryError(), FileFormatError("x")]
    kind = hostile.Kind(lambda: {"f": b""}, lambda files, random: None, read)
    monkeypatch.setattr(hostile, "KINDS", {"kind": kind})
    ends = [hostile.try_file(number).end for number in range(3)]
    assert ends == ["traceback", "traceback", "refused"]
    kind = hostile.Kind(lambda: {"f": b""}, lambda files, random: None, lambda folder: os.mkdir("unpickled"))
    monkeypatch.setattr(hostile, "KINDS", {"kind": kind})
    assert hostile.try_file(0).end == "executed"


# --- the limit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9", "9" * 5000])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ArgumentError, match="number of bytes"):
        max_bytes()


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hostile.layer().save(tmp_path / "p.npz")
    monkeypatch.setenv(VARIABLE, "1000")
    with pytest.raises(TooLargeError, match=rf"p\.npz.*at most 1000 bytes.*set {VARIABLE}"):
        load_problem(tmp_path / "p.npz")
    monkeypatch.setenv(VARIABLE, "100000")
    assert load_problem(tmp_path / "p.npz").fingerprint == hostile.layer().fingerprint


# --- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_that_expands_is_refused_before_it_does(tmp_path: Path, small: None):
    bomb = layer_with(tmp_path / "p.npz", weight=hostile.npy(np.zeros((2**10, 2**10), np.float32)))
    assert bomb.stat().st_size < 2**14
    with pytest.raises(TooLargeError, match=r"takes 4(\.0\d*)? MiB"):
        load_problem(bomb)


def test_an_array_that_claims_more_than_there_is_is_refused(tmp_path: Path):
    for shape in ((10**14, 1), (2**46,), (3, 10**12), (-1,), (-2, -3)):
        with pytest.raises(FileFormatError, match="not a tpsolve file"):
            load_problem(layer_with(tmp_path / "p.npz", weight=claiming(shape)))


@pytest.mark.parametrize("kind", [">f8", "<c16", "<u8", "|O", "<M8[s]", "<f2", "S3", "<U2"])
def test_foreign_types_and_byte_orders_are_refused(kind: str, tmp_path: Path):
    array = np.zeros((4, 6)).astype(kind)
    with pytest.raises(FileFormatError, match="not a tpsolve file"):
        load_problem(layer_with(tmp_path / "p.npz", weight=hostile.npy(array)))


def test_sizes_that_disagree_with_the_file_are_refused(tmp_path: Path):
    content = hostile.saved(hostile.layer().save)
    at = content.rfind(b"PK\x01\x02")
    for field, value in ((24, 10**9), (20, 10**9), (24, 1), (10, 12), (8, 1)):
        lying = content[: at + field] + struct.pack("<I", value) + content[at + field + 4 :]
        with pytest.raises(TpsolveError):
            load_problem(written(tmp_path / "p.npz", lying))


def test_a_pickle_in_an_archive_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    evil = hostile.npy(np.array([hostile.Canary()], dtype=object))
    for member in ("weight", "header"):
        with pytest.raises(FileFormatError):
            load_problem(layer_with(tmp_path / "p.npz", **{member: evil}))
    assert not (tmp_path / "unpickled").exists()


def test_an_archive_with_a_member_twice_is_refused(tmp_path: Path):
    path = layer_with(tmp_path / "p.npz")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("weight.npy", hostile.npy(np.zeros((4, 6), np.float32)))
    with pytest.raises(FileFormatError):
        load_problem(path)


def test_a_problem_whose_search_would_fill_the_memory_is_refused(tmp_path: Path, small: None):
    network = NetworkProblem([[0.0], [1.0]], ["a", "b"], [10**7])
    network.save(tmp_path / "p.npz")
    with pytest.raises(TooLargeError):
        load_problem(tmp_path / "p.npz")


def test_names_that_no_system_has_are_no_such_files():
    for load in (load_problem, load_result, load_proof, load_model, load_recipe, read_table):
        for name in ("x" * 300, "a\0b.toml", "y" * 5000 + ".toml"):
            with pytest.raises(TpsolveError):
                load(name)


# --- JSON and TOML ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["[" * DEEP, '{"a":' * DEEP, "9" * 5000, "NaN", "1e999", "[1,", '"\\ud800"', ""],
)
def test_json_that_is_none_or_too_deep_is_refused(text: str):
    with pytest.raises(FileFormatError, match="x: no JSON"):
        parse_json(text, "x")


def test_json_of_many_values_is_refused_before_they_are_made(small: None):
    with pytest.raises(TooLargeError):
        parse_json("[" + "[]," * 10_000 + "[]]", "x")


def test_another_shape_is_told_with_its_place():
    with pytest.raises(FileFormatError, match=r"x: Expected `int`, got `null` - at `\$.*\[1\]`"):
        parse_json('{"a": [1, null]}', "x", dict[str, list[int]])


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = 0x" + "f" * 5000, ".".join(["a"] * 30_000) + " = 1", "\xff", "[a"],
)
def test_toml_that_is_none_or_too_deep_is_refused(text: str, tmp_path: Path):
    with pytest.raises(FileFormatError, match="no TOML"):
        read_toml(written(tmp_path / "r.toml", text.encode("latin1")))
    with pytest.raises(TooLargeError):
        read_toml(written(tmp_path / "r.toml", b"#" * 2**19))


def test_a_recipe_is_utf_8_with_or_without_a_mark(tmp_path: Path):
    for encoding in ("utf-8", "utf-8-sig"):
        path = written(tmp_path / "r.toml", '# größe\ntable = "größe 😀\\u007f.csv"\n'.encode(encoding))
        recipe = load_recipe(path)
        assert recipe.table == "größe 😀\x7f.csv"
        assert load_recipe(written(tmp_path / "again.toml", recipe.to_toml().encode())) == recipe


def test_numbers_of_thousands_of_digits_are_a_typed_error():
    for name in ("seed", "epochs", "rate", "widths"):
        with pytest.raises(ArgumentError, match=name):
            Recipe(**{name: 10**5000})
    with pytest.raises(ArgumentError):
        load_recipe("digits-mlp", {"rate": 10**400})
    with pytest.raises(TooLargeError):
        build_model(Recipe(widths=(10**6, 10**6)), (1, 8, 8), 10)


def test_rows_that_are_none_are_refused(tmp_path: Path):
    log = RowLog(tmp_path / "rows.jsonl", ("a",))
    for line in ("[" * DEEP, "null", "[1]", '{"b": 1}', '{"a": NaN}', '{"a": ' + "9" * 5000 + "}"):
        log.path.write_text('{"a": 1}\n' + line + "\n")
        with pytest.raises(FileFormatError, match=r"rows\.jsonl:2: not a row"):
            log.read()


# --- results, proofs, models ------------------------------------------------------------------------------------------


def with_header(content: bytes, path: Path, **changed: Any) -> Path:
    members = hostile.unzipped(content)
    header = json.loads(str(np.lib.format.read_array(io.BytesIO(members["header.npy"]))))
    members["header.npy"] = hostile.npy(np.array(json.dumps({**header, **changed})))
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return path


@pytest.fixture(scope="module")
def proof() -> Proof:
    """Of a claim without circuits."""
    nothing = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    from fractions import Fraction

    return Proof(
        "", (1,), ("a", "b"), Fraction(1), Fraction(0), "", [nothing], torch.zeros(0, 4, dtype=torch.int32), ""
    )


@pytest.mark.parametrize("objective", ["1/0", "1/00", "1e999999999", "9" * 5000, None, 1.5, "", "1/2/3", "0x10"])
def test_a_proof_of_no_number_is_refused(objective: Any, proof: Proof, tmp_path: Path):
    content = hostile.saved(proof.save)
    for name in ("objective", "bound"):
        with pytest.raises(FileFormatError, match=name):
            load_proof(with_header(content, tmp_path / "p.npz", **{name: objective}))


def test_results_whose_parts_are_of_other_kinds_are_refused(tmp_path: Path):
    content = hostile.valid("result")["f.npz"]
    for changed in (
        {"trace": [[1, "x", "0", "0"]]},
        {"trace": None},
        {"stats": []},
        {"fingerprint": 5},
        {"kind": None},
    ):
        with pytest.raises(FileFormatError):
            load_result(with_header(content, tmp_path / "r.npz", **changed))
    assert load_result(written(tmp_path / "r.npz", content))[0].status


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return hostile.checkpoint()


def loaded(content: dict[str, Any], folder: Path) -> None:
    torch.save(content, folder / "c.pt")
    model = build_model(hostile.RECIPE, (1, 8, 8), 10)
    load_checkpoint(folder / "c.pt", hostile.RECIPE, model, None, new_optimizer(hostile.RECIPE, model), 0, 1)


def no_moments(content: dict[str, Any]) -> None:
    content["optimizer"]["state"][0] = {"step": torch.tensor(2.0)}


def wide_moments(content: dict[str, Any]) -> None:
    state = content["optimizer"]["state"]
    state[0] = {**state[0], "exp_avg": torch.zeros(1).expand(10**9)}


def other_settings(content: dict[str, Any]) -> None:
    groups = content["optimizer"]["param_groups"]
    groups[0] = {**groups[0], "betas": (0.9, 2.0)}


def no_settings(content: dict[str, Any]) -> None:
    groups = content["optimizer"]["param_groups"]
    groups[0] = {k: v for k, v in groups[0].items() if k != "eps"}


def rates(content: dict[str, Any]) -> None:
    groups = content["optimizer"]["param_groups"]
    groups[0] = {**groups[0], "lr": [0.1, 0.1]}


def other_weights(content: dict[str, Any]) -> None:
    name = next(iter(content["model"]))
    content["model"][name] = content["model"][name].double()


def no_accuracy(content: dict[str, Any]) -> None:
    content["position"]["rows"] = [{"epoch": 1}]


def no_generator(content: dict[str, Any]) -> None:
    content["processes"] = [{**content["processes"][0], "random": torch.zeros(3, dtype=torch.uint8)}]


CHANGES = (no_moments, wide_moments, other_settings, no_settings, rates, other_weights, no_accuracy, no_generator)


@pytest.mark.slow
def test_a_checkpoint_is_refused_before_training(content: dict[str, Any], tmp_path: Path):
    loaded(content, tmp_path)
    for change in CHANGES:
        other = {**content, **{k: dict(content[k]) for k in ("model", "optimizer", "position")}}
        other["optimizer"] = {**other["optimizer"], "state": dict(other["optimizer"]["state"])}
        other["optimizer"]["param_groups"] = list(other["optimizer"]["param_groups"])
        change(other)
        with pytest.raises(FileFormatError, match=r"c\.pt"):
            loaded(other, tmp_path)
    with pytest.raises(FileFormatError):
        loaded({**content, "recipe": None}, tmp_path)
    for epochs in ("1", "", [1]):
        with pytest.raises(ArgumentError, match="epochs"):
            loaded({**content, "recipe": {**content["recipe"], "epochs": epochs}}, tmp_path)


@pytest.mark.slow
def test_a_checkpoint_that_expands_or_runs_is_refused(
    content: dict[str, Any], tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
):
    torch.save({**content, "more": torch.zeros(2**20)}, tmp_path / "large.pt")
    members = hostile.unzipped((tmp_path / "large.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    torch.save(hostile.Canary(), tmp_path / "evil.pt")
    model = build_model(hostile.RECIPE, (1, 8, 8), 10)
    monkeypatch.chdir(tmp_path)
    for name in ("large", "packed", "evil"):
        with pytest.raises((FileFormatError, TooLargeError)):
            load_checkpoint(
                tmp_path / f"{name}.pt", hostile.RECIPE, model, None, new_optimizer(hostile.RECIPE, model), 0, 1
            )
    assert not (tmp_path / "unpickled").exists()


# --- tables, images, data sets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), ("", bytes)])
def test_a_table_that_expands_is_refused_before_it_does(
    ending: str, pack: Callable[[bytes], bytes], tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
):
    path = written(tmp_path / f"t.csv{ending}", pack(b"x,k\n" + b"1,a\n" * 2**20))
    asked = []
    whole = _limits.read_part
    monkeypatch.setattr(_limits, "read_part", lambda stream, size: asked.append(size) or whole(stream, size))
    with pytest.raises(TooLargeError, match=" MiB of text"):
        read_table(path, "k")
    # The size of a file that is not packed is known.
    assert asked == ([2**20 + 1] if ending else [])


def test_a_sheet_whose_last_cell_is_far_away_is_refused(tmp_path: Path):
    far = hostile.sheet([["x", "k"], [1, "a"]], lambda r, c: "XFD1048576" if r else f"{chr(65 + c)}1")
    with pytest.raises(TooLargeError):
        read_table(written(tmp_path / "t.xlsx", far), "k")
    near = hostile.sheet([["x", "k"], [1, "a"], [2, "b"]])
    assert read_table(written(tmp_path / "t.xlsx", near), "k").labels == ("a", "b")


def test_a_parquet_file_of_one_text_in_many_cells_is_refused(tmp_path: Path, small: None):
    import polars

    frame = polars.DataFrame({"x": ["y" * 1000] * 5000, "k": ["a"] * 5000})
    frame.write_parquet(tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    with pytest.raises(TooLargeError):
        read_table(tmp_path / "t.parquet", "k")
    polars.DataFrame({"x": [0] * 200_000}).write_ipc(tmp_path / "t.feather")
    with pytest.raises(TooLargeError):
        read_table(tmp_path / "t.feather")


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return stream.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + stream.getvalue()[33:]


def test_a_picture_that_is_said_to_be_large_is_refused(tmp_path: Path, small: None):
    for side in (30_000, 1000, 2**31 - 1):
        with pytest.raises((TooLargeError, FileFormatError)):
            read_image(written(tmp_path / "p.png", png(side, side)))
    with pytest.raises(FileFormatError, match="no image that can be read"):
        read_image(written(tmp_path / "p.png", b"II*\0" + bytes(100)))


@pytest.mark.slow
def test_an_error_of_a_worker_that_reads_images_is_one_line(tmp_path: Path):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        (tmp_path / part / "a" / "p.png").write_bytes(b"x")
    data = Folders(tmp_path, torch.device("cpu"), 1, workers=1)
    with pytest.raises(FileFormatError) as raised:
        list(data.train(0))
    assert "Traceback" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_an_idx_file_is_read_no_further_than_its_header_says(ending: str, tmp_path: Path):
    files = dict(hostile.valid("idx"))
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[ending]
    raw = files.pop("mnist_train_images.idx")
    for content in (raw + bytes(2**22), raw[:4] + struct.pack(">III", 2**31, 2**31, 2**31), raw[:-1]):
        for name, other in files.items():
            written(tmp_path / name, other)
        written(tmp_path / f"mnist_train_images.idx{ending}", pack(content))
        with pytest.raises((FileFormatError, TooLargeError), match="mnist_train_images"):
            load_idx(tmp_path, ("mnist", "MNIST"), 0.0, 1.0)


def test_a_pickle_of_cifar_takes_no_memory_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    memo = b"\x80\x02Nr\xff\xff\xff\x7f."
    for content in (memo, pickle.dumps({b"data": np.array([hostile.Canary()], object), b"labels": [1]})):
        for name in hostile.BATCHES:
            written(tmp_path / name, content)
        with pytest.raises(FileFormatError, match="data_batch_1"):
            load_cifar10(tmp_path)
    assert not (tmp_path / "unpickled").exists()


# --- arrays, and answers of programs ----------------------------------------------------------------------------------


def test_arrays_of_strangers_are_read_no_further_than_they_may_be(tmp_path: Path, small: None):
    path = tmp_path / "a.npz"
    bomb = io.BytesIO()
    np.savez_compressed(bomb, x=np.zeros(2**18))
    with pytest.raises(TooLargeError, match=r"a\.npz"):
        read_arrays(written(path, bomb.getvalue()))
    for content in (claiming((10**14, 1)), b"\x93NUMPY", hostile.npy(np.array([hostile.Canary()], dtype=object)), b"x"):
        with pytest.raises(FileFormatError, match=r"a\.npy: no arrays of numbers"):
            read_arrays(written(tmp_path / "a.npy", content))
    for array in (np.array([[1, 2]], ">i2"), np.array(["é", ""]), np.zeros((0, 3)), np.asfortranarray(np.eye(3))):
        found, _ = read_arrays(written(tmp_path / "a.npy", hostile.npy(array)))
        assert np.array_equal(found, array)


def test_answers_that_a_stranger_wrote_are_refused(tmp_path: Path):
    made = "create table answers (key text primary key, answer text)"
    views = "create view answers as with recursive r(x) as (select 1 union all select x from r) select x as key from r"
    for number, commands in enumerate(
        (
            (views,),
            (made, "create trigger t after insert on answers begin delete from answers; end"),
            (made, "insert into answers values ('a', '[1')"),
            (made, "insert into answers values ('a', x'00ff')"),
        )
    ):
        with contextlib.closing(sqlite3.connect(tmp_path / str(number))) as file, file:
            for command in commands:
                file.execute(command)
        with pytest.raises(FileFormatError, match=rf"{number}: "):
            AnswerFile(tmp_path / str(number)).get("a")
