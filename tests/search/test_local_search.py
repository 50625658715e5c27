"""Local searches: the loop that they share, and what each of them promises."""

from typing import Any

import pytest
import torch
from support.zoo import ALL_LOSSES, LAYER_SOLVERS, make_problem
from torch import Tensor

from tpsolve import Budget, LayerProblem, solve
from tpsolve.errors import ArgumentError
from tpsolve.problems import make_instance
from tpsolve.search import Anneal, HillClimb, LocalSolver, Tabu, find_solver
from tpsolve.search.local._chains import Chains
from tpsolve.search.local._loop import ChainSolver, flip_downhill, least_index

pytestmark = pytest.mark.rounding

LOCAL_SOLVERS = tuple(kind for kind in LAYER_SOLVERS if issubclass(kind, ChainSolver))
each_local = pytest.mark.parametrize("kind", LOCAL_SOLVERS, ids=lambda kind: kind.name)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def run(problem: LayerProblem, solver: Any, steps: int = 60, number: int = 0) -> Tensor:
    return solve(problem, solver, budget=Budget(steps=steps), generator=seed(number)).targets


def whole(loss: str, samples: int = 7, n: int = 12, m: int = 8) -> LayerProblem:
    """Whole numbers: sums are exact in any order, so nothing can depend on how a batch is cut."""
    return make_problem(4, n, m, loss, (samples,), torch.float64, weighted=True, stay=0.5, whole=True)


@pytest.mark.parametrize(
    ("endless", "limited"), [("anneal:restarts=1", "anneal:restarts=1,sweeps=64"), ("tabu", "tabu:patience=120")]
)
def test_rounds_follow_while_there_is_time_unless_a_setting_ends_them(endless: str, limited: str):
    problem = whole("hinge")

    def steps(solver: str, budget: Budget) -> int:
        seen: list[int] = []
        solve(problem, solver, budget=budget, generator=seed(), callback=lambda p: seen.append(p.step) or p.step > 500)
        return seen[-1]

    assert steps(endless, Budget(seconds=60)) > 500
    assert steps(limited, Budget(seconds=60)) < 450
    assert steps(endless, Budget(steps=10_000)) == steps(limited, Budget(steps=10_000))


@each_local
@pytest.mark.parametrize("loss", ["hinge", "squared", "zero-one"])
@pytest.mark.slow
def test_a_sample_ends_the_same_in_any_company(kind: type[ChainSolver], loss: str):
    problem, solver = whole(loss), kind()
    together = run(problem, solver)
    for rows in ([0], [6], [1, 4], [5, 3, 2], [0, 0, 1]):
        assert torch.equal(run(problem.select(torch.tensor(rows)), solver), together[rows]), rows


@each_local
def test_chunks_of_memory_do_not_change_a_result(kind: type[ChainSolver], monkeypatch: pytest.MonkeyPatch):
    for loss in ("hinge", "zero-one"):
        before = run(whole(loss), kind())
        with monkeypatch.context() as patched:
            patched.setattr("tpsolve.problems.layer._layer_state.CHUNK_BYTES", 8 * 12 * 8)
            assert torch.equal(run(whole(loss), kind()), before)


@each_local
def test_more_steps_and_more_restarts_never_hurt(kind: type[ChainSolver]):
    problem = make_problem(6, 14, 9, "hinge", (6,), weighted=True)
    values = [problem.objective(run(problem, kind(), steps)) for steps in (1, 5, 25)]
    assert (values[1] <= values[0]).all()
    assert (values[2] <= values[1]).all()


@pytest.mark.parametrize("kind", [k for k in LOCAL_SOLVERS if issubclass(k, LocalSolver)], ids=lambda kind: kind.name)
def test_bad_restarts_are_refused(kind: type[LocalSolver]):
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(ArgumentError, match="restarts"):
            kind(restarts=wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("tabu:tenure=-1", "tenure"),
        ("tabu:tenure=2.5", "tenure"),
        ("tabu:patience=0", "patience"),
        ("tabu:aspiration=maybe", "aspiration"),
        ("anneal:sweeps=0", "sweeps"),
        ("anneal:schedule=sudden", "schedule"),
        ("anneal:hot=-1", "hot"),
        ("anneal:hot=nan", "hot"),
        ("anneal:cold=0.5", "cold"),
        ("beam:width=0", "width"),
        ("beam:max_children=0", "max_children"),
        ("beam:patience=0", "patience"),
        ("beam:max_candidates=0", "max_candidates"),
        ("guided-random:patience=0", "patience"),
        ("cross-entropy-method:population=1", "population"),
        ("cross-entropy-method:elite=0.7", "elite"),
        ("cross-entropy-method:rate=0", "rate"),
        ("minimum-disturbance:group=0", "group"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, argument: str):
    with pytest.raises(ArgumentError, match=argument):
        find_solver(text)


@pytest.mark.parametrize("n", [1, 5, 127, 128, 160, 1000, 1024])
def test_least_index_is_argmin(n: int):
    for number in range(3):
        # Few different values: ties.
        score = torch.randint(9, (40, n), generator=seed(number)).float()
        assert torch.equal(least_index(score), score.argmin(1))


# --- tabu -------------------------------------------------------------------------------------------------------------


def plateau(samples: int = 4) -> LayerProblem:
    """Two units that want +1 and see two targets each: from (-1, -1), every single flip changes nothing.

    Zero-one loss of z = t1 + t2 - 1: right only where both are +1.
    """
    weight = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    return LayerProblem(weight, [[1, 1]] * samples, bias=[-1, -1], loss="zero-one", start=[-1, -1, -1, -1])


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_flips_that_do_not_lower_the_objective_are_taken_back(loss: str):
    base = make_problem(5, n=6, m=4, loss=loss, batch=(30,), whole=True)
    # Nothing reads the last target: its flip changes nothing.
    weight = base.weight * torch.tensor([1.0] * 5 + [0.0])
    problem = LayerProblem(weight, base.targets, base.bias, loss)
    spins = 2.0 * torch.randint(0, 2, (30, 6), generator=seed()).to(base.dtype) - 1
    before, where = problem.objective(spins), torch.arange(30) % 3 > 0
    taken = 0
    for unit in range(6):
        state = problem.state(spins)
        lower = flip_downhill(state, torch.full((30,), unit), where)
        flipped = spins.clone()
        flipped[:, unit] *= -1
        gains = problem.objective(flipped) - before
        assert not bool(lower[~where | (gains > 1e-9)].any())
        assert bool(lower[where & (gains < -1e-9)].all())
        assert torch.equal(state.targets, torch.where(lower[:, None], flipped, spins))
        taken += int(lower.sum())
    assert not bool(lower.any())
    assert 0 < taken < 100


def test_tabu_of_tenure_0_with_aspiration_escapes_the_ties_that_hill_climbing_cannot():
    problem = plateau()
    stuck = solve(problem, HillClimb(), budget=Budget(steps=1000))
    assert stuck.objective.tolist() == [2.0] * 4
    free = solve(problem, Tabu(tenure=0, aspiration=True), budget=Budget(steps=1000))
    assert free.objective.tolist() == [0.0] * 4


def flips_of(solver: Tabu, problem: LayerProblem, steps: int) -> list[int]:
    """Which target the only chain flips at each step."""
    assert problem.start is not None
    state, found = problem.state(problem.start), []

    class Recorder(type(state)):
        def flip(self, units: Tensor, where: Tensor) -> None:
            found.append(int(units[0]))
            super().flip(units, where)

    recorder = Recorder(problem.energy, problem.start)
    chains = Chains(recorder, 1, seed(), 0.0, lambda: 0.0)
    memory = solver.init(problem, recorder, chains)
    for _ in range(steps):
        unfinished = solver.step(recorder, memory, chains)
        chains.advance(recorder, unfinished, 0.0)
    return found


@pytest.mark.parametrize("tenure", [1, 3, 6, 100])
@pytest.mark.parametrize("loss", ["hinge", "squared", "cross-entropy"])
def test_no_target_is_flipped_back_within_the_tenure(tenure: int, loss: str):
    problem = make_problem(2, n=9, m=5, loss=loss, batch=(1,))
    flips = flips_of(Tabu(tenure=tenure, aspiration=False), problem, 200)
    effective = min(tenure, 8)
    last: dict[int, int] = {}
    gaps = []
    for step, unit in enumerate(flips):
        if unit in last:
            gaps.append(step - last[unit])
        last[unit] = step
    assert min(gaps) > effective
    assert min(gaps) <= min(effective + effective // 2, 8) + 1, "and no longer than it must"


def test_tabu_takes_the_best_flip_that_is_free():
    problem = make_problem(2, n=9, m=5, batch=(1,))
    assert problem.start is not None
    targets = problem.start.clone()
    for unit in flips_of(Tabu(tenure=0), problem, 30):
        delta = problem.flip_delta(targets)[0]
        assert delta[unit] <= delta.min() + 1e-9
        targets[0, unit] *= -1


def test_tabu_ends_after_its_patience():
    problem = make_problem(2, n=9, m=20, batch=(3,))
    result = solve(problem, Tabu(patience=15), budget=Budget(steps=10_000))
    assert 15 <= result.stats["steps"] < 1000


# --- annealing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_annealing_at_zero_temperature_is_hill_climbing(loss: str):
    problem = make_problem(5, 10, 7, loss, (5,), weighted=True)
    assert problem.start is not None
    ended = run(problem, Anneal(restarts=0, sweeps=40, hot=0, cold=0))
    assert (problem.flip_delta(ended) >= -1e-9).all(), "no single flip improves"
    # Each sweep takes exactly the flips that lower the objective, in turn.
    expected = problem.start.clone()
    for _ in range(40):
        for unit in range(10):
            expected[:, unit] *= torch.where(problem.flip_delta(expected)[:, unit] < -1e-12, -1, 1)
    assert torch.equal(ended, expected)


def test_a_hot_chain_follows_the_boltzmann_distribution():
    # Many restarts at one temperature; the shares of the states against exp(-E / T).
    problem = LayerProblem([[0.9, -0.4], [0.3, 0.8]], [[1, -1]], loss="squared", start=[1, 1])
    every = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    energy = problem.objective(every[:, None])[:, 0]
    state = problem.repeat(20_000).state(every[3:].repeat(20_000, 1))
    temperature, g = 2.0, seed(3)
    for _ in range(30):
        drawn = -temperature * torch.rand(2, 20_000, generator=g).log()
        state.sweep(lambda units, drawn=drawn: drawn[units])
    index = ((state.targets > 0).long() @ torch.tensor([2, 1])).bincount(minlength=4) / 20_000
    assert torch.allclose(index.double(), (-energy / temperature).softmax(0), atol=0.015)


@pytest.mark.parametrize("schedule", ["geometric", "linear", "tempering"])
def test_annealing_heeds_the_clock_inside_a_sweep(schedule: str):
    problem = make_problem(5, 10, 7, "hinge", (5,))
    assert problem.start is not None
    solver, looks = Anneal(restarts=0, schedule=schedule), []

    def spent() -> float:
        looks.append(None)
        return len(looks) / 6

    state = problem.state(problem.start)
    before, chains = state.targets.clone(), Chains(state, 1, seed(), 0.0, spent)
    solver.step(state, solver.init(problem, state, chains), chains)
    assert not torch.equal(state.targets, before)
    assert torch.equal(state.targets[:, 5:], before[:, 5:]), "time was up"


def test_the_last_sweep_that_time_allows_is_a_descent():
    problem = make_problem(5, 10, 7, "hinge", (5,))
    assert problem.start is not None
    for spent, goes_on in ((0.3, True), (0.4, False)):
        state = problem.state(problem.start)
        chains = Chains(state, 1, seed(), 0.0, lambda spent=spent: spent)
        chains.step = 1
        solver, before = Anneal(restarts=0, hot=100.0, cold=100.0), state.objective.clone()
        assert bool(solver.step(state, solver.init(problem, state, chains), chains).all()) is goes_on
        assert bool((state.objective <= before).all()) is not goes_on


@pytest.mark.parametrize("schedule", ["geometric", "linear", "tempering"])
def test_every_schedule_beats_the_descents_that_it_ends_with(schedule: str):
    problem = make_instance("qubo", n=48, m=24, samples=16, seed=2).problem
    climbed = solve(problem, HillClimb(restarts=7), budget=Budget(steps=10_000)).objective.mean()
    annealed = solve(problem, Anneal(schedule=schedule), budget=Budget(steps=10_000)).objective.mean()
    assert annealed < 0.9 * climbed


def test_temperatures_follow_the_scale_of_the_problem():
    problem = make_problem(8, 12, 9, "squared", (4,), weighted=True)
    assert problem.unit_weight is not None
    # A power of two: every product is exact.
    scaled = LayerProblem(
        problem.weight, problem.targets, problem.bias, "squared", 1024 * problem.unit_weight, problem.start
    )
    assert torch.equal(run(problem, Anneal()), run(scaled, Anneal()))
