"""Symbols under single moves: kept up to date, undone, drawn; against the problem itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.programs import ZOO, Case, total
from torch import Tensor

from tpsolve import ProgramProblem
from tpsolve.problems.program._program_state import ProgramState

each_case = pytest.mark.parametrize("case", ZOO, ids=str)


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def energy(problem: ProgramProblem, targets: Tensor) -> Tensor:
    """E, with the penalty for infinite losses."""
    loss = problem.loss_of(targets)
    return torch.minimum(loss, problem.penalty()) + problem.stay * problem.disturbance(targets)


def begun(case: Case, number: int) -> tuple[ProgramProblem, ProgramState]:
    problem = case.problem().flatten()
    return problem, problem.state(problem.encode(problem.random_targets(1, seed(number))))


@each_case
def test_flip_deltas_are_what_the_moves_change(case: Case):
    problem, state = begun(case, 3)
    before, delta = problem.decode(state.targets), state.flip_delta()
    table = problem.move_delta(before)
    values = problem.values_of(before)
    for b in range(len(values)):
        for j in range(problem.n_vars):
            for v in range(table.shape[2]):
                moved = values.clone()
                moved[b, j] = v
                if not problem.possible[b, j, v]:
                    assert table[b, j, v] == math.inf
                    continue
                change = energy(problem, problem.symbols_of(moved))[b] - energy(problem, before)[b]
                assert table[b, j, v].item() == pytest.approx(change.item())
    offered = torch.isfinite(delta)
    for spin in range(delta.shape[1]):
        _, state = begun(case, 3)
        state.flip(torch.full((len(values),), spin), torch.ones(len(values), dtype=torch.bool))
        after = problem.decode(state.targets)
        assert torch.equal((after != before).any(1), offered[:, spin])
        assert torch.allclose(state.objective, energy(problem, after))
        changed = energy(problem, after) - energy(problem, before)
        assert torch.allclose(changed[offered[:, spin]], delta[offered[:, spin], spin])


@pytest.mark.slow
@given(st.integers(0, len(ZOO) - 1), st.integers(0, 10**6), st.integers(1, 8))
def test_inverses_lead_back(number: int, start: int, length: int):
    problem, state = begun(ZOO[number], start)
    generator, before, objective = seed(start), state.targets.clone(), state.objective.clone()
    done: list[tuple[Tensor, Tensor]] = []
    for _ in range(length):
        units = torch.randint(before.shape[1], (len(before),), generator=generator)
        where = torch.rand(len(before), generator=generator) < 0.7
        possible = torch.isfinite(state.flip_delta()).gather(1, units[:, None])[:, 0]
        done.append((state.inverse(units), where & possible))
        state.flip(units, where)
    assert torch.equal(problem.encode(problem.decode(state.targets)), state.targets)
    for units, where in reversed(done):
        state.flip(units, where)
    assert torch.equal(state.targets, before)
    assert torch.allclose(state.objective, objective)


@pytest.mark.slow
@each_case
def test_a_sweep_takes_what_the_limit_allows(case: Case):
    problem, state = begun(case, 1)
    state.sweep(lambda units: torch.zeros(1, len(case.labels), dtype=torch.float64))
    targets = problem.decode(state.targets)
    assert torch.allclose(state.objective, energy(problem, targets))
    _, first = begun(case, 1)
    assert (state.objective <= first.objective).all(), "nothing uphill"
    for _ in range(40):
        state.sweep(lambda units: torch.full((1, len(case.labels)), -1e-9, dtype=torch.float64))
    assert (state.flip_delta() > -1e-8).all(), "a minimum"


def test_a_sweep_calls_nothing_that_costs_too_much():
    called = []
    logits = torch.tensor([[[0.0, -1.0, -9.0]]])
    problem = ProgramProblem(lambda a: called.append(a) or a, [0], logits, symbols=3).flatten()
    state = problem.state(problem.encode(problem.present))
    state.sweep(lambda units: torch.full((1, 1), 2.0, dtype=torch.float64))
    assert sorted(called) == [0, 1]


@each_case
def test_random_targets_have_every_value_that_exists_equally_often(case: Case):
    problem = case.problem()
    copies = 4000
    drawn = problem.values_of(problem.random_targets(copies, seed(0))).reshape(copies, *problem.present.shape)
    shares = torch.nn.functional.one_hot(drawn, problem.cost.shape[2]).double().mean(0)
    expected = problem.possible / problem.possible.sum(2, keepdim=True)
    # Five standard deviations.
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / copies).sqrt() + 1e-12).all()


@pytest.mark.slow
def test_draws_take_each_value_in_proportion_to_its_chance():
    logits = torch.randn(1, 2, 3, generator=seed(0))
    problem = ProgramProblem(total, [1], logits, symbols=[3, "sign"], known=[[-1, 0]]).flatten().repeat(20_000)
    state = problem.state(problem.encode(problem.present))
    chance = torch.tensor([[0.2, 0.3, 0.1, 0.7]], dtype=torch.float64)
    drawn = problem.decode(state.draw(chance.expand(20_000, -1), torch.rand(20_000, 4, generator=seed(1))))
    shares = torch.bincount(drawn[:, 0], minlength=3) / 20_000
    assert torch.allclose(shares, torch.tensor([1 / 3, 1 / 2, 1 / 6]), atol=0.02)
    assert (drawn[:, 1] == 1).double().mean().item() == pytest.approx(0.7, abs=0.02)


@each_case
def test_chances_near_the_present_symbols_sum_to_one_and_are_those_of_values_that_exist(case: Case):
    problem, state = begun(case, 2)
    chance, spins = state.near(0.8), problem.spins
    for b in range(len(chance)):
        for j in range(problem.n_vars):
            own = chance[b, spins.unit == j]
            options = int(problem.possible[b, j].sum())
            if problem.is_spin[j]:
                up = bool(problem.decode(state.targets)[b, j] > 0)
                assert own.item() == pytest.approx((0.8 if up else 0.2) if options > 1 else float(up))
            else:
                assert own.sum().item() == pytest.approx(1.0)
                assert own.max().item() == pytest.approx(0.8 if options > 1 else 1.0)
                assert ((own > 0) == problem.possible[b, j, : len(own)]).all()


def test_calls_that_are_left_go_to_the_cheapest_moves_and_then_nothing_moves():
    logits = torch.tensor([[[0.0, -1.0, -2.0, -3.0]]])
    called: list[int] = []
    problem = ProgramProblem(lambda a: called.append(a) or a, [3], logits, symbols=4).flatten()
    with problem.limited(3):
        state = problem.state(problem.encode(problem.present))
        delta = state.flip_delta()
        assert called == [0, 1, 2]
        assert torch.isfinite(delta)[0].tolist() == [False, True, True, False]
        before = state.targets.clone()
        state.flip(torch.tensor([3]), torch.tensor([True]))
        assert torch.equal(state.targets, before)
        assert problem.calls_left().tolist() == [0.0]
    state.flip(torch.tensor([3]), torch.tensor([True]))
    assert problem.decode(state.targets).tolist() == [[3]]
    assert state.met().tolist() == [True]
    assert problem.calls_left().tolist() == [0.0], "all four are known"
