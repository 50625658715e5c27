"""From rows to one line a solver, and to the words that say which to use when."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from tpsolve.compare._anytime import Runs, runs_of
from tpsolve.compare._row_table import Row, RowTable
from tpsolve.compare._statistics import (
    APART,
    MIN_SHARED,
    Known,
    Scores,
    Solved,
    alike,
    attempted_instances,
    counted_instances,
    families_of,
    interval,
    is_met,
    known_of,
    means,
    paired,
    scores,
    signed,
    told,
)


@dataclass(frozen=True)
class Summary:
    """One solver over the instances that count: those of which all solvers have rows, or its own if these are few.

    Args:
        solver: as `solver_text` writes it.
        exact: whether it can prove an optimum.
        left: mean share of the attainable improvement that it leaves, from 0 to 1, over instances; of an instance the
            mean over samples and seeds. NaN where nothing could be improved.
        low, high: the interval of 95% of that mean, by the studentised bootstrap over instances; NaN of fewer than two,
            and where all leave the same.
        alike: whether `left` is not told to be more than that of the best solver: paired tests over instances, after
            Holm, which the means agree with. Of the best solver itself True.
        proved: share of samples that this solver itself proved optimal.
        best: share of samples on which no solver found better.
        flips: mean share of targets that differ from the activations; NaN without activations.
        seconds: mean wall-clock seconds a sample.
        instances: over which the means are.
        samples: solves of one sample that the means are over.
        failures: solves that ended with an error.
    """

    solver: str
    exact: bool
    left: float
    low: float
    high: float
    alike: bool
    proved: float
    best: float
    flips: float
    seconds: float
    instances: int
    samples: int
    failures: int


@dataclass(frozen=True)
class Findings:
    """What follows from the rows of a comparison; each is found out once, when it is first asked for.

    Args:
        rows: as `run_comparison` returns them.
    """

    rows: Sequence[Row]

    @cached_property
    def table(self) -> RowTable:
        """The rows in columns.

        Raises:
            FileFormatError: a row, or two of one instance, have lists of different numbers of samples.
        """
        return RowTable.of(self.rows)

    @cached_property
    def solved(self) -> Solved:
        """The samples of all rows that ended well, in arrays."""
        return Solved(self.table)

    @cached_property
    def known(self) -> dict[str, Known]:
        """What all rows together know of each instance."""
        return known_of(self.solved)

    @cached_property
    def scores(self) -> Scores:
        """What each solver leaves, by instance."""
        return scores(self.solved)

    @cached_property
    def counted(self) -> set[str]:
        """The instances that means over one solver are over."""
        return counted_instances(self.table)

    @cached_property
    def families(self) -> dict[str, set[str]]:
        """The instances of each family, by loss and by name."""
        return families_of({row["instance"]: row["loss"] for row in self.table.firsts("instance")})

    def of_instances(self, names: set[str]) -> "Findings":
        """Of these instances alone; what is known of an instance already is not found out again."""
        part = Findings(self.table.having("instance", names))
        vars(part)["known"] = {name: of for name, of in self.known.items() if name in names}
        if part.counted <= self.counted:
            vars(part)["runs"] = {name: self.runs[name].on(part.counted) for name in part.of_solvers}
        if part.attempted <= self.attempted:
            vars(part)["attempts"] = {name: self.attempts[name].on(part.attempted) for name in part.of_solvers}
        return part

    @cached_property
    def summaries(self) -> list[Summary]:
        """One a solver, the one that leaves least first; rows with an error count as failures.

        Solvers whose means are over less than half of the instances stand behind the others.
        """
        found = self.scores
        summaries = [_summary(name, of, self) for name, of in self.table.grouped("solver").items()]
        half = MIN_SHARED * len(found.instances)
        summaries.sort(
            key=lambda s: (s.instances < half, np.nan_to_num(s.left, nan=np.inf), -np.nan_to_num(s.best), s.seconds)
        )
        if not summaries or summaries[0].solver not in found.solvers:
            return summaries
        same = alike(found.left, found.solvers.index(summaries[0].solver))
        like = {name: bool(each) for name, each in zip(found.solvers, same, strict=True)}
        like[summaries[0].solver] = True
        return [replace(s, alike=like.get(s.solver, False)) for s in summaries]

    @cached_property
    def of_solvers(self) -> dict[str, RowTable]:
        """For each solver, the best first, its rows on the instances that count, failures included."""
        return self._of_solvers_on(self.counted)

    @cached_property
    def runs(self) -> dict[str, Runs]:
        """For each solver, the best first, its runs on the instances that count."""
        return {name: of.on(self.counted) for name, of in self.attempts.items()}

    @cached_property
    def attempted(self) -> set[str]:
        """The instances that running times are over: those that count, and those on which a solver failed."""
        return attempted_instances(self.table)

    @cached_property
    def attempts(self) -> dict[str, Runs]:
        """For each solver, the best first, its runs on the attempted instances; one that failed is no success there."""
        return {name: runs_of(rows, self.known) for name, rows in self._of_solvers_on(self.attempted).items()}

    def _of_solvers_on(self, instances: set[str]) -> dict[str, RowTable]:
        grouped = self.table.having("instance", instances).grouped("solver")
        return {summary.solver: grouped.get(summary.solver, self.table[:0]) for summary in self.summaries}


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary a solver, the one that leaves least first; rows with an error count as failures.

    Means compare like with like: they are over the instances of which every solver has rows, unless these are less than
    half.
    """
    return Findings(rows).summaries


def advice(findings: Findings) -> str:
    """Which solver to use when, in one line of plain words, only from what paired tests tell apart."""
    ran = [s for s in findings.summaries if s.samples]
    if not ran:
        return "No solver finished a row, so there is nothing to advise."
    if len(ran) == 1:
        only = ran[0]
        proved = f" It proved {only.proved:.0%} of the samples optimal." if only.proved > 0 else ""
        alone = f"Only {only.solver} ran, so there is nothing to compare it with."
        return f"{alone}{proved} It takes {_time(only.seconds)} a sample."
    found = findings.scores
    few = _too_few(ran, found)
    parts = [_quality(ran, "use {} for the best targets", few)]
    quick = [s for s in ran if not s.exact]
    if quick and ran[0].exact:
        parts.append(_quality(_again(quick, found), "use {} inside a training loop", few))
    provers = [s for s in ran if s.proved > 0]
    if provers:
        surest = max(provers, key=lambda s: (s.proved, -s.seconds))
        same = alike(-found.proved, found.solvers.index(surest.solver))
        others = [s.solver for s in provers if same[found.solvers.index(s.solver)]]
        parts.append(
            f"use {surest.solver} for proofs ({surest.proved:.0%} of the samples proved optimal"
            f"{'' if few else _not_told(others)})"
        )
    parts += _families(ran, found)
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." + _ahead(ran, found) + _apart(ran, found) + few


def _ahead(ran: list[Summary], found: Scores) -> str:
    """A sentence that names the solvers which the paired test puts before the first one, whose mean is least."""
    places = [found.solvers.index(s.solver) for s in ran]
    better = [s.solver for s, side in zip(ran, told(found.left[places], 0), strict=True) if side > 0]
    if not better:
        return ""
    verb = "is" if len(better) == 1 else "are"
    return (
        f" By the signed ranks over the instances that both have, {', '.join(better)} {verb} ahead of {ran[0].solver}."
    )


def _too_few(ran: list[Summary], found: Scores) -> str:
    """A sentence where no rows, however different, would let the paired tests tell all solvers from the first."""
    instances = int((~np.isnan(found.left[found.solvers.index(ran[0].solver)])).sum())
    # The least p value of signed ranks, times the number of tests.
    if instances and 2.0 ** (1 - instances) * (len(ran) - 1) < APART:
        return ""
    few = "1 instance is" if instances == 1 else f"{instances} instances are"
    return f" That is not tested: {few} too few to tell {len(ran)} solvers apart."


def _apart(ran: list[Summary], found: Scores) -> str:
    """A sentence that names the solvers which share no instance with the first one."""
    known = ~np.isnan(found.proved)
    first = known[found.solvers.index(ran[0].solver)]
    others = [s.solver for s in ran[1:] if not (first & known[found.solvers.index(s.solver)]).any()]
    return f" No instance has rows of both {ran[0].solver} and {' or '.join(others)}." if others else ""


def _quality(ran: list[Summary], use: str, few: str) -> str:
    first, others = ran[0], [s.solver for s in ran[1:] if s.alike]
    if first.left != first.left:
        return f"no solver improved on the start; {first.solver} takes {_time(first.seconds)} a sample"
    ends = "" if first.low != first.low else f", 95% interval {_percent(first.low)} to {_percent(first.high)}"
    return (
        f"{use.format(first.solver)} (it leaves {_percent(first.left)} of the attainable improvement{ends}; "
        f"{_time(first.seconds)} a sample{'' if few else _not_told(others)})"
    )


def _not_told(others: list[str]) -> str:
    return f"; not told apart from it: {', '.join(others)}" if others else ""


def _again(ran: list[Summary], found: Scores) -> list[Summary]:
    """The same, tested against the first of these."""
    places = [found.solvers.index(s.solver) for s in ran]
    same = alike(found.left[places], 0)
    return [replace(s, alike=bool(each) or i == 0) for i, (s, each) in enumerate(zip(ran, same, strict=True))]


def _families(ran: list[Summary], found: Scores) -> list[str]:
    """The families of instances on which another solver is ahead of the first one, by a paired test within them."""
    first = found.left[found.solvers.index(ran[0].solver)]
    families = families_of(dict(zip(found.instances, found.losses, strict=True)))
    parts: list[str] = []
    for family, names in families.items():
        within = np.array([name in names for name in found.instances])
        means = {
            s.solver: float(np.nanmean(values))
            for s in ran[1:]
            if not np.isnan(values := found.left[found.solvers.index(s.solver), within]).all()
        }
        if not means:
            continue
        best = min(means, key=lambda name: means[name])
        other = found.left[found.solvers.index(best), within]
        # Whichever solver and family stand out are named.
        p = min(1.0, len(families) * len(means) * paired(first[within], other))
        if p < APART and min(signed(first[within], other)) > 0 and means[best] < np.nanmean(first[within]):
            parts.append(f"on {family}, {best} leaves less ({_percent(means[best])})")
    return parts


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0.0005 <= share < 0.0995 else f"{share:.0%}"


def as_rows(lines: Sequence[Any]) -> list[dict[str, Any]]:
    """Summaries, or other lines of one kind, as plain rows."""
    return [asdict(line) for line in lines]


def as_csv(summaries: list[Summary]) -> str:
    """The summaries as comma-separated values, names first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([field.name for field in fields(Summary)])
    writer.writerows(astuple(summary) for summary in summaries)
    return stream.getvalue()


def wins(findings: Findings) -> tuple[list[str], np.ndarray]:
    """The solvers, and for each pair the share of shared samples on which the first is strictly better."""
    names, solved = [summary.solver for summary in findings.summaries], findings.solved
    spots, solvers = solved.first[-1], len(solved.solvers)
    tolerance = solved.of_spots(solved.tolerance, -np.inf, np.maximum)
    group = solved.solver[solved.row] * spots + solved.spot
    found = means(solved.objective, group, solvers * spots).reshape(solvers, spots)
    table = np.full((len(names), len(names)), np.nan)
    at = {name: number for number, name in enumerate(solved.solvers)}
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            if i == j or first not in at or second not in at:
                continue
            own, other = found[at[first]], found[at[second]]
            shared = ~np.isnan(own) & ~np.isnan(other)
            if shared.any():
                table[i, j] = np.mean(~is_met(other[shared], own[shared], tolerance[shared]))
    return names, table


def _summary(name: str, rows: RowTable, findings: Findings) -> Summary:
    solved, found = findings.solved, findings.scores
    good = rows.take(~rows.failed).having("instance", findings.counted)
    number = solved.solvers.index(name) if name in solved.solvers else -1
    own = ((solved.solver == number) & found.shared[solved.instance])[solved.row]
    objective, bound, tolerance = solved.objective[own], solved.bound[own], solved.tolerance[own]
    best = np.concatenate([np.empty(0), *(of.objective for of in findings.known.values())])[solved.spot[own]]
    flips = good.lists_or("flips", np.nan, good.lengths("objective"))
    left = found.of(name) if name in found.solvers else np.empty(0)
    low, high = interval(left, 0.0, 1.0)
    return Summary(
        solver=name,
        exact=any(rows.numbered("exact")[0]),
        left=_mean(left),
        low=low,
        high=high,
        alike=False,
        proved=_mean(is_met(objective, bound, tolerance)),
        best=_mean(is_met(objective, best, tolerance)),
        flips=_mean(flips),
        seconds=float(sum(good.seconds.tolist()) / len(objective)) if len(objective) else np.nan,
        instances=len(good.firsts("instance")),
        samples=len(objective),
        failures=int(rows.failed.sum()),
    )


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _time(seconds: float) -> str:
    """Two digits and a unit."""
    unit, size = next(((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if seconds >= size), ("µs", 1e-6))
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
