"""Network problems against a slow judge: separability by trying every circuit in exact arithmetic."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tpsolve
from tpsolve import Budget, NetworkProblem, load_problem, solve
from tpsolve.errors import ArgumentError, NotAcceptedError, NotFiniteError, ShapeError, TooLargeError, ValueSetError
from tpsolve.problems.network._labels import MAX_CLASSES
from tpsolve.search import Keep, Solver

XOR = ([[0, 0], [0, 1], [1, 0], [1, 1]], [-1, 1, 1, -1])


def separable(points: list[list[int]], column: list[int]) -> bool:
    """By Gordan's theorem: no nonnegative dependency of the signed points (x, 1); each minimal one has <= p + 2."""
    signed = [[t * v for v in (*x, 1)] for x, t in zip(points, column, strict=True)]
    for size in range(1, len(points[0]) + 3):
        for chosen in itertools.combinations(signed, size):
            null = sympy.Matrix(chosen).T.nullspace()
            if len(null) == 1 and (all(v > 0 for v in null[0]) or all(v < 0 for v in null[0])):
                return False
    return True


def judge(problem: NetworkProblem, X: list[list[int]], y: list[int], targets: Tensor) -> float:
    """Errors of a two-class problem, sample by sample, or infinity."""
    layers = [columns.int().tolist() for columns in problem.columns(targets)]
    points = problem.inputs.int().tolist()
    for below, above in itertools.pairwise([points, *layers]):
        if not all(separable(below, [row[k] for row in above]) for k in range(len(above[0]))):
            return float("inf")
    second = max(y)
    wrong = 0
    for x, label in zip(X, y, strict=True):
        output = layers[-1][points.index(x)][0]
        wrong += (output > 0) != (label == second and len(set(y)) > 1)
    return wrong


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    """Points of a small grid with duplicates, on lines, some labels contradicting each other."""
    count, features = draw(st.integers(2, 5)), draw(st.integers(1, 2))
    value = st.integers(0, 2)
    X = draw(st.lists(st.lists(value, min_size=features, max_size=features), min_size=count, max_size=count))
    return X, draw(st.lists(st.sampled_from([-1, 1]), min_size=count, max_size=count))


@settings(max_examples=40, deadline=None)
@given(tables(), st.sampled_from([[1], [2], [2, 1]]), st.integers(0, 2**31))
def test_objective_is_that_of_the_slow_judge(table: tuple[list[list[int]], list[int]], widths: list[int], seed: int):
    problem = NetworkProblem(*table, widths)
    generator = torch.Generator().manual_seed(seed)
    targets = tpsolve.spins.random_spins((problem.n_vars,), generator, dtype=torch.float64)
    assert problem.objective(targets).item() == judge(problem, *table, targets)


@settings(max_examples=25, deadline=None)
@given(tables(), st.sampled_from([[1], [3], [2, 2]]), st.integers(0, 2**31))
def test_a_network_s_targets_come_back_from_the_network_built_from_them(
    table: tuple[list[list[int]], list[int]], widths: list[int], seed: int
):
    problem = NetworkProblem(*table, widths)
    sizes = itertools.pairwise([problem.inputs.shape[1], *problem.layers])
    torch.manual_seed(seed)
    targets = problem.from_network(nn.Sequential(*[nn.Linear(a, b).double() for a, b in sizes]))
    network = problem.network(targets)
    assert torch.equal(problem.from_network(network), targets)
    # What the network says of each sample, counted by hand.
    named = problem.predict(network(problem.samples))
    assert problem.objective(targets).item() == sum(a != b for a, b in zip(named, table[1], strict=True))


def test_lists_keep_all_digits():
    assert NetworkProblem([[0.1], [0.7]], [0, 1]).inputs[:, 0].tolist() == [0.1, 0.7]


def test_parts_of_flat_targets_and_back():
    problem = NetworkProblem(*XOR, [2, 3])
    targets = torch.randn(5, problem.n_vars).sign().double()
    parts = problem.columns(targets)
    assert [tuple(part.shape) for part in parts] == [(5, 4, 2), (5, 4, 3), (5, 4, 1)]
    assert torch.equal(problem.pack(*parts), targets)
    assert torch.equal(targets[0, 4:8], parts[0][0, :, 1]), "unit by unit"
    with pytest.raises(ShapeError, match="columns"):
        problem.pack(*parts[:2])


def test_duplicates_are_merged_and_contradictions_are_the_bound():
    problem = NetworkProblem([[1, 2], [0, 0], [1, 2], [1, 2]], ["a", "b", "b", "a"], [1], weight=[2, 1, 3, 0.5])
    assert problem.inputs.tolist() == [[1, 2], [0, 0]]
    assert problem.group.tolist() == [0, 1, 0, 0]
    assert problem.counts.tolist() == [[2.5, 3], [0, 1]]
    assert problem.lower_bound().item() == pytest.approx(2.5, abs=1e-12)
    assert problem.wanted.tolist() == [[1], [1]]
    assert problem.objective(problem.start).item() == 2.5


def test_several_classes_have_one_unit_each_and_only_one_may_fire():
    problem = NetworkProblem([[0.0], [1.0], [2.0]], ["c", "a", "b"], [2])
    hidden = torch.tensor([[-1.0, -1], [1, -1], [1, 1]])
    right = torch.tensor([[-1.0, -1, 1], [1, -1, -1], [-1, 1, -1]])
    assert torch.equal(problem.wanted, right.double())
    assert problem.objective(problem.pack(hidden, right)) == 0
    for wrong in (torch.tensor([1.0, 1, -1]), torch.tensor([-1.0, -1, -1])):
        assert problem.errors(torch.stack([right[0], wrong, right[2]])) == 1
    assert problem.predict(torch.stack([right[0], wrong])) == ["c", None]


def test_one_class_needs_no_search():
    problem = NetworkProblem([[0.0], [1.0]], ["a", "a"], [1])
    assert problem.objective(problem.start) == 0
    assert problem.predict(torch.tensor([[-1.0], [1.0]])) == ["a", None]


class Nothing(Solver):
    """Finds nothing."""

    name, accepts = "nothing", (NetworkProblem,)

    def run(self, problem: object, budget: object, generator: object, report: object) -> None:
        pass


def test_solve_returns_the_trivial_network_when_nothing_is_found():
    problem = NetworkProblem(XOR[0] * 2, [*XOR[1], -1, 1, 1, 1], [2])
    result = solve(problem, Nothing(), budget=Budget(steps=1))
    assert result.objective.shape == ()
    assert result.objective.item() == problem.objective(result.targets).item() == 3
    assert result.bound.item() == 1
    assert result.status is tpsolve.Status.FEASIBLE
    assert problem.network(result.targets)(problem.inputs).tolist() == [[1]] * 4


def test_solvers_of_layers_refuse_networks():
    with pytest.raises(NotAcceptedError, match=r"NetworkProblem, expected LayerProblem.*for keep"):
        solve(NetworkProblem(*XOR), Keep(), budget=Budget(steps=1))


def test_targets_that_are_not_separable_have_no_network():
    problem = NetworkProblem(*XOR, [1])
    targets = problem.pack(torch.ones(4, 1), problem.wanted)
    assert problem.objective(targets).item() == float("inf")
    assert [c.status.tolist() for c in problem.certificates(targets)] == [[1], [-1]]
    with pytest.raises(ArgumentError, match="targets: got unit 0 of layer 1 not separable"):
        problem.network(targets)


def test_rounding_covers_sums_of_any_weights():
    rng = np.random.default_rng(0)
    weight = rng.uniform(0, 1, 50)
    problem = NetworkProblem(rng.integers(0, 3, (50, 1)), rng.integers(0, 2, 50), [1], weight)
    exact = sum(Fraction(w) for w, k in zip(weight.tolist(), problem.index.tolist(), strict=True) if k == 0)
    value = Fraction(problem.errors(torch.ones(len(problem.inputs), 1)).item())
    assert 0 < abs(value - exact) <= Fraction(problem.rounding().item()) < Fraction(1, 10**10)
    assert NetworkProblem(*XOR, weight=[1, 2, 3, 4]).rounding() == 0


def test_saved_problem_is_the_same(tmp_path: Path):
    problem = NetworkProblem([[0.1, 2], [0.1, 2], [3, 4]], ["x", "y", "z"], [2, 1], weight=[1, 0.5, 2])
    problem.save(tmp_path / "p.npz")
    loaded = load_problem(tmp_path / "p.npz")
    assert loaded.fingerprint == problem.fingerprint
    assert (loaded.widths, loaded.classes) == ((2, 1), ("x", "y", "z"))
    assert torch.equal(loaded.counts, problem.counts)
    changed = [
        NetworkProblem([[0.1, 2], [0.1, 2], [3, 5]], ["x", "y", "z"], [2, 1], weight=[1, 0.5, 2]),
        NetworkProblem([[0.1, 2], [0.1, 2], [3, 4]], ["x", "z", "y"], [2, 1], weight=[1, 0.5, 2]),
        NetworkProblem([[0.1, 2], [0.1, 2], [3, 4]], ["x", "y", "z"], [2], weight=[1, 0.5, 2]),
        NetworkProblem([[0.1, 2], [0.1, 2], [3, 4]], ["x", "y", "z"], [2, 1]),
    ]
    assert len({other.fingerprint for other in [problem, *changed]}) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([[1.0, float("nan")]], [1]), NotFiniteError, "X: got 1 NaN"),
        (([1.0, 2.0], [1, 2]), ShapeError, r"X: got shape \(2,\)"),
        ((torch.zeros(0, 2), []), ShapeError, "X: .*at least one sample"),
        (([[1.0], [2.0]], [1]), ShapeError, r"y: got shape \(1,\), expected \(2,\)"),
        (([[1.0], [2.0]], [[1], [2]]), ShapeError, "y: .*one class label a sample"),
        (([[1.0], [2.0]], [1.0, float("nan")]), NotFiniteError, "y: got nan at sample 1"),
        (([[1.0], [2.0]], [1, "a"]), ArgumentError, "y: got numbers mixed with words"),
        (([[1.0], [2.0]], [None, None]), NotFiniteError, "y: got no label at sample 0"),
        (([[1.0], [2.0]], 7), ArgumentError, "y: got int"),
        (
            (np.arange(99.0)[:, None], np.arange(99)),
            TooLargeError,
            f"y: .*99 classes.*most {MAX_CLASSES}",
        ),
        ((*XOR, []), ArgumentError, "widths"),
        ((*XOR, [0]), ArgumentError, "widths: got 0, expected a whole number of at least 1"),
        ((*XOR, [2.5]), ArgumentError, "widths: got 2.5"),
        ((*XOR, 3), ArgumentError, "widths: got 3.*widths="),
        ((*XOR, [2], [1, 1, 1]), ShapeError, "weight"),
        ((*XOR, [2], [1, 1, 1, -1]), ValueSetError, "weight: got -1"),
    ],
    ids=str,
)
def test_bad_input_is_refused(arguments: tuple, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        NetworkProblem(*arguments)


def test_targets_of_another_shape_or_value_are_refused():
    problem = NetworkProblem(*XOR)
    with pytest.raises(ShapeError, match="targets"):
        problem.objective(torch.ones(3))
    with pytest.raises(ValueSetError, match="targets"):
        problem.objective(torch.zeros(problem.n_vars))


def test_numbers_of_python_and_of_numpy_are_read_as_they_are():
    large = NetworkProblem([[1e39, 0.1], [0.0, 1e300]], [0, 1], [1])
    assert large.inputs.tolist() == [[1e39, 0.1], [0.0, 1e300]]
    given = np.array([3, 1, 3]), np.array([0.5, 2.0, 0.5]), np.array(["b", "a", "b"]), np.array([True, False, True])
    for labels in (*given, torch.tensor([3, 1, 3])):
        problem = NetworkProblem([[0.0], [1.0], [2.0]], list(labels), [1])
        assert problem.classes == tuple(sorted(set(labels.tolist())))
        assert type(problem.classes[0]) is type(labels.tolist()[0])


def test_weights_too_large_to_add_up_are_refused():
    with pytest.raises(TooLargeError, match=r"weight: got numbers up to 1e\+307, expected absolute values up to"):
        NetworkProblem([[0.0], [1.0]], [0, 1], [1], weight=[1e307, 1.0])


def test_network_in_float32_is_refused_where_only_float64_tells_its_points_apart():
    near = NetworkProblem([[1.0], [1.0 + 1e-12], [2.0]], [0, 1, 0], [2])
    targets = solve(near, "circuits", budget=Budget(steps=100)).targets
    assert near.objective(targets) == 0
    assert near.network(targets)[0].weight.dtype == torch.float64
    with pytest.raises(ArgumentError, match="dtype: got margins so narrow that float32 gives other targets"):
        near.network(targets, dtype=torch.float32)
    with pytest.raises(ArgumentError, match=r"dtype: got torch.float16, expected torch.float64 or torch.float32"):
        near.network(targets, dtype=torch.float16)
    wide = NetworkProblem([[1.0], [2.0], [3.0]], [0, 1, 0], [2])
    targets = solve(wide, "circuits", budget=Budget(steps=100)).targets
    network = wide.network(targets, dtype=torch.float32)
    assert wide.predict(network(wide.inputs.float())) == [0, 1, 0]


@pytest.mark.parametrize("seed", range(8))
def test_every_optimum_has_exact_weights_also_on_a_general_line(seed: int):
    generator = torch.Generator().manual_seed(seed)
    base, direction = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    points = base + torch.rand(7, 1, generator=generator, dtype=torch.float64) * direction
    problem = NetworkProblem(points, torch.randint(2, (7,), generator=generator), [2])
    result = solve(problem, "circuits", budget=Budget(steps=2000))
    h = [[Fraction(v) for v in row] for row in problem.inputs.tolist()]
    for units, columns in zip(problem.exact_weights(result.targets), problem.columns(result.targets), strict=True):
        z = [[sum((a * b for a, b in zip(w, row, strict=True)), bias) for w, bias in units] for row in h]
        h = [[Fraction(1 if v >= 0 else -1) for v in row] for row in z]
        assert h == columns.tolist()
    # What has no network in float64 says where weights are to be had.
    told = ""
    try:
        problem.network(result.targets)
    except ArgumentError as error:
        told = str(error)
    assert not told or "exact_weights(targets) has fractions" in told


def test_units_that_are_not_separable_have_no_exact_weights():
    problem = NetworkProblem(*XOR, [1])
    targets = problem.pack(problem.wanted, problem.wanted)
    with pytest.raises(ArgumentError, match="unit 0 of layer 0 not separable"):
        problem.exact_weights(targets)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0], [1]], r"y: got shape \(2, 1\), expected \(2,\).* Take its column"),
        ([[0], [1, 2]], "y: got rows of 2 lengths"),
        (np.zeros((2, 3)), r"y: got shape \(2, 3\), expected \(2,\)"),
        ([0], r"y: got shape \(1,\), expected \(2,\)"),
    ],
)
def test_labels_of_another_shape_are_named(y: Any, message: str):
    with pytest.raises(ShapeError, match=message):
        NetworkProblem([[0.0, 1.0], [1.0, 0.0]], y, widths=[2])
