"""ProgramLoss: gradients against closed forms, memory, modes and messages."""

import itertools
import math
from typing import Any

import pytest
import torch

from tpsolve import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, UnknownNameError
from tpsolve.nn import ProgramLoss

PLAIN: dict[str, Any] = {"balance": 0, "confidence": 0}
"""Without the terms that are added in training."""


def total(*symbols: int) -> int:
    return sum(symbols)


def logits_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def negative_log_marginal(logits: torch.Tensor, labels: list[int]) -> torch.Tensor:
    """-log P(sum = label), by enumeration with autograd."""
    losses = []
    for z, label in zip(torch.log_softmax(logits, 2), labels, strict=True):
        each = [
            sum((z[j, v] for j, v in enumerate(s)), torch.tensor(0.0))
            for s in itertools.product(range(z.shape[1]), repeat=z.shape[0])
            if sum(s) == label
        ]
        losses.append(-torch.logsumexp(torch.stack(each), 0))
    return torch.stack(losses)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_with_the_marginal_value_and_gradient_are_those_of_exact_inference(reduction: str):
    logits, labels = logits_of(5, 2, 4), [0, 1, 3, 5, 6]
    loss = ProgramLoss(total, symbols=4, count=2, solver="marginal", reduction=reduction, **PLAIN)(logits, labels)
    exact = negative_log_marginal(logits, labels)
    exact = {"mean": exact.mean(), "sum": exact.sum(), "none": exact}[reduction]
    assert torch.allclose(loss, exact, atol=1e-6)
    (own,) = torch.autograd.grad(loss.sum(), logits)
    (true,) = torch.autograd.grad(exact.sum(), logits)
    assert torch.allclose(own, true, atol=1e-6)


def test_with_one_target_it_is_the_cross_entropy():
    logits = logits_of(4, 2, 3)
    loss_fn = ProgramLoss(lambda a, b: 10 * a + b, symbols=3, solver="k-best", budget=Budget(calls=9), **PLAIN)
    loss = loss_fn(logits, [12, 0, 21, 2])
    targets = torch.tensor([[1, 2], [0, 0], [2, 1], [0, 2]])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / 4
    assert torch.allclose(loss, expected)


def test_spins_have_the_logistic_loss():
    z = logits_of(3, 2)
    loss = ProgramLoss(lambda a, b: (a, b), symbols="sign", solver="k-best", **PLAIN)(z, [(1, 1), (-1, 1), (-1, -1)])
    targets = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert torch.allclose(loss, torch.nn.functional.softplus(-targets * z).sum() / 3)


def test_kinds_side_by_side_give_each_unit_its_own_loss():
    logits = logits_of(1, 2, 3)
    loss = ProgramLoss(lambda s, a: (s, a), symbols=["sign", 3], solver="k-best", **PLAIN)(logits, [(-1, 2)])
    expected = torch.nn.functional.softplus(logits[0, 0, 0]) - torch.log_softmax(logits[0, 1], 0)[2]
    assert torch.allclose(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[0, 0, 1:], torch.zeros(2))


def test_masked_symbols_get_no_gradient_and_known_ones_get_theirs():
    logits = logits_of(2, 3, 3)
    loss_fn = ProgramLoss(total, symbols=3, solver="marginal", **PLAIN)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    known = torch.tensor([[2, -1, -1], [-1, -1, -1]])
    loss_fn(logits, [3, 2], mask=mask, known=known).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[1, 2], torch.zeros(3))
    own = torch.softmax(logits[0, 0].detach(), 0) - torch.tensor([0.0, 0.0, 1.0])
    assert torch.allclose(logits.grad[0, 0], own / 2, atol=1e-6)


def entropy(p: torch.Tensor) -> torch.Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


def beyond_chance(p: torch.Tensor) -> float:
    """The share of the unevenness of the mean of `p (N, K)` that is more than its expectation for an even one."""
    p = p.detach()
    chance = float(((p - p.mean(0)) ** 2).sum()) / len(p) / (len(p) - 1)
    observed = float(((p.mean(0) - 1 / p.shape[1]) ** 2).sum())
    return max(0.0, (observed - chance) / observed)


def test_the_gradient_in_training_has_the_weighted_entropies_which_fade():
    logits, labels = (logits_of(6, 3, 4).detach() + torch.tensor([2.0, 0, 0, 0])).requires_grad_(), [0, 1, 3, 5, 6, 0]
    mask = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) > 0.2
    mask[:, 0] = True
    settings: dict[str, Any] = {"symbols": 4, "solver": "marginal"}
    plain = ProgramLoss(total, **settings, **PLAIN)(logits, labels, mask=mask)
    loss_fn = ProgramLoss(total, **settings, balance=2, confidence=0.5)
    loss = loss_fn(logits, labels, mask=mask)
    p = torch.softmax(logits, 2)[mask]
    explained = torch.tensor([v == y for v, y in zip(loss_fn.predict(logits, mask=mask), labels, strict=True)])
    assert loss_fn.explained == pytest.approx(0.05 * float(explained.double().mean()))
    assert loss_fn.undecided == pytest.approx(0.95 + 0.05 * float(entropy(p).mean().detach()) / math.log(4))
    beyond = beyond_chance(p)
    assert 0 < beyond < 1
    added = 0.5 * loss_fn.undecided * entropy(p).mean() - 2 * beyond * (1 - loss_fn.explained) * entropy(p.mean(0))
    assert torch.equal(loss, plain)
    (expected,) = torch.autograd.grad(plain + added, logits)
    loss.backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, expected, atol=1e-6)
    assert not logits.grad[~mask].any()
    assert torch.allclose(loss_fn.eval()(logits, labels, mask=mask), plain, atol=1e-6)


def test_units_of_different_sizes_have_mean_distributions_of_their_own():
    logits = (logits_of(5, 3, 3).detach() + torch.tensor([3.0, 0, 0])).requires_grad_()
    settings: dict[str, Any] = {"symbols": ["sign", 3, 3], "solver": "marginal"}
    plain = ProgramLoss(total, **settings, **PLAIN)(logits, [1] * 5)
    loss_fn = ProgramLoss(total, **settings, balance=1, confidence=0)
    loss = loss_fn(logits, [1] * 5)
    up = torch.sigmoid(logits[:, 0, 0])
    spins, choices = torch.stack([up, 1 - up], 1), torch.softmax(logits[:, 1:], 2).flatten(0, 1)
    shares = beyond_chance(spins), beyond_chance(choices)
    assert min(shares) > 0
    spread = shares[0] * entropy(spins.mean(0)) / 3 + shares[1] * entropy(choices.mean(0)) * 2 / 3
    (own,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(plain - (1 - loss_fn.explained) * spread, logits)
    assert torch.allclose(own, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("symbols", [3, [2, 3], ["sign", 3]])
@pytest.mark.parametrize("scale", [1.0, 6e4])
def test_gradients_are_finite_where_no_sample_has_a_value(dtype: torch.dtype, symbols: Any, scale: float):
    logits = (scale * torch.tensor([[[1.0, 0.0, -1.0]] * 2] * 4)).to(dtype).requires_grad_()
    loss = ProgramLoss(total, symbols=symbols)(logits, [1, 2, 0, 2])
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.slow
@pytest.mark.parametrize("symbols", [3, "sign", [3, 2, "sign"]])
@pytest.mark.parametrize("solver", ["weighted-draws", "marginal", "k-best"])
def test_slopes_are_those_of_the_value(symbols: Any, solver: str):
    logits = logits_of(3, 3) if symbols == "sign" else logits_of(3, 3, 3)
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])

    def value(z: torch.Tensor) -> torch.Tensor:
        return ProgramLoss(total, symbols=symbols, solver=solver, **PLAIN)(z, [1, 0, 3], mask=mask)

    assert torch.autograd.gradcheck(value, logits.detach().double().requires_grad_())


@pytest.mark.parametrize("symbols", [3, "sign"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_a_mask_hides_changes_nothing(symbols: Any, value: float):
    logits = logits_of(2, 3) if symbols == "sign" else logits_of(2, 3, 3)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    other = logits.detach().clone()
    other[~mask] = value
    other.requires_grad_()
    losses = [ProgramLoss(total, symbols=symbols)(z, [1, 0], mask=mask) for z in (logits, other)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    assert other.grad is not None
    assert logits.grad is not None
    assert torch.equal(other.grad, logits.grad)


def test_samples_without_consistent_symbols_count_nothing_and_are_reported():
    logits = logits_of(3, 2, 3)
    loss_fn = ProgramLoss(total, symbols=3, solver="marginal", **PLAIN)
    with pytest.warns(UserWarning, match="no symbols give 99"):
        loss_fn(logits, [99, 2, 99]).backward()
    assert logits.grad is not None
    assert not logits.grad[[0, 2]].any()
    assert logits.grad[1].any()
    assert loss_fn.report is not None
    assert (loss_fn.report.samples, loss_fn.report.consistent) == (3, 1)
    assert "consistent symbols for 1 of 3 samples" in str(loss_fn.report)
    assert "9 calls" in str(loss_fn.report)


def test_in_eval_only_accuracy_and_predict_call():
    called: list[Any] = []
    loss_fn = ProgramLoss(lambda a, b: called.append((a, b)) or a + b, symbols=3, solver="marginal").eval()
    logits = logits_of(4, 2, 3)
    loss_fn(logits, [0, 1, 2, 3])
    assert called == []
    present = logits.argmax(2).sum(1).tolist()
    assert loss_fn.predict(logits) == present
    assert loss_fn.accuracy(logits, [present[0], present[1], -1, -1]) == 0.5
    assert 0 < len(called) <= 4
    loss_fn.train()(logits, [0, 1, 2, 3])
    assert len(called) == 9


def test_memory_and_generator_stand_in_the_state_dict(tmp_path: Any):
    logits = logits_of(6, 2, 3)
    first = ProgramLoss(total, symbols=3)
    first(logits, [0, 1, 2, 3, 4, 2])
    assert first.program is not None
    before = first.program.counts.calls
    torch.save(first.state_dict(), tmp_path / "loss.pt")
    again = ProgramLoss(total, symbols=3)
    again.load_state_dict(torch.load(tmp_path / "loss.pt", weights_only=True))
    assert torch.equal(again(logits, [0, 1, 2, 3, 4, 2]), first(logits, [0, 1, 2, 3, 4, 2]))
    assert again.program is not None
    assert again.program.counts.calls == first.program.counts.calls - before


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"solver": "cp-sat"}, NotAcceptedError, "a solver that accepts a ProgramProblem"),
        ({"solver": "k-bset"}, UnknownNameError, "k-best"),
        ({"reduction": "most"}, ArgumentError, "reduction: got 'most'"),
        ({"balance": -1}, ArgumentError, "balance: got -1, expected a finite number of at least 0"),
        ({"confidence": float("nan")}, ArgumentError, "confidence: got nan"),
        ({"count": 3}, ArgumentError, "logits: got 2 units, expected 3"),
        ({"count": "two"}, ArgumentError, "count: got two"),
        ({"budget": 64}, ArgumentError, "budget: got 64, expected a Budget"),
        ({"generator": 0}, ArgumentError, "generator: got int, expected a torch.Generator"),
        ({"path": 3}, ArgumentError, "path: got int"),
        ({"batched": [1]}, ArgumentError, "batched: got [1]"),
        ({"loss": lambda answer, label: None}, ArgumentError, "loss: got TypeError"),
        ({"loss": lambda answer: 0.0}, ArgumentError, "loss: got TypeError"),
    ],
)
def test_what_makes_no_sense_is_named(settings: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error) as raised:
        ProgramLoss(total, symbols=3, **settings)(logits_of(2, 2, 3), [1, 2])
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "logits",
    [
        None,
        [[1.0, 2.0]],
        torch.zeros(3),
        torch.tensor(1.0),
        torch.zeros(0, 2, 3),
        torch.zeros(2, 2, 3).to_sparse(),
        torch.zeros(2, 2, 3, device="meta"),
    ],
)
def test_logits_that_are_none_are_named_wherever_they_come_in(logits: Any):
    loss_fn = ProgramLoss(total, symbols=3, count=2)
    for call in (
        lambda: loss_fn(logits, [1, 2]),
        lambda: loss_fn.accuracy(logits, [1, 2]),
        lambda: loss_fn.predict(logits),
    ):
        with pytest.raises(ArgumentError, match="logits: got"):
            call()


@pytest.mark.parametrize("state", [3, None, {}, {"answers": [], "generator": None}])
def test_a_state_that_is_none_is_named(state: Any):
    with pytest.raises(ArgumentError, match=r"state: got .*, expected what get_extra_state\(\) gave"):
        ProgramLoss(total).set_extra_state(state)


@pytest.mark.parametrize("argument", ["mask", "known"])
@pytest.mark.parametrize(
    "value",
    ["x", {}, lambda: 3, [torch.zeros(2), torch.zeros(2)], 2**80],
    ids=["text", "dict", "function", "list", "big"],
)
def test_tables_that_are_none_are_named(argument: str, value: Any):
    with pytest.raises(ArgumentError, match=f"{argument}: got"):
        ProgramLoss(total, symbols=3)(logits_of(2, 2, 3), [1, 2], **{argument: value})


def test_unevenness_that_chance_explains_has_no_slope():
    # Eight symbols: two values twice, two not at all. Eight draws are more uneven on average.
    logits = torch.eye(8)[[0, 0, 1, 1, 2, 3, 4, 5]].reshape(4, 2, 8).mul(20).requires_grad_()
    loss_fn = ProgramLoss(total, symbols=8, solver="marginal", confidence=0)
    (with_balance,) = torch.autograd.grad(loss_fn(logits, [0, 2, 5, 9]), logits)
    (plain,) = torch.autograd.grad(
        ProgramLoss(total, symbols=8, solver="marginal", **PLAIN)(logits, [0, 2, 5, 9]), logits
    )
    assert torch.equal(with_balance, plain)
