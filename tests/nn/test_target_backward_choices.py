"""Targets of choices: the best classes by an independent loop, and the gradients that ask for them."""

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from tpsolve import Budget, ProgramProblem
from tpsolve.errors import NotAcceptedError
from tpsolve.nn import Choice, HardThreshold, Program, Staircase, TargetReport, diagnose, target_backward

CLASSES, CHOICES = 4, 2
CROSS_ENTROPY, SQUARED = nn.CrossEntropyLoss(), nn.MSELoss()


def difference(a: int, b: int) -> list[int]:
    return [a - b, a * b]


def model_of(loss: str = "softmax", program: Any = difference, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, CHOICES * CLASSES),
        nn.Unflatten(1, (CHOICES, CLASSES)),
        Choice(CLASSES, loss=loss),
        Program(program, symbols=CLASSES),
        nn.Linear(2, 3),
    )


def smooth_model(loss: str = "softmax") -> nn.Sequential:
    """Choices with a gradient above them."""
    torch.manual_seed(0)
    above = [nn.Flatten(), nn.Linear(CHOICES * CLASSES, 5), nn.Tanh(), nn.Linear(5, 3)]
    return nn.Sequential(*list(model_of(loss))[:3], *above)


def batch(count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=g), torch.randint(3, (count,), generator=g)


def search(model: nn.Module, solver: Any = "enumerate", loss_fn: Any = CROSS_ENTROPY, **settings: Any) -> TargetReport:
    return target_backward(model, *batch(), loss_fn, solver=solver, budget=Budget(steps=20), **settings)


def gradient_of(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    assert layer.weight.grad is not None
    return layer.weight.grad


def hot(classes: Tensor) -> Tensor:
    return one_hot(classes, CLASSES).float()


def losses_of_all(above: nn.Module, y: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The loss of each sample for every assignment of classes: assignment -> `(B,)`."""
    found = {}
    for classes in itertools.product(range(CLASSES), repeat=CHOICES):
        given = hot(torch.tensor([classes] * len(y)))
        found[classes] = cross_entropy(above(given).double(), y, reduction="none").detach() / len(y)
    return found


def without(each: list[float], target: int, present: int) -> float:
    """What is lost if the target gives way: to the present class, or else to the next best one."""
    other = present if present != target else min((k for k in range(len(each)) if k != target), key=lambda k: each[k])
    return each[other] - each[target]


@pytest.mark.parametrize("make", [model_of, smooth_model])
def test_enumerated_targets_are_the_best_of_all_assignments(make: Any):
    model, (_, y) = make(), batch()
    report = search(model)
    table = losses_of_all(model[3:], y)
    targets = report["2"].targets
    assert targets.dtype == torch.int64
    for b, row in enumerate(targets.tolist()):
        least = min(losses[b].item() for losses in table.values())
        assert table[tuple(row)][b].item() == pytest.approx(least, abs=1e-7)
        assert report["2"].objective[b].item() == pytest.approx(least, abs=1e-7)
    assert {status.value for status in report["2"].status} == {"optimal"}


@pytest.mark.parametrize("loss", ["softmax", "hinge"])
@pytest.mark.parametrize(("make", "importance"), [(model_of, "gradient"), (smooth_model, "flip-delta")])
def test_each_target_counts_by_half_of_what_is_lost_without_it(loss: str, make: Any, importance: str):
    model, (x, y) = make(loss), batch()
    targets = search(model, importance=importance)["2"].targets
    table, z = losses_of_all(model[3:], y), model[:2](x).detach()
    asked = torch.zeros_like(z)
    for b, j in itertools.product(range(len(y)), range(CHOICES)):
        target, row = int(targets[b, j]), targets[b].tolist()
        each = [table[(*row[:j], k, *row[j + 1 :])][b].item() for k in range(CLASSES)]
        # To the closed form this class lowers the loss by twice its importance, against all others.
        asked[b, j, target] = -without(each, target, int(z[b, j].argmax()))
    again = make(loss)
    again[:3](x).backward(asked)
    torch.testing.assert_close(gradient_of(model[0]), gradient_of(again[0]), atol=1e-7, rtol=1e-4)


def test_with_importance_of_the_gradient_a_target_counts_by_first_order():
    model, (x, y) = smooth_model(), batch()
    targets = search(model)["2"].targets
    z = model[:2](x).detach()
    h = hot(z.argmax(2)).requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(model[3:](h), y), h)
    asked = torch.zeros_like(z)
    for b, j in itertools.product(range(len(y)), range(CHOICES)):
        target = int(targets[b, j])
        asked[b, j, target] = -abs(without(g[b, j].tolist(), target, int(z[b, j].argmax())))
    again = smooth_model()
    again[:3](x).backward(asked)
    torch.testing.assert_close(gradient_of(model[0]), gradient_of(again[0]), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(("loss", "rule"), [("softmax", "logistic"), ("hinge", "hinge")])
def test_choices_of_two_are_searched_as_hard_thresholds_are(loss: str, rule: str):
    class Difference(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z[..., 1] - z[..., 0]

    found = []
    for unit in ([Choice(2, loss=loss), Program(difference, symbols=2)], [Difference(), HardThreshold(rule)]):
        torch.manual_seed(0)
        below = [nn.Linear(6, 4), nn.Unflatten(1, (2, 2))]
        if isinstance(unit[0], Difference):
            unit = [*unit, Program(lambda a, b: difference((a + 1) // 2, (b + 1) // 2))]
        model = nn.Sequential(*below, *unit, nn.Linear(2, 3))
        report = search(model)
        (result,) = report.values()
        found.append((result.targets > 0, result.objective, gradient_of(model[0])))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1:], found[1][1:])


@pytest.mark.parametrize("loss", ["softmax", "hinge"])
def test_without_a_search_gradients_are_those_of_backward(loss: str):
    (x, y), model, again = batch(), smooth_model(loss), smooth_model(loss)
    report = target_backward(model, x, y, CROSS_ENTROPY)
    CROSS_ENTROPY(again(x), y).backward()
    pairs = [*zip(model.parameters(), again.parameters(), strict=True)]
    assert len(pairs) == 6
    for one, other in pairs:
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
    result, z = report["2"], model[:2](x)
    table = losses_of_all(model[3:], y)
    h = hot(z.argmax(2)).requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(model[3:](h), y), h)
    assert torch.equal(result.targets, g.argmin(2))
    for b, row in enumerate(result.targets.tolist()):
        assert result.objective[b].item() == pytest.approx(table[tuple(row)][b].item(), abs=1e-7)
    assert "2: sign-gradient" in repr(report)


@pytest.mark.parametrize("solver", ["hill-climb", "anneal", "tabu", "beam", "k-best", "weighted-draws", "auto"])
def test_searches_never_end_above_the_present_classes(solver: str):
    model, (x, y) = model_of(), batch()
    report = search(model, solver)
    before = cross_entropy(model(x).double(), y, reduction="none") / len(y)
    assert (report["2"].objective <= before.detach() + 1e-7).all()
    assert (report["2"].objective < before.detach() - 1e-4).any()
    assert all(value.grad is not None for value in model.parameters())


def below_zero(output: Tensor, y: Tensor) -> Tensor:
    return -(output[:, 0].square() * (1 + y)).mean()


@pytest.mark.parametrize("solver", ["k-best", "marginal", "hill-climb", "anneal", "enumerate"])
def test_no_bound_is_false_where_losses_may_be_negative(solver: str):
    model, (_, y) = model_of(), batch()
    # Fewer calls than there are assignments, so that nothing but a bound could prove an optimum.
    budget = Budget(steps=20) if solver == "enumerate" else Budget(steps=20, calls=7)
    result = target_backward(model, *batch(), below_zero, solver=solver, budget=budget)["2"]
    least = torch.full((len(y),), torch.inf, dtype=torch.float64)
    for classes in itertools.product(range(CLASSES), repeat=CHOICES):
        output = model[3:](hot(torch.tensor([classes] * len(y)))).double()
        least = torch.minimum(least, -(output[:, 0].square() * (1 + y)).detach() / len(y))
    assert (least < 0).any()
    assert (result.bound <= least + 1e-6).all()
    assert (result.objective >= least - 1e-6).all()


def test_a_choice_that_neither_gradient_nor_search_reaches_is_named_before_gradients():
    model = model_of()
    with pytest.raises(NotAcceptedError, match=r"model\.2: got a module of choices whose output reaches the loss only"):
        target_backward(model, *batch(), CROSS_ENTROPY)
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("solver", ["cp-sat", "curvature-flip", "polish(tabu, cp-sat)"])
def test_a_solver_of_spins_is_refused_before_gradients(solver: str):
    model = model_of()
    with pytest.raises(NotAcceptedError, match=r"model\.2: got .*, which takes no ProgramProblem"):
        search(model, solver)
    assert all(value.grad is None for value in model.parameters())


def test_one_module_at_two_places_has_targets_in_each_call():
    choice = Choice(CLASSES)
    model = nn.Sequential(nn.Linear(6, CLASSES), choice, nn.Linear(CLASSES, CLASSES), choice, nn.Linear(CLASSES, 3))
    report = search(model)
    assert list(report) == ["1#1", "1#2"]
    assert report["1#2"].objective.sum() <= report.loss + 1e-9


def test_an_output_that_a_hook_replaces_is_refused_by_name():
    def double(module: nn.Module, arguments: Any, output: Any) -> Any:
        return 2 * output

    model = smooth_model()
    model[2].register_forward_hook(double)
    with pytest.raises(NotAcceptedError, match=r"model\.2: got a Choice whose output a hook"):
        search(model)


def test_diagnose_names_what_it_has_no_figures_for():
    with pytest.raises(NotAcceptedError, match=r"model\.2: got a module of choices"):
        diagnose(smooth_model(), *batch(), CROSS_ENTROPY)


@pytest.mark.parametrize("loss", ["softmax", "hinge"])
def test_thresholds_below_choices_are_searched_against_their_layer_loss(loss: str):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), HardThreshold(), nn.Linear(5, CHOICES * CLASSES), *list(smooth_model(loss))[1:]
    )
    (x, y), generator = batch(), torch.Generator().manual_seed(1)
    report = search(model, {1: "enumerate"})
    z = model[:4](x).detach()
    h = hot(z.argmax(2)).requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(model[5:](h), y), h)

    def objective(spins: Tensor) -> Tensor:
        total, at = torch.zeros(len(y)), model[2:4](spins)
        for b, j in itertools.product(range(len(y)), range(CHOICES)):
            target = int(g[b, j].argmin())
            size = without(g[b, j].tolist(), target, int(z[b, j].argmax())) / 2
            logits = at[b, j]
            rival = max(logits[k] for k in range(CLASSES) if k != target)
            own = logits.logsumexp(0) - logits[target] if loss == "softmax" else torch.relu(1 + rival - logits[target])
            total[b] += size * own.detach()
        return total

    result = report["1"]
    torch.testing.assert_close(objective(result.targets.float()), result.objective.float(), atol=1e-6, rtol=1e-4)
    for _ in range(3):
        drawn = torch.randint(2, result.targets.shape, generator=generator) * 2.0 - 1
        assert (result.objective <= objective(drawn) + 1e-6).all()
        problem = report.problem("1")
        torch.testing.assert_close(problem.objective(drawn).float(), objective(drawn), atol=1e-6, rtol=1e-4)


class Branches(nn.Module):
    """Signs and choices side by side below one program, above a layer of choices and one of a staircase."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lower, self.middle = nn.Linear(6, 8), Choice(4), nn.Linear(8, 6)
        self.stairs, self.signs, self.choices = Staircase(3), HardThreshold(), Choice(4)
        self.logits, self.program = nn.Linear(6, 4), Program(self.read, symbols=["sign", "sign", 4])

    @staticmethod
    def read(a: int, b: int, c: int) -> int:
        return a + 2 * b - c

    def forward(self, x: Tensor) -> Tensor:
        h = self.stairs(self.middle(self.lower(self.first(x).unflatten(1, (2, 4))).flatten(1)))
        return self.program(torch.cat([self.signs(h[:, :2] - 0.5), self.choices(self.logits(h))], 1))


def test_signs_choices_and_stairs_of_one_model_are_all_searched():
    model, (x, _) = Branches(), batch()
    y = torch.full((len(x), 1), -6.0)
    report = target_backward(model, x, y, SQUARED, solver="hill-climb", budget=Budget(steps=20))
    assert list(report) == ["lower", "stairs", "signs", "choices"]
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in model.parameters())
    with torch.no_grad():
        h = model.stairs(model.middle(model.lower(model.first(x).unflatten(1, (2, 4))).flatten(1)))
        signs = model.signs(h[:, :2] - 0.5).int().tolist()
    for b, result in enumerate(report["choices"].targets.tolist()):
        errors = [(Branches.read(signs[b][0], signs[b][1], k) + 6) ** 2 for k in range(4)]
        assert errors[result[0]] == min(errors)
    assert report["choices"].targets.shape == (len(x), 1)


def test_gradients_add_up_and_scale_with_the_loss():
    once, twice, scaled = model_of(), model_of(), model_of()
    search(once)
    search(twice)
    search(twice)
    search(scaled, loss_fn=lambda output, y: 8 * cross_entropy(output, y))
    assert gradient_of(once[0]).any()
    assert torch.equal(gradient_of(twice[0]), 2 * gradient_of(once[0]))
    torch.testing.assert_close(gradient_of(scaled[0]), 8 * gradient_of(once[0]))


def test_autocast_around_the_pass_is_no_obstacle():
    model, again = model_of(), model_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = search(again)
    assert torch.isfinite(gradient_of(again[0])).all()
    same = (report["2"].targets == search(model)["2"].targets).all(1)
    assert same.double().mean() > 0.5, "only rounding tells them apart"


def fragile(a: int, b: int) -> list[int]:
    if a == b:
        raise ValueError("equal")
    return [a - b, a * b]


def test_calls_that_fail_are_no_targets_and_those_who_make_them_learn_too():
    model = model_of(program=fragile)
    (x, y), logits = batch(40), []
    model[1].register_forward_hook(lambda module, arguments, output: output.retain_grad() or logits.append(output))
    # The loss of the batch is NaN, as are the present answers of some samples.
    report = target_backward(model, x, y, CROSS_ENTROPY, solver="enumerate", budget=Budget(steps=20))
    (z,) = logits
    present, targets = z.argmax(2), report["2"].targets
    failing = present[:, 0] == present[:, 1]
    assert 0 < failing.sum() < len(x)
    assert not (targets[:, 0] == targets[:, 1]).any()
    assert torch.isfinite(report["2"].objective).all()
    assert torch.isfinite(z.grad).all()
    # Against the next best class, as nobody knows what is lost by the present one.
    assert z.grad[failing].any(2).any(1).all()


def test_a_loss_that_is_taken_sample_by_sample_may_meet_failed_calls():
    model, (x, _) = model_of(program=fragile), batch(40)
    assert torch.isnan(model(x)).any()
    y = torch.zeros(40, 3)
    result = target_backward(model, x, y, SQUARED, solver="enumerate", budget=Budget(steps=20))["2"]
    with torch.no_grad():
        alone = (model[3:](hot(result.targets)) - y).square().mean(1) / 40
    torch.testing.assert_close(result.objective.float(), alone, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_samples_whose_logits_are_not_finite_keep_the_closed_form(bad: float):
    model, (x, y) = smooth_model(), batch()
    x[3, 0] = bad
    with torch.no_grad():
        next(model.parameters()).abs_()
    report = target_backward(model, x, y, CROSS_ENTROPY, solver="enumerate", budget=Budget(steps=20))
    assert report.fallbacks["2"] == 1
    assert report.rows["2"].tolist() == [b for b in range(len(x)) if b != 3]


def test_equal_seeds_give_equal_targets_and_gradients():
    one, two = model_of(), model_of()
    first, second = search(one, "anneal"), search(two, "anneal")
    assert torch.equal(first["2"].targets, second["2"].targets)
    assert torch.equal(gradient_of(one[0]), gradient_of(two[0]))


def test_the_problem_is_a_judge_of_classes_that_can_be_copied_and_cut():
    model, (x, y) = model_of(), batch()
    problem = search(model).problem("2")
    assert isinstance(problem, ProgramProblem)
    assert repr(problem).startswith("ChoiceProblem(BlockProblem(")
    table = losses_of_all(model[3:], y)
    targets = torch.randint(CLASSES, (len(y), CHOICES), generator=torch.Generator().manual_seed(2))
    expected = torch.stack([table[tuple(row)][b] for b, row in enumerate(targets.tolist())])
    torch.testing.assert_close(problem.objective(targets), expected, atol=1e-7, rtol=1e-5)
    delta, rows = problem.move_delta(targets), torch.tensor([5, 0, 5])
    for b, j, k in itertools.product(range(len(y)), range(CHOICES), range(CLASSES)):
        moved = targets[b].clone()
        moved[j] = k
        change = table[tuple(moved.tolist())][b] - expected[b]
        assert delta[b, j, k].item() == pytest.approx(change.item(), abs=1e-7)
    part = problem.select(rows)
    assert torch.equal(part.objective(targets[rows]), problem.objective(targets)[rows])
    assert torch.equal(part.rounding(), problem.rounding()[rows])
    assert torch.equal(problem.present, model[:2](x).argmax(2))
    for again in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem)), problem.to("cpu")):
        assert again.fingerprint == problem.fingerprint
        assert torch.equal(again.objective(targets), problem.objective(targets))
    with pytest.raises(NotAcceptedError, match="a block above choices"):
        problem.answers(targets)


@pytest.mark.slow
def test_a_network_learns_classes_that_only_a_program_reads():
    g = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (128, 2), generator=g)
    x = torch.cat([one_hot(classes, 3).flatten(1), torch.randn(128, 2, generator=g)], 1).float()
    y = (3 * classes[:, :1] + classes[:, 1:]).float()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 6), nn.Unflatten(1, (2, 3)), Choice(3), Program(lambda a, b: 3 * a + b, symbols=3)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(15):
        optimizer.zero_grad()
        target_backward(model, x, y, SQUARED, solver="enumerate", budget=Budget(steps=1))
        optimizer.step()
    assert (model(x) == y).double().mean() > 0.9
