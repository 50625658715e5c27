"""Files of every kind that tpsolve reads, changed as somebody would who knows their structure; and what reading does.

The n-th file of a seed is always the same. `try_file` reads it as the command line does, and says what happened.
"""

import copy
import gzip
import io
import json
import lzma
import math
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from tpsolve import LayerProblem, NetworkProblem, load_problem, load_result, solve
from tpsolve._result import Budget
from tpsolve._storage._limits import VARIABLE
from tpsolve.cli.models._saved import read_arrays
from tpsolve.compare import Comparison, run_comparison
from tpsolve.compare._row_table import RowTable
from tpsolve.compare._same_host import of_one_host
from tpsolve.compare._stored_rows import read_rows
from tpsolve.compare._summary import Findings, advice
from tpsolve.compare._training_runs import STRATEGIES, run_training
from tpsolve.compare.report._checklist import checklist
from tpsolve.compare.report._report import caption
from tpsolve.compare.report._training_report import summarise_training
from tpsolve.compare.running._check_rows import check_rows
from tpsolve.errors import TpsolveError
from tpsolve.models import load_model, make_model
from tpsolve.models._model import _digest as model_digest
from tpsolve.problems import make_instance
from tpsolve.problems.program._answer_file import AnswerFile
from tpsolve.search import load_proof, make_proof, verify_proof, verify_result
from tpsolve.search.proofs._proof import _MORE_NAMES as MORE_PROOF_NAMES
from tpsolve.search.proofs._proof import _NAMES as PROOF_NAMES
from tpsolve.search.proofs._proof import ProofPart
from tpsolve.search.proofs._proof import _digest as proof_digest
from tpsolve.tables import read_table
from tpsolve.train import Recipe, load_network, load_recipe, load_weights, train
from tpsolve.train._checkpoint import load_checkpoint
from tpsolve.train._optimizer import new_optimizer
from tpsolve.train.data._cifar10 import _python as read_cifar
from tpsolve.train.data._folders import _Decoded
from tpsolve.train.data._idx import load_idx
from tpsolve.train.data._table_rows import TablePreprocessing
from tpsolve.train.models._build import build_model

LIMIT = 2**26
"""The limit of a file, in bytes, while these are read."""
SECONDS = 5.0
OPENED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "shutil.rmtree")
"""Events of which none may come while a file is read."""

Files = dict[str, bytes]
"""Contents by path below a folder."""
Random = random.Random


@dataclass(frozen=True)
class Outcome:
    """What reading a file did.

    Args:
        kind: of the file.
        end: "read", "refused" with a typed error, or how it failed.
        why: of a failure or refusal, one line.
        seconds: of the processor, so that a machine that others use is not taken for a hang.
        peak: bytes of memory beyond those before.
    """

    kind: str
    end: str
    why: str
    seconds: float
    peak: int


@dataclass(frozen=True)
class Kind:
    """A kind of files: valid ones, a change that knows their structure, and a reader of the folder they lie in."""

    make: Callable[[], Files]
    change: Callable[[Files, Random], None]
    read: Callable[[Path], object]


class Canary:
    """Unpickled without care, it would write a file."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


# --- odd values -------------------------------------------------------------------------------------------------------


def odd(random: Random) -> Any:
    """A value of JSON that nobody expects."""
    deep: Any = []
    for _ in range(random.choice((3, 900))):
        deep = [deep]
    return random.choice(
        (
            *(None, True, False, 0, -1, 1, 2, 7, 10**9, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**400),
            *(0.5, -0.0, 1e308, 5e-324, -3.25, "", "a", "1/0", "1/3", "-7", "1e999999999", "inf", "nan", "9" * 5000),
            *("\0", "\x1b[2J", "\u202eevil", "../../x", "x" * 300, "circuits", "labels", "parts", "number", "date"),
            *([], [[]], {}, [None], [1, "a"], {"a": 1}, {"": None}, [0] * 1000, deep, ["a", "a"], [1e300, -1e300]),
        )
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside lists and dicts."""
    yield path
    if len(path) == 100:  # What was changed before may be nested a thousand times.
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(value: Any, random: Random, strange: Callable[[Random], Any] = odd) -> Any:
    """A copy of nested lists and dicts with a few values replaced, dropped, added or taken from elsewhere in it."""
    value = copy.copy(value)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        *path, last = random.choice([p for p in places(value) if p] or [("",)])
        inside: Any = value
        for key in path:
            inner = inside[key]
            inside[key] = inner = list(inner) if isinstance(inner, tuple) else copy.copy(inner)
            inside = inner
        if last not in inside if isinstance(inside, dict) else last == "":
            continue
        act = random.randrange(6)
        if act == 0 and len(path) < 3:
            del inside[last]
        elif act == 1 and isinstance(inside, dict):
            inside[random.choice(("extra", "", "x" * 300, "\x1b[31m"))] = strange(random)
        elif act == 1:
            cast(list, inside).append(strange(random))
        elif act == 2 and isinstance(inside[last], int | float) and not isinstance(inside[last], bool):
            half = inside[last] // 2 if abs(inside[last]) > 1e300 else inside[last] / 2  # Some have 400 digits by now.
            inside[last] = random.choice((-inside[last], inside[last] + 1, inside[last] + half, inside[last] * 10**6))
        else:
            inside[last] = strange(random)
    return value


def dumped(value: Any, random: Random) -> bytes:
    """The JSON of a value, now and then with what JSON has not."""
    try:
        text = json.dumps(value)
    except (TypeError, RecursionError, ValueError):
        text = "null"
    if random.random() < 0.05:
        text = text.replace(
            random.choice(("1", "0", "true", '"')), random.choice(("NaN", "1e999", "9" * 5000, "Infinity")), 1
        )
    if random.random() < 0.03:
        text = "[" * 100_000
    return text.encode("utf-8", "surrogatepass")


def damaged(content: bytes, random: Random) -> bytes:
    """Bytes turned over, cut, doubled or put in."""
    raw = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 10))):
        at = random.randrange(max(1, len(raw)))
        act = random.randrange(5)
        if act == 0 and raw:
            raw[at] ^= 1 << random.randrange(8)
        elif act == 1:
            del raw[at : at + random.choice((1, 4, 100, 10**6))]
        elif act == 2:
            raw[at:at] = random.randbytes(random.choice((1, 4, 30)))
        elif act == 3:
            raw[at : at + 4] = struct.pack("<I", random.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x10000)))
        else:
            raw[at:at] = raw[at : at + random.choice((1, 16, 200))]
    return bytes(raw)


def any_damage(files: Files, random: Random) -> None:
    """`damaged` one of the files."""
    name = random.choice(sorted(files))
    files[name] = damaged(files[name], random)


# --- archives ---------------------------------------------------------------------------------------------------------


def odd_array(array: np.ndarray, random: Random) -> np.ndarray:
    """An array of another type, shape, order or with other numbers."""
    act = random.randrange(9)
    if act == 0:
        kinds = (">f8", "f2", "c16", "i8", "u8", "?", "S3", "U2", "M8[s]", "i1", "f4", "f8", "i4")
        with np.errstate(all="ignore"):
            try:
                return array.astype(random.choice(kinds))
            except (ValueError, TypeError):
                return np.zeros(3)
    if act == 1:
        return np.array([Canary(), {"a": 1}], dtype=object)
    if act == 2:
        return array[:0] if array.ndim else np.zeros(0)
    if act == 3:
        return array[None] if random.random() < 0.5 else array.reshape((1,) * 30 + array.shape)
    if act == 4:
        return array.reshape(-1)
    if act == 5:
        return np.concatenate([array, array]) if array.ndim else np.zeros((2, 2))
    if act == 6:
        return np.zeros((random.choice((2**20, LIMIT // 4)) // array.dtype.itemsize,), array.dtype)
    array = np.array(array)
    flat = array.reshape(-1)
    if flat.size:
        at = random.randrange(flat.size)
        with np.errstate(all="ignore"):
            number = random.choice((math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0, 2.0, 1e-320, 10**9, -5, 2**31 - 1))
            flat[at] = (
                number if array.dtype.kind == "f" else np.array([random.randrange(-100, 100)]).astype(array.dtype)[0]
            )
    return array


def npy(array: np.ndarray, random: Random | None = None) -> bytes:
    """The bytes of an array in a file, with a header that may lie."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    content = stream.getvalue()
    if random is None:
        return content
    size = struct.unpack("<H", content[8:10])[0]
    head, body = content[10 : 10 + size].decode("latin1"), content[10 + size :]
    shape = str(array.shape)
    lies = ((2**40,), (10**14, 4), (-1,), (-3, -2), (2**62, 4), (0,), (True,), (1,) * 70, "((" * 2000, (2**26,))
    what = random.randrange(4)
    if what == 0:
        head = head.replace(shape, str(random.choice(lies)))
    elif what == 1:
        head = head.replace(
            "'descr': ", random.choice(("'descr': '|O', 'x': ", "'descr': [('a', '<f8')], 'x': ", "'d': "))
        )
    elif what == 2:
        head = head.replace("False", random.choice(("True", "__import__('os').mkdir('unpickled')", "1")))
    else:
        head = head.replace("<", random.choice((">", "|", "=", "<<")), 1)
    raw = head.encode("latin1")[:65000]
    return content[:8] + struct.pack("<H", len(raw)) + raw + body


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(members: dict[str, bytes], random: Random) -> bytes:
    """A zip file of these members, now and then with sizes, methods and names that lie."""
    method = random.choice((zipfile.ZIP_DEFLATED,) * 40 + (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(name, content)
        if random.random() < 0.03:
            archive.writestr(random.choice(("../../x.npy", "header.npy", "x" * 300, "a\0.npy", "dir/")), b"x")
    content = bytearray(stream.getvalue())
    if random.random() < 0.1:
        # The sizes in the table of contents, or of it.
        at = content.rfind(b"PK\x05\x06" if random.random() < 0.3 else b"PK\x01\x02")
        field = at + random.choice((8, 10, 12, 16, 20, 24, 28, 42))
        content[field : field + 4] = struct.pack("<I", random.choice((0, 1, 0xFFFFFFFF, 2**31, LIMIT + 1, LIMIT - 1)))
    return bytes(content)


def archive_change(sign: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> Callable[[Files, Random], None]:
    """A change of a tpsolve file, signed anew by `sign(header, arrays)` where it has a hash of its contents."""

    def change(files: Files, random: Random) -> None:
        (name,) = (name for name in files if name.endswith(".npz"))
        act = random.randrange(10)
        if act == 0:
            any_damage(files, random)
            return
        members = unzipped(files[name])
        arrays = {
            path.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(content))
            for path, content in members.items()
        }
        header = json.loads(str(arrays.pop("header")))
        if act < 5:
            header = changed(header, random)
        elif act < 9 and arrays:
            chosen = random.choice(sorted(arrays))
            if random.random() < 0.1:
                del arrays[chosen]
            else:
                arrays[chosen] = odd_array(arrays[chosen], random)
        if isinstance(header, dict):
            try:
                sign(header, arrays)
            except Exception:  # Not even the hash can be made.
                header.setdefault("digest", "")
        text = dumped(header, random).decode("utf-8", "surrogatepass")
        if len(text) > 10**6:
            text = text[: 10**6]
        members = {f"{key}.npy": npy(array) for key, array in {**arrays, "header": np.array(text)}.items()}
        if act == 9:
            chosen = random.choice(sorted(members))
            members[chosen] = npy(np.lib.format.read_array(io.BytesIO(members[chosen]), allow_pickle=True), random)
        if random.random() < 0.02:
            members["bomb.npy"] = npy(np.zeros(LIMIT + 1, np.uint8))
        files[name] = zipped(members, random)

    return change


def unsigned(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Files without a hash."""


def tensors_of(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def sign_proof(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    names = (*PROOF_NAMES, *MORE_PROOF_NAMES)
    header["digest"] = proof_digest({name: header[name] for name in names if name in header}, tensors_of(arrays))
    header["arrays"] = sorted(arrays)


def sign_model(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    if isinstance(header.get("proof"), dict):
        of_proof = {k: v for k, v in arrays.items() if k.startswith(("circuits", "weight", "bias", "points", "shares"))}
        own = dict(header["proof"])
        sign_proof(own, of_proof)
        header["proof"] = {name: value for name, value in own.items() if name != "arrays"}
    apart = ("format", "version", "kind", "arrays", "digest")
    header["arrays"] = sorted(arrays)
    header["digest"] = model_digest({k: v for k, v in header.items() if k not in apart}, tensors_of(arrays))


def saved(save: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "f.npz")
        return (Path(folder) / "f.npz").read_bytes()


@cache
def layer() -> LayerProblem:
    return make_instance("random", n=6, m=4, samples=2, seed=1).problem


@cache
def network() -> NetworkProblem:
    return NetworkProblem([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1.5]], ["a", "b", "b", "a", "a"], [1])


@cache
def exact() -> Any:
    return solve(network(), "circuits:engine=glucose4", budget=Budget(seconds=60))


def read_layer(folder: Path) -> None:
    problem = load_problem(folder / "f.npz")
    solve(problem, "sign-gradient" if isinstance(problem, LayerProblem) else "random", budget=Budget(steps=1))
    assert problem.fingerprint


def read_network(folder: Path) -> None:
    problem = load_problem(folder / "f.npz")
    if isinstance(problem, NetworkProblem):
        problem.objective(problem.start)
    assert problem.fingerprint


def read_result(folder: Path) -> None:
    result, _ = load_result(folder / "f.npz")
    assert result.status is not None
    verify_result(layer(), result, 8)


def read_proof(folder: Path) -> None:
    proof = load_proof(folder / "f.npz")
    points, labels = network().samples.numpy(), ["a", "b", "b", "a", "a"]
    verify_proof(proof, points, labels, engine="cp-sat" if proof.engine != "cp-sat" else None, seconds=1)


POINTS, LABELS = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]], ["a", "b", "b", "a", "a"]
"""Of all proofs but those by circuits."""


@cache
def other_proofs() -> list[bytes]:
    """Proofs by hyperplanes, of whole weights, of circuits that share costs, and of parts."""
    plain = NetworkProblem(POINTS, LABELS, [1])
    of_set = NetworkProblem(POINTS, LABELS, [1], weight_set=[-1, 0, 1])
    rules = {"bias_set": [-2, -1, 0, 1], "penalty": 0.5, "max_fan_in": 1, "monotone": [1, 0]}
    ruled = NetworkProblem(POINTS, LABELS, [2], weight_set=[-1, 0, 1], **rules)
    tasks = ((plain, "sweep"), (NetworkProblem(POINTS, LABELS, [2]), "dichotomies"), (of_set, "weight-box"))
    budget = Budget(seconds=60)
    proofs = [make_proof(problem, solve(problem, s, budget=budget)) for problem, s in (*tasks, (ruled, "weight-box"))]
    whole = make_proof(plain, solve(plain, "circuits:engine=glucose4", budget=budget))
    part = ProofPart(torch.arange(5, dtype=torch.int32), whole.bound, "circuits", whole.circuits)
    # The circuits share out one error.
    count = len(whole.circuits)
    shares = torch.full((1, count), 1 / max(1, count), dtype=torch.float64)
    proofs += [replace(whole, method="parts", parts=(part,)), replace(whole, method="packing", shares=shares)]
    return [saved(proof.save) for proof in proofs]


def change_other_proof(files: Files, random: Random) -> None:
    files["f.npz"] = random.choice(other_proofs())
    archive_change(sign_proof)(files, random)


def read_other_proof(folder: Path) -> None:
    proof = load_proof(folder / "f.npz")
    # Any other engine works in a process of its own.
    engine = "cp-sat" if proof.weight_set is None else None
    verify_proof(proof, POINTS, LABELS, engine=engine, seconds=1)


@cache
def other_models() -> list[bytes]:
    """Models of whole weights, of names that programs could take for their own, and of images."""
    problem = NetworkProblem(POINTS, LABELS, [1], weight_set=[-1, 0, 1])
    result = solve(problem, "weight-box", budget=Budget(seconds=60))
    names = ['*/ "\n#', "'''\"\"\"\\"]
    whole = make_model(problem, result, features=names, target="\u202e`rm`")
    return [saved(whole.save), saved(replace(whole, shape=(1, 1, 2), proof=None).save)]


def change_other_model(files: Files, random: Random) -> None:
    files["f.npz"] = random.choice(other_models())
    archive_change(sign_model)(files, random)


def read_other_model(folder: Path) -> None:
    model = load_model(folder / "f.npz")
    assert model.status is not None
    assert model.rules is not None
    model.predict(np.zeros((2, *model.shape)) if model.shape else {name: [1.0, 1.0] for name in model.features})


def model_files() -> Files:
    table = "size,colour,kind\n1,red,a\n2,blue,b\n3,red,b\n4,blue,a\n5,red,a\n"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text(table)
        read = read_table(Path(folder) / "t.csv", "kind")
    problem = NetworkProblem(read.inputs, list(read.labels), [2])
    result = solve(problem, "circuits:engine=glucose4", budget=Budget(seconds=60))
    model = make_model(problem, result, features=read.features, target="kind", schema=read.schema)
    return {"f.npz": saved(model.save), "t.csv": table.encode()}


def read_model(folder: Path) -> None:
    model = load_model(folder / "f.npz")
    assert model.status is not None
    assert model.rules is not None
    model.predict(folder / "t.csv" if model.schema is not None else [[1.0, 1.0, 0.0]])


# --- runs -------------------------------------------------------------------------------------------------------------

RECIPE = Recipe(widths=(4,), epochs=3, batch=512, images=1024, channels_last=False)


@cache
def checkpoint() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        steps = iter((False, False, False, True))
        train(RECIPE, folder, stop=lambda: next(steps, True))
        return torch.load(Path(folder) / "checkpoint.pt", weights_only=True)


def odd_for_torch(random: Random) -> Any:
    strange = (
        *(torch.zeros(3), torch.zeros(()), torch.zeros(1).expand(10**9), torch.zeros(2, dtype=torch.int8)),
        *(torch.empty(4, 64, device="meta"), torch.full((4,), math.nan), torch.eye(3).to_sparse(), Canary()),
        *(torch.zeros(4, 64, dtype=torch.float64), torch.zeros(2**20), torch.nn.Parameter(torch.zeros(4))),
    )
    return random.choice(strange) if random.random() < 0.5 else odd(random)


def change_checkpoint(files: Files, random: Random) -> None:
    if random.random() < 0.2:
        files["f.pt"] = damaged(files["f.pt"], random)
        return
    stream = io.BytesIO()
    try:
        torch.save(changed(checkpoint(), random, odd_for_torch), stream)
    except (RuntimeError, RecursionError, OverflowError):
        return
    files["f.pt"] = stream.getvalue()
    if random.random() < 0.2:
        files["f.pt"] = zipped(unzipped(files["f.pt"]), random)


def checkpoint_files() -> Files:
    stream = io.BytesIO()
    torch.save(checkpoint(), stream)
    return {"f.pt": stream.getvalue()}


def read_checkpoint(folder: Path) -> None:
    model = build_model(RECIPE, (1, 8, 8), 10)
    optimizer = new_optimizer(RECIPE, model)
    try:
        position = load_checkpoint(folder / "f.pt", RECIPE, model, None, optimizer, 0, 1)
        json.dumps(position.rows)
        max(position.rows, key=lambda row: row["test_accuracy"], default=None)
        model(torch.zeros(4, 1, 8, 8)).sum().backward()
        optimizer.step()
    finally:
        load_weights(folder / "f.pt", build_model(RECIPE, (1, 8, 8), 10))


def read_run(folder: Path) -> None:
    network = load_network(folder / "f.pt")
    network(torch.zeros(2, *network.shape))


def comparison_of(folder: Path) -> Comparison:
    return Comparison(folder / "run", "generated-12", ("sign-gradient", "random"), samples=2, seconds=0.01, seeds=(0,))


@cache
def comparison_files() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        run_comparison(comparison_of(Path(folder)))
        found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        return found


def change_rows(files: Files, random: Random) -> None:
    name = random.choice([name for name in sorted(files) if name.endswith((".json", ".jsonl"))])
    if random.random() < 0.2:
        files[name] = damaged(files[name], random)
        return
    lines = files[name].splitlines() if name.endswith("l") else [files[name]]
    at = random.randrange(len(lines))
    lines[at] = dumped(changed(json.loads(lines[at]), random), random)
    files[name] = b"\n".join(lines) + b"\n"


def read_comparison(folder: Path) -> None:
    """As `tpsolve report`, `tpsolve verify` and a comparison that goes on read it; no solve is made again.

    The first one may refuse what the others read: it looks at rows alone.
    """
    refused = None
    for read in (_report_of, lambda run: list(check_rows(run)), lambda _: _resumed(folder)):
        try:
            read(folder / "run")
        except TpsolveError as error:
            refused = error
    if refused is not None:
        raise refused


def _report_of(run: Path) -> None:
    findings = Findings(of_one_host(RowTable.of(read_rows(run)))[0])
    advice(findings)
    caption(findings)
    checklist(findings)


def _resumed(folder: Path) -> None:
    rows = run_comparison(comparison_of(folder), stop=lambda: True)
    advice(Findings(rows))
    caption(Findings(rows))


def training_files() -> Files:
    from dataclasses import asdict

    rows = [
        {"strategy": name, "settings": asdict(STRATEGIES[name]), "seed": 0, "epochs": 2, "fallbacks": 0}
        | {curve: [1.5, 2.5] for curve in ("seconds", "loss", "train_accuracy", "test_accuracy")}
        for name in ("soft-hinge", "one flip")
    ]
    return {"rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}


def read_training(folder: Path) -> None:
    chosen = {name: STRATEGIES[name] for name in ("soft-hinge", "one flip")}
    summarise_training(run_training(folder, seeds=(0,), epochs=2, strategies=chosen, stop=lambda: True))


def change_recipe(files: Files, random: Random) -> None:
    lines = files["r.toml"].decode().splitlines()
    values = (
        *(
            "nan",
            "inf",
            "-1",
            "1e400",
            "9" * 5000,
            "10000000000",
            '"' + "x" * 300 + '"',
            '"\\u0000"',
            "[]",
            "{}",
            "true",
        ),
        *(
            "[" * 5000,
            "0x" + "f" * 5000,
            "[1, [2]]",
            '"../../x"',
            "1979-05-27",
            '"\\u001b[2J"',
            "3",
            "0.5",
            '"relu"',
            '""',
        ),
        *("[1000000000]", '"hill-climb:restarts=' + "(" * 2000 + '"', '"table"', '"{}"', '"[[[["', "a.b = 1", "'''"),
    )
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(lines))
        key = (
            lines[at].partition(" =")[0]
            if random.random() < 0.9
            else random.choice(("with", "with.relu.x", '""', "[with]"))
        )
        lines[at] = f"{key} = {random.choice(values)}"
    text = "\n".join(lines)
    if random.random() < 0.05:
        text += "\n" + ".".join(["a"] * 30_000) + " = 1"
    files["r.toml"] = damaged(text.encode(), random) if random.random() < 0.2 else text.encode("utf-8", "surrogatepass")


def read_recipe(folder: Path) -> None:
    recipe = load_recipe(folder / "r.toml")
    (folder / "again.toml").write_bytes(recipe.to_toml().encode())
    again = load_recipe(folder / "again.toml")
    assert again == recipe or again.to_toml() == recipe.to_toml()
    if sum(recipe.widths) < 10**9 and recipe.model == "mlp" and len(recipe.widths) < 20:
        build_model(recipe, (1, 8, 8), 10)


@cache
def preprocessing_files() -> Files:
    table = "size,day,colour,kind\n" + "".join(
        f"{k},2020-01-{k % 28 + 1:02d},{'rb'[k % 2]},{'ab'[k % 3 == 0]}\n" for k in range(30)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(table)
        read = read_table(path, "kind")
        mean = tuple([0.0] * len(read.features))
        TablePreprocessing(read.schema, mean, tuple([1.0] * len(mean)), "x").save(Path(folder))
        return {"t.csv": table.encode(), "table.json": (Path(folder) / "table.json").read_bytes()}


def read_preprocessing(folder: Path) -> None:
    TablePreprocessing.load(folder).read(folder / "t.csv")


# --- data -------------------------------------------------------------------------------------------------------------


def table_text(random: Random) -> str:
    cells = (
        *(
            "1",
            "2.5",
            "-3",
            "1e999999999",
            "9" * 5000,
            "1e308",
            "-",
            "?",
            "",
            "NA",
            "inf",
            "1,5",
            "1.234,5",
            "$ 5",
            "7 kg",
        ),
        *(
            "2020-01-01",
            "31.12.1999",
            "12:30",
            "red",
            "blue",
            '"a""b"',
            '"',
            "\0",
            "\x1b[2J",
            "\u202ex",
            "\ud800",
            "é",
            "'",
        ),
        *("1/2", "0x10", "1 000", "1e5", "x" * 5000, "1" * 400 + "e6", "5 %", "true"),
    )
    rows, columns = random.choice((1, 3, 30)), random.choice((1, 2, 4))
    lines = [",".join([*(f"c{k}" for k in range(columns)), "kind"])]
    like = [random.choice(("1", "2.5", "red", "2020-01-01", "7 kg", "$ 5")) for _ in range(columns)]
    for row in range(rows):
        odds = [random.choice(cells) if random.random() < 0.1 else text for text in like]
        lines.append(",".join([*odds, "ab"[row % 2]]))
    delimiter = random.choice((",", ",", ",", ";", "\t", "|", " "))
    return random.choice(("\n", "\r\n")).join(lines).replace(",", delimiter)


def change_table(files: Files, random: Random) -> None:
    content = table_text(random).encode("utf-8", "surrogatepass")
    if random.random() < 0.05:
        content += b"1,a\n" * random.choice((10**5, LIMIT // 3))
    if random.random() < 0.2:
        content = damaged(content, random)
    pack = random.choice(("", ".gz", ".xz"))
    packed = {"": lambda c: c, ".gz": lambda c: gzip.compress(c, 1), ".xz": lambda c: lzma.compress(c, preset=0)}[pack](
        content
    )
    files.clear()
    files[f"t.csv{pack}"] = damaged(packed, random) if pack and random.random() < 0.3 else packed


def read_any_table(folder: Path) -> None:
    (path,) = folder.glob("t.*")
    read_table(path, "kind")


@cache
def typed_tables() -> Files:
    import polars

    frame = polars.DataFrame(
        {
            "size": [1.0, 2.5, 3.0, 4.0] * 3,
            "count": [1, 2, 3, 4] * 3,
            "colour": ["r", "b", "r", "b"] * 3,
            "kind": ["a", "b", "b", "a"] * 3,
        }
    )
    found: Files = {}
    with tempfile.TemporaryDirectory() as folder:
        frame.write_parquet(Path(folder) / "t.parquet")
        frame.write_ipc(Path(folder) / "t.feather")
        for path in Path(folder).iterdir():
            found[path.name] = path.read_bytes()
    found["t.xlsx"] = sheet([["size", "colour", "kind"], *([k, "rb"[k % 2], "ab"[k % 2]] for k in range(8))])
    return found


def sheet(rows: list[list[Any]], place: Callable[[int, int], str] = lambda r, c: f"{chr(65 + c)}{r + 1}") -> bytes:
    """A small .xlsx file."""
    cells = "".join(
        f'<row r="{r + 1}">'
        + "".join(
            f'<c r="{place(r, c)}"><v>{value}</v></c>'
            if isinstance(value, int | float)
            else f'<c r="{place(r, c)}" t="inlineStr"><is><t>{value}</t></is></c>'
            for c, value in enumerate(row)
        )
        + "</row>"
        for r, row in enumerate(rows)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    types, sheets = "application/vnd.openxmlformats-", "officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        f'<Default Extension="rels" ContentType="{types}package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}{sheets}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}{sheets}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">'
        '<sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return stream.getvalue()


def change_typed(files: Files, random: Random) -> None:
    name = random.choice(sorted(files))
    content = files[name]
    files.clear()
    if name == "t.xlsx" and random.random() < 0.7:
        members = unzipped(content)
        inner = "xl/worksheets/sheet1.xml"
        text = members[inner].decode()
        odds = ('r="XFD1048576"', 'r="A1"', 'r=""', 'r="AAAA99999999"', 't="s"', 't="e"', 't="d"', 'r="B1000000"')
        text = text.replace(
            random.choice(('r="A2"', 'r="C9"', 't="inlineStr"')), random.choice(odds), random.choice((1, 5))
        )
        members[inner] = damaged(text.encode(), random) if random.random() < 0.3 else text.encode()
        content = zipped(members, random)
    else:
        content = damaged(content, random)
    files[name] = content


IDX = ("train_images", "train_labels", "test_images", "test_labels")


@cache
def idx_files() -> Files:
    def idx(array: np.ndarray) -> bytes:
        return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()

    images, labels = np.zeros((5, 4, 4), np.uint8), np.arange(5, dtype=np.uint8)
    return {f"mnist_{name}.idx": idx(images if "images" in name else labels) for name in IDX}


def change_idx(files: Files, random: Random) -> None:
    name = random.choice(sorted(files))
    content = bytearray(files.pop(name))
    at = random.choice((0, 2, 3, 4, 8, 12, 16, 20))
    if random.random() < 0.7:
        content[at : at + 4] = struct.pack(">I", random.choice((0, 1, 6, 255, 2**31, 2**32 - 1, LIMIT, LIMIT + 5)))
    pack = random.choice(("", ".gz", ".xz"))
    if random.random() < 0.03:
        content += bytes(LIMIT + 100)
        pack = ".gz"
    raw = bytes(content)
    packed = {"": raw, ".gz": gzip.compress(raw, 1), ".xz": lzma.compress(raw, preset=0)}[pack]
    files[name + pack] = damaged(packed, random) if random.random() < 0.3 else packed


@cache
def image_files() -> Files:
    found: Files = {}
    for ending, kind in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP")):
        stream = io.BytesIO()
        Image.new("RGB", (20, 16), (9, 120, 200)).save(stream, kind)
        found[f"p.{ending}"] = stream.getvalue()
    return found


def change_image(files: Files, random: Random) -> None:
    name = random.choice(sorted(files))
    content = files[name]
    files.clear()
    if name == "p.png" and random.random() < 0.3:
        side = random.choice((0, 30_000, 2**31 - 1, 5000))
        head = b"IHDR" + struct.pack(
            ">IIBBBBB", side, side, random.choice((1, 8, 16)), random.choice((0, 2, 3, 6)), 0, 0, 0
        )
        import zlib

        content = content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    else:
        content = damaged(content, random)
    files[name] = content


def read_images(folder: Path) -> None:
    (path,) = folder.glob("p.*")
    for seed in (None, 1):
        found = _Decoded([(path, 0)], seed)[0]
        if isinstance(found, TpsolveError):
            raise found


BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@cache
def cifar_files() -> Files:
    content = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [3, 4], b"filenames": [b"a", b"b"]}
    return {name: pickle.dumps(content, protocol=2) for name in BATCHES}


def change_cifar(files: Files, random: Random) -> None:
    name = random.choice(BATCHES)
    content: Any = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [3, 4]}
    act = random.randrange(5)
    if act == 0:
        files[name] = damaged(files[name], random)
        return
    if act == 1:
        files[name] = b"\x80\x02" + random.choice(
            (b"Nr\xff\xff\xff\x7f.", b"N\x8e" + b"\xff" * 8 + b".", b"(" * 10**5 + b".", b"]" * 10**5)
        )
        return
    strange = (
        Canary(),
        None,
        5,
        "a",
        [],
        [1, 2, 3, 99],
        {},
        np.zeros(3),
        np.array([Canary()], object),
        b"x" * 6144,
        [[]] * 9,
    )
    content[random.choice((b"data", b"labels", b"x"))] = random.choice(strange)
    files[name] = pickle.dumps(
        content if random.random() < 0.9 else random.choice(strange), protocol=random.choice((2, 3, 4, 5))
    )


@cache
def array_files() -> Files:
    stream = io.BytesIO()
    np.savez_compressed(stream, X=np.arange(6.0).reshape(3, 2), y=np.array(["a", "b", "é"]))
    return {"a.npz": stream.getvalue()}


def change_arrays(files: Files, random: Random) -> None:
    content, name = files.pop("a.npz"), "a.npz"
    act = random.randrange(4)
    if act == 0:
        content = damaged(content, random)
    elif act == 3:
        name = "a.npy"
        content = npy(odd_array(np.arange(6.0).reshape(3, 2), random), random if random.random() < 0.5 else None)
    else:
        members = unzipped(content)
        chosen = random.choice(sorted(members))
        array = np.lib.format.read_array(io.BytesIO(members[chosen]))
        members[chosen] = npy(array, random) if act == 1 or array.dtype.kind == "U" else npy(odd_array(array, random))
        content = zipped(members, random)
    files[name] = content


def read_array_files(folder: Path) -> None:
    (path,) = folder.glob("a.*")
    rows, labels = read_arrays(path, "y" if path.suffix == ".npz" else None)
    assert labels is None or len(labels) == len(rows)
    small_model().predict(rows)


@cache
def small_model() -> Any:
    return make_model(network(), exact())


@cache
def answer_files() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        file = AnswerFile(Path(folder) / "f.sqlite")
        for key in ("[1, 2]", "a"):
            file.put(key, '{"a": [1, 2.5]}')
        file.save()
        return {"f.sqlite": (Path(folder) / "f.sqlite").read_bytes()}


def read_answers(folder: Path) -> None:
    file = AnswerFile(folder / "f.sqlite")
    for key in ("[1, 2]", "a", "b"):
        file.get(key)
    file.put("c", "1")
    file.save()


KINDS: dict[str, Kind] = {
    "layer problem": Kind(lambda: {"f.npz": saved(layer().save)}, archive_change(unsigned), read_layer),
    "network problem": Kind(lambda: {"f.npz": saved(network().save)}, archive_change(unsigned), read_network),
    "result": Kind(
        lambda: {"f.npz": saved(solve(layer(), "hill-climb", budget=Budget(steps=3)).save)},
        archive_change(unsigned),
        read_result,
    ),
    "proof": Kind(lambda: {"f.npz": saved(exact_proof().save)}, archive_change(sign_proof), read_proof),
    "model": Kind(model_files, archive_change(sign_model), read_model),
    "checkpoint": Kind(checkpoint_files, change_checkpoint, read_checkpoint),
    "rows of a comparison": Kind(comparison_files, change_rows, read_comparison),
    "rows of training": Kind(training_files, change_rows, read_training),
    "recipe": Kind(lambda: {"r.toml": RECIPE.to_toml().encode()}, change_recipe, read_recipe),
    "preprocessing": Kind(preprocessing_files, change_rows, read_preprocessing),
    "text table": Kind(dict, change_table, read_any_table),
    "typed table": Kind(typed_tables, change_typed, read_any_table),
    "idx": Kind(idx_files, change_idx, lambda folder: load_idx(folder, ("mnist", "MNIST"), 0.0, 1.0)),
    "image": Kind(image_files, change_image, read_images),
    "CIFAR-10": Kind(cifar_files, change_cifar, read_cifar),
    "proof of another method": Kind(lambda: {"f.npz": other_proofs()[0]}, change_other_proof, read_other_proof),
    "model of whole weights": Kind(lambda: {"f.npz": other_models()[0]}, change_other_model, read_other_model),
    "network of a run": Kind(checkpoint_files, change_checkpoint, read_run),
    "arrays": Kind(array_files, change_arrays, read_array_files),
    "answers of a program": Kind(answer_files, any_damage, read_answers),
}
"""All kinds of files, by name."""


def exact_proof() -> Any:
    return make_proof(network(), exact(), {"target": "kind"})


@cache
def valid(kind: str) -> Files:
    return KINDS[kind].make()


# --- trying -----------------------------------------------------------------------------------------------------------


def make_files(number: int, seed: int = 0) -> tuple[str, Files]:
    """The kind and the contents of the n-th changed file of a seed."""
    kind = list(KINDS)[number % len(KINDS)]
    files = dict(valid(kind))
    KINDS[kind].change(files, Random(f"{seed}/{number}"))
    return kind, files


@contextmanager
def limits() -> Iterator[None]:
    """The limit of a file, while these are read."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(LIMIT)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


_EVENTS: list[str] = []
_WATCHED = False


def watch() -> None:
    """Note, from now on, each event of `OPENED` in this process."""
    global _WATCHED
    if not _WATCHED:
        sys.addaudithook(lambda event, _: _EVENTS.append(event) if event in OPENED else None)
        _WATCHED = True


def resident() -> tuple[int, int]:
    """Bytes of this process in memory now, and at most since the last `forget_peak`; 0 where nothing tells."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return 0, 0


def forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


class HangError(BaseException):
    """A file took longer than `SECONDS`; no library takes it for an error of its own."""


def _hang(*_: object) -> None:
    raise HangError


def try_file(number: int, seed: int = 0) -> Outcome:
    """Read the n-th changed file of a seed, in a folder of its own, and say what happened."""
    kind, files = make_files(number, seed)
    watch()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name, limits():
        folder = Path(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        os.chdir(folder)
        previous = signal.signal(signal.SIGPROF, _hang)
        forget_peak()
        before, _ = resident()
        _EVENTS.clear()
        end, why = "read", ""
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            KINDS[kind].read(folder)
        except TpsolveError as error:
            end, why = "refused", f"{type(error).__name__}: {str(error)[:200]}"
        except HangError:
            end, why = "hang", _place(sys.exc_info()[2])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            end, why = "traceback", f"{type(error).__name__}: {str(error)[:200]} at {_place(error.__traceback__)}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)
            os.chdir(here)
        seconds, peak = time.process_time() - started, max(0, resident()[1] - before)
        ran = list(_EVENTS)
        if ran or (folder / "unpickled").exists():
            end, why = "executed", ", ".join(ran) or "a pickle"
        elif peak > 2 * LIMIT and end in ("read", "refused"):
            end, why = "memory", f"{peak / 2**20:.0f} MiB"
    return Outcome(kind, end, why, seconds, peak)


def _place(trace: Any) -> str:
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(trace)[-4:])
    )


def stay_alive() -> None:
    """No core files, and nothing on the terminal of libraries that abort."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
