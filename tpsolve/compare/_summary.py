"""From rows to one line a solver, and to the words that say which to use when."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import torch

from tpsolve._gap import is_closed

Row = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """One solver over all its rows; means over samples and seeds.

    Args:
        solver: as `solver_text` writes it.
        exact: whether it can prove an optimum.
        objective: mean objective.
        gap: mean objective above the proven optimum, over the samples where some solver proved it; NaN: none.
        proved: share of samples that this solver itself proved optimal.
        best: share of samples on which no solver found better.
        flips: mean share of targets that differ from the activations; NaN without activations.
        seconds: mean wall-clock seconds a sample.
        samples: solves of one sample that the means are over.
        failures: solves that ended with an error.
    """

    solver: str
    exact: bool
    objective: float
    gap: float
    proved: float
    best: float
    flips: float
    seconds: float
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


def is_met(objective: np.ndarray, best: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Where `objective` is no more than the problem's `tolerance` above `best`."""
    return is_closed(*map(torch.as_tensor, (objective, best, tolerance))).numpy()


def known_of(rows: Iterable[Row]) -> dict[str, Known]:
    """For each instance, what the rows know of it together."""
    grouped = defaultdict(list)
    for row in rows:
        if "error" not in row:
            grouped[row["instance"]].append(row)
    return {
        name: Known(
            np.min([row["objective"] for row in group], axis=0),
            np.max([_bound(row) for row in group], axis=0),
            np.max([_tolerance(row) for row in group], axis=0),
        )
        for name, group in grouped.items()
    }


def summarise(rows: list[Row]) -> list[Summary]:
    """One summary a solver, the one with the lowest mean gap first; rows with an error count as failures.

    Means compare like with like where every solver ran on every instance; one that accepts fewer
    instances is measured only on those, as its `samples` say.
    """
    known = known_of(rows)
    names = dict.fromkeys(row["solver"] for row in rows)
    found = [_summary(name, [row for row in rows if row["solver"] == name], known) for name in names]
    return sorted(found, key=lambda s: (np.nan_to_num(s.gap, nan=np.inf), -s.best, s.seconds))


def advice(summaries: list[Summary]) -> str:
    """Which solver to use when, in one line of plain words, only from these measurements."""
    ran = [s for s in summaries if s.samples]
    if not ran:
        return "No solver finished a row, so there is nothing to advise."
    parts = []
    provers = [s for s in ran if s.proved > 0]
    if provers:
        prover = max(provers, key=lambda s: (s.proved, -s.seconds))
        parts.append(
            f"use {prover.solver} when you want the optimum ({prover.proved:.0%} of the samples proved optimal, "
            f"{_time(prover.seconds)} each)"
        )
    quick = [s for s in ran if not s.exact]
    if quick:
        best = max(quick, key=lambda s: (s.best, -s.seconds))
        parts.append(
            f"use {best.solver} inside a training loop ({best.best:.0%} of the samples as good as the best found, "
            f"{_time(best.seconds)} each)"
        )
        free = next((s for s in quick if s.solver == "sign-gradient"), None)
        if free is not None and free is not best and np.isfinite(free.gap):
            parts.append(f"sign-gradient costs a gradient and ends {free.gap:.3g} above the optimum on average")
    if not parts:
        best = min(ran, key=lambda s: s.objective)
        parts.append(
            f"no optimum was proved; {best.solver} has the lowest mean objective, {_time(best.seconds)} a sample"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


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


def _summary(name: str, rows: list[Row], known: dict[str, Known]) -> Summary:
    good = [row for row in rows if "error" not in row]

    def gather(value: Callable[[Row], Any]) -> np.ndarray:
        return np.concatenate([np.asarray(value(row), dtype=float) for row in good]) if good else np.empty(0)

    objective = gather(lambda row: row["objective"])
    best = gather(lambda row: known[row["instance"]].objective)
    proven = gather(lambda row: known[row["instance"]].proven) > 0
    bound, tolerance = gather(_bound), gather(_tolerance)
    flips = gather(lambda row: row["flips"] if row["flips"] is not None else [np.nan] * len(row["objective"]))
    return Summary(
        solver=name,
        exact=any(row["exact"] for row in rows),
        objective=_mean(objective),
        gap=_mean((objective - best)[proven]),
        proved=_mean(is_met(objective, bound, tolerance)),
        best=_mean(is_met(objective, best, tolerance)),
        flips=_mean(flips),
        seconds=float(sum(row["seconds"] for row in good) / len(objective)) if len(objective) else np.nan,
        samples=len(objective),
        failures=len(rows) - len(good),
    )


def _bound(row: Row) -> np.ndarray:
    return np.array([-np.inf if bound is None else bound for bound in row["bound"]])


def _tolerance(row: Row) -> np.ndarray:
    # Rows of versions that had none: only equal objectives are equal.
    return np.array(row.get("tolerance", [0.0] * len(row["objective"])))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _time(seconds: float) -> str:
    """Two digits and a unit."""
    unit, size = next(((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if seconds >= size), ("µs", 1e-6))
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
