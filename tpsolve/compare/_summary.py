"""From rows to one line a solver, and to the words that say which to use when."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np

from tpsolve.compare._statistics import (
    LEVEL,
    Row,
    Scores,
    alike,
    bound_of,
    interval,
    is_met,
    paired,
    scores,
    tolerance_of,
)


@dataclass(frozen=True)
class Summary:
    """One solver over the instances that count: those of which all solvers have rows, or its own if these are few.

    Args:
        solver: as `solver_text` writes it.
        exact: whether it can prove an optimum.
        left: mean share of the attainable improvement that it leaves, from 0 to 1, over instances; of an instance the
            mean over samples and seeds. NaN where nothing could be improved.
        low, high: the interval of 95% of that mean, by the bootstrap over instances.
        alike: whether `left` can't be told from that of the best solver: paired tests over instances, after Holm. Of
            the best solver itself True.
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
class Known:
    """What all rows together know of one instance's samples: best objective, highest proven bound, closed gaps."""

    objective: np.ndarray
    bound: np.ndarray
    tolerance: np.ndarray

    @property
    def proven(self) -> np.ndarray:
        """Where the best objective is proven optimal."""
        return is_met(self.objective, self.bound, self.tolerance)


def known_of(rows: Iterable[Row]) -> dict[str, Known]:
    """For each instance, what the rows know of it together."""
    grouped = defaultdict(list)
    for row in rows:
        if "error" not in row:
            grouped[row["instance"]].append(row)
    return {
        name: Known(
            np.min([row["objective"] for row in group], axis=0),
            np.max([bound_of(row) for row in group], axis=0),
            np.max([tolerance_of(row) for row in group], axis=0),
        )
        for name, group in grouped.items()
    }


def summarise(rows: list[Row]) -> list[Summary]:
    """One summary a solver, the one that leaves least first; rows with an error count as failures.

    Means compare like with like: they are over the instances of which every solver has rows, unless these are less than
    half.
    """
    known, found = known_of(rows), scores(rows)
    counted = {name for name, shared in zip(found.instances, found.shared, strict=True) if shared}
    names = list(dict.fromkeys(row["solver"] for row in rows))
    summaries = [
        _summary(name, [row for row in rows if row["solver"] == name], known, found, counted) for name in names
    ]
    summaries.sort(key=lambda s: (np.nan_to_num(s.left, nan=np.inf), -np.nan_to_num(s.best), s.seconds))
    if not summaries or summaries[0].solver not in found.solvers:
        return summaries
    same = alike(found.left, found.solvers.index(summaries[0].solver))
    like = {name: bool(each) for name, each in zip(found.solvers, same, strict=True)}
    like[summaries[0].solver] = True
    return [replace(s, alike=like.get(s.solver, False)) for s in summaries]


def advice(rows: list[Row]) -> str:
    """Which solver to use when, in one line of plain words, only from what paired tests tell apart."""
    ran = [s for s in summarise(rows) if s.samples]
    if not ran:
        return "No solver finished a row, so there is nothing to advise."
    if len(ran) == 1:
        only = ran[0]
        proved = f" It proved {only.proved:.0%} of the samples optimal." if only.proved > 0 else ""
        alone = f"Only {only.solver} ran, so there is nothing to compare it with."
        return f"{alone}{proved} It takes {_time(only.seconds)} a sample."
    found = scores(rows)
    parts = [_quality(ran, "use {} for the best targets")]
    quick = [s for s in ran if not s.exact]
    if quick and ran[0].exact:
        parts.append(_quality(_again(quick, found), "use {} inside a training loop"))
    provers = [s for s in ran if s.proved > 0]
    if provers:
        surest = max(provers, key=lambda s: (s.proved, -s.seconds))
        same = alike(found.proved, found.solvers.index(surest.solver))
        others = [s.solver for s in provers if same[found.solvers.index(s.solver)]]
        parts.append(
            f"use {surest.solver} for proofs ({surest.proved:.0%} of the samples proved optimal{_not_told(others)})"
        )
    parts += _families(ran, found)
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def _quality(ran: list[Summary], use: str) -> str:
    first, others = ran[0], [s.solver for s in ran[1:] if s.alike]
    if first.left != first.left:
        return f"no solver improved on the start; {first.solver} takes {_time(first.seconds)} a sample"
    ends = "" if first.low != first.low else f", 95% interval {_percent(first.low)} to {_percent(first.high)}"
    return (
        f"{use.format(first.solver)} (it leaves {_percent(first.left)} of the attainable improvement{ends}; "
        f"{_time(first.seconds)} a sample{_not_told(others)})"
    )


def _not_told(others: list[str]) -> str:
    return f"; not told apart from it: {', '.join(others)}" if others else ""


def _again(ran: list[Summary], found: Scores) -> list[Summary]:
    """The same, tested against the first of these."""
    places = [found.solvers.index(s.solver) for s in ran]
    same = alike(found.left[places], 0)
    return [replace(s, alike=bool(each) or i == 0) for i, (s, each) in enumerate(zip(ran, same, strict=True))]


def _families(ran: list[Summary], found: Scores) -> list[str]:
    """The losses on which another solver is ahead of the first one, by a paired test within them."""
    first = found.left[found.solvers.index(ran[0].solver)]
    parts: list[str] = []
    if len(set(found.losses)) < 2:
        return parts
    for loss in dict.fromkeys(found.losses):
        of_loss = np.array([each == loss for each in found.losses])
        means = {
            s.solver: float(np.nanmean(values))
            for s in ran[1:]
            if not np.isnan(values := found.left[found.solvers.index(s.solver), of_loss]).all()
        }
        if not means:
            continue
        best = min(means, key=lambda name: means[name])
        other = found.left[found.solvers.index(best), of_loss]
        p = min(1.0, len(means) * paired(first[of_loss], other))
        if p < LEVEL and means[best] < np.nanmean(first[of_loss]):
            parts.append(f"on {loss}, {best} leaves less ({_percent(means[best])})")
    return parts


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0.0005 <= share < 0.0995 else f"{share:.0%}"


def as_csv(summaries: list[Summary]) -> str:
    """The summaries as comma-separated values, names first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([field.name for field in fields(Summary)])
    writer.writerows(astuple(summary) for summary in summaries)
    return stream.getvalue()


def wins(rows: list[Row]) -> tuple[list[str], np.ndarray]:
    """The solvers, and for each pair the share of shared samples on which the first is strictly better."""
    names = [summary.solver for summary in summarise(rows)]
    objective = defaultdict(dict)
    for row in rows:
        if "error" not in row:
            objective[row["solver"]].setdefault(row["instance"], []).append(row["objective"])
    known = known_of(rows)
    means = {name: {k: np.mean(v, axis=0) for k, v in of.items()} for name, of in objective.items()}
    table = np.full((len(names), len(names)), np.nan)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            shared = sorted(set(means.get(first, {})) & set(means.get(second, {})))
            if i != j and shared:
                a = np.concatenate([means[first][k] for k in shared])
                b = np.concatenate([means[second][k] for k in shared])
                table[i, j] = np.mean(~is_met(b, a, np.concatenate([known[k].tolerance for k in shared])))
    return names, table


def _summary(name: str, rows: list[Row], known: dict[str, Known], found: Scores, counted: set[str]) -> Summary:
    good = [row for row in rows if "error" not in row and row["instance"] in counted]

    def gather(value: Callable[[Row], Any]) -> np.ndarray:
        return np.concatenate([np.asarray(value(row), dtype=float) for row in good]) if good else np.empty(0)

    objective = gather(lambda row: row["objective"])
    best = gather(lambda row: known[row["instance"]].objective)
    bound, tolerance = gather(bound_of), gather(tolerance_of)
    flips = gather(lambda row: row["flips"] if row["flips"] is not None else [np.nan] * len(row["objective"]))
    left = found.of(name) if name in found.solvers else np.empty(0)
    low, high = interval(left)
    return Summary(
        solver=name,
        exact=any(row["exact"] for row in rows),
        left=_mean(left),
        low=low,
        high=high,
        alike=False,
        proved=_mean(is_met(objective, bound, tolerance)),
        best=_mean(is_met(objective, best, tolerance)),
        flips=_mean(flips),
        seconds=float(sum(row["seconds"] for row in good) / len(objective)) if len(objective) else np.nan,
        instances=len({row["instance"] for row in good}),
        samples=len(objective),
        failures=sum("error" in row for row in rows),
    )


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _time(seconds: float) -> str:
    """Two digits and a unit."""
    unit, size = next(((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if seconds >= size), ("µs", 1e-6))
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
