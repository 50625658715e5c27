"""SignGradient: the minimiser of the objective linearised at the activations, over all 2^n targets."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.zoo import ALL_LOSSES, UNIT_LOSSES, layer_problems, make_problem, with_start

from tpsolve import Budget, LayerProblem, solve

pytestmark = pytest.mark.rounding


def slope(loss: str, z: float, s: float) -> float:
    """Derivative of a unit's loss in z, away from kinks, from its textbook formula."""
    u = s * z
    if loss == "perceptron":
        return -s if u < 0 else 0.0
    if loss == "hinge":
        return -s if u < 1 else 0.0
    if loss == "saturated-hinge":
        return -s if -1 < u < 1 else 0.0
    if loss == "soft-hinge":
        return -s * (1 - math.tanh(u) ** 2)
    if loss == "logistic":
        return -s * (0.5 - 0.5 * math.tanh(u / 2))
    if loss == "squared":
        return 2 * (z - s)
    assert loss == "zero-one"
    return 0.0


KINKS = {"perceptron": (0.0,), "hinge": (1.0,), "saturated-hinge": (-1.0, 1.0)}


def coefficients(problem: LayerProblem) -> list[list[float]]:
    """What each target of each sample is multiplied with in the linearised objective; plain loops.

    Rejects problems with a margin at a kink, where slopes are a matter of convention.
    """
    weight, bias = problem.weight.tolist(), problem.bias.tolist()
    (m, n), samples = problem.weight.shape, problem.n_samples
    assert problem.start is not None
    starts = problem.start.reshape(samples, n).tolist()
    by_class = problem.loss == "cross-entropy"
    targets = problem.targets.reshape(samples, -1).tolist()
    c = torch.ones(samples, 1 if by_class else m) if problem.unit_weight is None else problem.unit_weight
    kappa = torch.ones(samples, n) if problem.stay_weight is None else problem.stay_weight
    weights, costs = c.reshape(samples, -1).tolist(), kappa.reshape(samples, n).tolist()
    found = []
    for a, s, cs, k in zip(starts, targets, weights, costs, strict=True):
        z = [sum(weight[i][j] * a[j] for j in range(n)) + bias[i] for i in range(m)]
        if by_class:
            top = max(z)
            total = sum(math.exp(v - top) for v in z)
            slopes = [cs[0] * (math.exp(z[i] - top) / total - (i == s[0])) for i in range(m)]
        else:
            assume(not any(abs(s[i] * z[i] - u) < 1e-4 for i in range(m) for u in KINKS.get(problem.loss, ())))
            slopes = [cs[i] * slope(problem.loss, z[i], s[i]) if s[i] else 0.0 for i in range(m)]
        # The penalty (1 - a t) / 2 has the slope -a / 2.
        found.append(
            [sum(slopes[i] * weight[i][j] for i in range(m)) - problem.stay * k[j] * a[j] / 2 for j in range(n)]
        )
    return found


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.slow
def test_targets_minimise_the_linearised_objective(loss: str):
    seen = []

    @settings(max_examples=100)
    @given(layer_problems(loss), st.sampled_from([0.0, 0.0625, 0.375]))
    def check(problem: LayerProblem, shift: float) -> None:
        # Whole and quarter weights with such a bias keep most margins off the kinks.
        problem = with_start(problem)
        moved = LayerProblem(
            problem.weight,
            problem.targets,
            problem.bias + shift,
            loss,
            problem.unit_weight,
            problem.start,
            problem.stay,
            problem.stay_weight,
        )
        linear = coefficients(moved)
        seen.append(moved.fingerprint)
        found = solve(moved, "sign-gradient", budget=Budget(steps=1)).targets.reshape(-1, moved.n_vars).tolist()
        assert moved.start is not None
        starts = moved.start.reshape(-1, moved.n_vars).tolist()
        # Whether sums of these slopes are exact.
        exact = bool((moved.weight * 4 == (moved.weight * 4).round()).all())
        size = moved.weight.abs().max().item() * 10 + 1
        for t, g, a in zip(found, linear, starts, strict=True):
            reached = sum(x * y for x, y in zip(g, t, strict=True))
            least = min(
                sum(x * y for x, y in zip(g, e, strict=True)) for e in itertools.product((-1, 1), repeat=len(g))
            )
            assert reached <= least + 1e-5 * size**2
            for target, coefficient, activation in zip(t, g, a, strict=True):
                if abs(coefficient) > 1e-5 * size**2:
                    assert target == -math.copysign(1, coefficient)
                elif coefficient == 0 and loss in (*KINKS, "zero-one") and exact:
                    assert target == activation, "a tie keeps the activation"

    check()
    assert len(set(seen)) >= 60


@pytest.mark.parametrize("loss", UNIT_LOSSES)
def test_ties_keep_the_activation(loss: str):
    start = torch.tensor([1.0, -1.0, -1.0, 1.0])
    # Two opposite rows that want the same: their slopes cancel whatever the loss. And a column that nobody reads.
    weight = torch.tensor([[0.5, 0.25, 0.0, 1.0], [-0.5, -0.25, 0.0, -1.0]])
    a = weight[0] @ start
    problem = LayerProblem(weight, [1, 1], [-a.item() + 0.25, a.item() + 0.25], loss, start=start)
    assert problem.gradient().tolist() == [0.0] * 4
    assert torch.equal(solve(problem, "sign-gradient", budget=Budget(steps=1)).targets, start)


def test_ties_of_classes_keep_the_activation():
    start = torch.tensor([1.0, -1.0, 1.0])
    problem = LayerProblem(torch.ones(4, 3), 2, loss="cross-entropy", start=start)
    assert torch.equal(solve(problem, "sign-gradient", budget=Budget(steps=1)).targets, start)


def test_dont_cares_and_unpaid_units_keep_the_activation():
    start = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    for unit_weight, targets in ((None, [[0, 0]] * 2), (0.0, [[1, -1]] * 2)):
        problem = LayerProblem(torch.ones(2, 3), targets, loss="squared", unit_weight=unit_weight, start=start)
        assert torch.equal(solve(problem, "sign-gradient", budget=Budget(steps=1)).targets, start)


def test_zero_one_loss_has_no_slope_so_all_activations_stay():
    problem = make_problem(4, n=6, m=5, loss="zero-one", batch=(3,))
    for stay in (0.0, 0.5):
        kept = LayerProblem(problem.weight, problem.targets, problem.bias, "zero-one", start=problem.start, stay=stay)
        assert problem.start is not None
        assert torch.equal(solve(kept, "sign-gradient", budget=Budget(steps=1)).targets, problem.start)


def test_stay_outweighs_a_gradient_of_less_than_half():
    # One hinge unit, margin 0: slope -1 on t1 = -1 (V = 1) and on t2 = -1 (V = 3). A flip pays 2 |g|, stay costs kappa.
    start = [-1.0, -1.0]
    for stay, expected in ((1.9, [1, 1]), (2.1, [-1, 1]), (5.9, [-1, 1]), (6.1, [-1, -1])):
        problem = LayerProblem([[1.0, 3.0]], [1], [4.0], start=start, stay=stay)
        assert solve(problem, "sign-gradient", budget=Budget(steps=1)).targets.tolist() == expected


def test_it_is_one_step_and_proves_nothing_of_its_own():
    problem = make_problem(2, n=8, m=6, batch=(4,))
    result = solve(problem, "sign-gradient", budget=Budget(steps=100))
    assert result.stats["steps"] == 1
    assert torch.equal(result.bound, problem.lower_bound())
