"""The pull of a layer problem, against its written-out sum; through it the searches know smoothed labels."""

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from support.zoo import ALL_LOSSES, make_problem
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget, LayerProblem, solve
from tpsolve.errors import NotFiniteError, ShapeError
from tpsolve.nn import HardThreshold, target_backward
from tpsolve.problems import BlockProblem, load_problem, to_bqm
from tpsolve.search import HillClimb

pytestmark = pytest.mark.rounding

N, BATCH = 6, (4,)
EVERY = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=N)), dtype=torch.float64)
each_loss = pytest.mark.parametrize("loss", ALL_LOSSES)


def pair(loss: str, stay: float = 0.0) -> tuple[LayerProblem, LayerProblem]:
    """A problem without pull, and the same with one."""
    plain = make_problem(3, n=N, m=5, loss=loss, batch=BATCH, weighted=True, stay=stay)
    pull = 3 * torch.randn(*BATCH, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tensors = ("weight", "targets", "bias", "loss", "unit_weight", "start", "stay", "stay_weight")
    return plain, LayerProblem(*(getattr(plain, name) for name in tensors), pull=pull)


def written_out(plain: LayerProblem, pulled: LayerProblem, targets: Tensor) -> Tensor:
    """The objective of `pulled`, target by target: the two penalties are one, of their sum."""
    total = plain.objective(targets)
    for b, j in itertools.product(range(len(targets)), range(N)):
        t, pull = targets[b, j].item(), pulled.pull[b, j].item()  # pyright: ignore[reportOptionalSubscript]
        stay = 0.0
        if plain.stay:
            assert plain.start is not None
            assert plain.stay_weight is not None
            stay = plain.stay * plain.stay_weight[b, j].item() * plain.start[b, j].item()
        both = pull + stay
        total[b] += (abs(both) if t * both < 0 else 0.0) - (abs(stay) if t * stay < 0 else 0.0)
    return total


@each_loss
@pytest.mark.parametrize("stay", [0.0, 0.7])
def test_objective_and_flips_are_those_written_out(loss: str, stay: float):
    plain, pulled = pair(loss, stay)
    for row in EVERY[::9]:
        targets = row.expand(*BATCH, N)
        value = written_out(plain, pulled, targets)
        torch.testing.assert_close(pulled.objective(targets), value)
        assert (pulled.lower_bound() <= value).all()
        delta = pulled.flip_delta(targets)
        for j in range(N):
            flipped = targets.clone()
            flipped[:, j] *= -1
            torch.testing.assert_close(delta[:, j], written_out(plain, pulled, flipped) - value)


@each_loss
def test_gradient_and_predicted_change_gain_half_of_it(loss: str):
    plain, pulled = pair(loss)
    assert pulled.start is not None
    assert pulled.pull is not None
    torch.testing.assert_close(pulled.gradient(), plain.gradient() - pulled.pull / 2)
    torch.testing.assert_close(pulled.predicted_change(), plain.predicted_change() + pulled.start * pulled.pull)


@pytest.mark.parametrize("solver", ["enumerate", "cp-sat", "hill-climb"])
@pytest.mark.parametrize("loss", ["hinge", "squared", "cross-entropy"])
def test_searches_end_at_the_least_that_is_written_out(loss: str, solver: str):
    plain, pulled = pair(loss)
    values = torch.stack([written_out(plain, pulled, row.expand(*BATCH, N)) for row in EVERY])
    result = solve(pulled, solver, budget=Budget(steps=100) if solver == "hill-climb" else Budget(seconds=60))
    if solver == "hill-climb":
        assert (pulled.flip_delta(result.targets) >= -1e-9).all()
        assert (result.objective >= values.amin(0) - 1e-9).all()
    else:
        torch.testing.assert_close(result.objective, values.amin(0), rtol=1e-6, atol=1e-6)


def test_it_is_part_of_the_problem(tmp_path: Path):
    plain, pulled = pair("hinge")
    assert plain.fingerprint != pulled.fingerprint
    pulled.save(tmp_path / "pulled.npz")
    assert load_problem(tmp_path / "pulled.npz").fingerprint == pulled.fingerprint
    targets = EVERY[5].expand(*BATCH, N)
    assert torch.equal(pulled.select(torch.tensor([2])).objective(targets[:1]), pulled.objective(targets)[2:3])
    assert torch.equal(pulled.repeat(2).objective(targets.repeat(2, 1)), pulled.objective(targets).repeat(2))


@pytest.mark.parametrize(
    ("pull", "error", "message"),
    [
        (torch.zeros(4, N + 1), ShapeError, "pull: got shape"),
        (torch.full((N,), float("nan")), NotFiniteError, "pull"),
    ],
)
def test_a_pull_without_sense_is_refused(pull: Tensor, error: type[Exception], message: str):
    plain, _ = pair("hinge")
    with pytest.raises(error, match=message):
        LayerProblem(plain.weight, plain.targets, pull=pull)


# --- smoothed labels --------------------------------------------------------------------------------------------------


def network() -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(5, N), nn.BatchNorm1d(N), HardThreshold(width=0.5), nn.Linear(N, 4)).double()
        return model, torch.randn(8, 5, dtype=torch.float64), torch.randint(4, (8,))


def test_a_loss_of_one_s_own_is_taken_by_its_values():
    model, x, y = network()
    report = target_backward(
        model, x, y, lambda output, y: cross_entropy(output, y), solver=HillClimb(), budget=Budget(steps=3)
    )
    assert isinstance(report.problem("2"), BlockProblem)


def test_a_qubo_of_a_pull_has_the_energy_of_the_objective():
    pytest.importorskip("dimod")
    _, pulled = pair("squared")
    for row, (b, model) in itertools.product(EVERY[::7], enumerate(to_bqm(pulled))):
        energy = model.energy(dict(enumerate(row.tolist())))
        assert energy == pytest.approx(pulled.objective(row.expand(*BATCH, N))[b].item())


def test_rounding_covers_a_pull_and_a_stay_that_cancel():
    kappa, pull = 8151246745395.185, -815124674539.5184
    # 0.1 kappa + pull is 7.0e-5 exactly, and 1.2e-4 in float64.
    weight = torch.tensor([[10.0]], dtype=torch.float64)
    problem = LayerProblem(weight, [-1], start=[1.0], stay=0.1, stay_weight=[kappa], pull=[pull])
    p = Fraction(pull) + Fraction(0.1) * Fraction(kappa)
    values = problem.objective(torch.tensor([[-1.0], [1.0]]))
    exact = [Fraction(0) + max(p, Fraction(0)), Fraction(11) + max(-p, Fraction(0))]
    error = max(abs(Fraction(value) - e) for value, e in zip(values.tolist(), exact, strict=True))
    assert Fraction(1, 10**5) < error <= Fraction(problem.rounding().item())
    assert problem.rounding().item() < 1e-3
    for solver in ("enumerate", "cp-sat", "milp"):
        assert Fraction(solve(problem, solver, budget=Budget(seconds=10)).bound.item()) <= min(exact)
    assert problem.select(torch.tensor([0])).rounding() == problem.rounding()
