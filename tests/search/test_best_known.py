"""The small rows of docs/best-known.md, proved again; the saved proofs of large ones, but for their bounds."""

import re
from pathlib import Path

import pytest

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.problems import make_table
from tpsolve.search import Dichotomies, load_proof, verify_proof

PROOFS = sorted((Path(__file__).parents[2] / "benchmarks" / "results" / "proofs").glob("*.npz"))
PAGE = Path(__file__).parents[2] / "docs" / "best-known.md"
SMALL = ("parity-3", "random-2-16", "random-2-24", "random-2-32", "random-2-40")


def rows() -> list[tuple[str, int, float, float]]:
    """(table, units, errors, bound) of the small rows with at most 2 units."""
    text = PAGE.read_text() if PAGE.exists() else ""
    found = re.findall(r"^\| `([\w-]+)` \| (\d) \| ([\d.]+) \| `[\w-]+` \| ([\d.]+) \|", text, re.MULTILINE)
    return [(t, int(u), float(e), float(b)) for t, u, e, b in found if t in SMALL and int(u) <= 2]


@pytest.mark.skipif(not PAGE.exists(), reason="docs/best-known.md is written by benchmarks.exact_scaling table")
def test_small_rows_are_proved_again():
    assert rows()
    for table, units, errors, bound in rows():
        result = solve(NetworkProblem(*make_table(table), widths=[units]), Dichotomies(), budget=Budget(seconds=60))
        assert (result.objective.item(), result.bound.item()) == (errors, bound), f"{table}, {units} units"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.nightly] if path.stat().st_size > 100_000 else [])
        for path in PROOFS
    ],
)
@pytest.mark.slow
def test_weights_and_circuits_of_saved_proofs_hold(path: Path):
    proof = load_proof(path)
    findings = verify_proof(proof, *make_table(proof.about["table"]), seconds=0.1)
    assert {finding.part: finding.holds for finding in findings[:-1]} == dict.fromkeys(
        ("data", "weights", "circuits", "clauses"), True
    )
    assert findings[-1].part == "bound"
    assert findings[-1].holds is not False, "refuted by nothing within so short a time, or proved"
    assert proof.objective == proof.bound
