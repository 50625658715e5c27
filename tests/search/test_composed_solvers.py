"""Solvers made of others, rules that look at curvature and confidence, and the solver that chooses."""

import pytest
import torch
from support.zoo import assert_valid, make_problem, optima

from tpsolve import Budget, LayerProblem, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, UnknownNameError
from tpsolve.losses import LOSSES
from tpsolve.problems import make_instance
from tpsolve.search import Auto, Beam, MinimumDisturbance, Polish, SignGradient, Tabu, find_solver, solver_text
from tpsolve.search._base import Report
from tpsolve.search.combined._auto import PROOFS, table
from tpsolve.search.local._long_steps import descend_far

pytestmark = pytest.mark.rounding


@pytest.mark.parametrize(
    "text",
    [
        "polish(sign-gradient, tabu:tenure=5)",
        "polish(sign-gradient, tabu:tenure=5,patience=9)",
        "restarts(polish(anneal:sweeps=3, tabu), 2)",
        "portfolio(tabu, anneal, hill-climb:restarts=3)",
        "warm-start(anneal, cp-sat:workers=1)",
    ],
)
def test_text_of_a_composed_solver_reads_back(text: str):
    solver = find_solver(text)
    assert solver_text(solver) == text
    assert find_solver(solver_text(solver)) == solver


def test_parts_are_those_of_the_text():
    assert find_solver("polish(sign-gradient, tabu:tenure=5,patience=9)") == Polish(
        SignGradient(), Tabu(tenure=5, patience=9)
    )


@pytest.mark.parametrize(
    "text", ["polish(tabu", "polish(tabu)", "polish(a)b)", "tabu(anneal)", "polish:then=tabu", "warm-start(tabu, tabu)"]
)
def test_texts_that_make_no_sense_are_refused(text: str):
    with pytest.raises(ArgumentError):
        find_solver(text)
    with pytest.raises(UnknownNameError, match="Did you mean 'tabu'"):
        find_solver("polish(tabo, anneal)")


def test_the_second_goes_on_where_the_first_ended():
    problem = make_problem(6, 20, 12, "hinge", (5,), weighted=True)
    first = solve(problem, "sign-gradient", budget=Budget(steps=1)).objective
    both = solve(problem, "polish(sign-gradient, hill-climb)", budget=Budget(steps=500))
    assert (both.objective <= first).all()
    assert (problem.flip_delta(both.targets) >= -1e-9).all()


def test_restarts_end_with_the_budget():
    problem = make_problem(6, 12, 24, "hinge", (5,), started=True)
    assert (problem.lower_bound() < solve(problem, "tabu", budget=Budget(steps=200)).objective - 0.1).any()
    many = solve(problem, "restarts(hill-climb, 100000)", budget=Budget(seconds=0.1))
    # All 100,000 would take minutes; a loaded machine may take long for a few.
    assert many.stats["seconds"] < 60
    one = solve(problem, "hill-climb", budget=Budget(steps=1))
    few = solve(problem, "restarts(hill-climb, 100000)", budget=Budget(steps=3))
    assert few.stats["steps"] == 3
    assert few.stats["seconds"] < 60
    assert (few.objective <= one.objective).all(), "the first begins at the start"


def test_portfolio_is_as_good_as_each_member():
    problem = make_problem(6, 20, 12, "hinge", (5,))
    members = [solve(problem, m, budget=Budget(steps=10)).objective for m in ("hill-climb", "sign-gradient")]
    best = solve(problem, "portfolio(sign-gradient, hill-climb)", budget=Budget(steps=20)).objective
    assert (best <= torch.minimum(*members) + 1e-9).all()


def test_predicted_change_is_exact_for_the_squared_loss():
    problem = make_problem(6, 9, 7, "squared", (5,), weighted=True, stay=0.25)
    assert problem.start is not None
    assert torch.allclose(problem.predicted_change(), problem.flip_delta(problem.start), atol=1e-9)


@pytest.mark.parametrize("loss", ["soft-hinge", "logistic", "cross-entropy"])
def test_predicted_change_matches_automatic_differentiation(loss: str):
    problem = make_problem(6, 6, 5, loss, (1,), weighted=True)
    assert problem.start is not None
    energy, h = problem.energy64, problem.start.double()
    hessian = torch.autograd.functional.hessian(lambda x: energy.total(energy.pre(x), x).sum(), h)
    assert isinstance(hessian, torch.Tensor)
    expected = -2 * h * problem.gradient().double() + 2 * hessian.reshape(6, 6).diagonal()
    assert torch.allclose(problem.predicted_change().double(), expected, atol=1e-9)


def test_minimum_disturbance_flips_the_least_confident_unit_that_helps():
    # Either of the first two targets alone makes the unit above fire; the second is the less confident.
    problem = LayerProblem([[1.0, 1.0, 0.1]], [[1]], start=[-1, -1, 1], stay_weight=[2.0, 1.0, 9.0])
    found = solve(problem, MinimumDisturbance(), budget=Budget(steps=50))
    assert found.targets.tolist() == [[-1, 1, 1]]


def test_beam_flips_only_the_least_confident():
    confident = make_problem(5, 8, 6, "hinge", (4,))
    confidence = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(i)) for i in range(4)]).double()
    problem = LayerProblem(
        confident.weight, confident.targets, confident.bias, start=confident.start, stay_weight=confidence
    )
    assert problem.start is not None
    flipped = solve(problem, Beam(max_candidates=3), budget=Budget(steps=50)).targets != problem.start
    assert flipped.any()
    assert not flipped[confidence >= 3].any()
    every = solve(problem, Beam(max_candidates=8), budget=Budget(steps=50)).targets
    assert torch.equal(every, solve(problem, Beam(), budget=Budget(steps=50)).targets)
    with pytest.raises(NotAcceptedError, match="stay_weight"):
        solve(confident, Beam(max_candidates=3), budget=Budget(steps=1))


def test_beam_of_full_width_is_exhaustive():
    problem = make_problem(3, 5, 6, "hinge", (4,), weighted=True)
    exact = solve(problem, "enumerate", budget=Budget(seconds=10)).objective
    found = solve(problem, Beam(beam_width=32, max_children=5, patience=9), budget=Budget(steps=50)).objective
    assert torch.allclose(found, exact)


def test_auto_takes_what_the_table_says():
    rows = table()["rows"]
    assert rows
    for row in rows:
        find_solver(row["solver"])
    for row in rows:
        by_class = row["loss"] == "cross-entropy"
        count = row["samples"]
        targets = torch.zeros(count, dtype=torch.int64) if by_class else torch.ones(count, row["m"])
        problem = LayerProblem(torch.ones(row["m"], row["n"]), targets, loss=row["loss"])
        race = f"portfolio({row['solver']}, {row['other']})" if row["n"] > 8 else "enumerate"
        assert Auto().choose(problem, Budget(seconds=row["seconds"])) == race
        assert Auto().choose(problem, Budget(seconds=row["seconds"], steps=9)) == row["solver"]
        assert {find_solver(row[name]).name for name in ("solver", "other")} == {"anneal", "tabu"}
    problem = make_instance("qubo", n=30, m=20, samples=4).problem
    assert Auto().choose(problem, Budget(steps=1)) in {row["solver"] for row in rows}


@pytest.mark.parametrize("loss", LOSSES)
def test_auto_descends_at_least_as_far_as_no_flip_improves(loss: str):
    problem = make_problem(3, 40, 12, loss, (3,), weighted=True, stay=0.1)
    report = Report(problem, Budget(seconds=60), None)
    descend_far(problem, report)
    assert problem.start is not None
    below = report.objective - problem.objective(problem.start)
    assert (below <= 0).all()
    assert (below < 0).any()
    improving = problem.flip_delta(report.targets) < -1e-4 * (1 + report.objective.abs()[:, None])
    assert not improving.any()


def test_auto_tries_all_targets_where_they_are_few():
    few, more = (make_problem(5, n, 8, "squared", (4,), weighted=True) for n in (9, 14))
    result = solve(few, "auto", budget=Budget(seconds=20))
    assert result.stats["taken"] == "enumerate"
    assert_valid(few, result, optima(few))
    assert result.status == [Status.OPTIMAL] * 4
    assert Auto().choose(more, Budget(seconds=1)).startswith("portfolio(")
    assert Auto().choose(make_problem(5, 9, 8, "squared", (65,)), Budget(seconds=1)).startswith("portfolio(")


def test_auto_goes_on_until_the_time_is_up_and_ends_then():
    problem = make_instance("random", n=64, m=32, samples=4, seed=3).problem
    result = solve(problem, "auto", budget=Budget(seconds=0.3))
    assert 0.28 <= result.stats["seconds"] < 0.6
    assert result.stats["taken"].startswith("portfolio(")
    # At once where the optimum is proved, or the caller says so.
    easy = LayerProblem(torch.eye(6), torch.ones(2, 6), start=-torch.ones(6))
    assert solve(easy, "auto", budget=Budget(seconds=60)).stats["seconds"] < 10
    assert solve(problem, "auto", budget=Budget(seconds=60), callback=lambda _: True).stats["seconds"] < 10


def test_auto_with_proof_takes_what_the_table_of_proofs_says():
    rows = table(PROOFS)["rows"]
    assert {row["loss"] for row in rows} == set(LOSSES)
    for row in rows:
        problem = make_problem(0, row["n"], row["m"], row["loss"])
        assert find_solver(row["solver"]).exact
        assert Auto(proof=True).choose(problem, Budget(seconds=3 * row["seconds"])) == row["solver"]
        if row["solver"] == "enumerate":
            # Of more samples or more targets there are too many.
            assert Auto(proof=True).choose(problem, Budget(seconds=row["seconds"] / 2)) == row["other"]
            assert row["other"] != "enumerate"
    assert Auto(proof=True).choose(make_problem(0, 25, 8), Budget(seconds=1e9)) != "enumerate"
    assert Auto(proof=True).choose(make_problem(0, 8, 8), Budget(steps=5)) == "enumerate"
    with pytest.raises(ArgumentError, match="proof: got 1, expected True or False"):
        Auto(proof=1)  # pyright: ignore[reportArgumentType]


def test_without_a_solver_the_optimum_is_proved():
    problem = make_problem(2, 6, 5, "saturated-hinge", (2,), weighted=True)
    result = solve(problem, budget=Budget(seconds=20))
    assert_valid(problem, result, optima(problem))
    assert result.status == [Status.OPTIMAL, Status.OPTIMAL]
    xor = NetworkProblem([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], [2])
    for solver in (None, "auto"):
        found = solve(xor, solver, budget=Budget(steps=1000))
        assert (found.status, found.objective, found.stats["taken"]) == (Status.OPTIMAL, 0.0, "circuits")
