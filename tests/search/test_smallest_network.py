"""The smallest network with the fewest errors, against all weights."""

import math
from typing import Any

import pytest
import torch
from support.whole_oracle import least_objective

from tpsolve import Budget, NetworkProblem
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.search import smallest_network

SECONDS = Budget(seconds=60)


def votes(seed: int, **sets: Any) -> NetworkProblem:
    g = torch.Generator().manual_seed(seed)
    X = torch.randint(0, 2, (6, 2), generator=g).double()
    y = [0, 1, *torch.randint(2, (4,), generator=g).tolist()]
    return NetworkProblem(X, y, **{"widths": [2], "weight_set": [-2, -1, 0, 1], "bias_set": [-1, 0, 1], **sets})


def other(problem: NetworkProblem, **sets: Any) -> NetworkProblem:
    given = {"widths": problem.widths, "weight_set": problem.weight_set, "bias_set": problem.bias_set, **sets}
    return NetworkProblem(problem.samples, problem.index.tolist(), **given, **problem.rules.sets())


def check(problem: NetworkProblem, found: Any) -> None:
    own = other(problem, widths=found.widths, weight_set=found.weight_set)
    weights = own.check_weights(found.weights)
    assert own.objective(own.from_weights(weights), weights).item() == found.errors == found.bound
    assert found.proved


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "rules"), [(0, {}), (3, {"max_fan_in": 1}), (3, {"shared_bias": True})], ids=str)
def test_no_network_is_smaller(seed: int, rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpsolve.search.network.whole._smallest_network.MAX_SEARCH", 0.01)
    problem = votes(seed, **rules)
    assert problem.weight_set is not None
    least = least_objective(problem)
    reached = {
        "units": [k for k in (1, 2) if least_objective(other(problem, widths=[k])) == least],
        "largest": [
            m
            for m in range(3)
            if least_objective(other(problem, weight_set=[v for v in problem.weight_set if abs(v) <= m])) == least
        ],
        "weights": [round(64 * (least_objective(other(problem, penalty=1 / 64)) - least))],
    }
    for of, sizes in reached.items():
        found = smallest_network(problem, of, budget=SECONDS, workers=1)
        assert (found.of, found.size, found.errors) == (of, min(sizes), least)
        check(problem, found)


def test_what_was_not_proved_says_so():
    g = torch.Generator().manual_seed(1)
    X, y = torch.randn(40, 12, generator=g).double(), torch.randint(2, (40,), generator=g).tolist()
    problem = NetworkProblem(X, y, [4], weight_set=range(-3, 4))
    for of in ("units", "largest", "weights"):
        found = smallest_network(problem, of, budget=Budget(seconds=0.3))
        own = other(problem, widths=found.widths, weight_set=found.weight_set)
        assert own.errors(own.columns(own.from_weights(own.check_weights(found.weights)))[-1]).item() == found.errors
        assert found.bound == 0
        assert found.size_bound <= found.size
        assert not found.proved


def test_a_callback_watches_and_ends_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpsolve.search.network.whole._smallest_network.MAX_SEARCH", 0.01)
    seen: list[float] = []
    # One that only watches changes nothing, also where the optimum is above 0.
    problem = votes(3, widths=[1])
    least = least_objective(problem)
    assert least > 0
    how: dict[str, Any] = {"budget": SECONDS, "workers": 1}
    watched = smallest_network(problem, "largest", callback=lambda p: bool(seen.append(p.bound)), **how)
    assert (watched.errors, watched.bound) == (least, least)
    ended = smallest_network(problem, "largest", callback=lambda p: True, **how)
    assert len(seen) > 1
    assert ended.bound <= least <= ended.errors


def test_what_makes_no_sense_is_refused():
    bad: list[tuple[NetworkProblem, str, Budget, type[Exception], str]] = [
        (votes(0), "bits", SECONDS, ArgumentError, "of: got 'bits'"),
        (NetworkProblem([[0.0], [1.0]], [0, 1], [1]), "units", SECONDS, NotAcceptedError, "weight_set"),
        (votes(0, penalty=0.5), "units", SECONDS, NotAcceptedError, "penalty"),
        (votes(0, margin=1), "units", SECONDS, NotAcceptedError, "margin"),
        (votes(0, widths=[2, 2]), "units", SECONDS, NotAcceptedError, "one hidden layer"),
        (votes(0), "units", Budget(steps=5), NotAcceptedError, "seconds"),
    ]
    for problem, of, budget, error, words in bad:
        with pytest.raises(error, match=words):
            smallest_network(problem, of, budget=budget)
    fine = NetworkProblem([[0.0], [1.0]], [0, 1], [1], [1.0, math.pi], weight_set="ternary")
    with pytest.raises(ArgumentError, match=r"whole weights"):
        smallest_network(fine, "weights", budget=SECONDS)
