"""Cube and conquer: all cubes together hold all networks, and what they prove together is proved."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product

import pytest
import torch
from support.network_oracle import fewest_errors, random_table

from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.problems import NetworkProblem, make_table
from tpsolve.search import make_proof, verify_proof
from tpsolve.search.network.cubes._conquest import MAX_LOSSES, Conquest
from tpsolve.search.network.cubes._cube import Cube, CubeOutcome, tables
from tpsolve.search.network.cubes._split import hold_all
from tpsolve.search.proofs._check_bound import tables as tables_of_the_check


def conquest_of(problem: NetworkProblem, first_seconds: float = 1e-3) -> Conquest:
    return Conquest(problem, 0.5, "glucose4", torch.Generator().manual_seed(0), first_seconds)


def conquer_here(conquest: Conquest, carry_out: Callable[[Cube], CubeOutcome] | None = None) -> Conquest:
    while conquest.waiting and not conquest.closed:
        cube = conquest.waiting.popleft()
        conquest.take(cube.carry_out(lambda: False) if carry_out is None else carry_out(cube))
    return conquest


@pytest.mark.parametrize("inputs", range(6))
def test_tables_are_those_of_the_check(inputs: int):
    found = tables(inputs)
    assert len(set(found)) == len(found)
    assert set(found) == set(tables_of_the_check(inputs))


@pytest.mark.slow
@pytest.mark.parametrize(("points", "units", "seed"), [(9, 2, 0), (9, 2, 1), (8, 3, 2)])
def test_cubes_prove_the_fewest_errors_and_their_proof_is_checked(points: int, units: int, seed: int):
    X, y = random_table(2, points, seed)
    problem = NetworkProblem(X, y, widths=[units])
    # Divided as long as they are not closed after a single look at the clock.
    conquest = conquer_here(conquest_of(problem, 1e-6))
    result = conquest.result()
    assert result.objective.item() == result.bound.item() == fewest_errors(problem)
    assert problem.objective(result.targets).item() == result.objective.item()
    assert conquest.cubes >= len(tables(units)) or conquest.objective == 0
    findings = verify_proof(make_proof(problem, result), X, y)
    assert all(finding.holds for finding in findings), findings


@pytest.fixture(scope="module")
def hard() -> NetworkProblem:
    """A table whose cubes are divided."""
    return NetworkProblem(*make_table("random-2-24-s1"), widths=[2])


@pytest.mark.slow
def test_divided_cubes_prove_what_whole_ones_do_and_each_is_needed(hard: NetworkProblem):
    def quick_first(cube: Cube) -> CubeOutcome:
        return replace(cube, seconds=1e-6 if len(cube.literals) == 4 else 60.0).carry_out(lambda: False)

    conquest = conquer_here(conquest_of(hard), quick_first)
    assert conquest.divided == len(tables(2))
    assert (conquest.objective, conquest.bound) == (4, 4)
    # A cube that nobody has closed leaves the bound where it was.
    left = conquest_of(hard, 60.0)
    (first, *others) = left.waiting
    left.waiting.clear()
    for cube in others:
        left.take(cube.carry_out(lambda: False))
    assert left.bound == first.bound == 0
    left.take(first.carry_out(lambda: False))
    assert left.bound == left.objective == 4
    # Without the circuits of the cubes nothing is proved.
    X, y = make_table("random-2-24-s1")
    result = left.result()
    assert verify_proof(make_proof(hard, result), X, y)[-1].holds
    result.stats["circuits"] = result.stats["circuits"][:5]
    assert verify_proof(make_proof(hard, result), X, y)[-1].holds is False


@pytest.mark.slow
def test_a_cube_that_costs_too_many_processes_leaves_the_bound_open(hard: NetworkProblem):
    conquest = conquest_of(hard, 60.0)
    fatal = conquest.waiting[0].literals

    def dying(cube: Cube) -> CubeOutcome:
        return cube.failed("died") if cube.literals == fatal else cube.carry_out(lambda: False)

    conquer_here(conquest, dying)
    assert (conquest.lost, conquest.objective, conquest.bound) == (MAX_LOSSES, 4, 0)
    assert not conquest.closed
    # And one that costs fewer does not.
    conquest, deaths = conquest_of(hard, 60.0), []

    def ailing(cube: Cube) -> CubeOutcome:
        if cube.literals == fatal and len(deaths) < MAX_LOSSES - 1:
            deaths.append(cube)
            return cube.failed("died")
        return cube.carry_out(lambda: False)

    conquer_here(conquest, ailing)
    assert (conquest.lost, conquest.objective, conquest.bound) == (MAX_LOSSES - 1, 4, 4)


def test_halves_of_a_cube_are_all_of_it(hard: NetworkProblem):
    conquest = conquest_of(hard, 60.0)
    cube = conquest.waiting.popleft()
    conquest.take(replace(cube.failed(""), divide=((17,), (-17,))))
    # What is known to take long comes first.
    halves = list(conquest.waiting)[:2]
    assert {half.literals for half in halves} == {(*cube.literals, literal) for literal in (17, -17)}
    assert [half.seconds for half in halves] == [120.0, 120.0]
    assert all(conquest.bounds[half.literals] == cube.bound for half in halves)


def test_parts_that_are_not_all_of_a_cube_are_not_taken_for_it(hard: NetworkProblem):
    conquest = conquest_of(hard, 60.0)
    cube = conquest.waiting.popleft()
    conquest.take(replace(cube.failed(""), divide=((17,), (-17, 18))))
    assert conquest.waiting[0].literals == cube.literals
    # Of all sign patterns of three variables, by enumeration.
    for chosen in product([(1,), (-1,), (1, 2), (-2,), (-1, -2), (2, 3), (-1, 2, -3)], repeat=3):
        covered = all(
            any(all(signs[abs(each) - 1] == (each > 0) for each in part) for part in chosen)
            for signs in product([False, True], repeat=3)
        )
        assert hold_all(chosen) == covered
    assert hold_all([(1, 2), (1, -2), (-1,)])
    assert hold_all([()])
    assert not hold_all([])


def test_a_cube_is_divided_into_as_many_parts_as_it_is_told():
    large = NetworkProblem(*make_table("random-2-60"), widths=[4])
    conquest = Conquest(large, 60.0, "glucose4", torch.Generator().manual_seed(0), 1e-4, 1, 5, large.start)
    cube = conquest.waiting[len(conquest.waiting) // 2]
    outcome = cube.carry_out(lambda: False)
    assert not outcome.closed
    assert len(outcome.divide) == 5
    assert hold_all(outcome.divide)
    own = set(map(abs, cube.literals))
    assert not own & {abs(literal) for part in outcome.divide for literal in part}


@pytest.mark.parametrize("count", [6, 33])
def test_cubes_halved_before_the_first_is_dealt_out_are_all_networks_and_none_twice(hard: NetworkProblem, count: int):
    def drawn() -> list[tuple[int, ...]]:
        conquest = Conquest(hard, 60.0, "glucose4", torch.Generator().manual_seed(0), 60.0, count, best=hard.start)
        return [cube.literals for cube in conquest.waiting]

    cubes = drawn()
    assert len(cubes) == len(set(cubes)) == count
    gate = 2**2
    assert {cube[:gate] for cube in cubes} == {cube.literals for cube in conquest_of(hard).waiting}
    for table in {cube[:gate] for cube in cubes}:
        # Halves of halves: their shares are 1 in all, and of any two one contradicts the other.
        parts = [set(cube[gate:]) for cube in cubes if cube[:gate] == table]
        assert sum(Fraction(1, 2 ** len(part)) for part in parts) == 1
        assert all(one & {-literal for literal in other} for one, other in combinations(parts, 2))
    # So a simulated cluster has the cubes whose times were measured.
    assert drawn() == cubes


@pytest.mark.nightly
@pytest.mark.slow
def test_halved_cubes_prove_what_whole_ones_do(hard: NetworkProblem):
    conquest = Conquest(hard, 60.0, "glucose4", torch.Generator().manual_seed(0), 60.0, 24)
    conquer_here(conquest)
    assert (conquest.cubes, conquest.divided) == (24, 0)
    assert conquest.bound == conquest.objective == 4
    X, y = make_table("random-2-24-s1")
    assert verify_proof(make_proof(hard, conquest.result()), X, y)[-1].holds


def test_targets_that_a_worker_sends_are_judged_here(hard: NetworkProblem):
    conquest = conquest_of(hard, 60.0)
    cube = conquest.waiting.popleft()
    # All units +1: one output for all points.
    constant, before = hard.flatten().start[0], conquest.objective
    conquest.take(replace(cube.failed(""), best=constant))
    assert conquest.objective == min(Fraction(hard.objective(constant[None])[0].item()), before)
    assert torch.equal(conquest.best, conquest.waiting[0].best)


def test_what_circuits_does_not_take_is_refused():
    X, y = make_table("random-2-24-s1")
    with pytest.raises(TooLargeError):
        conquest_of(NetworkProblem(X, y, widths=[12]))
    with pytest.raises(NotAcceptedError):
        conquest_of(NetworkProblem(X, y, widths=[2], weight_set="ternary"))
