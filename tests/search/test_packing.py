"""Bounds of circuits that share costs: never above the optimum, and checked by whoever gets the proof."""

import dataclasses
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fraction_oracle import fewest
from support.network_oracle import random_table
from typer.testing import CliRunner

from tpsolve import Budget, NetworkProblem, Result, cli
from tpsolve.models import load_model, make_model
from tpsolve.search import Proof, Report, load_proof, solve, verify_proof
from tpsolve.search.network.circuits._prove import make_proof
from tpsolve.search.network.circuits._search_state import SearchState
from tpsolve.search.network.packing import _packing as packing_module
from tpsolve.search.network.packing._packing import Packing
from tpsolve.search.proofs._check_proof import _packed  # pyright: ignore[reportPrivateUsage]
from tpsolve.search.proofs._shared_costs import packed as shown
from tpsolve.tables import TableOptions, read_table


def packed(problem: NetworkProblem, most: int = 10_000) -> tuple[SearchState, Packing]:
    """The state and the packing after a run to the end, or so many looks at the clock."""
    flat = problem.flatten()
    state = SearchState(flat, Report(flat, Budget(seconds=600), None), torch.Generator().manual_seed(0), 0, 5)
    packing, looks = Packing(flat, state, torch.Generator().manual_seed(0)), iter(range(most))
    packing.run(lambda: next(looks, None) is None)
    return state, packing


def result_of(problem: NetworkProblem, state: SearchState, packing: Packing) -> Result:
    """A result with the bound that the packing has proved."""
    result = solve(problem, "circuits", budget=Budget(steps=1))
    circuits, shares = packing.evidence()
    stats = result.stats | {"proved_by": "packing", "circuits": circuits, "shares": shares}
    bound = torch.tensor(float(state.proved), dtype=torch.float64)
    return dataclasses.replace(result, bound=bound, stats=stats)


def with_bound(
    problem: NetworkProblem, state: SearchState, packing: Packing, about: dict[str, str] | None = None
) -> Proof:
    """The proof of what the packing has proved."""
    return make_proof(problem, result_of(problem, state, packing), about)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_bounds_are_at_most_the_optimum_and_hold(data: st.DataObject):
    count, features = data.draw(st.integers(4, 7)), data.draw(st.integers(1, 2))
    X = data.draw(
        st.lists(st.lists(st.integers(0, 2), min_size=features, max_size=features), min_size=count, max_size=count)
    )
    y = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    weight = data.draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=count, max_size=count))
    scale = data.draw(st.sampled_from([1.0, 2.0**-40, 2.0**40]))
    weight = None if weight is None else [scale * value for value in weight]
    if len(set(map(tuple, X))) < 3:
        return
    problem = NetworkProblem(X, y, [1], weight)
    state, packing = packed(problem, 60)
    assert state.proved <= fewest(X, y, 1, weight)
    if state.proved_by == "packing":
        findings = verify_proof(with_bound(problem, state, packing), X, y, weight)
        assert findings[-1].holds, findings[-1].words


@pytest.mark.slow
def test_a_packing_proves_what_three_points_on_a_line_cost():
    problem = NetworkProblem([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], [0, 1, 0, 1, 0, 1], [1], [2, 2, 2, 5, 5, 5])
    state, packing = packed(problem)
    assert (state.proved, state.proved_by) == (7, "packing")
    assert float(packing.evidence()[1].sum()) == pytest.approx(7, abs=1e-6)


@pytest.fixture(scope="module")
def proof() -> tuple[np.ndarray, np.ndarray, Proof]:
    X, y = random_table(4, 40)
    problem = NetworkProblem(X, y, [1])
    state, packing = packed(problem)
    assert state.proved >= 6
    return X, y, with_bound(problem, state, packing)


@pytest.mark.slow
def test_a_proof_survives_its_file(proof: tuple[np.ndarray, np.ndarray, Proof], tmp_path: Path):
    X, y, whole = proof
    whole.save(tmp_path / "proof.npz")
    findings = verify_proof(load_proof(tmp_path / "proof.npz"), X, y)
    assert [finding.holds for finding in findings] == [True] * 5
    assert "share the costs" in findings[-1].words


@pytest.mark.slow
def test_wrong_shares_are_rejected(proof: tuple[np.ndarray, np.ndarray, Proof]):
    X, y, whole = proof
    assert whole.shares is not None
    replace, shares = dataclasses.replace, whole.shares
    for wrong in (
        replace(whole, bound=whole.bound + 1, objective=whole.objective + 1),
        replace(whole, bound=whole.bound + 1),
        replace(whole, shares=shares * 1.5),
        replace(whole, shares=-shares),
        replace(whole, shares=shares * torch.nan),
        replace(whole, shares=shares[:, 1:]),
        replace(whole, shares=torch.cat([shares, shares])),
        replace(whole, shares=None),
        replace(whole, widths=(2,)),
        replace(whole, circuits=whole.circuits.abs()),
    ):
        assert not all(finding.holds for finding in verify_proof(wrong, X, y))


def test_labels_that_are_not_the_circuits_prove_nothing():
    line = [[1, -2, 3]]
    costs = [{label: Fraction(1)} for label in (0, 1, 0)]
    assert shown(line, [[1.0]], costs, (0, 1)) == 1
    assert shown([[-1, 2, -3]], [[1.0]], costs, (0, 1)) == 1
    assert shown(line, [[0.25]], costs, (0, 1)) == 1
    assert shown(line, [[1.0]], [{0: Fraction(1)}, *costs[:2]], (0, 1)) is None
    assert shown(line, [[1.0 + 2**-30]], costs, (0, 1)) is None
    assert shown([*line, *line], [[0.5, 0.625]], costs, (0, 1)) is None
    assert shown(line, [[float("inf")]], costs, (0, 1)) is None
    # Three classes have three pairs, and the worst of them counts.
    three = [*costs, {2: Fraction(9)}]
    assert shown(line, [[1.0], [0.0], [0.0]], three, (0, 1, 2)) == min(1 + 9, 1, 2)
    assert shown(line, [[1.0]], three, (0, 1, 2)) is None


@pytest.mark.slow
def test_what_rounding_took_for_a_circuit_is_none(monkeypatch: pytest.MonkeyPatch):
    X, y = random_table(3, 30)
    problem = NetworkProblem(X, y, [1])
    optimum = solve(problem, "sweep", budget=Budget(seconds=60)).objective.item()

    class Wrong(packing_module.Walks):
        def round(self, price: np.ndarray, steps: int) -> set[tuple[int, ...]]:
            # Two points are no circuit, six are not one alone, and five seldom have their labels for signs.
            five = {tuple(range(first, first + 5)) for first in range(0, 30, 5)}
            return super().round(price, steps) | {(0, 1), tuple(range(6))} | five

    monkeypatch.setattr(packing_module, "Walks", Wrong)
    state, packing = packed(problem)
    assert 4 < state.proved <= optimum
    assert verify_proof(with_bound(problem, state, packing), X, y)[-1].holds


def test_shares_keep_to_the_costs():
    problem = NetworkProblem([[0.0], [1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1, 0], [1]).flatten()
    question = packing_module._Question(problem, 0, 1)  # pyright: ignore[reportPrivateUsage]
    used = {(0, 1, 2): 0.75, (2, 3, 4): 0.75}
    question._keep_to_costs(used)  # pyright: ignore[reportPrivateUsage]
    assert sum(map(Fraction, used.values())) <= 1
    assert sum(used.values()) > 0.99


def test_shares_say_nothing_of_two_units():
    problem = NetworkProblem([[0.0], [1.0], [2.0]], [0, 1, 0], [1])
    proof = with_bound(problem, *packed(problem))
    costs = [{label: Fraction(1)} for label in (0, 1, 0)]
    assert proof.bound == 1
    assert _packed(proof, costs).holds
    assert not _packed(dataclasses.replace(proof, widths=(2,)), costs).holds
    assert not _packed(dataclasses.replace(proof, shares=None), costs).holds


def test_a_model_that_a_packing_proves_survives_its_file(tmp_path: Path):
    problem = NetworkProblem([[0.0], [1.0], [2.0]], [0, 1, 0], [1])
    model = make_model(problem, result_of(problem, *packed(problem)))
    model.save(tmp_path / "model.npz")
    proof = load_model(tmp_path / "model.npz").proof
    assert proof is not None
    assert proof.method == "packing"
    assert proof.digest == load_proof(tmp_path / "model.npz").digest
    assert verify_proof(proof, [[0.0], [1.0], [2.0]], [0, 1, 0])[-1].holds


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif("TPSOLVE_DATA" not in os.environ, reason="TPSOLVE_DATA is not set")
@pytest.mark.parametrize("name", ["heart"])
@pytest.mark.cli
def test_the_command_line_checks_a_packing_of_a_real_table(name: str, tmp_path: Path):
    path = Path(os.environ["TPSOLVE_DATA"], "tabular", f"{name}.csv")
    if not path.is_file():
        pytest.skip(f"no {name} in {path.parent}")
    read = read_table(path, "target")
    problem = NetworkProblem(read.inputs, read.labels, [1])
    state, packing = packed(problem, 30)
    assert state.proved > 4
    proof = with_bound(problem, state, packing, {"target": "target", "reading": json.dumps(TableOptions().to_json())})
    proof.save(tmp_path / "proof.npz")
    done = CliRunner().invoke(cli.app, ["verify", str(tmp_path / "proof.npz"), str(path)], prog_name="tpsolve")
    assert done.exit_code == 0, done.output
    assert "share the costs" in " ".join(done.output.split())
    # A share more than a point has, in the saved file.
    assert proof.shares is not None
    shares = proof.shares.clone()
    shares[0, shares[0].argmax()] *= 2
    dataclasses.replace(proof, shares=shares).save(tmp_path / "wrong.npz")
    done = CliRunner().invoke(cli.app, ["verify", str(tmp_path / "wrong.npz"), str(path)], prog_name="tpsolve")
    assert done.exit_code == 1
