"""The check of clausal proofs, against models listed one by one."""

import itertools
import random
import time

import pytest
from support.network_oracle import random_table

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search import Circuits, make_proof, verify_proof
from tpsolve.search.proofs._check_bound import CLAUSAL
from tpsolve.search.proofs._clausal import Clause, is_refutation
from tpsolve.search.proofs._recount import OutOfTimeError

NEVER = float("inf")


def formula(generator: random.Random) -> tuple[int, list[Clause]]:
    count = generator.randint(2, 6)
    literals = [sign * v for sign in (-1, 1) for v in range(1, count + 1)]
    return count, [generator.choices(literals, k=generator.randint(1, 3)) for _ in range(generator.randint(3, 30))]


def has_model(count: int, clauses: list[Clause]) -> bool:
    every = itertools.product((False, True), repeat=count)
    return any(all(any((v > 0) == values[abs(v) - 1] for v in c) for c in clauses) for values in every)


def test_logs_of_an_engine_are_taken_and_no_log_refutes_what_has_a_model():
    solvers = pytest.importorskip("pysat.solvers")
    generator, seen = random.Random(0), [0, 0]
    for _ in range(600):
        count, clauses = formula(generator)
        possible = has_model(count, clauses)
        seen[possible] += 1
        if possible:
            _, wrong = formula(generator)
            log = [" ".join(map(str, ["d"] * (generator.random() < 0.3) + [*lemma, 0])) for lemma in wrong]
            assert not is_refutation(map(list, clauses), [*log, "0"], NEVER)
        else:
            with solvers.Solver(name="glucose4", bootstrap_with=clauses, with_proof=True) as solver:
                assert not solver.solve()
                log = solver.get_proof()
            assert is_refutation(map(list, clauses), log, NEVER)
    assert min(seen) > 100


def test_a_lemma_that_does_not_follow_ends_the_check():
    square = [[1, 2], [-1, 2], [1, -2], [-1, -2]]
    assert is_refutation(map(list, square), ["2 0", "0"], NEVER)
    assert not is_refutation(map(list, square[:3]), ["2 0", "0"], NEVER)
    assert not is_refutation([[1, 2, 3], [-1, 2, 3]], ["2 0", "-3 0", "0"], NEVER)
    assert not is_refutation(map(list, square), [], NEVER)


def test_time_ends_it():
    with pytest.raises(OutOfTimeError):
        is_refutation([[1, 2], [-1, 2], [1, -2], [-1, -2]], ["2 0"], time.monotonic() - 1)


def test_a_bound_is_checked_without_trust_in_an_engine():
    pytest.importorskip("pysat.solvers")
    X, y = random_table(2, 12, seed=1)
    problem = NetworkProblem(X, y, [2])
    proof = make_proof(problem, solve(problem, Circuits(max_drawn=300), budget=Budget(seconds=60)))
    finding = verify_proof(proof, X, y, engine=CLAUSAL)[-1]
    assert finding.holds, finding.words
