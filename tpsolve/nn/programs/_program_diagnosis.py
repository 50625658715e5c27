"""What a network has learned below a program, and what its labels can't tell: figures of one batch."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve.errors import ArgumentError
from tpsolve.nn.programs._program_loss import ProgramLoss
from tpsolve.problems import ProgramProblem
from tpsolve.problems.program._program_problem import UNKNOWN
from tpsolve.search import solve

MAX_PERMUTATIONS = 5040
"""Up to so many permutations of the values all are tried, 7! of one kind of unit; else only swaps of two values."""
MAX_MAPS = 256
"""Up to so many maps of the values to themselves all are tried, 4^4 of one kind of unit."""

MISREAD = 0.1
"""What a permutation of the values gains at least, of the accuracy of known symbols, where they are misread."""
GOOD = 0.9
"""Accuracy from which on a network counts as fine."""
REASONS = {
    "collapsed": "the network uses at most half of the values that it needs",
    "not learned": "the answers are right no oftener than the commonest label is",
    "misread": "a permutation of the values reads the known symbols much better",
    "half learned": "the network is unfinished, or locked in a wrong reading that gives many labels",
    "fine": "most labels are given, and each relabeling that was tried changes some",
}


@dataclass(frozen=True)
class ProgramDiagnosis:
    """Figures of a network below a program, on a batch; NaN where a figure has no meaning there.

    A symbol is one output unit of one sample. Units of as many values are one kind, and so are all spins. The tuples
    kinds, used, needed and entropy have an entry for each kind. A *relabeling* permutes the values of each kind, alike
    in all units of this kind and in all samples. Another than the identity that keeps every label is a reasoning
    shortcut: a network that reads the relabelled symbols gives the same labels, and no method that sees only labels can
    tell.

    Args:
        samples: of the batch.
        judged: samples whose present symbols the program was asked about, the first ones; fewer where calls ran out.
        accuracy: share of the judged samples whose present symbols are consistent.
        majority: share of the commonest label: the accuracy of a constant answer.
        known: symbols that are known.
        symbol_accuracy: share of these that the network reads rightly.
        permuted_accuracy: the same after the best permutation of the values of each kind.
        kinds: "sign", or the number of values.
        used: how many values are the present symbol of some unit and sample.
        needed: how many values the known symbols have; where none is known, those of the cheapest consistent ones;
            where none of those was found, as many as there could be.
        entropy: of the network's mean distribution over the values, in nats; at most the log of their number.
        searched: samples whose consistent symbols were searched, the first ones.
        consistent: share of these for which some were found.
        posterior_entropy: mean entropy of the weights of the symbols found, in nats; NaN for a solver of single ones.
        changed: share of symbols in which the cheapest consistent ones that were found differ from the present ones.
        covered: share of samples by whose symbols relabelings are judged: known ones, and present ones where a symbol
            is not known, if they are consistent.
        tuples: different symbols of whole samples, with their labels, among these.
        compared: how many of these all relabelings were judged by; fewer where calls ran out.
        tried: relabelings, the identity among them. Those that differ only in values that no tuple has are one.
        every: whether these were all permutations; False: the identity and swaps of two values.
        relabelings: of those, how many keep the labels of the tuples compared.
        merging: maps that give several values of the tuples one name and keep the labels too; None: not tried.
        example: the least change that keeps the labels, in words; "" without any.
        calls: of the program, made for all this.
    """

    samples: int
    judged: int
    accuracy: float
    majority: float
    known: int
    symbol_accuracy: float
    permuted_accuracy: float
    kinds: tuple[int | str, ...]
    used: tuple[int, ...]
    needed: tuple[int, ...]
    entropy: tuple[float, ...]
    searched: int
    consistent: float
    posterior_entropy: float
    changed: float
    covered: float
    tuples: int
    compared: int
    tried: int
    every: bool
    relabelings: int
    merging: int | None
    example: str
    calls: int

    @property
    def verdict(self) -> str:
        """The first of these that holds.

        "collapsed": at most half of the values that are needed are used, in some kind. "not learned": the answers are
        right no oftener than the commonest label. "undetermined": a relabeling or a merging map keeps the labels, or
        none was judged, and at least 0.9 of the samples are covered or neither of the next two holds. "misread": a
        permutation of the values reads the known symbols better by more than 0.1. "half learned": the accuracy is below
        0.9. "fine": none of these was seen.
        """
        if any(2 * used <= needed for used, needed in zip(self.used, self.needed, strict=True)):
            return "collapsed"
        if self.accuracy <= self.majority and self.accuracy < 1:
            return "not learned"
        shortcuts = self.relabelings > 1 or bool(self.merging) or not self.compared
        if shortcuts and self.covered >= GOOD:
            return "undetermined"
        if self.permuted_accuracy > self.symbol_accuracy + MISREAD:
            return "misread"
        if self.accuracy < GOOD:
            return "half learned"
        return "undetermined" if shortcuts else "fine"

    def __str__(self) -> str:
        of = f"{self.judged} samples" if self.judged == self.samples else f"{self.judged} of {self.samples} samples"
        lines = [f"{self.verdict}: {self._reason()}"]
        lines.append(f"label given for {self.accuracy:.1%} of {of}; the commonest label makes up {self.majority:.1%}")
        if self.known:
            lines.append(
                f"{self.symbol_accuracy:.1%} of {self.known} known symbols are right, "
                f"{self.permuted_accuracy:.1%} after the best permutation of the values"
            )
        for kind, used, entropy in zip(self.kinds, self.used, self.entropy, strict=True):
            size = _size(kind)
            whose = "" if len(self.kinds) == 1 else f"{_units(kind)}: "
            lines.append(f"{whose}{used} of {size} values used, entropy {entropy:.2f} of {math.log(size):.2f} nats")
        if self.searched:
            lines.append(
                f"consistent symbols found for {self.consistent:.1%} of {self.searched} samples; "
                f"{self.changed:.1%} of the cheapest are not the present ones"
            )
            if not math.isnan(self.posterior_entropy):
                lines.append(f"entropy of their weights {self.posterior_entropy:.2f} nats")
        else:
            lines.append("no consistent symbols searched: max_calls is used up")
        lines += [self._shortcuts(), f"{self.calls} calls"]
        return "\n".join(lines)

    def _reason(self) -> str:
        if self.verdict == "undetermined":
            return (
                f"the labels can't tell all symbols apart: {self.example}"
                if self.compared
                else "relabelings not judged"
            )
        return REASONS[self.verdict]

    def _shortcuts(self) -> str:
        if not self.tuples:
            return "relabelings not judged: no sample has known or present symbols that are consistent"
        if not self.compared:
            return "relabelings not judged: max_calls is used up"
        what = "relabelings" if self.every else "relabelings (the identity and swaps of two values)"
        part = f"all {self.tuples}" if self.compared == self.tuples else f"the first {self.compared} of {self.tuples}"
        line = f"{self.relabelings} of {self.tried} {what} keep the labels of {part} different samples"
        if self.covered < 1:
            line += f" that stand for {self.covered:.1%} of all"
        if self.merging is not None:
            line += f", and {self.merging} maps that merge values"
        if self.compared < self.tuples:
            line += "; max_calls is used up, so more samples may rule some out"
        return line


@torch.no_grad()
def diagnose_program(
    loss_fn: ProgramLoss,
    logits: Tensor,
    labels: Any,
    *,
    symbols: Any = None,
    mask: Any = None,
    max_calls: int = 10_000,
) -> ProgramDiagnosis:
    """Diagnose a network below a program by its logits for a batch: how good, whether collapsed, whether determined.

    The loss stays as it is, but for what its program remembers and counts; its mode, generator and report are left
    alone. The program is called in `eval()` too. Draws have seed 0, so equal logits give equal figures as long as calls
    suffice.

    Args:
        logits, labels, mask: as the loss takes them; of several hundred samples, better than of a few.
        symbols: `(B, n)` whole numbers: those that are known, -1 (spins: 0) where not. They are compared only, and give
            nothing away to the search.
        max_calls: most calls of the program, over all figures; without a program, most checks of constraints. The
            figures say over which part they were counted where it does not suffice. First come the present symbols,
            then relabelings with at most half of the rest, then the search of consistent symbols.

    A relabeling that is ruled out is so for good. One that is left may be ruled out by further samples.

    Raises:
        ArgumentError: an argument makes no sense; the message names it and the cure.
    """
    if not isinstance(loss_fn, ProgramLoss):
        raise ArgumentError("loss_fn", type(loss_fn).__name__, "a ProgramLoss", "diagnose() is for thresholds.")
    check_count("max_calls", max_calls, 1)
    mask = mask.cpu() if isinstance(mask, Tensor) else mask
    problem = loss_fn.problem(logits, labels, mask=mask)
    samples, present = problem.batch_shape[0], problem.values_of(problem.present)
    symbols = symbols.cpu() if isinstance(symbols, Tensor) else symbols
    known = torch.full_like(present, UNKNOWN) if symbols is None else problem.read_known(symbols, "symbols")
    given = known != UNKNOWN
    purse = _Purse(problem, max_calls)
    rows = torch.arange(samples)
    losses = purse.losses(rows, present)
    judged = losses[~losses.isnan()]
    relabelings = _Relabelings(problem, torch.where(given, known, present), purse)
    search = _Search(loss_fn, problem, present, purse)
    kinds = _Kinds(problem)
    # Labels that are equal are one object, if they have a hash.
    majority = max(Counter(map(id, problem.labels)).values()) / samples
    reference = torch.where(given, known, UNKNOWN) if bool(given.any()) else search.cheapest
    sizes = [_size(kind) for kind in kinds.kinds]
    seen = [len(part.unique()) for part in kinds.split(present)]
    needed = [
        len(part[part != UNKNOWN].unique()) or min(size, len(part))
        for part, size in zip(kinds.split(reference), sizes, strict=True)
    ]
    probability = torch.softmax(problem.logits, 2)
    mean = [part.mean(0)[:size] for part, size in zip(kinds.split(probability), sizes, strict=True)]
    return ProgramDiagnosis(
        samples=samples,
        judged=len(judged),
        accuracy=_share(torch.isfinite(judged)),
        majority=majority,
        known=int(given.sum()),
        symbol_accuracy=_share((present == known)[given]),
        permuted_accuracy=_permuted_accuracy(kinds, present, known),
        kinds=kinds.kinds,
        used=tuple(seen),
        needed=tuple(needed),
        entropy=tuple(float(torch.special.entr(each).sum()) for each in mean),
        searched=search.samples,
        consistent=search.consistent,
        posterior_entropy=search.entropy,
        changed=search.changed,
        covered=relabelings.covered,
        tuples=relabelings.tuples,
        compared=relabelings.compared,
        tried=relabelings.tried,
        every=relabelings.every,
        relabelings=relabelings.bijective,
        merging=relabelings.merging,
        example=relabelings.example,
        calls=purse.spent,
    )


class _Kinds:
    """Which units are alike: kind number `of (n,)`, and which symbols exist `(B, n)`."""

    def __init__(self, problem: ProgramProblem):
        each = [
            "sign" if spin else size
            for spin, size in zip(problem.is_spin.tolist(), problem.sizes.tolist(), strict=True)
        ]
        self.kinds: tuple[int | str, ...] = tuple(dict.fromkeys(each))
        self.of = torch.tensor([self.kinds.index(kind) for kind in each])
        exists = torch.ones(*problem.batch_shape, problem.n_vars, dtype=torch.bool)
        self.exists = exists if problem.mask is None else problem.mask

    def split(self, table: Tensor) -> list[Tensor]:
        """What stands in `table (B, n, ...)` for the symbols that exist of each kind."""
        return [table[self.exists & (self.of == kind)] for kind in range(len(self.kinds))]


class _Purse:
    """Asks the program, within what may be spent."""

    def __init__(self, problem: ProgramProblem, calls: int):
        self.problem, self.most, self.checks = problem, calls, 0
        self._before = 0 if problem.program is None else problem.program.counts.calls

    @property
    def spent(self) -> int:
        return 0 if self.problem.program is None else self.problem.program.counts.calls - self._before

    @property
    def left(self) -> int:
        return max(0, self.most - self.spent - self.checks)

    def losses(self, rows: Tensor, values: Tensor, most: int | None = None) -> Tensor:
        """The loss `(R,)` of value numbers `values (R, n)` in the samples `rows (R,)`; NaN from where calls ran out.

        Args:
            most: calls that may be made; None: all that are left.
        """
        most = self.left if most is None else min(most, self.left)
        problem = self.problem
        targets = problem.symbols_of(values)
        if problem.program is None:
            count = min(len(rows), most)
            self.checks += count
        else:
            masks = itertools.repeat([True] * problem.n_vars) if problem.mask is None else problem.mask[rows].tolist()
            keys = [tuple(itertools.compress(key, mask)) for key, mask in zip(targets.tolist(), masks, strict=False)]
            unknown = problem.program.unknown(keys)
            count = len(keys) if len(unknown) <= most else keys.index(unknown[most])
        found = torch.full((len(rows),), math.nan, dtype=torch.float64)
        if count:
            found[:count] = problem.select(rows[:count]).loss_of(targets[:count])
        return found


class _Relabelings:
    """Which relabelings keep the labels of samples whose value numbers are `values (B, n)`, where consistent."""

    def __init__(self, problem: ProgramProblem, values: Tensor, purse: _Purse):
        kinds = _Kinds(problem)
        values = torch.where(kinds.exists, values, 0)
        most = purse.left // 2
        floor = purse.left - most
        own = purse.losses(torch.arange(len(values)), values, most)
        # A loss that is NaN was not asked for.
        self.covered = _share(torch.isfinite(own[~own.isnan()]))
        rows = _different(problem, values, torch.isfinite(own).nonzero()[:, 0].tolist())
        sizes = [_size(kind) for kind in kinds.kinds]
        width = max(sizes)
        seen = torch.zeros(len(sizes), width, dtype=torch.bool)
        for row in rows:
            seen[kinds.of[kinds.exists[row]], values[row][kinds.exists[row]]] = True
        maps, self.every, merging = _maps(sizes)
        maps = maps[_first(maps[:, seen].tolist())]
        one_to_one = torch.ones(len(maps), dtype=torch.bool)
        for kind in range(len(sizes)):
            image = maps[:, kind][:, seen[kind]].sort(1).values
            one_to_one &= (image[:, 1:] != image[:, :-1]).all(1)
        self.tuples, self.tried, self.compared = len(rows), int(one_to_one.sum()), 0
        alive = torch.arange(len(maps))
        for row in rows:
            new = maps[alive][:, kinds.of, values[row]]
            new, inverse = torch.where(kinds.exists[row], new, values[row]).unique(dim=0, return_inverse=True)
            losses = purse.losses(torch.full((len(new),), row), new, purse.left - floor)
            alive = alive[~(losses > own[row])[inverse]]
            if bool(losses.isnan().any()):
                break
            self.compared += 1
        self.bijective = int(one_to_one[alive].sum())
        self.merging = int((~one_to_one[alive]).sum()) if merging else None
        self.example = _example(kinds.kinds, maps[alive], seen, one_to_one[alive]) if self.compared else ""


class _Search:
    """What the loss's own solver finds, for as many samples as the calls suffice."""

    def __init__(self, loss_fn: ProgramLoss, problem: ProgramProblem, present: Tensor, purse: _Purse):
        samples = len(present)
        self.cheapest = torch.full_like(present, UNKNOWN)
        """Value numbers of the cheapest consistent symbols `(B, n)`; -1 where none were found."""
        self.samples, self.consistent, self.entropy, self.changed = 0, math.nan, math.nan, math.nan
        budget = loss_fn.budget
        if problem.program is None:
            self.samples = samples
        elif purse.left:
            most = max(1, purse.left // samples) if budget.calls is None else budget.calls
            masks = [()] * samples if problem.mask is None else map(tuple, problem.mask.tolist())
            counts = problem.count_assignments()
            everything = sum(dict(zip(masks, counts, strict=True)).values())
            budget = dataclasses.replace(budget, calls=most)
            # All samples together ask for no more than all assignments that there are.
            self.samples = samples if everything <= purse.left else min(samples, purse.left // min(most, max(counts)))
        if not self.samples:
            return
        part = problem.select(torch.arange(self.samples))
        result = solve(part, loss_fn.solver, budget=budget, generator=torch.Generator().manual_seed(0))
        found = torch.isfinite(result.objective)
        exists = _Kinds(part).exists & found[:, None]
        cheapest = part.values_of(result.targets)
        self.cheapest[: self.samples] = torch.where(exists, cheapest, UNKNOWN)
        self.consistent = _share(found)
        self.changed = _share((cheapest != present[: self.samples])[exists])
        if result.target_set is not None and bool(found.any()):
            entropy = result.target_set.entropy
            entropy = torch.special.entr(result.target_set.weights).sum(1) if entropy is None else entropy
            self.entropy = float(entropy[found].mean())


def _share(where: Tensor) -> float:
    return float(where.double().mean()) if len(where) else math.nan


def _size(kind: int | str) -> int:
    return kind if isinstance(kind, int) else 2


def _units(kind: int | str) -> str:
    return "spins" if kind == "sign" else f"units of {kind} values"


def _different(problem: ProgramProblem, values: Tensor, rows: list[int]) -> list[int]:
    """The first of those rows that have the same symbols and labels."""
    masks = None if problem.mask is None else problem.mask.tolist()
    table = values.tolist()
    keys = [(*table[row], *(masks[row] if masks else ()), id(problem.labels[row])) for row in rows]
    return [row for row, first in zip(rows, _is_first(keys), strict=True) if first]


def _is_first(keys: Iterable[Any]) -> list[bool]:
    seen: set[Any] = set()
    return [not (key in seen or seen.add(key)) for key in keys]


def _first(rows: list[list[int]]) -> Tensor:
    """The places of the first of equal rows."""
    return torch.tensor(_is_first(map(tuple, rows))).nonzero()[:, 0]


def _maps(sizes: list[int]) -> tuple[Tensor, bool, bool]:
    """Maps `(M, kinds, K)` of the values of each kind; whether all permutations are there, and all other maps."""
    width = max(sizes)
    if math.prod(size**size for size in sizes) <= MAX_MAPS:
        each = [itertools.product(range(size), repeat=size) for size in sizes]
    elif math.prod(map(math.factorial, sizes)) <= MAX_PERMUTATIONS:
        each = [itertools.permutations(range(size)) for size in sizes]
    else:
        identity = torch.arange(width).repeat(len(sizes), 1)
        maps = [identity]
        for kind, size in enumerate(sizes):
            for a, b in itertools.combinations(range(size), 2):
                maps.append(identity.clone())
                maps[-1][kind, [a, b]] = torch.tensor([b, a])
        return torch.stack(maps), False, False
    whole = [[(*part, *range(len(part), width)) for part in parts] for parts in each]
    return torch.tensor(list(itertools.product(*whole))), True, math.prod(s**s for s in sizes) <= MAX_MAPS


def _example(kinds: tuple[int | str, ...], maps: Tensor, seen: Tensor, one_to_one: Tensor) -> str:
    """The map that changes the fewest values, one to one if there is such, in words."""
    moved = (maps != torch.arange(maps.shape[2])) & seen
    count = moved.flatten(1).sum(1)
    if not bool(count.any()):
        return ""
    # Changes of more values than there are stand behind all that are one to one.
    rank = torch.where(count == 0, 2 * seen.numel() + 1, count + torch.where(one_to_one, 0, seen.numel()))
    best = int(rank.argmin())
    parts = []
    for kind, name in enumerate(kinds):
        old = moved[best, kind].nonzero()[:, 0]
        if not len(old):
            continue
        new = maps[best, kind, old]
        whose = "" if len(kinds) == 1 else f" in the {_units(name)}"
        was, now = (
            ", ".join(f"{2 * v - 1:+d}" if name == "sign" else str(v) for v in part.tolist()) for part in (old, new)
        )
        if len(old) == 2 and torch.equal(old, new.flip(0)):
            parts.append(f"{was.replace(', ', ' and ')} can change places{whose}")
        else:
            parts.append(f"{was} can be read as {now}{whose}")
    return ", and ".join(parts)


def _permuted_accuracy(kinds: _Kinds, present: Tensor, known: Tensor) -> float:
    # It takes a moment to load, and few need it.
    from scipy.optimize import linear_sum_assignment

    right = total = 0
    for kind, read, true in zip(kinds.kinds, kinds.split(present), kinds.split(known), strict=True):
        size, there = _size(kind), true != UNKNOWN
        table = torch.bincount(read[there] * size + true[there], minlength=size * size).reshape(size, size).numpy()
        right += int(table[linear_sum_assignment(table, maximize=True)].sum())
        total += int(there.sum())
    return right / total if total else math.nan
