"""A refutation that rests on no engine: each lemma of its log is checked against what stands above it.

Such logs are clausal proofs in DRAT; see Wetzler, Heule and Hunt, DRAT-trim: efficient checking and trimming using
expressive clausal proofs (SAT 2014). Nearly all lemmas follow by unit propagation. The others may leave out models, but
never the last one: whoever breaks such a lemma in a model can turn its first literal over.
"""

import time
from collections import defaultdict
from collections.abc import Iterable

from tpsolve.search.proofs._recount import OutOfTimeError

Clause = list[int]


def is_refutation(clauses: Iterable[Clause], log: Iterable[str], until: float) -> bool:
    """Whether the `log` derives a contradiction from the `clauses`, each lemma by unit propagation or as a RAT.

    Args:
        clauses: of literals other than 0, as in DIMACS.
        log: lines such as "1 -2 0", a lemma, and "d 1 -2 0", a clause that is needed no more. The first literal of a
            lemma is its pivot.
        until: of `time.monotonic`.

    Raises:
        OutOfTimeError: the time is up.
    """
    known = _Known()
    for clause in clauses:
        if known.add(list(dict.fromkeys(clause))):
            return True
    for number, line in enumerate(log):
        if number % 64 == 0 and time.monotonic() > until:
            raise OutOfTimeError
        words = line.split()
        if words and words[0] == "d":
            known.forget([int(word) for word in words[1:-1]])
            continue
        lemma = list(dict.fromkeys(int(word) for word in words[:-1]))
        if not (known.implies(lemma) or known.allows(lemma)):
            return False
        if known.add(lemma):
            return True
    return False


class _Known:
    """Clauses, and the literals that follow from them by unit propagation.

    Each clause is watched at its first two literals: as long as neither is false, nothing follows from it.
    """

    def __init__(self) -> None:
        self.true: set[int] = set()
        self.trail: list[int] = []
        self.watched: dict[int, list[Clause]] = defaultdict(list)
        self.by_content: dict[tuple[int, ...], list[Clause]] = defaultdict(list)

    def add(self, clause: Clause) -> bool:
        """Whether the clauses contradict each other now."""
        true = self.true
        # Literals that are not false come first.
        clause.sort(key=lambda literal: -literal in true)
        if not clause or -clause[0] in true:
            return True
        if len(clause) > 1:
            self.by_content[tuple(sorted(clause))].append(clause)
            self.watched[clause[0]].append(clause)
            self.watched[clause[1]].append(clause)
            if -clause[1] not in true:
                return False
        return clause[0] not in true and self._propagate([clause[0]])

    def forget(self, clause: Clause) -> None:
        """Leave a clause out. Where a literal followed from it, that stays: it does follow."""
        found = self.by_content.get(tuple(sorted(clause)))
        if found:
            # Watched lists drop it when they meet it.
            found.pop().clear()

    def implies(self, lemma: Clause) -> bool:
        """Whether the negation of the lemma leads to a contradiction by unit propagation."""
        if any(literal in self.true for literal in lemma):
            return True
        before = len(self.trail)
        contradiction = self._propagate([-literal for literal in lemma])
        for literal in self.trail[before:]:
            self.true.discard(literal)
        del self.trail[before:]
        return contradiction

    def allows(self, lemma: Clause) -> bool:
        """Whether the lemma is a resolution asymmetric tautology: its resolvents at the first literal are implied.

        If the clauses have a model that breaks the lemma, the same with that literal turned over is a model of all.
        """
        if not lemma or -lemma[0] in self.true:
            return False
        pivot = lemma[0]
        clauses = (clause for held in self.by_content.values() for clause in held if -pivot in clause)
        return all(self.implies([*lemma, *(v for v in list(clause) if v != -pivot)]) for clause in clauses)

    def _propagate(self, literals: list[int]) -> bool:
        true, trail, watched = self.true, self.trail, self.watched
        head = len(trail)
        for literal in literals:
            if -literal in true:
                return True
            if literal not in true:
                true.add(literal)
                trail.append(literal)
        while head < len(trail):
            false = -trail[head]
            head += 1
            kept: list[Clause] = []
            waiting = watched[false]
            for place, clause in enumerate(waiting):
                if not clause:
                    continue
                if clause[0] == false:
                    clause[0], clause[1] = clause[1], false
                other = clause[0]
                if other in true:
                    kept.append(clause)
                    continue
                for k in range(2, len(clause)):
                    if -clause[k] not in true:
                        clause[1], clause[k] = clause[k], false
                        watched[clause[1]].append(clause)
                        break
                else:
                    kept.append(clause)
                    if -other in true:
                        watched[false] = kept + waiting[place + 1 :]
                        return True
                    true.add(other)
                    trail.append(other)
            watched[false] = kept
        return False
