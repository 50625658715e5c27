"""On a GPU: results stay there, and equal those of the CPU where nothing is drawn or raced."""

import copy
from pathlib import Path

import pytest
import torch

from tpsolve import SOLVERS, Budget, solve
from tpsolve.errors import NotAcceptedError
from tpsolve.problems import make_instance
from tpsolve.search import Solver
from tpsolve.train import load_recipe, train
from tpsolve.units import LEARNERS, Certificate, UnitFit, circuits

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("kind", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("name", ["random", "qubo", "parity"])
def test_results_stay_on_the_device_and_equal_those_of_the_cpu(kind: type[Solver], name: str):
    here = make_instance(name, n=12, m=8, samples=6, seed=1).problem
    if not kind.installed():
        pytest.skip(f"{kind.module} is not installed")
    try:
        kind().check(here)
    except NotAcceptedError as error:
        pytest.skip(str(error))
    there = here.to("cuda")
    budget = Budget(steps=50)
    expected, found = solve(here, kind(), budget=budget), solve(there, kind(), budget=budget)
    for tensor in (found.targets, found.objective, found.bound):
        assert tensor.device.type == "cuda"
    assert found.targets.dtype == there.dtype
    assert torch.equal(found.objective, there.objective(found.targets))
    assert torch.allclose(found.objective.cpu(), expected.objective, rtol=0, atol=1e-6)


def test_flip_deltas_are_those_of_the_cpu():
    for name in ("random", "qubo", "ties"):
        here = make_instance(name, n=40, m=30, samples=20, seed=2).problem
        assert here.start is not None
        there = here.to("cuda")
        delta = there.flip_delta(here.start.cuda())
        assert delta.device.type == "cuda"
        assert torch.allclose(delta.cpu(), here.flip_delta(here.start), atol=1e-4)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_units_are_learned_on_the_device(name: str):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    t = torch.where(x @ torch.randn(6, 8, generator=generator, dtype=torch.float64) > 0, 1.0, -1.0).double()
    t[:30, ::2] *= -1
    expected, found = LEARNERS[name]().fit(x, t), LEARNERS[name]().fit(x.cuda(), t.cuda())
    assert found.weight.device.type == found.bias.device.type == "cuda"
    if isinstance(expected, Certificate):
        assert isinstance(found, Certificate)
        assert found.verify(x.cuda(), t.cuda()).tolist() == expected.status.tolist()
        assert circuits(x.cuda(), t[:, 0].cuda(), 3)
    elif LEARNERS[name].convex:
        assert isinstance(expected, UnitFit)
        assert isinstance(found, UnitFit)
        assert torch.allclose(found.objective.cpu(), expected.objective, rtol=1e-4)


def test_thresholds_and_target_backward_give_the_gradients_of_the_cpu():
    from torch import nn

    from tpsolve.nn import HardThreshold, Staircase, compact, diagnose, target_backward

    torch.manual_seed(0)
    here = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), HardThreshold(width=0.5), nn.Flatten(), nn.Linear(48, 8), HardThreshold()
    )
    here = nn.Sequential(*here, nn.Linear(8, 6), Staircase(), nn.Linear(6, 3)).double()
    there = copy.deepcopy(here).to("cuda")
    x, y = torch.randn(5, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    loss = nn.functional.cross_entropy
    for settings in ({}, {"solver": "hill-climb", "budget": Budget(steps=5)}):
        expected = target_backward(here, x, y, loss, **settings)
        with compact(there):
            found = target_backward(there, x.to("cuda"), y.to("cuda"), loss, **settings)
        for name in found:
            assert found[name].targets.device.type == "cuda"
            assert torch.equal(found[name].targets.cpu(), expected[name].targets)
    for one, two in zip(here.parameters(), there.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        torch.testing.assert_close(two.grad.cpu(), one.grad, rtol=1e-6, atol=1e-9)
    assert diagnose(there, x.to("cuda"), y.to("cuda"), loss).keys() == diagnose(here, x, y, loss).keys()


@pytest.mark.parametrize("launch", ["eager", "graphs"])
def test_a_run_goes_on_bit_for_bit_with_averaged_weights(launch: str, tmp_path: Path):
    recipe = load_recipe("digits-mlp", {"epochs": 2, "widths": (16,), "launch": launch, "average": 0.3, "smooth": 0.1})
    straight = train(recipe, tmp_path / "a", device="cuda")
    asked = iter(range(100))
    train(recipe, tmp_path / "b", device="cuda", stop=lambda: next(asked) == 8)
    resumed = train(recipe, tmp_path / "b", device="cuda", resume=True)
    kept = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    assert [[row[name] for name in kept] for row in resumed] == [[row[name] for name in kept] for row in straight]
