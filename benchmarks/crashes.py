"""Do runs survive whatever ends them: two processes at once, kills, workers that die, power cuts?

`python -m benchmarks.crashes` makes a row of results/crashes.jsonl for each trial and goes on where it was stopped.
`--seed 1` makes others. Each row says of which code it is. What is tried, and what must hold:

- two processes: the same command twice at once. One does all, the other ends with status 2 and one line.
- kills: a comparison or a training is killed at a moment that is drawn, and begun again. It ends as the whole one did,
  rows of a comparison but for what is measured, checkpoints of training bit for bit.
- workers: one of two workers is killed. The comparison ends with the rows of the whole one.
- shards: three shards at once, on one folder. Their rows are those of the whole comparison.
- power cuts: a disk is simulated that loses whatever was not synced; see tests/support/power_cut.py. Each state that a
  cut may leave is gone on from, to the end of the whole run.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import pytest
import torch
from support.power_cut import Disk  # pyright: ignore[reportMissingImports]

from benchmarks.record import RESULTS, Rows, code_state, is_elsewhere, parser_of, where
from tpsolve.compare import Comparison, run_comparison
from tpsolve.compare._row_files import key_of
from tpsolve.compare._stored_rows import read_rows
from tpsolve.compare.running._check_rows import check_rows
from tpsolve.train import Recipe, train
from tpsolve.train._checkpoint import read_checkpoint

LOG = Rows(RESULTS / "crashes.jsonl", ("kind", "number", "tried", "failures"))
COMPARE = ("compare", "--suite", "generated-32", "--samples", "2", "--steps", "200", "--seeds", "2")
COMPARE += tuple(word for solver in ("keep", "hill-climb", "tabu", "anneal") for word in ("--solver", solver))
TRAIN = ("train", "digits-mlp", "--epochs", "6", "--set", "widths=16")
MEASURED = ("seconds", "load", "time", "found_at", "proved_at", "trace", "threads", "device")
PATIENCE = 3000
"""Seconds, of which a process that gives way to all others gets few of the processor."""


def started(runs: Path, *words: str) -> subprocess.Popen[str]:
    """The command, with one thread."""
    command = [sys.executable, "-m", "tpsolve", *words, "--runs", str(runs), "--name", "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows_of(runs: Path) -> list[dict[str, Any]]:
    """Of a comparison, but for what is measured; a key twice within a file is an error."""
    for path in (runs / "run").glob("rows*.jsonl"):
        keys = [(row["instance"], row["solver"], row["seed"]) for row in map(json.loads, path.read_text().splitlines())]
        assert len(keys) == len(set(keys)), "a row twice"
    rows = sorted(read_rows(runs / "run"), key=key_of)
    return [{name: v for name, v in row.items() if name not in MEASURED} for row in rows]


def weights_of(runs: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(runs / "run" / "checkpoint.pt")["model"]


def whole(runs: Path, *words: str) -> None:
    """The command to its end."""
    process = started(runs, *words)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err


def two_processes(command: tuple[str, ...]) -> Callable[[Path, random.Random], int]:
    def trial(runs: Path, drawn: random.Random) -> int:
        first = started(runs, *command)
        time.sleep(drawn.random() * 2)
        both = [first, started(runs, *command)]
        ended = sorted((process.communicate(timeout=PATIENCE)[1], process.returncode) for process in both)
        refused = [err for err, status in ended if status == 2]
        assert len(refused) == 1, ended
        assert "in use by process" in refused[0] or "holds a run already" in refused[0], refused
        assert [status for err, status in ended if status != 2] == [0], ended
        if command is COMPARE:
            assert rows_of(runs) == reference(COMPARE, rows_of)
            assert not any(check.false or check.missing for check in check_rows(runs / "run"))
        return 1

    return trial


def kills(command: tuple[str, ...], again: tuple[str, ...], path: str, read: Callable[[Path], Any], *more: str) -> Any:
    def trial(runs: Path, drawn: random.Random) -> int:
        """Killed at a moment after the first row, once or twice."""
        for words in ((*command, *more), (*again, *more))[: drawn.randint(1, 2)]:
            process, end = started(runs, *words), time.monotonic() + PATIENCE
            rows = runs / "run" / path
            while not (rows.exists() and rows.stat().st_size) and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.01)
            time.sleep(drawn.random() * 2)
            process.kill()
            process.communicate()
        whole(runs, *again, *more)
        assert_same(read(runs), reference(command, read))
        return 1

    return trial


def workers(runs: Path, drawn: random.Random) -> int:
    """One of two workers is killed while it works."""
    process, end = started(runs, *COMPARE, "--workers", "2"), time.monotonic() + PATIENCE
    rows = runs / "run" / "rows.jsonl"
    while not rows.exists() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(drawn.random())
    # The workers are children of the fork server.
    victims = [pid for child in children(process.pid) if is_fork_server(child) for pid in children(child)]
    os.kill(drawn.choice(victims), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert_same(rows_of(runs), reference(COMPARE, rows_of))
    return 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_fork_server(pid: int) -> bool:
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


def shards(runs: Path, drawn: random.Random) -> int:
    """Three at once."""
    parts = [started(runs, *COMPARE, "--shard", f"{number}/3") for number in (1, 2, 3)]
    for part in parts:
        _, err = part.communicate(timeout=PATIENCE)
        assert part.returncode == 0, err
    assert_same(rows_of(runs), reference(COMPARE, rows_of))
    return 1


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items()), "other weights"
    else:
        assert found == expected, "other rows"


KEPT: dict[tuple[str, ...], Any] = {}


def reference(command: tuple[str, ...], read: Callable[[Path], Any]) -> Any:
    """What the command makes that nothing interrupts."""
    if command not in KEPT:
        with tempfile.TemporaryDirectory() as folder:
            whole(Path(folder), *command)
            KEPT[command] = read(Path(folder))
    return KEPT[command]


# --- power cuts -------------------------------------------------------------------------------------------------------


def cuts(run: Callable[[Path], Any], go_on: Callable[[Path], Any]) -> Callable[[Path, random.Random], int]:
    """One run; each cut that may fall into it is a trial."""

    def trial(runs: Path, drawn: random.Random) -> int:
        (runs / "run").mkdir()
        expected, count = run(runs / "whole"), 0

        def at_cut(disk: Disk) -> None:
            nonlocal count
            disk.left(runs / "left", drawn)
            # Whoever held it ends with a cut; here it lives on.
            (runs / "left" / "run.lock").unlink(missing_ok=True)
            assert_same(go_on(runs / "left"), expected)
            count += 1

        with pytest.MonkeyPatch.context() as patch, closing(Disk(runs / "run", patch, at_cut)) as disk:
            run(runs / "run")
            disk.cut()
        return count

    return trial


def compared(folder: Path) -> list[dict[str, Any]]:
    solvers = ("keep", "hill-climb")
    rows = run_comparison(Comparison(folder, "generated-12", solvers, samples=1, steps=20, seeds=(0, 1)))
    assert not any(check.false or check.missing for check in check_rows(folder)), "false claims"
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def trained(folder: Path) -> dict[str, torch.Tensor]:
    recipe = Recipe(data="digits", model="mlp", widths=(4,), epochs=2, batch=512)
    train(recipe, folder, resume=True, checkpoint_minutes=1e-9)
    return read_checkpoint(folder / "checkpoint.pt")["model"]


KINDS: dict[str, tuple[int, Callable[[Path, random.Random], int]]] = {
    "power cuts in a comparison": (3, cuts(compared, compared)),
    "power cuts in training": (3, cuts(trained, trained)),
    "two comparisons in one folder": (4, two_processes(COMPARE)),
    "two trainings in one folder": (4, two_processes(TRAIN)),
    "three shards in one folder": (3, shards),
    "killed comparisons": (6, kills(COMPARE, COMPARE, "rows.jsonl", rows_of)),
    "killed trainings": (6, kills(TRAIN, (*TRAIN, "--resume"), "metrics.jsonl", weights_of)),
    "killed comparisons with two workers": (3, kills(COMPARE, COMPARE, "rows.jsonl", rows_of, "--workers", "2")),
    "killed workers": (4, workers),
}
"""How often each is tried."""
SPAN = 1000
"""From the numbers of the trials of a seed to those of the next."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments that are drawn")
    chosen = parser.parse_args()
    done = {(row["kind"], row["number"]) for row in LOG.read()}
    for kind in chosen.kinds:
        count, trial = KINDS[kind]
        for number in range(SPAN * chosen.seed, SPAN * chosen.seed + count):
            if (kind, number) in done or is_elsewhere((kind, number)):
                continue
            failures, tried = [], 1
            with tempfile.TemporaryDirectory() as folder:
                try:
                    tried = trial(Path(folder), random.Random(number))
                except Exception as error:  # Any failure is one of the row.
                    failures.append(f"{type(error).__name__}: {error}"[:500])
            LOG.append(
                {"kind": kind, "number": number, "tried": tried, "failures": failures, "code": code_state(), **where()}
            )
            print(kind, number, tried, failures, flush=True)


if __name__ == "__main__":
    main()
