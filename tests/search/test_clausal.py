"""The check of clausal proofs, against models listed one by one."""

import itertools
import random
import time

import pytest
from support.network_oracle import random_table

from tpsolve import Budget, NetworkProblem, solve
from tpsolve.search import Circuits, make_proof, verify_proof
from tpsolve.search.proofs._check_bound import CLAUSAL
from tpsolve.search.proofs._clausal import Clause, _Known, is_refutation  # pyright: ignore[reportPrivateUsage]
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
            engine = generator.choice(list(CLAUSAL.values()))
            with solvers.Solver(name=engine, bootstrap_with=clauses, with_proof=True) as solver:
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


def test_a_fresh_variable_may_be_given_a_meaning_but_only_one():
    known = _Known()
    known.add([1, 2])
    for lemma in ([3, -1, -2], [-3, 1], [-3, 2]):  # 3 stands for "1 and 2".
        assert not known.implies(lemma)
        assert known.allows(lemma)
        known.add(list(lemma))
    # The first literal is the one that may be turned over.
    assert not known.allows([-3, -1])
    assert not known.allows([1, 3])
    assert known.implies([3, -1, -2])
    known.add([-3])
    assert not known.allows([3, 4])
    assert is_refutation([[1, 2], [-1, 2], [1, -2], [-1, -2]], ["3 -1 0", "-3 1 0", "3 0", "1 0", "0"], NEVER)


def test_no_accepted_lemma_takes_the_last_model():
    generator, beyond = random.Random(1), 0
    for _ in range(700):
        count, clauses = formula(generator)
        known, held = _Known(), list(map(list, clauses))
        if not has_model(count, held) or any(known.add(list(dict.fromkeys(clause))) for clause in held):
            continue
        for _ in range(6):
            lemma = list(dict.fromkeys(generator.choices([s * v for s in (-1, 1) for v in range(1, count + 1)], k=2)))
            implied = known.implies(lemma)
            if not implied and known.allows(lemma):
                beyond += 1
                assert has_model(count, [*held, lemma])
                held.append(lemma)
                known.add(lemma)
    assert beyond > 70


def test_time_ends_it():
    with pytest.raises(OutOfTimeError):
        is_refutation([[1, 2], [-1, 2], [1, -2], [-1, -2]], ["2 0"], time.monotonic() - 1)


def test_a_bound_is_checked_without_trust_in_an_engine():
    pytest.importorskip("pysat.solvers")
    X, y = random_table(2, 12, seed=1)
    problem = NetworkProblem(X, y, [2])
    proof = make_proof(problem, solve(problem, Circuits(max_drawn=300), budget=Budget(seconds=60)))
    for engine in CLAUSAL:
        finding = verify_proof(proof, X, y, engine=engine)[-1]
        assert finding.holds, finding.words
