"""Benchmarks that are shared out to machines: each solve is one machine's, and none is done again."""

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import exact_scaling, record, unsaturated
from tpsolve.errors import ArgumentError


@pytest.mark.parametrize("module", [exact_scaling, unsaturated])
def test_shards_have_each_solve_once_and_go_on(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    solved: list[Any] = []

    def measure(table: str, widths: Any, solver: str, seconds: float, *_: Any) -> dict[str, Any]:
        solved.append((table, widths, solver))
        return {"table": table, "widths": widths, "units": widths, "solver": solver, "limit": seconds}

    monkeypatch.setattr(module, "ROWS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(module, "measure", measure)
    suite = [(name, (2,) if module is unsaturated else 2) for name in ("a", "b", "c", "d", "e")]

    def run(shard: str) -> None:
        monkeypatch.setattr(sys, "argv", [record.__file__, "run", "--shard", shard, "--more"] if shard else ["x"])
        monkeypatch.setattr(record, "SHARD", record.shard_of_command())
        assert "--shard" not in sys.argv
        if module is unsaturated:
            monkeypatch.setattr(module, "SUITE", suite)
            module.run(("keep", "other"), 1.0, [""], None)
        else:
            module.run(tuple(suite), ("keep", "other"), 1.0, [""], 1)

    run("1/3")
    assert 0 < len(solved) < 10
    assert {path.name for path in tmp_path.iterdir()} == {"rows.shard-1-of-3.jsonl"}
    for shard in ("1/3", "2/3", "3/3", ""):
        run(shard)
    assert sorted(solved) == sorted((*one, solver) for one, solver in itertools.product(suite, ("keep", "other")))
    with pytest.raises(ArgumentError, match="4/3"):
        run("4/3")
