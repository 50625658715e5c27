"""Comparisons in seconds are paired within a host, those in steps are pooled over hosts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tpsolve.compare import Comparison, Shard, run_comparison, write_report
from tpsolve.compare._same_host import of_one_host


def row(instance: str, solver: str, host: str | None, seed: int = 0, seconds: float | None = 1.0) -> dict[str, Any]:
    budget = {"seconds": seconds, "steps": None if seconds else 9}
    return {"instance": instance, "solver": solver, "seed": seed, "host": host, "budget": budget}


ALONE = [row("a", solver, "ada") for solver in ("one", "two", "three")]
MIXED = [
    *(row("b", "one", "ada", seed) for seed in range(4)),
    row("b", "one", "bob"),
    row("b", "two", "bob"),
    row("b", "two", "eve"),
]


def test_in_seconds_rows_of_the_host_with_the_most_solvers_are_compared():
    kept, words = of_one_host([*ALONE, *MIXED])
    assert kept == [*ALONE, *MIXED[4:6]]
    assert words.startswith("5 rows of 1 instance left out: in seconds only solves of one host are compared.")


def test_of_hosts_with_as_many_solvers_the_one_with_the_most_rows_counts():
    rows = [row("b", "one", "ada"), row("b", "one", "bob"), row("b", "one", "bob", 1)]
    assert of_one_host(rows)[0] == rows[1:]
    assert of_one_host(rows[:2])[0] == rows[:1]


def test_rows_of_each_instance_from_one_host_stay_as_they_are():
    rows = [*ALONE, *(row("b", solver, "bob") for solver in ("one", "two")), row("c", "one", None)]
    assert of_one_host(rows) == (rows, "")


def test_in_steps_rows_of_all_hosts_are_compared():
    rows = [{**each, "budget": {"seconds": None, "steps": 9}} for each in (*ALONE, *MIXED)]
    assert of_one_host(rows) == (rows, "")


@pytest.mark.parametrize("steps", [None, 5])
def test_shards_in_seconds_have_whole_instances(steps: int | None, tmp_path: Path):
    whole = Comparison(tmp_path, "generated-12", ("keep", "hill-climb"), 1, seconds=1e-3, seeds=(0, 1), steps=steps)
    found = [run_comparison(whole, shard=Shard(number, 2)) for number in (1, 2)]
    parts = [[(one["instance"], one["solver"], one["seed"]) for one in rows] for rows in found]
    shared = {key[0] for key in parts[0]} & {key[0] for key in parts[1]}
    assert bool(shared) == (steps is not None)
    assert len(set(parts[0] + parts[1])) == len(parts[0] + parts[1]) == len(run_comparison(whole))


def test_the_page_says_what_is_left_out(tmp_path: Path):
    comparison = Comparison(tmp_path, "generated-12", ("keep", "sign-gradient"), samples=1, seconds=1e-3, seeds=(0,))
    rows = list(run_comparison(comparison))
    assert "of one host" not in write_report(comparison, rows).read_text()
    path = tmp_path / "rows.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(first), "host": "elsewhere"}) + "\n" + "".join(others))
    page = write_report(comparison, run_comparison(comparison)).read_text()
    assert "1 row of 1 instance left out" in page
    stepped = replace(comparison, folder=tmp_path / "steps", steps=5)
    rows = [{**one, "host": str(k)} for k, one in enumerate(run_comparison(stepped))]
    assert "of one host" not in write_report(stepped, rows).read_text()
