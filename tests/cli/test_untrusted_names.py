"""Names and limits on the command line: portable runs, nothing raw on the terminal, a full disk, checks that end."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress
from rich.table import Table
from support import hostile

from tpsolve import cli
from tpsolve.cli import _terminal, _verify
from tpsolve.cli._files import MAX_NAME, check_output, run_folder
from tpsolve.cli._limited import limited
from tpsolve.cli._train import _run_name
from tpsolve.errors import ArgumentError
from tpsolve.search import load_proof, verify_proof

RAW = "\x1b[2J\u202eevil\u2066\x07\x9b1m\u200f"
"""What clears a terminal, turns the direction of the text and rings."""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tpsolve", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


# --- names of runs ----------------------------------------------------------------------------------------------------

UNFIT = (
    "../../x",
    "a/b",
    "..",
    ".",
    "a\\b",
    "C:x",
    "a?",
    "x.",
    " x",
    "x ",
    "CON",
    "nul.txt",
    "x" * 300,
    "é" * 100,
    RAW,
)


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("command", [("train", "digits-mlp"), ("compare",), ("compare", "--training")])
def test_a_name_that_leads_out_or_is_not_portable_is_refused(
    name: str,
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *command, "--name", name, "--runs", tmp_path / "runs") == 2
    told = capsys.readouterr().err
    assert "--name" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_ordinary_names_stay_as_they_are():
    for name in ("mine", "searched-2", "größe", "a b", ".hidden", "x" * MAX_NAME, "lr=0.1,seed=3", "console"):
        assert run_folder(Path("runs"), name, "") == Path("runs") / name


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"solver": "hill-climb:restarts=2"}, "digits-mlp-solver-hill-climb_restarts=2"),
        ({"solver": "polish(sign-gradient, tabu:tenure=5)"}, "digits-mlp-solver-polish_sign-gradient,_tabu_tenure=5"),
        ({"widths": (8, 8), "seed": 3}, "digits-mlp-seed-3-widths-8,8"),
        ({"table": "my table (2)"}, "digits-mlp-table-my_table_2"),
        ({"table": RAW}, "digits-mlp-table-_2J_evil_1m"),
    ],
)
def test_names_made_of_what_was_chosen_are_portable(chosen: dict, expected: str):
    assert run_folder(Path("runs"), "", _run_name("digits-mlp", chosen)).name.replace("__", "_") == expected


def test_long_names_are_cut_and_stay_different():
    names = [run_folder(Path("runs"), "", _run_name("r", {"table": "x" * 300 + end})).name for end in "ab"]
    assert all(len(name) <= MAX_NAME for name in names)
    assert len(set(names)) == 2
    assert run_folder(Path("runs"), "", "con").name != "con"
    assert run_folder(Path("runs"), "", "...").name not in ("", "...")


def test_a_device_is_no_file_to_write():
    with pytest.raises(ArgumentError, match="a device, which would be replaced"):
        check_output("--save", Path(os.devnull))


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_no_text_reaches_the_terminal_raw():
    stream = io.StringIO()
    console = _terminal._SafeConsole(file=stream, force_terminal=True, width=100, color_system="truecolor")
    table = Table(RAW, title=RAW, caption=RAW)
    table.add_row(RAW)
    console.print(table, RAW, f"[bold]{RAW}[/bold]\nnext")
    with Progress(console=console) as bar:
        bar.add_task(RAW, total=1)
    shown = stream.getvalue()
    for sign in ("\u202e", "\u2066", "\u200f", "\x9b", "\x1b[2J"):
        assert sign not in shown
    assert "\\x1b[2J" in shown
    assert "\\u202e" in shown
    assert "next" in shown
    assert "\x1b[1m" in shown, "what rich writes itself stays"


def test_names_of_a_table_are_shown_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(f"a{RAW},b,kind\n1,2,p{RAW}\n3,4,q\n", encoding="utf-8")
    assert run(monkeypatch, "separate", "t.csv", "--target", "kind", "--columns", f"a{RAW},b") == 0
    told = capsys.readouterr()
    assert not set("\x1b\u202e\u2066\x07\x9b\u200f") & set(told.out + told.err)
    assert run(monkeypatch, "separate", "t.csv", "--target", f"x{RAW}") == 2
    told = capsys.readouterr()
    assert not set("\x1b\u202e\u2066\x07\x9b\u200f") & set(told.out + told.err)


@pytest.mark.slow
@pytest.mark.cli
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("arguments", [("list",), ("--help",)])
def test_output_that_can_not_be_written_is_one_line(arguments: tuple[str, ...]):
    command = [sys.executable, "-m", "tpsolve", *arguments]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert ran.stderr == "tpsolve: the output can't be written (No space left on device).\n"
    assert ran.returncode == 2


# --- limits of a check ------------------------------------------------------------------------------------------------


def test_a_check_ends_with_its_time_or_its_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    Path("a").touch()

    def forever(*_: object) -> bool:
        while True:
            pass

    monkeypatch.setattr("tpsolve._storage._archive.read_kind", lambda file: "layer-problem")
    monkeypatch.setattr(_verify, "limited", lambda seconds, memory: limited(min(seconds, 0.05), memory))
    monkeypatch.setattr(_verify, "_verify_result", forever)
    assert run(monkeypatch, "verify", "a", "b") == 1
    assert capsys.readouterr().err == "Not checked: no answer within 0.05 s. Give it more --seconds.\n"
    if sys.platform == "linux":
        monkeypatch.setattr(_verify, "limited", limited)
        monkeypatch.setattr(_verify, "_verify_result", lambda *_: np.ones(2**28).sum() > 0)
        assert run(monkeypatch, "verify", "a", "b", "--memory", 1) == 1
        assert capsys.readouterr().err == "Not checked: it takes more than 1 GiB. Give it more --memory.\n"
    assert run(monkeypatch, "verify", "a", "b", "--memory", 0) == 2
    assert run(monkeypatch, "verify", "a", "b", "--seconds", "nan") == 2


@pytest.mark.slow
def test_a_proof_of_wide_units_is_not_checked_rather_than_for_ever(tmp_path: Path):
    """Signed anew, with units whose tables would have 2^40 entries."""
    proof = hostile.exact_proof()
    proof.save(tmp_path / "p.npz")
    members = hostile.unzipped((tmp_path / "p.npz").read_bytes())
    arrays = {name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(m)) for name, m in members.items()}
    header = json.loads(str(arrays.pop("header")))
    header["widths"] = [40]
    weight, bias = arrays["weight0"], arrays["bias0"]
    arrays["weight0"], arrays["bias0"] = np.repeat(weight, 40, axis=0), np.repeat(bias, 40)
    arrays["weight1"] = np.concatenate([arrays["weight1"], np.zeros((1, 39))], axis=1)
    arrays["circuits"] = arrays["circuits"][:0]
    header["clauses"] = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    hostile.sign_proof(header, arrays)
    contents = {**arrays, "header": np.array(json.dumps(header))}
    (tmp_path / "p.npz").write_bytes(
        hostile.zipped({f"{k}.npy": hostile.npy(v) for k, v in contents.items()}, hostile.Random(1))
    )
    findings = verify_proof(
        load_proof(tmp_path / "p.npz"), hostile.network().samples.numpy(), ["a", "b", "b", "a", "a"]
    )
    assert findings[-1].part == "bound"
    assert findings[-1].holds is None
    assert "too large" in findings[-1].words
