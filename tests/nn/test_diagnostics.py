"""The figures of `diagnose`, each counted once more by hand on small networks."""

import copy
import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve.errors import ArgumentError, NotAcceptedError, NotFiniteError, ShapeError, ValueSetError
from tpsolve.nn import HardThreshold, Staircase, diagnose
from tpsolve.units import Separability

WIDTHS = (5, 4, 3)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(3, 5),
            HardThreshold(width=0.5),
            nn.Linear(5, 4, bias=False),
            nn.BatchNorm1d(4),
            HardThreshold("saturated-hinge"),
            nn.Dropout(0.25),
            nn.Linear(4, 3),
        ).double()


def batch(samples: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(samples, 3, generator=generator, dtype=torch.float64), torch.arange(samples) % 3


def sign(z: Tensor) -> Tensor:
    return torch.where(z >= 0, 1.0, -1.0).double()


def test_every_figure_is_what_it_says():
    model, (x, y) = network().eval(), batch()
    found = diagnose(model, x, y, cross_entropy, flips=10**6)
    assert list(found) == ["1", "4"]
    first, second = model[:1], model[2:4]

    def loss(h1: Tensor | None = None, h2: Tensor | None = None) -> Tensor:
        h1 = sign(first(x)) if h1 is None else h1
        h2 = sign(second(h1)) if h2 is None else h2
        return cross_entropy(model[6](h2), y)

    for name, key, z, reads in (("1", "h1", first(x), x), ("4", "h2", second(sign(first(x))), sign(first(x)))):
        h = sign(z)
        outputs = h.clone().requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(model[int(name) + 1 :](outputs), y), outputs)
        difference, changes = torch.zeros_like(h), torch.zeros_like(h)
        with torch.no_grad():
            for sample in range(len(x)):
                for unit in range(h.shape[1]):
                    up, down, flipped = h.clone(), h.clone(), h.clone()
                    up[sample, unit], down[sample, unit] = 1, -1
                    flipped[sample, unit] *= -1
                    difference[sample, unit] = (loss(**{key: up}) - loss(**{key: down})) / 2
                    changes[sample, unit] = loss(**{key: flipped}) - loss()
        proposed = -g.sign() != h
        figures = found[name]
        assert figures.changed == pytest.approx(float(proposed.double().mean()))
        assert figures.flip_quality == pytest.approx(float((changes[proposed] < -1e-12).double().mean()), abs=1e-6)
        cosine = torch.cosine_similarity(g.flatten(), difference.flatten(), dim=0)
        assert figures.cosine == pytest.approx(float(cosine), abs=1e-6)
        assert figures.saturated == pytest.approx(float((z.abs() > (0.5 if name == "1" else 1)).double().mean()))
        certificate = Separability().fit(reads.detach(), -g.sign())
        assert figures.separable == pytest.approx(float((certificate.status == 1).double().mean()))
        assert figures.dead == float((h == h[0]).all(0).double().mean())
    assert 0 < found["1"].changed < 1


def test_the_model_is_left_as_it_is_and_equal_seeds_give_equal_figures():
    model, (x, y) = network().train(), batch()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    once = diagnose(model, x, y, cross_entropy, flips=20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert diagnose(model, x, y, cross_entropy, flips=20) == once


def test_dead_and_saturated_units_are_seen():
    model, (x, y) = network(), batch()
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[:2] = 0
        layer.bias[:2] = 9
    figures = diagnose(model, x, y, cross_entropy)["1"]
    assert figures.dead >= 0.4
    assert figures.saturated >= 0.4


def test_a_unit_of_two_opposite_targets_for_one_input_is_not_separable():
    model, _ = network(), None
    x = torch.zeros(4, 3, dtype=torch.float64)
    figures = diagnose(model.eval(), x, torch.tensor([0, 1, 2, 0]), cross_entropy)
    assert figures["4"].separable < 1


@pytest.mark.parametrize("steps", ["merged", "each"])
def test_figures_of_a_staircase_count_its_thresholds(steps: str):
    torch.manual_seed(3)
    staircase = Staircase(4, steps=steps, width=0.5)
    model = nn.Sequential(nn.Linear(3, 5), staircase, nn.Linear(5, 4), HardThreshold(), nn.Linear(4, 3)).double()
    x, y = batch()
    figures = diagnose(model, x, y, cross_entropy, flips=10**6)["1"]
    z = model[0](x).detach()
    h = staircase(z)
    outputs = h.clone().requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(model[2:](outputs), y), outputs)
    changed, helps, asked, quotients = [], [], [], []
    with torch.no_grad():
        for sample, unit in itertools.product(range(len(x)), range(5)):
            level = round(3 * h[sample, unit].item())
            # The thresholds below the level are up, and come down by a third; the others are down.
            for threshold in range(3):
                step = -1 / 3 if threshold < level else 1 / 3
                moved = h.clone()
                moved[sample, unit] = (level + 3 * step) / 3
                change = (cross_entropy(model[2:](moved), y) - cross_entropy(model[2:](h), y)).item()
                changed.append(step * g[sample, unit].item() < 0)
                if changed[-1]:
                    helps.append(change < -1e-12)
                asked.append(g[sample, unit].item())
                quotients.append(change / step)
    assert figures.changed == pytest.approx(sum(changed) / len(changed))
    assert figures.flip_quality == pytest.approx(sum(helps) / len(helps))
    cosine = torch.cosine_similarity(torch.tensor(asked), torch.tensor(quotients), dim=0)
    assert figures.cosine == pytest.approx(float(cosine), abs=1e-6)
    certificate = Separability().fit(x, -g.sign())
    assert figures.separable == pytest.approx(float((certificate.status == 1).double().mean()))
    assert figures.dead == float((h == h[0]).all(0).double().mean())
    distance = [(2 * z - 1).abs()] if steps == "merged" else [(4 * z - 2 * i).abs() for i in range(3)]
    assert figures.saturated == pytest.approx(float((torch.stack(distance).amin(0) > 0.5).double().mean()))


def test_convolutions_have_no_separability():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), Staircase(), nn.Flatten(), nn.Linear(8, 6), Staircase(), nn.Linear(6, 3))
    figures = diagnose(model, torch.randn(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]), cross_entropy)
    assert math.isnan(figures["1"].separable)
    assert 0 <= figures["1"].flip_quality <= 1
    assert -1 <= figures["1"].cosine <= 1
    assert 0 <= figures["4"].separable <= 1


def test_what_makes_no_sense_is_refused():
    x, y = batch()
    with pytest.raises(ArgumentError, match="flips: got 0"):
        diagnose(network(), x, y, cross_entropy, flips=0)
    with pytest.raises(NotAcceptedError, match="no HardThreshold, Staircase or Choice"):
        diagnose(nn.Linear(3, 3), x, y, cross_entropy)
    with pytest.raises(NotAcceptedError, match=r"loss_fn: got .* the sum or the mean"):
        diagnose(network(), x, y, lambda output, y: cross_entropy(output, y) ** 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": batch()[0] * math.nan}, NotFiniteError, r"x: got \d+ NaN"),
        ({"x": torch.ones(9, 3, dtype=torch.int64)}, ArgumentError, r"x: got torch.int64.*\.float\(\)"),
        ({"x": [1.0]}, ArgumentError, "x: got list"),
        ({"y": torch.full((9,), 7)}, ValueSetError, "y: got 7, expected class labels from 0 to 2"),
        ({"y": torch.zeros(2)}, ShapeError, r"y: got shape \(2,\), expected \(9, ...\)"),
        ({"loss_fn": partial(cross_entropy, reduction="none")}, ShapeError, r"loss_fn: got shape \(9,\), expected one"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(change: dict[str, Any], error: type[Exception], message: str):
    x, y = batch()
    arguments: dict[str, Any] = {"model": network(), "x": x, "y": y, "loss_fn": cross_entropy} | change
    with pytest.raises(error, match=message):
        diagnose(**arguments)


def test_weights_that_are_not_finite_are_told_by_the_output():
    model = network()
    with torch.no_grad():
        list(model.parameters())[-1][0] = math.nan
    with pytest.raises(NotFiniteError, match="output of the model: got 9 NaN"):
        diagnose(model, *batch(), cross_entropy)


def test_whole_numbers_are_taken_where_the_model_takes_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 4), HardThreshold(), nn.Linear(4, 3))
    x = torch.randint(5, (9, 2))
    whole = diagnose(model, x, batch()[1], cross_entropy)["3"]
    assert whole == diagnose(model[1:], model[0](x).detach(), batch()[1], cross_entropy)["3"]
