"""Squared-loss problems as binary quadratic models and back: energies are objectives, for all targets."""

import math
from typing import Any

import pytest
import torch
from support.zoo import assert_valid, make_problem, optima
from torch import Tensor

from tpsolve import Budget, LayerProblem, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, NotFiniteError, UnknownNameError
from tpsolve.problems import from_bqm, make_instance, to_bqm
from tpsolve.search import DimodSampler, find_solver
from tpsolve.spins import random_spins

dimod: Any = pytest.importorskip("dimod", reason="dimod is not installed: pip install 'tpsolve[dimod]'")
samplers: Any = pytest.importorskip("dwave.samplers", reason="dwave-samplers is not installed")

NAMES = ("tabu", "simulated-annealing", "steepest-descent", "path-integral-annealing")


def every(n: int) -> Tensor:
    return (2.0 * torch.cartesian_prod(*[torch.arange(2)] * n) - 1).reshape(-1, n)


def energies(model: Any, targets: Tensor) -> Tensor:
    return torch.as_tensor(model.energies((targets.long().numpy(), range(targets.shape[1]))), dtype=torch.float64)


@pytest.mark.parametrize(("weighted", "stay"), [(False, 0.0), (True, 0.0), (True, 0.75)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_energy_of_all_targets_is_the_objective(weighted: bool, stay: float, dtype: torch.dtype):
    problem = make_problem(2, n=6, m=4, loss="squared", batch=(3,), dtype=dtype, weighted=weighted, stay=stay)
    targets = every(6)
    objective = problem.objective(targets[:, None].expand(-1, 3, -1).to(dtype))
    models = to_bqm(problem)
    assert [model.vartype for model in models] == [dimod.SPIN] * 3
    for row, model in enumerate(models):
        assert list(model.variables) == list(range(6))
        torch.testing.assert_close(energies(model, targets), objective[:, row], rtol=1e-12, atol=1e-12)


def test_whole_numbers_give_the_energies_exactly():
    problem = make_problem(4, n=5, m=4, loss="squared", batch=(2,), whole=True, weighted=True)
    objective = problem.objective(every(5).double()[:, None].expand(-1, 2, -1))
    for row, model in enumerate(to_bqm(problem)):
        assert torch.equal(energies(model, every(5)), objective[:, row])


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_models_come_back_as_problems_with_the_same_energies(vartype: str):
    g = torch.Generator().manual_seed(3)
    names = ["a", "b", 7, ("c", 1), "e"]
    j = {(u, v): float(torch.randn((), generator=g)) for i, u in enumerate(names) for v in names[:i] if i != 2}
    model = dimod.BinaryQuadraticModel({"a": 0.5, "b": -2.0, 7: 0.0, ("c", 1): 0.3, "e": 1.0}, j, -1.25, vartype)
    problem, constant = from_bqm(model)
    assert problem.loss == "squared"
    assert problem.batch_shape == ()
    bits = every(5) if vartype == "SPIN" else (every(5) + 1) / 2
    wanted = torch.as_tensor(model.energies((bits.long().numpy(), list(model.variables))), dtype=torch.float64)
    torch.testing.assert_close(problem.objective(every(5).double()) + constant, wanted)
    (back,) = to_bqm(problem)
    torch.testing.assert_close(energies(back, every(5)) + constant, wanted)


def test_model_without_couplings_is_a_problem_too():
    problem, constant = from_bqm(dimod.BinaryQuadraticModel({0: 0.0, 1: 0.0}, {}, 3.0, "SPIN"))
    assert (problem.objective(every(2).double()) + constant).tolist() == [3.0] * 4


def test_what_is_no_such_model_is_refused():
    with pytest.raises(NotAcceptedError, match=r"problem: got the loss 'hinge', expected the loss 'squared'"):
        to_bqm(make_problem(0, n=3, m=2))
    with pytest.raises(ArgumentError, match=r"model: got dict, expected a dimod.BinaryQuadraticModel"):
        from_bqm({})
    with pytest.raises(ArgumentError, match="with variables"):
        from_bqm(dimod.BinaryQuadraticModel("SPIN"))
    with pytest.raises(NotFiniteError, match="model: got 1 NaN"):
        from_bqm(dimod.BinaryQuadraticModel({0: math.nan}, {}, 0.0, "SPIN"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_named_samplers_find_good_targets_of_every_sample(name: str):
    problem = make_problem(5, n=8, m=5, loss="squared", batch=(2, 2), stay=0.25, weighted=True)
    result = solve(problem, f"dimod:sampler={name}", budget=Budget(steps=4))
    assert_valid(problem, result, optima(problem))
    drawn = problem.objective(random_spins((64, 2, 2, 8), torch.Generator().manual_seed(1), dtype=torch.float64))
    assert (result.objective < drawn.mean(0)).all()
    if name == "tabu":
        assert result.objective.flatten().tolist() == pytest.approx([float(v) for v in optima(problem)])


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_and_steps_give_equal_results(name: str):
    problem = make_instance("qubo", n=40, m=30, samples=3).problem
    runs = [
        solve(problem, DimodSampler(name), budget=Budget(steps=1), generator=torch.Generator().manual_seed(s))
        for s in (7, 7)
    ]
    assert torch.equal(runs[0].targets, runs[1].targets)


@pytest.mark.slow
def test_budget_in_seconds_is_kept_and_callback_stops():
    problem = make_instance("qubo", n=60, m=40, samples=4).problem
    for name in NAMES[:2]:
        assert solve(problem, DimodSampler(name), budget=Budget(seconds=0.3)).stats["seconds"] < 5
        heard: list[Any] = []
        solve(problem, DimodSampler(name), budget=Budget(seconds=60), callback=lambda p, h=heard: not h.append(p))
        assert len(heard) <= 3


def test_sampler_of_one_s_own_gets_the_options_that_it_was_given():
    class Fixed(dimod.Sampler):
        parameters, properties = {"num_reads": [], "flavour": []}, {}

        def sample(self, bqm: Any, **options: Any) -> Any:
            assert options == {"num_reads": 2, "flavour": "up"}
            return dimod.SampleSet.from_samples_bqm([dict.fromkeys(bqm.variables, 1)], bqm)

    problem = make_problem(1, n=4, m=3, loss="squared", batch=(2,))
    result = solve(problem, DimodSampler(Fixed(), (("flavour", "up"),), reads=2), budget=Budget(steps=1))
    assert result.targets.tolist() == [[1.0] * 4] * 2


def test_settings_that_make_no_sense_are_refused():
    for wrong, message in [
        ({"sampler": "taboo"}, r"sampler: got 'taboo'.*Did you mean 'tabu'"),
        ({"sampler": 3}, r"sampler: got int, expected a dimod sampler"),
        ({"options": {"a": 1}}, r"options: .*pairs"),
        ({"reads": 0}, r"reads: got 0"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            DimodSampler(**wrong)
    with pytest.raises(UnknownNameError):
        find_solver("dimod:sampler=x")
    with pytest.raises(NotAcceptedError, match=r"problem: got the loss 'hinge', expected the loss 'squared' for dimod"):
        solve(make_problem(0, n=3, m=2), "dimod", budget=Budget(steps=1))


def test_large_problem_keeps_its_energy():
    problem = make_instance("qubo", n=128, m=64, samples=2).problem
    targets = random_spins((2, 128), torch.Generator().manual_seed(1))
    assert isinstance(problem, LayerProblem)
    for row, model in enumerate(to_bqm(problem)):
        torch.testing.assert_close(
            energies(model, targets[row : row + 1])[0], problem.objective(targets)[row], rtol=1e-9, atol=1e-9
        )
