"""Layer problems taken from a network, checked against gradients worked out by hand; and the digits suite of them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tpsolve.compare import SUITES
from tpsolve.compare.suites import _digits_suites as digits_module
from tpsolve.compare.suites._digits_suites import LOSSES, MOMENTS, load_digits, new_network
from tpsolve.errors import NotAcceptedError, UnknownNameError
from tpsolve.nn import HardThreshold
from tpsolve.problems import Instance, harvest, harvest_blocks
from tpsolve.spins import sign

pytestmark = pytest.mark.rounding

INPUTS, CLASSES = 4, 3


def build(*layers: Callable[[], nn.Module], seed: int = 0) -> nn.Sequential:
    """A model in float64 whose weights are drawn under this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*(layer() for layer in layers)).double()


def linear(n: int, m: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(n, m)


def two_hidden(rule: str = "soft-hinge") -> nn.Sequential:
    """Layers "0", "2" and "4"; "2" and "4" read thresholds."""

    def threshold() -> HardThreshold:
        return HardThreshold(rule)

    return build(linear(INPUTS, 6), threshold, linear(6, 5), threshold, linear(5, CLASSES))


def three_hidden(rule: str = "soft-hinge") -> nn.Sequential:
    def threshold() -> HardThreshold:
        return HardThreshold(rule)

    return build(
        linear(INPUTS, 6), threshold, linear(6, 5), threshold, linear(5, 7), threshold, linear(7, CLASSES), seed=1
    )


def batch(samples: int = 9) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(11)
    inputs = torch.randn(samples, INPUTS, generator=g, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (samples,), generator=g)


def linear_of(model: nn.Sequential, name: int) -> nn.Linear:
    layer = model[name]
    assert isinstance(layer, nn.Linear)
    return layer


def affine(model: nn.Sequential, name: int, h: Tensor) -> Tensor:
    layer = linear_of(model, name)
    return h @ layer.weight.detach().T + layer.bias.detach()


def set_statistics(model: nn.Sequential, name: int, mean: float) -> nn.Sequential:
    norm = model[name]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    norm.running_mean.fill_(mean)
    return model


def test_hidden_targets_and_importance_are_those_of_the_true_gradient():
    model, (inputs, labels) = two_hidden(), batch()
    h1 = sign(affine(model, 0, inputs))
    h2 = sign(affine(model, 2, h1)).requires_grad_()
    functional.cross_entropy(affine(model, 4, h2), labels, reduction="sum").backward()
    g = h2.grad
    assert g is not None
    assert g.all(), "a gradient without zeros tells signs apart"

    hidden, _ = harvest(model, inputs, labels)
    assert hidden.name == "2/hinge"
    assert hidden.problem.loss == "hinge"
    assert torch.equal(hidden.problem.targets, -torch.sign(g))
    assert hidden.problem.unit_weight is not None
    torch.testing.assert_close(hidden.problem.unit_weight, g.abs(), rtol=1e-12, atol=0)
    assert hidden.problem.start is not None
    assert torch.equal(hidden.problem.start, h1)
    assert torch.equal(hidden.problem.weight, linear_of(model, 2).weight)
    assert torch.equal(hidden.problem.bias, linear_of(model, 2).bias)


@pytest.mark.parametrize("rule", ["soft-hinge", "saturated-hinge"])
def test_gradient_of_a_lower_layer_comes_through_the_rule_of_the_threshold_above(rule: str):
    model, (inputs, labels) = three_hidden(rule), batch()
    h1 = sign(affine(model, 0, inputs))
    h2 = sign(affine(model, 2, h1))
    z3 = affine(model, 4, h2)
    outputs = affine(model, 6, sign(z3))
    # Back from the outputs by the chain rule, written out.
    at_h3 = (outputs.softmax(1) - functional.one_hot(labels, CLASSES)) @ linear_of(model, 6).weight.detach()
    passed = 1 / torch.cosh(z3) ** 2 if rule == "soft-hinge" else (z3.abs() <= 1).double()
    at_h2 = (at_h3 * passed) @ linear_of(model, 4).weight.detach()

    lower, upper, top = harvest(model, inputs, labels)
    assert [found.name for found in (lower, upper, top)] == ["2/hinge", "4/hinge", "6/cross-entropy"]
    for found, gradient in ((lower, at_h2), (upper, at_h3)):
        assert found.problem.unit_weight is not None
        torch.testing.assert_close(found.problem.unit_weight, gradient.abs(), rtol=1e-10, atol=1e-15)
        certain = gradient.abs() > 1e-12
        assert certain.sum() > certain.numel() / 2
        assert torch.equal(found.problem.targets[certain], -torch.sign(gradient[certain]))


def test_unit_without_gradient_becomes_dont_care():
    model, (inputs, labels) = two_hidden(), batch()
    with torch.no_grad():
        linear_of(model, 4).weight[:, 1] = 0
    hidden, _ = harvest(model, inputs, labels)
    assert not hidden.problem.targets[:, 1].any()
    assert hidden.problem.targets[:, [0, 2, 3, 4]].all()


def test_top_objective_is_the_cross_entropy_of_the_network_summed():
    model, (inputs, labels) = two_hidden(), batch()
    top = harvest(model, inputs, labels)[-1].problem
    assert top.loss == "cross-entropy"
    assert top.start is not None
    each = functional.cross_entropy(model(inputs), labels, reduction="none").detach()
    torch.testing.assert_close(top.objective(top.start), each, rtol=1e-12, atol=0)
    total = functional.cross_entropy(model(inputs), labels, reduction="sum").item()
    assert float(top.objective(top.start).sum()) == pytest.approx(total, rel=1e-12)
    # And for other targets: that of the topmost layer alone.
    other = -top.start
    expected = functional.cross_entropy(affine(model, 4, other), labels, reduction="none")
    torch.testing.assert_close(top.objective(other), expected, rtol=1e-12, atol=0)


def test_every_loss_gives_a_hidden_problem_with_the_same_numbers_and_the_stay():
    model, (inputs, labels) = two_hidden(), batch()
    found = harvest(model, inputs, labels, losses=("hinge", "soft-hinge"), stay=0.25)
    assert [instance.name for instance in found] == ["2/hinge", "2/soft-hinge", "4/cross-entropy"]
    assert [instance.problem.loss for instance in found] == ["hinge", "soft-hinge", "cross-entropy"]
    assert [instance.problem.stay for instance in found] == [0.25] * 3
    assert torch.equal(found[0].problem.targets, found[1].problem.targets)
    assert found[0].problem.unit_weight is not None
    assert found[1].problem.unit_weight is not None
    assert torch.equal(found[0].problem.unit_weight, found[1].problem.unit_weight)


def test_layer_without_bias_gives_a_problem_of_bias_zero():
    model = build(linear(INPUTS, 6), HardThreshold, lambda: nn.Linear(6, CLASSES, bias=False))
    (top,) = harvest(model, *batch())
    assert top.problem.bias.tolist() == [0.0] * CLASSES
    assert top.problem.start is not None
    each = functional.cross_entropy(model(batch()[0]), batch()[1], reduction="none").detach()
    torch.testing.assert_close(top.problem.objective(top.problem.start), each, rtol=1e-12, atol=0)


def test_outputs_of_zero_and_one_give_the_problems_of_spins():
    kinds = [build(linear(4, 6), unit, linear(6, 5), unit, linear(5, 3)) for unit in (HardThreshold, zero_or_one)]
    spins, bits = kinds
    with torch.no_grad():
        # The same function of the inputs.
        for k in (2, 4):
            one, other = spins[k], bits[k]
            assert isinstance(one, nn.Linear)
            assert isinstance(other, nn.Linear)
            one.weight.copy_(other.weight / 2)
            one.bias.copy_(other.bias + other.weight.sum(1) / 2)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 4, dtype=torch.float64, generator=generator), torch.arange(9) % 3
    torch.testing.assert_close(spins(x), bits(x))
    losses = ("hinge", "squared")
    for expected, found in zip(harvest(spins, x, y, losses=losses), harvest(bits, x, y, losses=losses), strict=True):
        assert expected.name == found.name
        for part in ("weight", "bias", "targets", "start", "unit_weight"):
            given, wanted = getattr(found.problem, part), getattr(expected.problem, part)
            if wanted is not None:
                torch.testing.assert_close(given, wanted)
    blocks = [harvest_blocks(model, x, y) for model in kinds]
    targets = torch.where(torch.rand(9, 5, generator=generator) < 0.5, 1.0, -1.0).double()
    assert list(blocks[0]) == list(blocks[1]) == ["1", "3"]
    torch.testing.assert_close(blocks[0]["3"].objective(targets), blocks[1]["3"].objective(targets))
    torch.testing.assert_close(blocks[0]["1"].gradient(), blocks[1]["1"].gradient())
    # Ones alone are outputs in {0, 1} where the threshold says so.
    middle, top = bits.get_submodule("2"), bits.get_submodule("4")
    middle.get_parameter("bias").data.add_(99)
    assert not torch.equal(harvest(bits, x, y)[-1].problem.weight, top.get_parameter("weight"))


def zero_or_one() -> HardThreshold:
    return HardThreshold(low=0)


def test_inputs_that_happen_to_be_spins_are_no_layer():
    inputs = torch.tensor([[1.0, -1, 1, 1], [-1, -1, 1, -1]], dtype=torch.float64)
    found = harvest(two_hidden(), inputs, torch.tensor([0, 2]))
    assert [instance.name for instance in found] == ["2/hinge", "4/cross-entropy"]


# --- the model is left alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_model_keeps_its_state_gradients_and_mode(training: bool):
    model = build(linear(INPUTS, 6), HardThreshold, linear(6, CLASSES), lambda: nn.Dropout(0.5)).train(training)
    inputs, labels = batch()
    model(inputs).sum().backward()
    state = copy.deepcopy(model.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [p.requires_grad for p in model.parameters()]
    random_state = torch.get_rng_state()

    harvest(model, inputs, labels)

    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for parameter, before in zip(model.parameters(), gradients, strict=True):
        assert before is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, before)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [module.training for module in model.modules()] == [training] * 5
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_parts_of_the_model_that_were_in_another_mode_stay_in_it():
    # As one fine-tunes: the whole trains, but a frozen part stays in evaluation mode.
    model = build(linear(INPUTS, 6), HardThreshold, lambda: nn.Dropout(0.5), linear(6, CLASSES)).train()
    model[2].eval()
    before = [module.training for module in model.modules()]
    harvest(model, *batch())
    assert [module.training for module in model.modules()] == before


def test_problems_do_not_change_when_the_model_learns_on():
    # Optimizers change parameters in place.
    model, (inputs, labels) = two_hidden(), batch()
    found = harvest(model, inputs, labels)
    weights = [instance.problem.weight.clone() for instance in found]
    biases = [instance.problem.bias.clone() for instance in found]
    fingerprints = [instance.problem.fingerprint for instance in found]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
    assert all(torch.equal(i.problem.weight, w) for i, w in zip(found, weights, strict=True))
    assert all(torch.equal(i.problem.bias, b) for i, b in zip(found, biases, strict=True))
    assert [instance.problem.fingerprint for instance in found] == fingerprints


def test_harvest_works_where_gradients_are_off():
    model, (inputs, labels) = two_hidden(), batch()
    expected = [instance.problem.fingerprint for instance in harvest(model, inputs, labels)]
    with torch.no_grad():
        assert [instance.problem.fingerprint for instance in harvest(model, inputs, labels)] == expected


@pytest.mark.parametrize("frozen", ["0", "0 and 2", "all"])
def test_model_that_is_frozen_gives_the_same_problems(frozen: str):
    model, (inputs, labels) = two_hidden(), batch()
    expected = [instance.problem.fingerprint for instance in harvest(model, inputs, labels)]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen == "all" or name.split(".")[0] in frozen))
    assert [instance.problem.fingerprint for instance in harvest(model, inputs, labels)] == expected


def test_model_that_fails_is_left_without_hooks_and_in_its_mode():
    model = two_hidden().train()
    with pytest.raises(RuntimeError):
        harvest(model, torch.zeros(2, INPUTS + 1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        lambda: build(linear(INPUTS, CLASSES)),
        lambda: build(linear(INPUTS, 6), nn.ReLU, linear(6, CLASSES)),
        lambda: build(linear(INPUTS, 6), HardThreshold, lambda: nn.Softmax(1), linear(6, CLASSES)),
    ],
    ids=["one layer", "rectifier", "softmax above the threshold"],
)
def test_model_without_thresholds_below_a_linear_layer_is_refused(model: Callable[[], nn.Sequential]):
    with pytest.raises(NotAcceptedError, match=r"^model: got none, expected a linear layer that reads .* threshold"):
        harvest(model(), *batch())


def with_norm(norm: Callable[[], nn.Module] = lambda: nn.BatchNorm1d(5)) -> nn.Sequential:
    return build(linear(INPUTS, 6), HardThreshold, linear(6, 5), norm, HardThreshold, linear(5, CLASSES))


def test_normalisation_between_a_layer_and_its_threshold_is_refused_by_name():
    model = set_statistics(with_norm(), 3, mean=0.5)
    with pytest.raises(NotAcceptedError, match=r"^model\.2: got an output that 5 does not read .*[Ff]old"):
        harvest(model, *batch())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("mean", [0.0, 1e-6])
def test_normalisation_is_refused_even_where_no_sign_of_this_batch_tells(mean: float):
    # The pre-activations of such a problem would not be those that meet the threshold.
    with pytest.raises(NotAcceptedError, match=r"^model\.2"):
        harvest(set_statistics(with_norm(), 3, mean), *batch())


def test_dropout_that_is_idle_in_evaluation_mode_is_no_obstacle():
    found = harvest(with_norm(lambda: nn.Dropout(0.5)).train(), *batch())
    assert [instance.name for instance in found] == ["2/hinge", "5/cross-entropy"]


def test_rectifier_above_the_last_layer_that_reads_spins_is_refused():
    # Its outputs are no classes: labels up to 2 would pass for classes among its 5 units.
    model = build(linear(INPUTS, 6), HardThreshold, linear(6, 5), nn.ReLU, linear(5, CLASSES))
    with pytest.raises(NotAcceptedError, match=r"^model\.2"):
        harvest(model, *batch())


def test_normalisation_of_the_outputs_is_refused():
    # The cross-entropy of the topmost linear layer is then not that of the network.
    model = build(linear(INPUTS, 6), HardThreshold, linear(6, CLASSES), lambda: nn.BatchNorm1d(CLASSES))
    with pytest.raises(NotAcceptedError, match=r"^model\.2"):
        harvest(set_statistics(model, 3, mean=2.0), *batch())


def test_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'soft-hinge'"):
        harvest(two_hidden(), *batch(), losses=("soft-hing",))


# --- the digits suite -------------------------------------------------------------------------------------------------


@dataclass
class Harvested:
    """What the digits suite gave, and the network at each moment."""

    instances: list[Instance]
    states: list[dict[str, Tensor]]
    after: list[dict[str, Tensor]]
    batches: list[tuple[Tensor, Tensor]]
    modes: list[tuple[bool, bool]]
    gradients: list[tuple[list[Tensor | None], list[Tensor | None]]]


DIGITS_SAMPLES = 3


@pytest.fixture(scope="module")
def make_digits() -> Callable[[int], Harvested]:
    """The suite on the first 256 scans, which is quick; all else as it is."""
    inputs, labels = load_digits()
    real = digits_module.harvest

    def state_of(model: nn.Module) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in model.state_dict().items()}

    def gradients_of(model: nn.Module) -> list[Tensor | None]:
        return [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    def make(seed: int) -> Harvested:
        found = Harvested([], [], [], [], [], [])
        threads = torch.get_num_threads()

        def harvest(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> list[Instance]:
            found.states.append(state_of(model))
            found.batches.append((x, y))
            mode, gradients = model.training, gradients_of(model)
            instances = real(model, x, y, **options)
            found.after.append(state_of(model))
            found.modes.append((mode, model.training))
            found.gradients.append((gradients, gradients_of(model)))
            return instances

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(digits_module, "load_digits", lambda: (inputs[:256], labels[:256]))
            patch.setattr(digits_module, "harvest", harvest)
            # Threads that wait for a busy core cost seconds.
            torch.set_num_threads(1)
            found.instances = list(SUITES["digits"](DIGITS_SAMPLES, seed))
            torch.set_num_threads(threads)
        return found

    return make


@pytest.fixture(scope="module")
def harvested(make_digits: Callable[[int], Harvested]) -> Harvested:
    return make_digits(0)


def moment_of(instance: Instance) -> int:
    return MOMENTS.index(int(instance.name.split("/")[1].removeprefix("epoch-")))


def test_digits_are_scikit_learns_scans_between_minus_one_and_one():
    inputs, labels = load_digits()
    assert inputs.shape == (1797, 64)
    assert (float(inputs.min()), float(inputs.max())) == (-1.0, 1.0)
    assert inputs.dtype == torch.float32
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_network_alternates_linear_layers_and_thresholds():
    kinds = [type(layer) for layer in new_network()]
    assert kinds == [nn.Linear, HardThreshold, nn.Linear, HardThreshold, nn.Linear]
    assert [tuple(p.shape) for p in new_network().parameters() if p.dim() == 2] == [(32, 64), (32, 32), (10, 32)]


def test_digits_give_problems_of_both_upper_layers_at_each_moment(harvested: Harvested):
    layers = [*(f"layer-2/{loss}" for loss in LOSSES), "layer-4/cross-entropy"]
    expected = [f"digits/epoch-{epoch}/{layer}" for epoch in (0, 2, 10) for layer in layers]
    assert [instance.name for instance in harvested.instances] == expected
    for instance in harvested.instances:
        top = instance.name.endswith("cross-entropy")
        assert instance.problem.weight.shape == ((10, 32) if top else (32, 32))
        assert instance.problem.batch_shape == (DIGITS_SAMPLES,)


def test_harvesting_leaves_the_network_as_it_was(harvested: Harvested):
    assert len(harvested.states) == 3
    for before, after in zip(harvested.states, harvested.after, strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert harvested.modes == [(True, True)] * 3
    assert all(g is None for g in harvested.gradients[0][1]), "nothing was learned yet"
    for before, after in harvested.gradients[1:]:
        for first, second in zip(before, after, strict=True):
            assert first is not None
            assert second is not None
            assert torch.equal(first, second)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_digits_problems_hold_the_networks_own_numbers_of_their_moment(harvested: Harvested, part: str):
    for instance in harvested.instances:
        layer = instance.name.split("/")[2].removeprefix("layer-")
        own = harvested.states[moment_of(instance)][f"{layer}.{part}"]
        assert torch.equal(getattr(instance.problem, part), own), instance.name


def test_digits_top_objective_at_the_activations_is_the_networks_loss(harvested: Harvested):
    for instance in harvested.instances:
        if not instance.name.endswith("cross-entropy"):
            continue
        model = new_network()
        model.load_state_dict(harvested.states[moment_of(instance)])
        inputs, labels = harvested.batches[moment_of(instance)]
        expected = functional.cross_entropy(model(inputs), labels, reduction="none").detach().double()
        assert instance.problem.start is not None
        torch.testing.assert_close(
            instance.problem.objective(instance.problem.start), expected, rtol=1e-5, atol=1e-5, msg=instance.name
        )


def test_digits_network_learns_between_the_moments(harvested: Harvested):
    inputs, labels = (t[:256] for t in load_digits())
    right = []
    for state in harvested.states:
        model = new_network()
        model.load_state_dict(state)
        right.append(float((model(inputs).argmax(1) == labels).double().mean()))
    assert right[0] < 0.3
    assert right[0] < right[1] < right[2]
    assert right[2] > 0.8


def test_equal_seeds_give_equal_digits_problems_and_different_seeds_different_ones(
    harvested: Harvested, make_digits: Callable[[int], Harvested]
):
    def fingerprints(found: Harvested) -> list[str]:
        return [instance.problem.fingerprint for instance in found.instances]

    random_state = torch.get_rng_state()
    again, other = make_digits(0), make_digits(1)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert fingerprints(again) == fingerprints(harvested)
    assert len({*fingerprints(harvested), *fingerprints(other)}) == 24, "moments, layers and losses all differ"
    for (first, _), (second, _) in zip(harvested.batches, other.batches, strict=True):
        assert not torch.equal(first, second), "the seed draws the samples too"


def test_digits_samples_differ_between_moments(harvested: Harvested):
    (first, _), (second, _), (third, _) = harvested.batches
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
