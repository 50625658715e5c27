"""Models for other people's exact solvers: they have the optimum that brute force finds, to the last digits."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.zoo import make_problem, optima

from tpsolve import LayerProblem
from tpsolve.errors import ArgumentError, FolderError, NotAcceptedError
from tpsolve.search import read_targets, to_cp_model, to_mps

EXACT = ("perceptron", "hinge", "saturated-hinge", "zero-one")
SMOOTH = ("soft-hinge", "logistic", "squared", "cross-entropy")


def highs(path: Path) -> tuple[float, dict[str, float]]:
    """The minimum that HiGHS proves for the program of a file, and its values by name."""
    highspy: Any = pytest.importorskip("highspy", reason="highspy is not installed: pip install highspy")
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.readModel(str(path))
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    values = solver.getSolution().col_value
    return solver.getInfo().objective_function_value, dict(zip(solver.getLp().col_names_, values, strict=True))


def problem_of(loss: str) -> LayerProblem:
    return make_problem(8, n=6, m=4, loss=loss, batch=(3,), stay=0.25, weighted=True)


def value_at(problem: LayerProblem, targets: torch.Tensor, sample: int) -> float:
    return problem.objective(targets.expand(3, -1))[sample].item()


@pytest.mark.parametrize("loss", [*EXACT, *SMOOTH])
def test_highs_finds_the_optimum_in_the_file(loss: str, tmp_path: Path):
    problem = problem_of(loss)
    for sample, optimum in enumerate(optima(problem)):
        to_mps(problem, tmp_path / "sample.mps", sample)
        least, values = highs(tmp_path / "sample.mps")
        targets = read_targets(values, 6)
        assert least <= float(optimum) + 1e-6
        if loss in EXACT:
            assert math.isclose(least, float(optimum), rel_tol=1e-6, abs_tol=1e-6)
            assert math.isclose(value_at(problem, targets, sample), float(optimum), rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("loss", [*EXACT, *SMOOTH])
def test_cp_sat_finds_the_optimum_of_the_model(loss: str):
    cp_model: Any = pytest.importorskip("ortools.sat.python.cp_model", reason="ortools is not installed")
    problem = problem_of(loss)
    for sample, optimum in enumerate(optima(problem)):
        made = to_cp_model(problem, sample)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.cp_model_presolve = False
        assert solver.solve(made.model) == cp_model.OPTIMAL
        bound = made.bound(solver.best_objective_bound)
        assert bound <= optimum, "certainly below"
        if loss in EXACT:
            assert math.isclose(bound, float(optimum), rel_tol=1e-5, abs_tol=1e-5)
            assert math.isclose(value_at(problem, made.targets(solver), sample), float(optimum), rel_tol=1e-5)


def test_constraint_of_one_s_own_is_kept():
    cp_model: Any = pytest.importorskip("ortools.sat.python.cp_model", reason="ortools is not installed")
    problem = LayerProblem(torch.eye(4), [[1, 1, 1, 1]])
    made = to_cp_model(problem)
    made.model.add(sum(made.bits) <= 1)
    solver = cp_model.CpSolver()
    solver.parameters.cp_model_presolve = False
    solver.solve(made.model)
    # Three units miss their target by a margin of -1: each costs 2.
    assert (made.targets(solver) > 0).sum() == 1
    assert math.isclose(made.bound(solver.best_objective_bound), 6.0, abs_tol=1e-6)


def test_file_holds_every_digit(tmp_path: Path):
    problem = LayerProblem(torch.tensor([[1 / 3, 0.1]], dtype=torch.float64), [1], loss="perceptron")
    to_mps(problem, tmp_path / "digits.mps")
    numbers = {float(word) for word in (tmp_path / "digits.mps").read_text().split() if word[:1] in "-.0123456789"}
    assert {2 * 1024 / 3, 2 * 1024 * 0.1} <= {abs(v) for v in numbers}


def test_what_makes_no_sense_is_refused(tmp_path: Path):
    problem = problem_of("hinge")
    with pytest.raises(ArgumentError, match="sample: got 3, expected an index below 3"):
        to_mps(problem, tmp_path / "x.mps", 3)
    with pytest.raises(ArgumentError, match="sample: got -1"):
        to_cp_model(problem, -1)
    other: Any = "problem"
    with pytest.raises(NotAcceptedError, match="problem: got str, expected a LayerProblem"):
        to_mps(other, tmp_path / "x.mps")
    with pytest.raises(FolderError):
        to_mps(problem, tmp_path / "none" / "x.mps")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ArgumentError, match="values: got none of t1, expected t0 to t1"):
        read_targets({"t0": 1.0}, 2)
    with pytest.raises(ArgumentError, match=r"values: got \[0.5\], expected 0 or 1"):
        read_targets({"t0": 0.5}, 1)
