"""Models of networks of torch: normalisation and batch norm folded in, compared with sums written out here."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tpsolve import load_model
from tpsolve.errors import ArgumentError, FileFormatError, NotAcceptedError, NotFiniteError, ShapeError, ValueSetError
from tpsolve.models import model_of_network
from tpsolve.nn import HardThreshold, Staircase


def random_network(seed: int, sizes=(6, 5, 4, 3), *, norm: bool = True, simple: bool = True) -> Any:
    """Weights that float32 sums exactly where `simple`: ties are frequent then, and every output is certain."""
    g = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        values = g.integers(-3, 4, shape) if simple else g.normal(size=shape)
        return torch.tensor(values, dtype=torch.float32)

    modules: list[nn.Module] = [nn.Flatten()]
    for k in range(len(sizes) - 1):
        linear = nn.Linear(sizes[k], sizes[k + 1], bias=not norm or k == len(sizes) - 2)
        linear.load_state_dict({name: draw(*value.shape) for name, value in linear.state_dict().items()})
        modules.append(linear)
        if k == len(sizes) - 2:
            break
        if norm:
            layer = nn.BatchNorm1d(sizes[k + 1], eps=0.0)
            state = {name: draw(sizes[k + 1]) for name in ("weight", "bias", "running_mean")}
            scale = g.choice([0.5, 1, 2], sizes[k + 1]) if simple else g.uniform(0.2, 3, sizes[k + 1])
            state["running_var"] = torch.tensor(scale**2, dtype=torch.float32)
            layer.load_state_dict(state, strict=False)
            modules.append(layer)
        modules.append(HardThreshold())
    return nn.Sequential(*modules).eval()


def written_out(network: Any, X: np.ndarray, mean, std) -> tuple[np.ndarray, np.ndarray]:
    """Classes `(N,)` in float64 by the definitions, and how near to a boundary each row is."""
    found, near = (X - mean) / std, np.full(len(X), np.inf)
    for module in network:
        if isinstance(module, nn.Linear):
            bias = 0 if module.bias is None else module.bias.detach().double().numpy()
            found = found @ module.weight.detach().double().numpy().T + bias
        elif isinstance(module, nn.BatchNorm1d):
            mu, var, a, b = (
                t.detach().double().numpy()  # pyright: ignore[reportOptionalMemberAccess]
                for t in (module.running_mean, module.running_var, module.weight, module.bias)
            )
            found = (found - mu) / np.sqrt(var) * a + b
        elif isinstance(module, HardThreshold):
            near = np.minimum(near, np.abs(found).min(axis=1))
            found = np.where(found >= 0, 1.0, -1.0)
    ordered = np.sort(found, axis=1)
    return found.argmax(axis=1), np.minimum(near, ordered[:, -1] - ordered[:, -2])


@pytest.mark.parametrize("norm", [True, False])
def test_simple_weights_are_kept_exactly_ties_too(norm: bool):
    ties = 0
    for seed in range(25):
        network = random_network(seed, norm=norm)
        X = np.random.default_rng(seed).integers(0, 9, (300, 6)).astype(float)
        model = model_of_network(network, X, classes="abc", mean=4.0, std=2.0)
        expected, near = written_out(network, X, 4.0, 2.0)
        assert np.array_equal(model.layers.classes(X), expected)
        assert model.layers.is_whole
        assert model.counts == {"rows": 300, "others": 0}
        ties += int((near == 0).sum())
    assert ties > 100, "the test shows nothing without them"


def test_real_weights_differ_at_most_beside_boundaries(tmp_path):
    for seed in range(8):
        network = random_network(seed, (12, 20, 10, 3), simple=False)
        g = np.random.default_rng(seed)
        mean, std = g.normal(size=12), g.uniform(0.1, 5, 12)
        X = g.normal(size=(500, 12)) * std + mean
        labels = g.integers(0, 3, 500)
        model = model_of_network(
            network, X, classes="abc", labels=labels, test_rows=X[:9], test_labels=labels[:9], mean=mean, std=std
        )
        expected, near = written_out(network, X, mean, std)
        differ = model.layers.classes(X) != expected
        assert not differ[near > 1e-6].any()
        assert model.objective == (model.layers.classes(X) != labels).sum()
        assert model.counts["right"] == (model.layers.classes(X[:9]) == labels[:9]).sum()
        assert (model.counts["rows"], model.counts["test"]) == (509, 9)
        model.save(tmp_path / "m.npz")
        again = load_model(tmp_path / "m.npz")
        assert np.array_equal(again.predict(X), model.predict(X))
        assert again.counts == model.counts


def test_units_of_weights_plus_and_minus_one_stay_such():
    network: Any = nn.Sequential(nn.Flatten(), *random_network(1, (9, 7, 5, 2), norm=False, simple=False)[1:])
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.Linear):
                module.weight.copy_(module.weight.sign())
    X = np.random.default_rng(0).integers(0, 256, (200, 1, 3, 3))
    model = model_of_network(network, X, classes=(0, 1), mean=(33.3,), std=(78.6,), shape=(1, 3, 3))
    assert all(set(np.unique(weight)) == {-1, 1} for weight, _ in model.layers.weights[:-1])
    expected, near = written_out(network, X.reshape(200, 9), 33.3, 78.6)
    assert not (model.predict(X) != expected)[near > 1e-5].any()


def test_constant_units_and_scales_of_zero():
    network = random_network(3)
    with torch.no_grad():
        network[2].weight.zero_()
        network[2].bias[:2] = torch.tensor([0.0, -1e-30])
        network[4].weight.zero_()
        network[5].bias.fill_(1e20)
    X = np.random.default_rng(0).integers(0, 9, (50, 6)).astype(float)
    model = model_of_network(network, X, classes="abc")
    assert np.array_equal(model.layers.classes(X), written_out(network, X, 0.0, 1.0)[0])


def test_features_of_different_reach():
    network = random_network(2, (3, 4, 2), norm=False, simple=False)
    std = np.array([1e12, 1.0, 1e-9])
    X = np.random.default_rng(0).normal(size=(200, 3)) * std
    model = model_of_network(network, X, classes="ab", std=std)
    expected, near = written_out(network, X, 0.0, std)
    assert not (model.layers.classes(X) != expected)[near > 1e-5].any()


def test_images_are_read_as_pixels(tmp_path):
    network = random_network(4, (12, 6, 3))
    X = np.random.default_rng(0).integers(0, 17, (40, 1, 3, 4)).astype(np.uint8)
    model = model_of_network(network, X, classes=(3, 5, 7), mean=8.0, std=8.0, shape=(1, 3, 4))
    model.save(tmp_path / "model.npz")
    model = load_model(tmp_path)
    expected = model.predict(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    for same in (X[:, 0], X.reshape(40, 12), torch.tensor(X), X.astype(">f8"), X.tolist(), read_only[::-1][::-1]):
        assert np.array_equal(model.predict(same), expected)
    assert np.array_equal(model.predict(X[3]), expected[3:4]), "one image of one channel"
    for wrong, error, words in (
        (X / 16, ValueSetError, "before any normalisation"),
        (X.astype(float) - 8, ValueSetError, "whole numbers from 0 to 16"),
        (X * 2, ValueSetError, "whole numbers from 0 to 16"),
        (X[0, 0], ShapeError, r"expected \(N, 1, 3, 4\)"),
        (X.transpose(0, 2, 3, 1), ShapeError, r"\(N, 3, 4\)"),
        (np.where(X == 3, np.nan, X), NotFiniteError, "finite pixels"),
        (np.where(X == 3, np.inf, X), NotFiniteError, "finite pixels"),
        ({"a": [1]}, ArgumentError, "a dict"),
        ([["a"] * 12], ArgumentError, "numbers"),
        (np.ma.masked_equal(X, 3), ArgumentError, "masked"),
    ):
        with pytest.raises(error, match=words):
            model.predict(wrong)


def test_other_networks_are_refused_by_name():
    X = np.zeros((4, 6))
    good = random_network(0, (6, 5, 2), norm=False)
    for modules, words in (
        ([*good[:2], nn.ReLU(), good[3]], "ReLU at 2"),
        ([*good[:2], Staircase(3), good[3]], "Staircase at 2"),
        ([nn.Conv2d(1, 1, 1), *good], "Conv2d at 0"),
        ([*good, HardThreshold()], "HardThreshold|ends in no Linear"),
        ([good[0], good[1]], "without a HardThreshold"),
        ([good[1], nn.BatchNorm1d(5, track_running_stats=False), *good[2:]], "batch norm at 1"),
        ([good[1], nn.Sequential(nn.Tanh(), good[2]), good[3]], "Tanh at 1.0"),
    ):
        with pytest.raises(NotAcceptedError, match=words):
            model_of_network(nn.Sequential(*modules), X, classes="ab")
    refused: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"classes": "abc"}, ShapeError),
        ({"classes": "ab", "std": 0.0}, ArgumentError),
        ({"classes": "ab", "mean": [1.0, 2]}, ShapeError),
        ({"classes": "ab", "features": ["a"]}, ShapeError),
        ({"classes": "ab", "labels": [0]}, ShapeError),
        ({"classes": "ab", "shape": (1, 2, 2)}, ShapeError),
    ]
    for arguments, error in refused:
        with pytest.raises(error):
            model_of_network(good, X, **arguments)
    with pytest.raises(ShapeError):
        model_of_network(good, X[:0], classes="ab")
    broken = random_network(0, (6, 5, 2), norm=False)
    broken[1].weight.data[0, 0] = float("nan")
    with pytest.raises(NotAcceptedError, match="finite"):
        model_of_network(broken, X, classes="ab")
    with pytest.raises(FileFormatError, match="load_network"):
        load_model("checkpoint.pt")
