"""The mutation check: its table fits the code, its page shows the last run, and it can tell a survivor."""

import ast
import json
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# By its path: the benchmarks are no part of the installed package.
MUTANTS = runpy.run_path(str(ROOT / "benchmarks" / "mutants.py"))
TABLE: list[Any] = MUTANTS["mutants"]()

GUARD = """[[mutant]]
name = "{name}"
file = "units/checking/_verification.py"
text = "{text}"
becomes = "{becomes}"
unsound = "A sample is judged by rounding."
tests = ["tests/units/test_verification.py::test_margins_of_a_rounding_are_judged_as_in_exact_arithmetic[5]"]
"""


@cache
def dumped(path: Path) -> str:
    return ast.dump(ast.parse(path.read_text()))


@cache
def functions(path: str) -> frozenset[str]:
    """Those of a file of tests."""
    return frozenset(
        node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)
    )


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.key)
def test_each_change_has_one_place_and_each_test_exists(mutant: Any):
    assert ast.dump(ast.parse(mutant.mutated())) != dumped(mutant.path)
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert name.partition("[")[0] in functions(path)


def test_every_mutant_was_killed_and_the_page_says_by_what():
    rows = MUTANTS["read_rows"]()
    assert set(rows) == {mutant.key for mutant in TABLE if mutant.tests}
    assert {key for key, row in rows.items() if not row["killed_by"]} == set()
    assert MUTANTS["PAGE"].read_text() == MUTANTS["page"](TABLE, rows)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_survivor_is_named(tmp_path: Path):
    table, rows = tmp_path / "table.toml", tmp_path / "rows.jsonl"
    killed = GUARD.format(name="no rounding", text="_ROUNDING = 2.0**-52", becomes="_ROUNDING = 0.0")
    survives = GUARD.format(name="twice the rounding", text="_ROUNDING = 2.0**-52", becomes="_ROUNDING = 2.0**-51")
    command = [sys.executable, "-m", "benchmarks.mutants", "--table", str(table), "--rows", str(rows)]

    table.write_text(killed + survives)
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    assert (ran.returncode, lines[-1]) == (1, "2 mutants, 1 survive")
    assert lines[0].startswith("killed    units/checking/_verification.py: no rounding  tests/units/")
    assert lines[1].startswith("SURVIVES  units/checking/_verification.py: twice the rounding")
    assert [bool(json.loads(row)["killed_by"]) for row in rows.read_text().splitlines()] == [True, False]

    table.write_text(GUARD.format(name="gone", text="no such text", becomes=""))
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "_verification.py: gone: the text occurs 0 times, expected once" in ran.stderr
