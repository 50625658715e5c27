"""The mixed-integer models of one sample: for every choice of targets they have a solution that costs no more than E.

The solution is written down exactly (each unit pays its own loss, the switch of its margin is on) and put
into every row, in rational arithmetic. So a line that is raised by a hair anywhere shows.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support.zoo import ALL_LOSSES, UNIT_LOSSES, Judge, class_loss, exp, layer_problems, make_problem, unit_loss

from tpsolve import LayerProblem
from tpsolve.losses import ClassLoss
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.search.exact._cp_sat import IntegerModel
from tpsolve.search.exact._linear_model import linear_model
from tpsolve.search.exact._sample_model import Row, SampleModel, Touch, exclusions, first_touch, sample_model

pytestmark = pytest.mark.rounding

HAIR, ROOM = Fraction(1, 10**40), Fraction(1, 10**30)
"""How finely exponentials are rounded here, and the room that leaves for it: nothing beside a float's 1e-16."""


def samples(problem: LayerProblem) -> list[LayerProblem]:
    """Each sample as a problem of its own."""
    return [problem.select(torch.tensor([b])) for b in range(problem.n_samples)]


def energy_of(sample: LayerProblem) -> LayerEnergy:
    return sample.energy64


def touches(energy: LayerEnergy) -> Iterable[Touch]:
    """The first touch, and one that has met the loss at three choices of targets."""
    yield first_touch(energy)
    touch = first_touch(energy)
    n = energy.weight.shape[1]
    for spins in (torch.ones(1, n), -torch.ones(1, n), 2.0 * (torch.arange(n)[None] % 2) - 1):
        touch.add(energy, spins.double())
    yield touch


def every_targets(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


def true_costs(sample: LayerProblem, spins: Sequence[int]) -> list[Fraction]:
    """What the cost variables of a model are for: c phi of each paid unit; or theta and the probabilities."""
    z = Judge(sample).pre(spins)
    if sample.loss == "cross-entropy":
        if sample.unit_weight is not None and not sample.unit_weight[0]:
            return []
        label = int(sample.targets[0])
        theta = class_loss(z, label) + ROOM
        return [theta, *(exp(v - z[label] - theta) + HAIR for v in z)]
    s = [int(v) for v in sample.targets[0].tolist()]
    c = [Fraction(v) for v in ([1.0] * len(s) if sample.unit_weight is None else sample.unit_weight[0].tolist())]
    return [c[k] * unit_loss(sample.loss, z[k], s[k]) for k in range(len(s)) if s[k] and c[k]]


def dot(numbers: Iterable[float], spins: Iterable[int]) -> Fraction:
    return sum((Fraction(float(v)) * t for v, t in zip(numbers, spins, strict=True)), Fraction(0))


def holds(row: Row, spins: Sequence[int], cost: Sequence[Fraction], slack: Fraction = Fraction(0)) -> bool:
    left = dot(row.spins, spins) + sum((cost[v] * k for v, k in row.cost.items()), Fraction(0))
    right = Fraction(float(row.right))
    return left + slack > right if row.strict and not slack else left + slack >= right


def rounding(row: Row) -> Fraction:
    """How far the products of a row may be from exact arithmetic."""
    return Fraction(2) ** -49 * (sum(Fraction(abs(float(v))) for v in row.spins) + abs(Fraction(float(row.right))))


def settles(model: SampleModel, rows: list[list[bool]], always: list[bool]) -> bool:
    """Whether all rows can hold: those without switch, and in each group those of one switch."""
    return all(always) and all(any(all(rows[switch]) for switch in group) for group in model.choices)


def assert_below(sample: LayerProblem, model: SampleModel, exact_numbers: bool) -> None:
    """Assert that every choice of targets has a solution in `model` that costs no more than E."""
    judge = Judge(sample)
    for spins in every_targets(sample.n_vars):
        cost = true_costs(sample, spins)
        # A cost variable ends where the greatest of its lines does, a hair below the loss.
        cost = [min(v, Fraction(float(most))) for v, most in zip(cost, model.upper, strict=True)]
        by_switch: list[list[bool]] = [[] for _ in range(model.n_switches)]
        always = []
        for row in model.rows:
            truth = holds(row, spins, cost, Fraction(0) if exact_numbers else rounding(row))
            (always if row.switch is None else by_switch[row.switch]).append(truth)
        assert settles(model, by_switch, always), f"targets {spins}: E itself is no solution"
        paid = sum((cost[v] for v in model.objective), Fraction(0)) + dot(model.spins, spins)
        total = Fraction(model.factor) * paid + Fraction(model.constant)
        energy = judge.objective(0, spins)
        assert total <= energy + Fraction(1, 10**14) * (1 + energy) + Fraction(model.factor) * ROOM


def least_cost(model: SampleModel, spins: Sequence[int]) -> Fraction:
    """The least that the units of a model pay at these targets, over all switch choices, one by one."""
    least = [math.inf] * len(model.choices)
    total = Fraction(0)
    for v in model.objective:
        rows = [row for row in model.rows if v in row.cost]
        groups = [g for g, group in enumerate(model.choices) if any(row.switch in group for row in rows)]
        options = model.choices[groups[0]] if groups else [None]
        best = []
        for switch in options:
            ranged = [row for row in model.rows if not row.cost and row.switch == switch and switch is not None]
            if all(holds(row, spins, []) for row in ranged):
                need = [Fraction(float(r.right)) - dot(r.spins, spins) for r in rows if r.switch in (None, switch)]
                best.append(max([Fraction(0), *need]))
        assert best, "some switch can be on"
        total += min(best)
    assert len(least) == len(model.choices)
    return total + dot(model.spins, spins)


def integer_rows(built: Any) -> list[tuple[list[int], list[int], int, list[int]]]:
    """(variables, coefficients, lower side, switches) of each linear row of a CP-SAT model."""
    return [
        (list(c.linear.vars), list(c.linear.coeffs), c.linear.domain[0], list(c.enforcement_literal))
        for c in built.proto.constraints
        if c.has_linear()
    ]


def assert_integers_below(sample: LayerProblem, model: SampleModel) -> None:
    """Assert that the integer model's optimum, turned into a bound, is no more than the least E; exactly."""
    scaled = IntegerModel(model)
    built, bits = scaled.build(torch.ones(sample.n_vars))
    first_cost, first_switch = len(bits), len(bits) + len(model.upper)
    domains = [list(v.domain) for v in built.proto.variables]
    rows = integer_rows(built)
    judge = Judge(sample)
    scale = Fraction(scaled.scale)
    for spins in every_targets(sample.n_vars):
        cost = [math.ceil(scale * v) for v in true_costs(sample, spins)]
        cost = [min(v, high) for v, (_, high) in zip(cost, domains[first_cost:first_switch], strict=True)]
        values = [int(t > 0) for t in spins] + cost
        by_switch: list[list[bool]] = [[] for _ in range(model.n_switches)]
        always = []
        for variables, factors, lower, switches in rows:
            left = sum(k * values[v] for v, k in zip(variables, factors, strict=True))
            (by_switch[switches[0] - first_switch] if switches else always).append(left >= lower)
        assert settles(model, by_switch, always), f"targets {spins}: E itself, rounded up, is no solution"
        objective = built.proto.objective
        value = sum(k * values[v] for v, k in zip(objective.vars, objective.coeffs, strict=True))
        bound = scaled.bound(float(value + int(objective.offset)))
        assert Fraction(bound) <= judge.objective(0, spins), f"targets {spins}: the bound is above E"


def assert_program_below(sample: LayerProblem, model: SampleModel) -> None:
    """Assert that the linear program has E itself as a solution, for every choice of targets; exactly."""
    program, judge = linear_model(model), Judge(sample)
    left = [[Fraction(v) for v in row] for row in program.left.tolist()]
    first_switch = model.n + len(model.upper)
    scales = [Fraction(program.factor) * Fraction(program.price[model.n + v]) for v in model.objective]
    # Costs are counted in units of their own.
    scale = {v: Fraction(model.factor) / unit for v, unit in zip(model.objective, scales, strict=True)}
    for spins in every_targets(sample.n_vars):
        values = [Fraction(t > 0) for t in spins]
        for v, cost in enumerate(true_costs(sample, spins)):
            upper = Fraction(program.upper[model.n + v])
            # The upper end of a probability is 1.
            values.append(min(cost * scale.get(v, upper), upper))
        by_switch: list[list[bool]] = [[] for _ in range(model.n_switches)]
        always = []
        for row, factors, low in zip(model.rows, left, program.low.tolist(), strict=False):
            value = sum((k * v for k, v in zip(factors, values, strict=False)), Fraction(0))
            if row.switch is None:
                always.append(value >= Fraction(low))
            else:
                by_switch[row.switch].append(value + factors[first_switch + row.switch] >= Fraction(low))
                nothing = sum((k * v for k, v in zip(factors[: model.n], values, strict=False)), Fraction(0))
                size = sum(map(abs, factors), abs(Fraction(low)))
                assert nothing + size / 2**50 >= Fraction(low), "a row excludes something though its switch is off"
        assert settles(model, by_switch, always), f"targets {spins}: E itself is no solution"
        paid = sum((Fraction(program.price[j]) * v for j, v in enumerate(values)), Fraction(0))
        energy = judge.objective(0, spins)
        assert Fraction(program.energy(float(paid))) <= energy + Fraction(1, 10**12) * (1 + energy)


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.slow
def test_models_of_whole_numbers_lie_below_e_without_any_tolerance(loss: str):
    for seed in range(6):
        problem = make_problem(seed, n=4, m=3, loss=loss, batch=(2,), weighted=True, stay=0.5, whole=True)
        for sample in samples(problem):
            for touch in touches(energy_of(sample)):
                assert_below(sample, sample_model(energy_of(sample), touch), exact_numbers=True)


@pytest.mark.parametrize("classes", [2, 4, 8, 16])
def test_tangents_that_touch_a_probability_exactly_lie_below_e(classes: int):
    # Equal rows: every class has the probability 1 / classes, whatever the targets are.
    sample = LayerProblem(torch.ones(classes, 2), [0], loss="cross-entropy")
    assert_below(sample, sample_model(energy_of(sample), first_touch(energy_of(sample))), exact_numbers=True)


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.slow
def test_models_of_any_numbers_lie_below_e_but_for_rounding(loss: str):
    @settings(max_examples=25)
    @given(layer_problems(loss, most_targets=4, most_units=4))
    def check(problem: LayerProblem) -> None:
        for sample in samples(problem):
            for touch in touches(energy_of(sample)):
                assert_below(sample, sample_model(energy_of(sample), touch), exact_numbers=False)

    check()


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.slow
def test_integer_models_lie_below_e_without_any_tolerance(loss: str):
    @settings(max_examples=25)
    @given(layer_problems(loss, most_targets=4, most_units=4))
    def check(problem: LayerProblem) -> None:
        for sample in samples(problem):
            for touch in touches(energy_of(sample)):
                assert_integers_below(sample, sample_model(energy_of(sample), touch))

    check()


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.slow
def test_linear_programs_lie_below_e_without_any_tolerance(loss: str):
    @settings(max_examples=8)
    @given(layer_problems(loss, most_targets=4, most_units=4))
    def check(problem: LayerProblem) -> None:
        for sample in samples(problem):
            for touch in touches(energy_of(sample)):
                assert_program_below(sample, sample_model(energy_of(sample), touch))

    check()


@pytest.mark.parametrize("loss", ["hinge", "zero-one"])
def test_weights_too_small_for_highs_loosen_their_rows(loss: str):
    weight = torch.tensor([[1.0, 1e-11, -1e-11], [1e-11, 1.0, 1e-11]], dtype=torch.float64)
    for targets in ([1, 1], [1, -1], [-1, -1]):
        sample = LayerProblem(weight, [targets], [-1.0, -1.0], loss)
        assert_program_below(sample, sample_model(energy_of(sample), first_touch(energy_of(sample))))


def test_integer_models_lie_below_e_where_products_round_to_whole_numbers():
    # c w1 and c w2 round to 2^20, c b to -2^21 - 1; in truth the first unit costs 1.6e-10 less than the 1 they make.
    third, w1 = 1 / 3, 3.0 * 2**20
    weight = torch.tensor([[w1, math.nextafter(w1, math.inf)], [1.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([[third, 1.0]], dtype=torch.float64)
    both = LayerProblem(weight, [[1, -1]], [-2 * w1 - 3, 0.0], "perceptron", weights)
    # With a third weight in place of the bias only products of weights and unit weights round.
    alone = LayerProblem(torch.cat([weight[:1], 3 * weight[1:, :1]], 1), [[1]], None, "perceptron", weights[:, :1])
    for sample in (both, alone):
        assert_integers_below(sample, sample_model(energy_of(sample), first_touch(energy_of(sample))))


@pytest.mark.parametrize("seed", range(5))
def test_linear_programs_of_real_numbers_lie_below_e(seed: int):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    sample = LayerProblem(
        weight, [[1, -1, 1, -1]], torch.randn(4, generator=generator).double() / 3, "hinge", [1 / 3] * 4
    )
    assert_program_below(sample, sample_model(energy_of(sample), first_touch(energy_of(sample))))


@pytest.mark.parametrize("loss", ["saturated-hinge", "soft-hinge", "zero-one"])
def test_conditional_rows_fit_32_bits(loss: str):
    # CP-SAT sums them in 32 bits in places.
    sample = make_problem(3, n=6, m=4, loss=loss, batch=(1,), weighted=True)
    built, _ = IntegerModel(sample_model(energy_of(sample), first_touch(energy_of(sample)))).build(torch.ones(6))
    domains = [list(v.domain) for v in built.proto.variables]
    rows = [row for row in integer_rows(built) if row[3]]
    assert rows
    for variables, factors, lower, _ in rows:
        ends = [abs(k) * max(map(abs, domains[v])) for v, k in zip(variables, factors, strict=True)]
        assert sum(ends) + abs(lower) < 2**31


@pytest.mark.parametrize("loss", UNIT_LOSSES)
def test_least_cost_is_e_where_the_model_is_exact_or_touched(loss: str):
    for seed in range(4):
        problem = make_problem(seed, n=3, m=3, loss=loss, weighted=True, stay=0.5, whole=True)
        (sample,) = samples(problem)
        energy, judge = energy_of(sample), Judge(sample)
        touch = first_touch(energy)
        for spins in every_targets(3):
            touch.add(energy, torch.tensor([spins], dtype=torch.float64))
        model = sample_model(energy, touch)
        assert model.exact == (loss in ("perceptron", "hinge", "saturated-hinge", "zero-one"))
        for spins in every_targets(3):
            total = Fraction(model.factor) * least_cost(model, spins) + Fraction(model.constant)
            assert abs(total - judge.objective(0, spins)) <= 1e-10


@pytest.mark.parametrize(("factor", "constant"), [(1.0, 0.0), (1.0, 0.7), (1 / 3, 0.0), (1e3 / 7, 0.1)])
def test_bounds_are_no_more_than_exact_arithmetic_makes_of_their_integers(factor: float, constant: float):
    scaled = IntegerModel(SampleModel(2, np.array([0.3, -1 / 3]), constant, factor))
    slack = sum(abs(Fraction(scaled.scale * v) - round(scaled.scale * v)) for v in (0.3, -1 / 3))
    for integer in (*range(-20, 20), *(2**45 + 7 * k for k in range(40))):
        exact = Fraction(factor) * (integer - slack) / Fraction(scaled.scale) + Fraction(constant)
        bound = Fraction(scaled.bound(float(integer)))
        assert exact - Fraction(1, 2**40) * (1 + abs(exact)) <= bound <= exact


@pytest.mark.parametrize("loss", ["perceptron", "hinge", "saturated-hinge", "zero-one"])
def test_least_integer_cost_of_whole_numbers_is_e(loss: str):
    # A unit weight of 3 must not cost the bound a whole unit of a coarse scale.
    for seed in range(4):
        (sample,) = samples(make_problem(seed, n=3, m=3, loss=loss, weighted=True, whole=True))
        model = sample_model(energy_of(sample), first_touch(energy_of(sample)))
        scaled, judge = IntegerModel(model), Judge(sample)
        built, bits = scaled.build(torch.ones(3))
        rows, first_switch = integer_rows(built), len(bits) + len(model.upper)
        for spins in every_targets(3):
            values = [int(t > 0) for t in spins]
            total = Fraction(0)
            for v in range(len(model.upper)):
                needs: dict[int | None, int] = {}
                for group in model.choices:
                    for switch in group:
                        ranges = [r for r in rows if r[3] == [first_switch + switch] and max(r[0], default=0) < 3]
                        if all(sum(k * values[j] for j, k in zip(r[0], r[1], strict=True)) >= r[2] for r in ranges):
                            needs.setdefault(switch, 0)
                for variables, factors, lower, switches in rows:
                    if 3 + v in variables:
                        rest = sum(k * values[j] for j, k in zip(variables, factors, strict=True) if j < 3)
                        switch = switches[0] - first_switch if switches else None
                        if switch in needs or switch is None:
                            needs[switch] = max(needs.get(switch, 0), lower - rest)
                own = [
                    g
                    for g in model.choices
                    if any(3 + v in r[0] and r[3] == [first_switch + s] for r in rows for s in g)
                ]
                always = needs.get(None, 0)
                total += min(max(always, needs[s]) for s in own[0] if s in needs) if own else always
            assert abs(total / Fraction(scaled.scale) - judge.objective(0, spins)) <= 1e-6


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_touching_twice_adds_nothing(loss: str):
    energy = energy_of(make_problem(1, n=4, m=3, loss=loss, batch=(1,)))
    touch, spins = first_touch(energy), torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)
    assert touch.add(energy, spins)
    assert not touch.add(energy, spins)
    assert touch.add(energy, -spins)
    assert len(touch.points) == 3


def test_cross_entropy_model_is_tight_where_it_was_touched():
    # Every exponential's tangent is within 1/1024 of its slope, which costs a part in 2^21: well inside 1e-6.
    from scipy.optimize import linprog

    problem = make_problem(2, n=3, m=3, loss="cross-entropy", batch=(1,))
    energy, judge = energy_of(problem), Judge(problem)
    assert isinstance(energy.loss, ClassLoss)
    for spins in every_targets(3):
        touch = first_touch(energy)
        targets = torch.tensor([spins], dtype=torch.float64)
        touch.add(energy, targets)
        model = sample_model(energy, touch)
        left, right = [], []
        for row in model.rows:
            left.append([-float(row.cost.get(v, 0)) / max(row.cost.values()) for v in range(len(model.upper))])
            right.append((float(dot(row.spins, spins)) - row.right) / max(row.cost.values()))
        # The row of probabilities has negative costs alone.
        for i, row in enumerate(model.rows):
            if max(row.cost.values()) <= 0:
                left[i] = [-float(row.cost.get(v, 0)) for v in range(len(model.upper))]
                right[i] = float(dot(row.spins, spins)) - row.right
        price = [1.0 if v in model.objective else 0.0 for v in range(len(model.upper))]
        least = linprog(price, A_ub=left, b_ub=right, bounds=[(0, float(m)) for m in model.upper]).fun
        energy_there = float(judge.objective(0, spins))
        assert energy_there - 1e-6 <= least <= energy_there + 1e-9


@pytest.mark.parametrize("stay", [0.0, 0.3])
@pytest.mark.parametrize("loss", UNIT_LOSSES)
def test_what_is_excluded_costs_no_less(loss: str, stay: float):
    problem = make_problem(6, n=5, m=4, loss=loss, weighted=True, stay=stay).flatten()
    energy, judge = energy_of(problem), Judge(problem)
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=5)), dtype=torch.float64)
    exact = [judge.objectives(t[None])[0] for t in every]
    paid = energy.loss.value(energy.pre(every), energy.targets)  # pyright: ignore[reportCallIssue]
    model, many = sample_model(energy, first_touch(energy)), 0
    unit_of = {switch: (k, constant) for k, flat in model.flat.items() for switch, constant in flat}
    for number, targets in enumerate(every):
        found = exclusions(model, energy, targets[None])
        for one in found:
            kept = (every[:, one.flips] == targets[one.flips]).all(1)
            for switch in one.switches:
                k, constant = unit_of[switch]
                # Levels are summed in another order than losses are.
                kept &= paid[:, k] >= constant - 1e-9
            assert kept[number]
            assert all(exact[other] >= exact[number] for other in kept.nonzero()[:, 0].tolist())
            many += int(kept.sum()) - 1
        assert len(found) == 1 or len(found[1].flips) == 5
    # The squared loss knows no side; the others leave out more than what was tried.
    assert (many > 0) == (loss != "squared")


def test_linear_programs_leave_out_what_is_excluded_and_nothing_else():
    energy = energy_of(make_problem(6, n=5, m=4, loss="zero-one", weighted=True).flatten())
    model, targets = sample_model(energy, first_touch(energy)), torch.ones(1, 5, dtype=torch.float64)
    found = exclusions(model, energy, targets)
    program, count = linear_model(model, found), len(model.rows) + len(model.choices)
    assert len(found) == 2
    for spins in itertools.product((-1.0, 1.0), repeat=5):
        for on in (0.0, 1.0):
            x = np.zeros(program.left.shape[1])
            x[:5] = (np.array(spins) + 1) / 2
            x[len(x) - model.n_switches :] = on
            for row, one in enumerate(found, start=count):
                kept = all(spins[j] == one.targets[j] for j in one.flips) and (on == 1 or not one.switches)
                assert bool(program.left[row] @ x >= program.low[row]) != kept


def test_a_limit_on_the_objective_leaves_the_targets_that_reach_it():
    from ortools.sat.python import cp_model

    problem = LayerProblem(torch.tensor([[1.0, -2.0], [3.0, 1.0], [2.0, 2.0]]), [[1, -1, -1]], loss="hinge")
    (sample,) = samples(problem)
    scaled = IntegerModel(sample_model(energy_of(sample), first_touch(energy_of(sample))))
    assert scaled.scale_is_exact()
    best = min(float(problem.objective(torch.tensor([spins]).float())) for spins in every_targets(2))
    for most, there in ((best, True), (best - 3, False)):
        built, _ = scaled.build(torch.ones(2), max_objective=most)
        assert (cp_model.CpSolver().solve(built) == cp_model.OPTIMAL) == there


def test_a_model_lies_below_a_pull_and_a_stay_that_cancel():
    # As in the test of the problem's own rounding: float64 makes 1.2e-4 of what is 7.0e-5 exactly.
    kappa, pull = 8151246745395.185, -815124674539.5184
    weight = torch.tensor([[10.0]], dtype=torch.float64)
    problem = LayerProblem(weight, [-1], start=[1.0], stay=0.1, stay_weight=[kappa], pull=[pull])
    (sample,) = samples(problem)
    model = sample_model(energy_of(sample), first_touch(energy_of(sample)))
    exact = max(Fraction(0), Fraction(pull) + Fraction(0.1) * Fraction(kappa))
    assert Fraction(model.constant) - Fraction(float(model.spins[0])) <= exact
