"""Does any file end in more than one line, in more than 5 seconds, in twice the memory allowed, or in foreign code?

`python -m benchmarks.hostile_files run --files 20000` changes valid files of every kind, as somebody does who knows
their structure, and reads them as the commands do. `tests/support/hostile.py` has the kinds and the changes. The limit
of a file is 64 MiB there. One row of results/hostile_files.jsonl for every 1,000 files; the command goes on where it
was stopped. `python -m benchmarks.hostile_files show NUMBER` reads one file of the sequence and says what happened.

Files are read in a process of their own, 200 at a time. So a library that aborts is a row, and not the end.
"""

import json
import selectors
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where

BLOCK = 1000
PATIENCE = 900
"""Seconds without a word after which a process is killed: its file hangs in a library that hears no alarm. On a busy
machine a second of the processor takes minutes."""
LOG = Rows(RESULTS / "hostile_files.jsonl", ("seed", "block", "ends", "failures"))


def run(files: int, seed: int) -> None:
    """Read the first files of the sequence of a seed that have no row yet."""
    done = {(row["seed"], row["block"]) for row in LOG.read()}
    for block in range(-(-files // BLOCK)):
        if (seed, block) not in done and not is_elsewhere((seed, block)):
            row = read_block(block, seed)
            LOG.append({"seed": seed, "block": block, **row, **where()})
            print(f"block {block}: {sum(row['ends'].values())} files, {len(row['failures'])} failures", flush=True)
            for failure in row["failures"]:
                print(f"  {failure['number']} {failure['kind']}: {failure['end']} {failure['why']}", flush=True)


def read_block(block: int, seed: int) -> dict[str, Any]:
    """What reading the files of a block did: how often they ended how, by kind, and what went wrong."""
    ends: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest = peak = 0.0
    for number, outcome in outcomes(block * BLOCK, (block + 1) * BLOCK, seed):
        ends[f"{outcome['kind']}: {outcome['end']}"] += 1
        slowest, peak = max(slowest, outcome["seconds"]), max(peak, outcome["peak"])
        if outcome["end"] not in ("read", "refused"):
            failures.append({"number": number, **outcome})
    return {"ends": dict(sorted(ends.items())), "failures": failures, "slowest": slowest, "peak": peak}


def outcomes(first: int, last: int, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each file with what happened; a new process goes on behind one at which the last process ended."""
    while first < last:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.hostile_files", "child", str(first), str(last)]
        with subprocess.Popen(
            [*command, "--seed", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stdout is not None
            selector = selectors.DefaultSelector()
            selector.register(child.stdout, selectors.EVENT_READ)
            kind, hangs = "", False
            while True:
                if not selector.select(PATIENCE):
                    hangs = True
                    child.kill()
                line = child.stdout.readline()
                if not line:
                    break
                told = json.loads(line)
                if "end" in told:
                    yield first, told
                    first += 1
                else:
                    kind = told["kind"]
        if first < last:
            why = "no answer" if hangs else f"exit status {child.returncode}"
            end = "hang" if hangs else "crash"
            yield first, {"kind": kind, "end": end, "why": why, "seconds": 0.0, "peak": 0}
            first += 1


def child(first: int, last: int, seed: int) -> None:
    """Read these files, and print a line before and after each."""
    from dataclasses import asdict

    from support.hostile import KINDS, stay_alive, try_file, valid  # pyright: ignore[reportMissingImports]

    stay_alive()
    for kind in KINDS:
        valid(kind)  # Some are trained, which may take longer than a file may be read.
    for number in range(first, last):
        print(json.dumps({"kind": list(KINDS)[number % len(KINDS)]}), flush=True)
        print(json.dumps(asdict(try_file(number, seed))), flush=True)


def show(number: int, seed: int) -> None:
    """Read one file, and print what happened."""
    from support.hostile import try_file  # pyright: ignore[reportMissingImports]

    print(try_file(number, seed))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("act", choices=("run", "child", "show"))
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.act == "run":
        run(chosen.files, chosen.seed)
    elif chosen.act == "child":
        child(chosen.numbers[0], chosen.numbers[1], chosen.seed)
    else:
        show(chosen.numbers[0], chosen.seed)


if __name__ == "__main__":
    main()
