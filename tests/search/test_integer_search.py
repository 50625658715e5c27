"""Networks with whole weights: the move against recomputation, and the search against trying all weights."""

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.whole_oracle import errors_of, lacking, least_objective, outputs_of

from tpsolve import Budget, NetworkProblem, Status, solve
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.search import IntegerSearch
from tpsolve.search.network.whole._batches import BatchWalk
from tpsolve.search.network.whole._copies import NEAR, RELIEF, STRESS, Copies
from tpsolve.search.network.whole._unit_moves import TwoValues, Window, best_move, sorted_changes
from tpsolve.spins import sign

SETS = {"ternary": "ternary", "binary": "binary", "seven": range(-3, 4), "odd": [-2, 1, 5]}
INPUTS = {"spins": (-1, 1), "bits": (0, 1), "constant": (2,), "whole": range(-3, 4), "real": (-0.75, 0.125, 0.5, 1.25)}


def random_problem(seed: int, points: int, inputs: str, classes: int, widths: list[int], **sets: Any) -> NetworkProblem:
    g = torch.Generator().manual_seed(seed)
    values = torch.tensor([float(v) for v in INPUTS[inputs]], dtype=torch.float64)
    X = values[torch.randint(len(values), (points, 3), generator=g)]
    y = [*range(classes), *torch.randint(classes, (points - classes,), generator=g).tolist()]
    return NetworkProblem(X, y, widths, torch.randint(1, 4, (points,), generator=g), **sets)


def random_layers(copies: Copies, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    problem, layers = copies.problem, []
    allowed = copies.biases if copies.biases is not None else torch.arange(-2, 3).to(copies.inputs)
    for n, units in zip((problem.inputs.shape[1], *problem.widths), problem.layers, strict=True):
        weight = torch.randint(len(copies.values), (count, units, n), generator=copies.generator)
        bias = torch.randint(len(allowed), (count, units), generator=copies.generator)
        layers.append((copies.values[weight], allowed[bias]))
    return layers


def true_cost(
    problem: NetworkProblem, layers: list[tuple[torch.Tensor, torch.Tensor]], row: int, stress: torch.Tensor
) -> float:
    """Errors, what wrong outputs of several count, the penalty, and what lacks a margin, of one network, by loops.

    Errors at each point count `stress (R, M)` times.
    """
    points, price = problem.inputs.tolist(), 0.0
    stressed = copy.copy(problem)
    stressed.counts = problem.counts * stress[row, :, None]
    columns: list[tuple[int, ...]] = []
    price += lacking(problem, [(weight[row], bias[row]) for weight, bias in layers])
    for feature, own in enumerate(problem.prices):
        price += own * int((layers[0][0][row][:, feature] != 0).sum())
    for weight, bias in layers:
        columns = [outputs_of(points, w, b) for w, b in zip(weight[row].tolist(), bias[row].tolist(), strict=True)]
        points = [list(point) for point in zip(*columns, strict=True)]
        price += problem.penalty * int((weight[row] != 0).sum())
    if len(columns) > 1:
        for counts, named, wanted in zip(stressed.counts.tolist(), points, problem.wanted.tolist(), strict=True):
            price += NEAR * sum(counts) * sum(o != w for o, w in zip(named, wanted, strict=True)) / len(wanted)
    return errors_of(stressed, columns) + price


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    inputs=st.sampled_from(sorted(INPUTS)),
    weights=st.sampled_from(sorted(SETS)),
    biases=st.sampled_from([None, (-4, -1, 0, 2), range(-3, 4)]),
    classes=st.sampled_from([2, 3]),
    widths=st.sampled_from([[2], [3, 2]]),
    penalty=st.sampled_from([0.0, 0.25]),
    margin=st.sampled_from([None, 0, 1, 3]),
)
def test_every_change_of_a_weight_and_the_bias_costs_what_recomputing_says(
    seed: int,
    inputs: str,
    weights: str,
    biases: Any,
    classes: int,
    widths: list[int],
    penalty: float,
    margin: int | None,
):
    sets: dict[str, Any] = {"weight_set": SETS[weights], "bias_set": biases, "penalty": penalty, "margin": margin}
    sets |= {} if margin is None else {"margin_price": 0.125}
    problem = random_problem(seed, 6, inputs, classes, widths, **sets)
    copies = Copies(problem, torch.Generator().manual_seed(seed), window=3)
    layers = random_layers(copies, 2)
    d, j = copies.units[seed % len(copies.units)]
    walk = copies.walk(layers)
    walk.stress = torch.randint(1, 4, (2, len(problem.inputs)), generator=copies.generator).to(copies.inputs)
    unit = walk.unit(d, j)
    before = [true_cost(problem, layers, row, walk.stress) for row in range(2)]
    two = copies.two_values if d == 0 else TwoValues.of_spins(unit.below)
    assert (two is None) == (d == 0 and inputs in ("whole", "real") and copies.two_values is None)
    ways = [sorted_changes(unit, copies.values, copies.biases, whole=d > 0 or inputs != "real")]
    if two is not None:
        window = Window(two, copies.values, 3)
        ways.append(window.changes(unit, two, copies.biases))
        # Of some values, places are computed anew.
        every = torch.arange(len(copies.values))
        assert torch.equal(window.changes(unit, two, copies.biases, every).worth, ways[-1].worth)
    for changes in ways:
        bias = changes.bias.expand_as(changes.worth)
        offered = torch.isfinite(changes.worth)
        assert offered.flatten(1).any(1).all() or biases is not None
        for row, q, v, t in offered.nonzero().tolist():
            tried = [(w.clone(), b.clone()) for w, b in layers]
            tried[d][0][row, j, q], tried[d][1][row, j] = copies.values[v], bias[row, q, v, t]
            told = changes.worth[row, q, v, t] - changes.present[row]
            told += problem.penalty * (float(copies.values[v] != 0) - float(unit.weight[row, q] != 0))
            assert float(told) == pytest.approx(true_cost(problem, tried, row, walk.stress) - before[row], abs=1e-4)
        features = torch.arange(unit.weight.shape[1])
        move = best_move(changes, copies.values, copies.extra(d, unit.weight), features, copies.ties)
        for row in (move.cost < torch.inf).nonzero()[:, 0].tolist():
            tried = [(w.clone(), b.clone()) for w, b in layers]
            tried[d][0][row, j, move.feature[row]], tried[d][1][row, j] = move.value[row], move.bias[row]
            assert float(move.cost[row]) == pytest.approx(
                true_cost(problem, tried, row, walk.stress) - before[row], abs=1e-4
            )
            paid = penalty * ((copies.values != 0).double() - (unit.weight[row, :, None] != 0).double())
            least = (changes.worth[row] + paid[..., None]).min() - changes.present[row]
            assert float(move.cost[row]) == pytest.approx(float(least), abs=1e-4)


@pytest.mark.parametrize("margin", [None, 1])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("inputs", ["spins", "real"])
def test_a_walk_knows_what_its_networks_cost(inputs: str, classes: int, margin: int | None):
    sets = {"weight_set": "ternary", "penalty": 0.25, "margin": margin, "prices": {1: 0.5, 2: 0.125}}
    problem = random_problem(3, 7, inputs, classes, [2, 2], **sets)
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    layers = random_layers(copies, 3)
    walk, once = copies.walk(layers), torch.ones(3, len(problem.inputs))
    cost = walk.stressed(torch.ones(3, dtype=torch.bool))
    for number in range(40):
        cost = cost + walk.move(*copies.units[number % len(copies.units)])
        assert walk.cost().tolist() == pytest.approx([true_cost(problem, layers, row, once) for row in range(3)])
        told = walk.stressed(torch.tensor([True, True, False])).tolist()
        told[2] += float(copies.paid(layers)[2])
        assert told == pytest.approx([true_cost(problem, layers, row, walk.stress) for row in range(3)])
        assert cost.tolist() == pytest.approx(told)
        if number % 3 == 2:
            before = walk.stress.clone()
            walk.raise_stress(torch.tensor([True, False, True]))
            assert torch.equal(walk.stress[1], once[1].to(before))
            assert bool((walk.stress >= 1).all())
            cost = walk.stressed(torch.ones(3, dtype=torch.bool))
    assert bool((walk.stress[0] > 1).any())
    walk.begin(torch.tensor([True, False, False]))
    assert walk.stress[0].tolist() == once[0].tolist()


@pytest.mark.parametrize("rules", [{}, {"max_fan_in": 2}, {"monotone": [1, -1, 0], "groups": [([1, 2], 1)]}], ids=str)
@pytest.mark.parametrize("inputs", ["spins", "whole", "real"])
def test_pairs_of_changes_cost_what_they_say_and_keep_to_rules(inputs: str, rules: dict[str, Any]):
    problem = random_problem(4, 7, inputs, 2, [2, 2], weight_set="ternary", penalty=0.25, margin=1, **rules)
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    layers = copies.without_inputs(4)
    walk, once = copies.walk(layers), torch.ones(4, len(problem.inputs))
    cost, most = walk.cost(), 0
    for number in range(60):
        before = [weight.clone() for weight, _ in layers]
        change = walk.move_pair(*copies.units[number % len(copies.units)])
        most = max(most, *(int((w != b).sum((1, 2)).max()) for (w, _), b in zip(layers, before, strict=True)))
        assert bool((change <= copies.slack).all())
        cost = cost + change
        assert walk.cost().tolist() == pytest.approx(cost.tolist())
        assert cost.tolist() == pytest.approx([true_cost(problem, layers, row, once) for row in range(4)])
        for row in range(4):
            problem.check_weights([(weight[row].double(), bias[row].double()) for weight, bias in layers])
    assert most == 2


def test_a_pair_swaps_features_where_no_more_are_allowed():
    # The unit may read one feature, and the one that it reads is of use: only a pair of changes gets it to the better.
    X = torch.tensor([[1.0, 1], [1, 1], [1, -1], [-1, -1], [-1, -1]])
    problem = NetworkProblem(X, [1, 1, 0, 0, 0], [1], weight_set="ternary", max_fan_in=1)
    copies = Copies(problem, torch.Generator().manual_seed(0), window=2)
    stuck = [(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.0]])), (torch.tensor([[[1.0]]]), torch.tensor([[0.0]]))]
    for pair in (False, True):
        layers = [(weight.clone(), bias.clone()) for weight, bias in stuck]
        walk = copies.walk(layers)
        for _ in range(20):
            (walk.move_pair if pair else walk.move)(0, 0)
        assert walk.cost().tolist() == [0.0 if pair else 1.0]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("inputs", ["spins", "real"])
def test_moves_found_on_some_points_never_cost_more_on_all(inputs: str, classes: int):
    problem = random_problem(5, 30, inputs, classes, [3, 2], weight_set="ternary", penalty=0.25, margin=1)
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    layers = random_layers(copies, 3)
    walk, once = BatchWalk(copies, layers, 4), torch.ones(3, len(problem.inputs))
    for number in range(80):
        before = walk.cost
        change = walk.move(*copies.units[number % len(copies.units)])
        assert walk.cost.tolist() == pytest.approx((before + change).tolist())
        assert bool((change <= copies.slack).all())
        if number % 8 == 7:
            assert walk.cost.tolist() == pytest.approx([true_cost(problem, layers, row, once) for row in range(3)])
    assert 0 < walk.made < walk.tried


@pytest.mark.parametrize("classes", [2, 3])
def test_points_alone_cost_what_a_problem_of_them_says(classes: int):
    problem = random_problem(6, 12, "spins", classes, [2], weight_set="ternary", margin=1)
    rows = torch.tensor([4, 0, 2])
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    layers = random_layers(copies, 3)
    of_points, each = copies.at(rows).cost(layers), copies.costs(sign(copies.sums(layers)))
    each = each + copies.lacking(copies.sums(layers))
    assert of_points.tolist() == pytest.approx(each[:, rows].sum(1).tolist())
    assert copies.cost(layers).tolist() == pytest.approx(each.sum(1).tolist())


def test_large_tables_are_searched_by_some_of_their_points():
    g = torch.Generator().manual_seed(0)
    X = 2.0 * torch.randint(0, 2, (600, 12), generator=g) - 1
    y = (X[:, :5].sum(1) > 0).long() + (X[:, 5:10].sum(1) > 0).long()
    problem = NetworkProblem(X, y, [6], weight_set="ternary")
    results = [
        solve(problem, f"integer-search:batch=100,first_steps={steps}", budget=Budget(steps=after))
        for steps, after in ((200, 1), (200, 300))
    ]
    trained, searched = (result.objective.item() for result in results)
    assert searched < trained < problem.objective(problem.start, problem.start_weights).item()
    assert results[1].stats["changes"]["made"] > 0


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("biases", [None, (-2, 0, 1, 2)], ids=str)
@pytest.mark.parametrize("inputs", ["spins", "whole", "real"])
def test_units_share_a_bias(inputs: str, biases: Any, batch: int | None):
    sets: dict[str, Any] = {"weight_set": "ternary", "bias_set": biases, "shared_bias": True}
    problem = random_problem(7, 12, inputs, 2, [3, 2], penalty=0.25, margin=1, **sets)
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    layers, once = copies.without_inputs(3), torch.ones(3, len(problem.inputs))
    for _, bias in layers[:-1]:
        bias[:] = 2.0
    walk = copies.walk(layers) if batch is None else BatchWalk(copies, layers, batch)
    cost, seen = copies.cost(layers), set[float]()
    moves = [*copies.units, (0, None), (1, None)]
    for number in range(60):
        d, j = moves[number % len(moves)]
        if isinstance(walk, BatchWalk):
            change = walk.move(d, j)
        else:
            change = walk.move_bias(d) if j is None else walk.move_pair(d, j) if number % 2 else walk.move(d, j)
        assert bool((change <= copies.slack).all())
        cost = cost + change
        assert cost.tolist() == pytest.approx([true_cost(problem, layers, row, once) for row in range(3)])
        for row in range(3):
            problem.check_weights([(weight[row].double(), bias[row].double()) for weight, bias in layers])
        seen |= set(layers[0][1].flatten().tolist())
    assert len(seen) > 1


def test_wrong_points_count_more_and_in_time_less_again():
    # A contradiction of equal weights, one that leans to the second class, a plain point, and one that is right.
    X = [[0.0], [0.0], [1.0], [1.0], [2.0], [3.0]]
    problem = NetworkProblem(X, [0, 1, 0, 1, 1, 0], [1], [2, 2, 1, 3, 5, 1], weight_set="ternary")
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    none = [(torch.zeros(2, 1, 1), torch.full((2, 1), -1.0)) for _ in range(2)]
    walk = copies.walk(none)
    for _ in range(RELIEF - 1):
        walk.raise_stress(torch.tensor([True, False]))
    most = 1 + STRESS * (RELIEF - 1)
    assert walk.stress.tolist() == [[1.0, most, most, 1.0], [1.0] * 4]
    walk.raise_stress(torch.tensor([True, False]))
    assert walk.stress.tolist() == [[1.0, most, most, 1.0], [1.0] * 4]
    # Errors 2, 3, 5 and 0, with their stress.
    assert walk.stressed(torch.ones(2, dtype=torch.bool)).tolist() == [2 + 3 * most + 5 * most, 10]
    assert walk.cost().tolist() == [10, 10]


@pytest.mark.parametrize("biases", [None, (-4, -1, 0, 2)], ids=str)
@pytest.mark.parametrize("inputs", ["spins", "whole", "real"])
def test_sorted_thresholds_reach_every_column(inputs: str, biases: tuple[int, ...] | None):
    # Of each changed weight all columns that some threshold gives, one each.
    problem = random_problem(1, 6, inputs, 2, [1], weight_set="ternary", bias_set=biases)
    copies = Copies(problem, torch.Generator().manual_seed(0), window=3)
    layers = random_layers(copies, 1)
    unit = copies.walk(layers).unit(0, 0)
    changes = sorted_changes(unit, copies.values, copies.biases, whole=inputs != "real")
    bias = changes.bias.expand_as(changes.worth)
    for q, v in itertools.product(range(3), range(3)):
        weight = unit.weight[0].tolist()
        weight[q] = int(copies.values[v])
        offered = torch.isfinite(changes.worth[0, q, v])
        got = {outputs_of(problem.inputs.tolist(), weight, b) for b in bias[0, q, v][offered].tolist()}
        places = [b / 16 for b in range(-16 * 11, 16 * 11)] if biases is None else biases
        if weight == unit.weight[0].tolist():
            # A bias alone changes beside the first weight, and no change is none.
            assert q == 0 or not got
            got |= {outputs_of(problem.inputs.tolist(), weight, float(unit.bias[0]))}
            places = places if q == 0 else [float(unit.bias[0])]
        assert got == {outputs_of(problem.inputs.tolist(), weight, b) for b in places}


@pytest.mark.parametrize(
    ("inputs", "classes", "sets"),
    [
        ("spins", 2, {"weight_set": "ternary", "bias_set": range(-3, 4)}),
        ("bits", 2, {"weight_set": "binary", "bias_set": range(-2, 3)}),
        ("whole", 2, {"weight_set": [-2, 0, 1], "bias_set": [-1, 0, 1], "penalty": 0.25}),
        ("real", 2, {"weight_set": "ternary", "bias_set": [-1, 0, 1]}),
        ("bits", 2, {"weight_set": "ternary", "bias_set": [-1, 0, 1], "penalty": 0.125, "prices": [0.5, 0, 1]}),
        ("bits", 3, {"weight_set": "ternary", "bias_set": [-1, 0, 1]}),
        ("bits", 2, {"weight_set": "ternary", "bias_set": [-1, 0, 1], "margin": 1, "margin_price": 0.5}),
        ("real", 3, {"weight_set": "binary", "bias_set": [-1, 0, 2], "margin": 2, "margin_price": 0.125}),
        ("bits", 2, {"weight_set": "ternary", "bias_set": range(-2, 3), "shared_bias": True}),
        ("real", 2, {"weight_set": [-2, 1], "bias_set": [-1, 0, 1], "shared_bias": True, "penalty": 0.25}),
    ],
    ids=lambda value: str(value) if not isinstance(value, dict) else " ".join(map(str, value.values())),
)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.slow
def test_small_networks_are_as_good_as_any_of_all_weights(inputs: str, classes: int, sets: dict[str, Any], seed: int):
    problem = random_problem(seed, 6 if classes == 2 else 5, inputs, classes, [2], **sets)
    result = solve(problem, IntegerSearch(), budget=Budget(steps=1000))
    assert result.objective.item() == least_objective(problem)


def test_weights_travel_with_the_result_and_give_its_targets():
    X = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    problem = NetworkProblem(X, (X.prod(1) > 0).tolist(), [3], weight_set="ternary")
    result = solve(problem, "integer-search", budget=Budget(steps=2000))
    assert (result.objective.item(), result.status) == (0.0, Status.OPTIMAL)
    weights = result.stats["weights"]
    assert {v for weight, _ in weights for v in weight.flatten().tolist()} <= {-1.0, 0.0, 1.0}
    assert problem.objective(result.targets, weights).item() == 0
    outputs = problem.network(result.targets, weights)(problem.samples)
    assert problem.predict(outputs) == (X.prod(1) > 0).tolist()


def test_weights_that_must_pay_are_few():
    X = 2.0 * torch.randint(0, 2, (200, 100), generator=torch.Generator().manual_seed(0)) - 1
    problem = NetworkProblem(X, (X[:, 3] > 0).long(), [16], weight_set="ternary", penalty=0.5)
    result = solve(problem, "integer-search:first_steps=100", budget=Budget(steps=150))
    # One input, and one unit that is read.
    assert result.objective.item() == 1.0
    assert problem.nonzero(result.stats["weights"]) == 2


def test_no_solver_named_means_the_one_that_is_made_for_whole_weights():
    problem = NetworkProblem([[0.0], [1.0], [2.0]], [0, 1, 0], [2], weight_set="binary")
    result = solve(problem, budget=Budget(steps=200))
    assert result.stats["taken"] == "integer-search"
    assert result.objective.item() == 0
    assert result.stats["weights"]


def test_bad_settings_and_other_problems_are_refused():
    settings: list[dict[str, Any]] = [
        {"copies": 0},
        {"window": 0},
        {"share": 1.0},
        {"share": -0.1},
        {"first_steps": -1},
        {"pairs": 1.5},
        {"batch": 0},
    ]
    for bad in settings:
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            IntegerSearch(**bad)
    with pytest.raises(NotAcceptedError, match=r"real weights.*weight_set"):
        solve(NetworkProblem([[0.0], [1.0]], [0, 1], [1]), "integer-search", budget=Budget(steps=1))
