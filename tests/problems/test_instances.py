"""The built-in generators: what they promise of their problems, and the optima that they know by construction."""

import math

import pytest
import torch

from tpsolve import Budget, solve
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.problems import GENERATORS, Instance, make_instance

each_generator = pytest.mark.parametrize("name", GENERATORS)
SIZES = ((1, 1, 1), (3, 3, 4), (5, 9, 3), (8, 4, 5))
each_size = pytest.mark.parametrize(("n", "m", "samples"), SIZES)


def least(instance: Instance) -> list[float]:
    """The optimum of every sample, by enumeration."""
    result = solve(instance.problem, "enumerate", budget=Budget(seconds=60))
    assert result.optimal.all(), "the enumeration is finished"
    return result.objective.tolist()


def known(instance: Instance) -> list[float]:
    assert instance.optimum is not None
    assert instance.optimum.dtype == torch.float64
    return instance.optimum.tolist()


@each_generator
@each_size
def test_problem_has_the_sizes_asked_for(name: str, n: int, m: int, samples: int):
    instance = make_instance(name, n=n, m=m, samples=samples, seed=1)
    problem = instance.problem
    assert instance.name == name
    assert (problem.n_vars, problem.batch_shape) == (n, (samples,))
    assert problem.n_units == (min(m, n) if name == "parity" else m)
    assert problem.start is not None, "local solvers have activations to begin at"
    assert problem.start.abs().eq(1).all()
    assert problem.dtype == (torch.float64 if name == "ill-scaled" else torch.float32)


@each_generator
@each_size
@pytest.mark.parametrize("seed", [0, 1])
def test_optimum_known_by_construction_is_that_of_brute_force(name: str, n: int, m: int, samples: int, seed: int):
    instance = make_instance(name, n=n, m=m, samples=samples, seed=seed)
    if instance.optimum is None:
        assert name not in ("planted", "parity", "dont-care"), "these know their optimum"
    else:
        assert known(instance) == least(instance)


@pytest.mark.parametrize("seed", [51, 103])
def test_planted_optimum_is_zero_however_small_the_smallest_margin_was(seed: int):
    # Under these seeds some margin of the hidden targets is below 1e-3 before the rows are scaled.
    instance = make_instance("planted", n=8, m=8, samples=8, seed=seed)
    assert known(instance) == [0.0] * 8
    assert least(instance) == [0.0] * 8


def test_planted_optimum_is_zero_for_each_of_many_samples():
    instance = make_instance("planted", n=10, m=14, samples=200, seed=0)
    assert sum(value > 0 for value in least(instance)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_parity_optimum_is_the_best_count_of_ones(seed: int):
    n, m, samples = 6, 5, 4
    instance = make_instance("parity", n=n, m=m, samples=samples, seed=seed)
    wanted = instance.problem.targets.tolist()
    # Unit k (from 0) fires where there are at least k + 1 ones: with c ones, the first c of the units.
    by_count = [
        min(sum((1 if k < ones else -1) != s for k, s in enumerate(sample)) for ones in range(n + 1))
        for sample in wanted
    ]
    assert known(instance) == [float(v) for v in by_count]
    assert max(by_count) > 0, "no such problem is trivial for all samples"


def test_parity_objective_depends_on_the_count_of_ones_alone():
    problem = make_instance("parity", n=6, m=4, samples=1, seed=2).problem
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6)
    values = problem.objective(every[:, None])[:, 0]
    for ones in range(7):
        assert len(set(values[(every > 0).sum(1) == ones].tolist())) == 1


def test_dont_care_is_least_at_the_activations_and_each_departure_costs_the_stay():
    problem = make_instance("dont-care", n=5, m=3, samples=4).problem
    assert problem.start is not None
    assert problem.objective(problem.start).tolist() == [0.0] * 4
    assert problem.flip_delta(problem.start).eq(problem.stay).all()
    assert problem.stay > 0
    assert not problem.targets.any()


def test_ties_have_each_column_twice_and_whole_weights():
    problem = make_instance("ties", n=7, m=5, samples=2, seed=4).problem
    assert set(problem.weight.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.equal(problem.weight[:, :3], problem.weight[:, 4:])
    optima = [0, 0]
    result = solve(problem, "enumerate", budget=Budget(seconds=60))
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 7)
    for i in range(2):
        values = problem.objective(every[:, None].expand(-1, 2, -1))[:, i]
        optima[i] = int((values == result.objective[i]).sum())
    assert min(optima) >= 2, f"several equal optima: {optima}"


@pytest.mark.parametrize("seed", range(3))
def test_ill_scaled_rows_and_columns_span_orders_of_magnitude(seed: int):
    size = make_instance("ill-scaled", n=32, m=32, samples=1, seed=seed).problem.weight.abs()
    for axis in (0, 1):
        means = size.median(axis).values
        assert 2.5 < math.log10(means.max() / means.min()) < 5.5


@pytest.mark.parametrize(("name", "loss"), [("random", "hinge"), ("qubo", "squared"), ("ties", "perceptron")])
def test_generators_differ_in_the_loss_that_their_names_stand_for(name: str, loss: str):
    assert make_instance(name).problem.loss == loss


def test_random_weights_are_normal_scaled_by_the_root_of_n():
    weight = make_instance("random", n=100, m=200).problem.weight
    # 20000 draws: the standard deviation of their mean square is 1 %.
    assert abs(float(weight.square().mean()) * 100 - 1) < 0.05
    assert abs(float(weight.mean())) * 10 < 0.04


@each_generator
def test_equal_seeds_give_equal_problems_and_different_seeds_different_ones(name: str):
    def fingerprint(seed: int) -> str:
        return make_instance(name, seed=seed).problem.fingerprint

    assert fingerprint(5) == fingerprint(5)
    assert len({fingerprint(seed) for seed in range(20)}) == 20


@each_generator
def test_generators_leave_the_global_random_state_alone(name: str):
    before = torch.get_rng_state()
    make_instance(name, n=4, m=3, samples=2, seed=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_generator_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'parity'"):
        make_instance("partiy")


@pytest.mark.parametrize("argument", ["n", "m", "samples"])
@pytest.mark.parametrize("size", [0, -3])
def test_size_below_one_is_refused_by_name(argument: str, size: int):
    with pytest.raises(ArgumentError, match=f"^{argument}: got {size}, expected a whole number of at least 1"):
        make_instance("random", **{argument: size})


@pytest.mark.parametrize("sizes", [(10**8, 10**5, 8), (10**4, 10**4, 1), (1, 1, 10**8)])
def test_problem_that_would_fill_the_memory_is_refused(sizes: tuple[int, int, int]):
    n, m, samples = sizes
    with pytest.raises(ArgumentError, match=f"got {n:,} targets below {m:,} units.* at most 100,000,000 numbers"):
        make_instance("random", n=n, m=m, samples=samples)
