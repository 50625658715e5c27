"""A mutation check of the guards that soundness rests on: `python -m benchmarks.mutants`.

`mutants.toml` lists changes of one line each that would make an answer, a bound or a check wrong, and for each the
tests that must fail then. Each mutant is written into a temporary copy of the package, on which its tests run; the
tree is never touched. A mutant that no test kills survives, and the exit status is 1. A change that is shown to be
harmless has a reason in place of tests, and isn't run.

Rows are kept as they come, so that a run that was ended goes on where it stopped. A row is old, and its mutant runs
again, once the mutant, its file or a file of its tests has changed. After a whole run `docs/mutants.md` is written.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# This file must not import tpsolve: the processes that run tests load it, and take tpsolve from the copy after that.

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "mutants.toml"
ROWS = ROOT / "benchmarks" / "results" / "mutants.jsonl"
PAGE = ROOT / "docs" / "mutants.md"
MAX_SECONDS = 120
"""Of one test; a mutant on which a test does not end is killed by it."""
PRELOADED = ["numpy", "torch", "scipy.optimize", "flint", "ortools.sat.python.cp_model", "pysat.solvers"]
"""Loaded once for all mutants."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Args:
        file: below tpsolve/.
        text, becomes: what is replaced, and by what; `text` must occur exactly once.
        unsound: what would be wrong.
        tests: ids of the tests of which one must fail.
        harmless: why the change does no harm; in place of tests.
    """

    name: str
    file: str
    text: str
    becomes: str
    unsound: str
    tests: tuple[str, ...] = ()
    harmless: str = ""

    @property
    def key(self) -> str:
        """File and name, which no other mutant has."""
        return f"{self.file}: {self.name}"

    @property
    def path(self) -> Path:
        """Of the file that is changed."""
        return ROOT / "tpsolve" / self.file

    @property
    def digest(self) -> str:
        """A hash of the mutant, its file, and the files of its tests."""
        files = [self.path, *(ROOT / test.partition("::")[0] for test in self.tests)]
        read = [path.read_text() for path in dict.fromkeys(files)]
        return hashlib.sha256(json.dumps([asdict(self), read]).encode()).hexdigest()[:16]

    def mutated(self) -> str:
        """The file after the change.

        Raises:
            ValueError: the text does not occur exactly once.
        """
        content = self.path.read_text()
        if (found := content.count(self.text)) != 1:
            raise ValueError(f"{self.key}: the text occurs {found} times, expected once")
        return content.replace(self.text, self.becomes)


def mutants(table: Path = TABLE) -> list[Mutant]:
    """All mutants of a table, those of one file after one another.

    Raises:
        ValueError: one has neither tests nor a reason, both, or the name of another.
    """
    rows = tomllib.loads(table.read_text())["mutant"]
    listed = [Mutant(**{**row, "tests": tuple(row.get("tests", ()))}) for row in rows]
    for mutant in listed:
        if bool(mutant.tests) == bool(mutant.harmless):
            raise ValueError(f"{mutant.key}: expected either tests or a reason why it is harmless")
    if len({mutant.key for mutant in listed}) < len(listed):
        raise ValueError("two mutants of a file have one name")
    return sorted(listed, key=lambda mutant: mutant.file)


class Copy:
    """A temporary copy of the package, on which tests run in a fresh process each time."""

    def __init__(self, folder: str):
        self._folder = Path(folder)
        shutil.copytree(ROOT / "tpsolve", self._folder / "tpsolve", ignore=shutil.ignore_patterns("__pycache__"))
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def run(self, tests: tuple[str, ...], mutant: Mutant | None = None) -> tuple[int, list[str]]:
        """The exit status of pytest and the tests that failed, of which the first ends the run."""
        if mutant is None:
            return self._fresh(tests)
        path = self._folder / "tpsolve" / mutant.file
        path.write_text(mutant.mutated())
        try:
            return self._fresh(tests)
        finally:
            shutil.copy2(mutant.path, path)

    def _fresh(self, tests: tuple[str, ...]) -> tuple[int, list[str]]:
        with ProcessPoolExecutor(1, self._context, max_tasks_per_child=1) as pool:
            return pool.submit(_run_tests, str(self._folder), tests).result()


class _Failed:
    """A pytest plugin that remembers which tests failed."""

    def __init__(self):
        self.ids: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.ids.append(report.nodeid)


def _run_tests(folder: str, tests: tuple[str, ...]) -> tuple[int, list[str]]:
    import pytest

    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = folder
    # A file changed twice within a second could be taken from its bytecode.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.chdir(ROOT)
    log = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    failed = _Failed()
    options = ["-n", "0", "-m", "", "-x", "-q", "-p", "no:cacheprovider", f"--timeout={MAX_SECONDS}"]
    status = pytest.main([*options, *tests], plugins=[failed])
    if not (sys.modules["tpsolve"].__file__ or "").startswith(folder):
        raise ImportError("the tests took tpsolve from elsewhere than the copy")
    return int(status), failed.ids


def read_rows(path: Path = ROWS) -> dict[str, dict[str, Any]]:
    """The last row of each mutant, by its key."""
    if not path.exists():
        return {}
    return {row["mutant"]: row for row in map(json.loads, path.read_text().splitlines())}


def page(listed: list[Mutant], rows: dict[str, dict[str, Any]]) -> str:
    """The table of all mutants, as a page of the documentation."""
    run = [mutant for mutant in listed if mutant.tests]
    killed = sum(bool(rows[mutant.key]["killed_by"]) for mutant in run)
    lines = [
        "# Guards that are tested",
        "",
        "Constants, comparisons, clauses and hashes stand behind each bound and each check. If one of them were wrong,",
        "most answers would still be right. A mutation check makes each of them wrong on purpose, one at a time. It",
        "then runs the tests that must notice the change:",
        "",
        "```sh",
        "python -m benchmarks.mutants",
        "```",
        "",
        f"The tests notice {killed} of {len(run)} changes. Another {len(listed) - len(run)} changes do no harm, and",
        "the tables say why. The command writes this page.",
        "",
    ]
    for file in dict.fromkeys(mutant.file for mutant in listed):
        lines += [f"## `{file}`", "", "| Change | What would be wrong | Noticed by |", "|---|---|---|"]
        for mutant in (mutant for mutant in listed if mutant.file == file):
            noticed = f"harmless: {mutant.harmless}"
            if mutant.tests:
                test = rows[mutant.key]["killed_by"]
                noticed = f"`{test.partition('[')[0].rpartition('::')[2]}`" if test else "no test"
            lines.append(f"| {mutant.name} | {mutant.unsound} | {noticed} |")
        lines.append("")
    return "\n".join(lines)


def run(waiting: list[Mutant], rows: dict[str, dict[str, Any]], path: Path) -> str:
    """Run mutants and add their rows, here and to the file `path`; what went wrong, if something did."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(folder)
        tests = tuple(dict.fromkeys(test for mutant in waiting for test in mutant.tests))
        status, failed = copy.run(tests)
        if status:
            return f"Without any change pytest ends with {status}. {' '.join(failed)}"
        for mutant in waiting:
            began = time.perf_counter()
            status, failed = copy.run(mutant.tests, mutant)
            # 1: tests failed. Anything higher, such as a mutant that can't be imported, says nothing about the tests.
            if status > 1:
                return f"{mutant.key}: pytest ended with {status}"
            killed_by, seconds = failed[0] if failed else None, round(time.perf_counter() - began, 1)
            row = {"mutant": mutant.key, "digest": mutant.digest, "killed_by": killed_by, "seconds": seconds}
            rows[mutant.key] = row
            with path.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{'killed' if killed_by else 'SURVIVES':8}  {mutant.key}  {killed_by or ''}", flush=True)
    return ""


def main() -> int:
    """Run all mutants without a row that still holds; 1 if one survives, 2 if something went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="only mutants that have one of these words in their file or name")
    parser.add_argument("--fresh", action="store_true", help="run mutants that have a row too")
    parser.add_argument("--table", type=Path, default=TABLE, help="another table of mutants")
    parser.add_argument("--rows", type=Path, default=ROWS, help="another file of rows")
    given = parser.parse_args()
    # Before the libraries that read them are loaded.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    listed, rows = mutants(given.table), read_rows(given.rows)
    for mutant in listed:
        mutant.mutated()
    chosen = [m for m in listed if m.tests and (not given.words or any(word in m.key for word in given.words))]
    waiting = [m for m in chosen if given.fresh or rows.get(m.key, {}).get("digest") != m.digest]
    if waiting and (problem := run(waiting, rows, given.rows)):
        print(problem, file=sys.stderr)
        return 2
    survivors = [mutant.key for mutant in chosen if not rows[mutant.key]["killed_by"]]
    if not given.words:
        given.rows.write_text("".join(json.dumps(rows[mutant.key]) + "\n" for mutant in chosen))
        if given.table == TABLE:
            PAGE.write_text(page(listed, rows))
    print(f"{len(chosen)} mutants, {len(survivors)} survive")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
