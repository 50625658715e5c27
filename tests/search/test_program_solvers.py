"""Solvers of program problems against exhaustive enumeration, sorting and closed forms."""

import itertools
import math
from enum import Enum
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tpsolve import SOLVERS, Budget, ProgramProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.problems import ProgramCalls
from tpsolve.search.programs._orders import k_best, perturbed_best

OWN = ("k-best", "weighted-draws", "posterior-draw", "marginal")
PARTS = {"warm-start": "warm-start(tabu, k-best)"}
EVERY = [
    PARTS.get(name, name)
    for name, kind in SOLVERS.items()
    if issubclass(ProgramProblem, kind.accepts) and name not in ("declared", "forward-backward")
]
"""All that need neither constraints nor a fold."""


def total(*symbols: int) -> int:
    return sum(symbols)


def random_problem(seed: int, samples: int, units: int, classes: int, **settings: Any) -> ProgramProblem:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, units, classes, generator=generator)
    labels = torch.randint(0, units * (classes - 1) + 2, (samples,), generator=generator)
    return ProgramProblem(total, labels, logits, symbols=classes, **settings)


def brute_force(problem: ProgramProblem) -> list[dict[tuple[int, ...], float]]:
    """Of each sample the consistent assignments and their costs."""
    units, classes = problem.n_vars, int(problem.sizes.max())
    every = list(itertools.product(range(classes), repeat=units))
    return [
        {s: sum(float(problem.cost[b, j, v]) for j, v in enumerate(s)) for s in every if sum(s) == label}
        for b, label in enumerate(problem.labels)
    ]


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 4), st.integers(1, 80))
def test_k_best_is_the_beginning_of_the_sorted_list(seed: int, units: int, classes: int, count: int):
    cost = torch.rand(3, units, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values, total_cost = k_best(cost, count)
    for b in range(3):
        every = sorted(
            (sum(float(cost[b, j, v]) for j, v in enumerate(s)), s)
            for s in itertools.product(range(classes), repeat=units)
        )
        kept = every[:count]
        assert total_cost[b].tolist() == pytest.approx([value for value, _ in kept])
        assert [tuple(row) for row in values[b].tolist()] == [s for _, s in kept]


def test_perturbed_order_draws_from_the_distribution_and_from_what_is_left_of_it():
    logits = torch.tensor([[[0.0, 1.0, -1.0], [0.5, 0.0, 0.3]]], dtype=torch.float64)
    p = torch.softmax(logits, 2)[0]
    true = (p[0][:, None] * p[1]).flatten()
    draws = 20_000
    values, order = perturbed_best(logits.expand(draws, -1, -1), 9, torch.Generator().manual_seed(1))
    codes = 3 * values[..., 0] + values[..., 1]
    assert torch.equal(codes.sort(1).values, torch.arange(9).expand(draws, 9))
    assert (order[:, 1:] >= order[:, :-1]).all()
    # Four standard deviations of a share of 20,000.
    shares = torch.bincount(codes[:, 0], minlength=9) / draws
    assert ((shares - true).abs() < 4 * (true * (1 - true) / draws).sqrt()).all()
    given_sum = torch.tensor([2, 4, 6])  # (0, 2), (1, 1), (2, 0)
    first = torch.isin(codes, given_sum).int().argmax(1)
    picked = codes[torch.arange(draws), first]
    conditional = true[given_sum] / true[given_sum].sum()
    found = torch.stack([(picked == code).double().mean() for code in given_sum])
    assert ((found - conditional).abs() < 4 * (conditional * (1 - conditional) / draws).sqrt()).all()


@pytest.mark.parametrize("solver", ["k-best", "marginal"])
@pytest.mark.parametrize("stay", [1.0, 0.0])
def test_exact_solvers_prove_the_optimum_or_that_there_is_none(solver: str, stay: float):
    problem = random_problem(0, samples=40, units=3, classes=3, stay=stay)
    result = solve(problem, solver, budget=Budget(calls=27))
    for b, consistent in enumerate(brute_force(problem)):
        if consistent:
            assert result.objective[b].item() == pytest.approx(stay * min(consistent.values()))
            assert result.status[b] is Status.OPTIMAL
        else:
            assert result.status[b] is Status.INFEASIBLE


@pytest.mark.slow
@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("calls", [1, 2, 5, 13, 100])
def test_bounds_hold_and_calls_are_kept_at_every_budget(solver: str, calls: int):
    problem = random_problem(3, samples=30, units=3, classes=3)
    asked: list[int] = []
    assert problem.program is not None
    plain, answers = problem.program, problem.program.answers
    plain.answers = lambda keys: asked.append(len(keys)) or answers(keys)
    result = solve(problem, solver, budget=Budget(calls=calls))
    plain.answers = answers
    for b, consistent in enumerate(brute_force(problem)):
        least = min(consistent.values(), default=float("inf"))
        assert result.bound[b].item() <= least + 1e-9
        assert result.objective[b].item() >= least - 1e-9
    distinct = 30 * min(calls, 27)
    assert plain.counts.calls <= distinct
    assert asked


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_k_best_calls_none_after_the_first_consistent_one_but_those_of_its_batch(seed: int, calls: int):
    problem = random_problem(seed, samples=1, units=2, classes=4)
    order = k_best(problem.cost, 16)[0][0].tolist()
    rank = next((i for i, s in enumerate(order) if sum(s) == problem.labels[0]), None)
    solve(problem, "k-best", budget=Budget(calls=calls))
    assert problem.program is not None
    # Batches of 1, 2, 4, ...: at most twice the calls that are needed, and one.
    assert problem.program.counts.calls <= min(calls, 16 if rank is None else 2 * rank + 1)


def test_the_marginal_is_the_posterior_of_brute_force():
    problem = random_problem(1, samples=20, units=3, classes=3)
    result = solve(problem, "marginal", budget=Budget(calls=27))
    assert result.target_set is not None
    log_p = torch.log_softmax(problem.logits, 2)
    for b, consistent in enumerate(brute_force(problem)):
        p = {s: math.exp(sum(float(log_p[b, j, v]) for j, v in enumerate(s))) for s in consistent}
        weights = result.target_set.weights[b].tolist()
        found = {tuple(s): w for s, w in zip(result.target_set.targets[b].tolist(), weights, strict=True) if w}
        assert found == pytest.approx({s: value / sum(p.values()) for s, value in p.items()})


@pytest.mark.parametrize("solver", ["weighted-draws", "posterior-draw"])
def test_draws_are_consistent_distinct_and_weights_sum_to_one(solver: str):
    problem = random_problem(2, samples=50, units=3, classes=3)
    result = solve(problem, solver, budget=Budget(calls=40))
    assert result.target_set is not None
    for b in range(50):
        kept = result.target_set.weights[b] > 0
        sets = [tuple(s) for s in result.target_set.targets[b][kept].tolist()]
        assert len(set(sets)) == len(sets)
        assert all(sum(s) == problem.labels[b] for s in sets)
        assert result.target_set.weights[b].sum().item() == pytest.approx(1.0 if sets else 0.0)
        assert (len(sets) > 0) == bool(torch.isfinite(result.objective[b]))
        assert len(sets) <= (1 if solver == "posterior-draw" else 40)


def weights_of(problem: ProgramProblem, solver: str, calls: int, seed: int = 0) -> list[dict[tuple[int, ...], float]]:
    """Of each sample the weights of the target set."""
    generator = torch.Generator().manual_seed(seed)
    found = solve(problem, solver, budget=Budget(calls=calls), generator=generator).target_set
    assert found is not None
    return [
        {tuple(s): w for s, w in zip(targets, weights, strict=True) if w}
        for targets, weights in zip(found.targets.tolist(), found.weights.tolist(), strict=True)
    ]


def test_weighted_draws_of_all_assignments_are_the_marginal_and_prove_the_answer():
    problem = random_problem(5, samples=20, units=2, classes=3)
    exact = weights_of(problem, "marginal", 9)
    for b, weights in enumerate(weights_of(problem, "weighted-draws:first=99", 9)):
        assert weights == pytest.approx(exact[b])
    result = solve(problem, "weighted-draws:first=99", budget=Budget(calls=9))
    least = [min(consistent.values(), default=math.inf) for consistent in brute_force(problem)]
    assert result.objective.tolist() == pytest.approx(least)
    assert result.bound.tolist() == pytest.approx(least)
    forgetful = "weighted-draws:first=99,max_recalled=0"
    assert not solve(problem, forgetful, budget=Budget(calls=8)).optimal.all()


@pytest.mark.slow
def test_the_mean_of_weighted_draws_tends_to_the_posterior():
    # 100 seeds side by side, as copies of one sample.
    problem = random_problem(5, samples=1, units=3, classes=3)
    (exact,) = weights_of(problem, "marginal", 27)
    copies = problem.select(torch.zeros(3000, dtype=torch.int64))
    errors = []
    for calls in (3, 9, 18):
        drawn = weights_of(copies, "weighted-draws:first=99,max_recalled=0", calls)
        means = {s: sum(weights.get(s, 0.0) for weights in drawn) / len(drawn) for s in exact}
        errors.append(sum(abs(means[s] - w) for s, w in exact.items()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def recall_case(program: ProgramCalls, form: str, samples: int = 6) -> ProgramProblem:
    """Three symbols of different kinds, some of them missing or known."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(samples, 3, 4, generator=generator, dtype=torch.float64)
    mask = known = None
    if form == "masked":
        mask = torch.rand(samples, 3, generator=generator) < 0.7
        mask[:, 0] = True
    if form == "known":
        known = torch.where(torch.rand(samples, 3, generator=generator) < 0.4, 1, torch.tensor([-1, -1, 0]))
    return ProgramProblem(
        program, [n % 4 for n in range(samples)], logits, symbols=[4, 3, "sign"], mask=mask, known=known
    )


@pytest.mark.parametrize("form", ["plain", "masked", "known"])
@pytest.mark.parametrize("calls", [2, 6, 24])
def test_what_earlier_draws_found_is_in_the_set_with_its_probability(form: str, calls: int):
    program = ProgramCalls(total)
    for seed in range(4):
        problem = recall_case(program, form)
        generator = torch.Generator().manual_seed(seed)
        asked = dict(program.state())
        result = solve(problem, "weighted-draws", budget=Budget(calls=calls), generator=generator)
        assert result.target_set is not None
        log_p = problem.log_probability(result.target_set.targets.transpose(0, 1)).T
        targets, weights = result.target_set.targets, result.target_set.weights
        assert weights.sum(1).tolist() == pytest.approx([float(row.any()) for row in weights > 0])
        assert bool(problem.consistent(targets.transpose(0, 1)).T[weights > 0].all())
        for b in range(len(targets)):
            there = weights[b] > 0
            kept = [tuple(s) for s in targets[b, there].tolist()]
            assert len(set(kept)) == len(kept), "an assignment counts once"
            read = slice(None) if problem.mask is None else problem.mask[b]
            keys = [tuple(s) for s in targets[b, there][:, read].tolist()]
            found = [i for i, key in enumerate(keys) if key in asked]
            # Weights of what was known are in the ratio of p.
            ratio = weights[b, there].log() - log_p[b, there]
            assert all(math.isclose(float(ratio[i]), float(ratio[found[0]]), abs_tol=1e-9) for i in found)
            for s, answer in asked.items():
                values = problem.present[b].clone()
                if len(s) == len(values[read]) and answer == problem.labels[b]:
                    values[read] = torch.tensor(s)
                    # The same symbols may have been asked of a sample that reads other ones.
                    exists = all(v in (-1, 1) if j == 2 else 0 <= v < (4, 3)[j] for j, v in enumerate(values.tolist()))
                    if exists and math.isfinite(float(problem.log_probability(values.repeat(len(targets), 1))[b])):
                        assert tuple(values.tolist()) in kept


def test_once_all_answers_are_known_the_set_is_the_marginal_without_calls():
    program = ProgramCalls(total)
    solve(recall_case(program, "plain", 4), "marginal", budget=Budget(calls=24))
    problem = recall_case(program, "plain", 9)
    problem.labels[8] = 99
    assert weights_of(problem, "weighted-draws", 1) == [
        pytest.approx(weights) for weights in weights_of(problem, "marginal", 24)
    ]
    before = program.counts.calls
    result = solve(problem, "weighted-draws", budget=Budget(calls=1))
    assert program.counts.calls == before == 24
    assert result.status == [Status.OPTIMAL] * 8 + [Status.INFEASIBLE]


class Letter(str, Enum):  # noqa: UP042  StrEnum has the hash of its text, and this must not.
    A = "a"
    B = "b"


class Mod:
    """A label that equals every number of its class."""

    def __init__(self, rest: int):
        self.rest = rest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and other % 2 == self.rest

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@pytest.mark.parametrize(
    ("function", "labels"),
    [
        (lambda a, b: {a + b}, [{1}, {2}]),  # without a hash
        (lambda a, b: {a + b}, [frozenset({1}), frozenset({2})]),  # equal to what has none
        (lambda a, b: a + b, [Mod(1), Mod(0)]),
        (lambda a, b: "ab"[a], [Letter.A, Letter.B]),  # equal to a text, with another hash
    ],
)
def test_answers_that_no_look_up_finds_are_no_proof_that_there_is_none(function: Any, labels: list[Any]):
    program = ProgramCalls(function)
    for solver in ("marginal", "weighted-draws"):
        problem = ProgramProblem(program, labels, torch.zeros(2, 2, 2), symbols=2)
        assert solve(problem, solver, budget=Budget(calls=4)).status == [Status.OPTIMAL] * 2


def test_a_small_memory_recalls_what_it_still_has():
    program = ProgramCalls(total, max_remembered=5)
    for seed in range(5):
        problem = recall_case(program, "plain")
        result = solve(problem, "weighted-draws", budget=Budget(calls=4), generator=torch.Generator().manual_seed(seed))
        assert result.target_set is not None
        consistent = problem.consistent(result.target_set.targets.transpose(0, 1)).T
        assert bool(consistent[result.target_set.weights > 0].all())
        assert len(program.state()) <= 5


def test_a_sample_makes_do_with_the_first_draws_where_they_hold_the_belief():
    logits = torch.zeros(3, 2, 4)
    logits[:2, :, 1] = 9.0  # The belief is (1, 1) in the first two samples, which is consistent in the first one only.
    problem = ProgramProblem(total, [2, 5, 2], logits, symbols=4)
    result = solve(problem, "weighted-draws:first=4,mass=0.9,max_recalled=0", budget=Budget(calls=16))
    assert result.stats["draws"].tolist() == [4, 16, 16]
    assert result.status[1] is Status.OPTIMAL


def test_values_whose_chance_is_zero_within_rounding_are_no_proof():
    logits = torch.tensor([[[0.0, -1000.0], [0.0, -1000.0]]])
    problem = ProgramProblem(total, [2], logits, symbols=2)
    result = solve(problem, "weighted-draws:uniform=0,first=99", budget=Budget(calls=16))
    assert result.status[0] is not Status.INFEASIBLE
    assert solve(problem, "marginal", budget=Budget(calls=16)).objective.tolist() == [2000.0]


@pytest.mark.parametrize("solver", EVERY)
def test_costs_of_any_size_are_no_proof_that_there_is_none(solver: str):
    # The dearest symbols alone are consistent; a unit more than their cost is the same number.
    logits = torch.tensor([[[0.0, -1e30], [0.0, -1e30]]], dtype=torch.float64)
    problem = ProgramProblem(total, [2], logits, symbols=2, stay=1e6)
    result = solve(problem, solver, budget=Budget(calls=4, steps=30))
    assert result.status[0] is not Status.INFEASIBLE
    assert float(result.bound[0]) <= 2e36


@pytest.mark.parametrize("solver", ["k-best", "weighted-draws:max_recalled=0", "posterior-draw", "marginal"])
def test_equal_seeds_give_equal_results_whatever_is_remembered(solver: str):
    problem = random_problem(4, samples=10, units=3, classes=3)
    results = [
        solve(problem, solver, budget=Budget(calls=10), generator=torch.Generator().manual_seed(7)) for _ in range(2)
    ]
    assert torch.equal(results[0].targets, results[1].targets)
    assert torch.equal(results[0].bound, results[1].bound)


def test_solvers_of_other_problems_name_one_that_fits():
    with pytest.raises(NotAcceptedError, match="For a ProgramProblem take k-best"):
        solve(random_problem(0, 2, 2, 3), "cp-sat", budget=Budget(calls=3))
    assert all(ProgramProblem in SOLVERS[name].accepts for name in OWN)


# --- declared constraints ---------------------------------------------------------------------------------------------


def sum_is(model: Any, symbols: list[Any], label: int) -> None:
    model.add(sum(symbols) == label)


@pytest.mark.parametrize("seed", range(5))
def test_declared_constraints_prove_what_k_best_proves(seed: int):
    called = random_problem(seed, samples=10, units=3, classes=3)
    problem = ProgramProblem(None, called.labels, called.logits, symbols=3, constraints=sum_is)
    result = solve(problem, "declared", budget=Budget(steps=50))
    expected = solve(called, "k-best", budget=Budget(calls=27))
    assert torch.allclose(result.objective, expected.objective)
    assert result.status == expected.status
    assert set(result.status) == {Status.OPTIMAL, Status.INFEASIBLE} or seed


def test_declared_solutions_are_the_best_in_order_weighted_by_their_probability():
    called = random_problem(1, samples=8, units=3, classes=3)
    problem = ProgramProblem(None, called.labels, called.logits, symbols=3, constraints=sum_is)
    found = solve(problem, "declared:solutions=3", budget=Budget(steps=50)).target_set
    assert found is not None
    for b, consistent in enumerate(brute_force(called)):
        kept = found.weights[b] > 0
        best = sorted(consistent, key=lambda s: consistent[s])[:3]
        assert {tuple(s) for s in found.targets[b][kept].tolist()} == set(best)
        p = torch.softmax(-torch.tensor([consistent[s] for s in best]), 0) if best else torch.zeros(0)
        order = [best.index(tuple(s)) for s in found.targets[b][kept].tolist()]
        assert torch.allclose(found.weights[b][kept].float(), p[order], atol=1e-5)


def test_spins_masks_and_known_symbols_reach_the_constraints():
    z = torch.tensor([[0.3, -2.0, 0.5], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    problem = ProgramProblem(
        None, [-1, 0], z, symbols="sign", constraints=sum_is, mask=mask, known=[[0, 0, 1], [0, 1, 0]]
    )
    result = solve(problem, "declared", budget=Budget(steps=20))
    assert result.targets.tolist() == [[-1, -1, 1], [-1, 1, -1]]
    assert result.objective.tolist() == pytest.approx([0.3, 1.0])
    assert result.optimal.all()


def test_a_program_beside_constraints_has_the_last_word_and_is_not_called_where_they_fail():
    called: list[Any] = []
    logits = torch.tensor([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]])
    problem = ProgramProblem(
        lambda a, b: called.append((a, b)) or (a < b, a + b),
        [(True, 2)],
        logits,
        symbols=3,
        constraints=lambda m, s, y: m.add(s[0] + s[1] == y[1]),
    )
    result = solve(problem, "declared", budget=Budget(steps=20))
    assert result.targets.tolist() == [[0, 2]]
    assert result.optimal.all()
    assert all(a + b == 2 for a, b in called)


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("solver", ["declared:noise=9.0", "portfolio(declared:noise=9.0, tabu)"])
def test_answers_of_cp_sat_are_counted_as_calls(solver: str, calls: int):
    logits = torch.tensor([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]])
    problem = ProgramProblem(total, [9], logits, symbols=3, constraints=lambda m, s, y: None)
    solve(problem, solver, budget=Budget(calls=calls, steps=30))
    assert problem.program is not None
    assert problem.program.counts.calls <= calls


def test_a_closed_sample_keeps_its_target_set_where_declared_runs_again():
    called = random_problem(1, samples=8, units=3, classes=3)
    problem = ProgramProblem(None, called.labels, called.logits, symbols=3, constraints=sum_is)
    result = solve(problem, "restarts(declared, 2)", budget=Budget(steps=50))
    assert result.target_set is not None
    found = torch.isfinite(result.objective)
    assert bool(found.any())
    assert result.target_set.weights.sum(1).tolist() == found.double().tolist()


def test_noise_draws_consistent_targets_and_proves_nothing():
    called = random_problem(2, samples=10, units=3, classes=3)
    problem = ProgramProblem(None, called.labels, called.logits, symbols=3, constraints=sum_is)
    results = [
        solve(problem, "declared:noise=3.0", budget=Budget(steps=5), generator=torch.Generator().manual_seed(s))
        for s in range(4)
    ]
    drawn = [r.target_set.targets[:, 0] for r in results if r.target_set is not None]
    assert len({str(t.tolist()) for t in drawn}) > 1
    for b, consistent in enumerate(brute_force(called)):
        assert all(tuple(t[b].tolist()) in consistent for t in drawn if consistent)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda model, symbols, label: model.add(symbols[9] == label), "IndexError"),
        (lambda model: None, "called with (model, symbols, label)"),
        (3, "constraints: got int"),
    ],
)
def test_constraints_that_make_no_sense_are_named(declare: Any, words: str):
    with pytest.raises(ArgumentError) as raised:
        solve(
            ProgramProblem(None, [1], torch.zeros(1, 2, 3), symbols=3, constraints=declare),
            "declared",
            budget=Budget(steps=1),
        )
    assert words in str(raised.value)


def test_declared_needs_constraints():
    with pytest.raises(NotAcceptedError, match="Or take k-best"):
        solve(random_problem(0, 2, 2, 3), "declared", budget=Budget(steps=1))
