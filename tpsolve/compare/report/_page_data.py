"""What the page of a comparison holds as data: curves and tables by family, and the solves of each instance."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from tpsolve._storage._printable import printable
from tpsolve.compare._anytime import (
    TABLE_BUDGETS,
    TABLE_TARGETS,
    Curve,
    FixedBudget,
    expected_times,
    fixed_budgets,
    found_at,
    mean_left,
    proved_at,
    reached,
    share_done,
    thinned,
)
from tpsolve.compare._row_table import Row, RowTable
from tpsolve.compare._statistics import mean_ranks, pair_tests
from tpsolve.compare._summary import Findings, advice, wins

POINTS = 200
"""Of a curve on the page, at most."""
MAX_FAMILIES = 12
"""That the page has a choice of, the largest ones; each has curves and tables of its own."""
TRACE_POINTS = 60
"""Of the trace of one solve, at most."""
MAX_EMBEDDED = 200
"""Instances whose solves are in the page itself; those of the others lie beside."""
MAX_EMBEDDED_BYTES = 6_000_000
"""And what these take, at most."""
ALL = "all instances"

Group = tuple[str, str, str]
"""Machine, versions and budget of a row; a machine is told by its device, processor and host."""


def group_of(row: Row) -> Group:
    """What its seconds may be compared within."""
    machine = ", ".join(row[part] for part in ("device", "processor", "host") if row.get(part))
    return _group(machine, tuple(row.get("versions", {}).items()), tuple(row["budget"].items()))


@lru_cache
def _group(machine: str, versions: tuple[tuple[str, str], ...], budget: tuple[tuple[str, float | None], ...]) -> Group:
    libraries = ", ".join(f"{name} {version}" for name, version in versions)
    limits = ", ".join(f"{limit:g} {name}" for name, limit in budget if limit is not None)
    return printable(machine), printable(libraries), printable(limits)


def groups_of(table: RowTable) -> dict[Group, RowTable]:
    """The rows by machine, versions and budget, the largest group first."""
    groups, numbers = _grouped(table)
    return {group: table.take(numbers == number) for number, group in enumerate(groups)}


def _grouped(table: RowTable) -> tuple[list[Group], np.ndarray]:
    """The groups, the largest first, and the number of that of each row, `(rows,)`."""
    codes = np.stack([table.codes(name) for name in ("device", "processor", "host", "versions", "budget")])
    _, first, back, counts = np.unique(codes, axis=1, return_index=True, return_inverse=True, return_counts=True)
    sizes: dict[Group, int] = {}
    kinds = [group_of(table[number]) for number in first.tolist()]
    for kind in np.argsort(first).tolist():
        sizes[kinds[kind]] = sizes.get(kinds[kind], 0) + int(counts[kind])
    groups = sorted(sizes, key=lambda group: -sizes[group])
    place = {group: number for number, group in enumerate(groups)}
    return groups, np.array([place[kind] for kind in kinds], dtype=int)[back.reshape(-1)]


def counted_words(count: int, thing: str) -> str:
    """Such as "1 sample" or "2 samples"."""
    return f"{count} {thing}{'s' * (count != 1)}"


def size_of(row: Row) -> str:
    """The size of the row's instance in words."""
    if "network" in row:
        return f"{row['points']} points, network {row['network']}"
    if "assignments" in row:
        return f"{row['n_vars']} symbols, at most {row['assignments']:,} assignments"
    return f"{row['n_vars']} targets, {row['n_units']} units above"


def page_data(findings: Findings) -> dict[str, Any]:
    """All that the page's script reads, but for the solves of instances."""
    names = [summary.solver for summary in findings.summaries]
    views = [_view(ALL, findings, names)]
    largest = sorted(findings.families, key=lambda family: -len(findings.families[family]))[:MAX_FAMILIES]
    for family, instances in findings.families.items():
        if family in largest:
            views.append(_view(printable(family), findings.of_instances(instances), names))
    return {
        "solvers": [printable(name) for name in names],
        "targets": TABLE_TARGETS,
        "tracePoints": TRACE_POINTS,
        "views": views,
        "instances": _instances(findings, names),
    }


def solves_of(findings: Findings) -> Iterator[bytes]:
    """The solves of each instance, one instance after the other, in the order of the page's, as JSON."""
    places = {summary.solver: place for place, summary in enumerate(findings.summaries)}
    table = findings.table
    groups = _grouped(table)[1]
    encoder = msgspec.json.Encoder()
    for name, numbers in table.numbers_by("instance"):
        solves = []
        rows = table.take(numbers)
        for place, (row, group) in enumerate(zip(rows, groups[numbers].tolist(), strict=True)):
            head = [places[row["solver"]], row["seed"], group]
            if "error" in row:
                solves.append([*head, printable(row["error"])])
                continue
            trace: Any = []
            seconds, objective = rows.trace(place)
            if len(seconds):
                if len(seconds) > TRACE_POINTS:
                    seconds, objective = thinned((seconds, objective), TRACE_POINTS)
                trace = [_short(seconds), _short(objective)]
            columns = [_short(row[name]) for name in ("objective", "bound", "found_at", "proved_at")]
            solves.append([*head, "", *_short([row["seconds"]]), *columns, trace])
        of = findings.known.get(name)
        known: dict[str, Any] = {"best": [], "bound": [], "reference": []}
        if of is not None:
            known = {"best": _short(of.objective), "bound": _short(of.bound), "reference": _short(of.reference)}
        yield encoder.encode({**known, "solves": solves})


def _view(name: str, findings: Findings, names: list[str]) -> dict[str, Any]:
    """Curves and tables of some of the instances; solvers are told by their place among all."""
    places = {solver: place for place, solver in enumerate(names)}
    shown: dict[str, Any] = {"name": name, "advice": printable(advice(findings)), "lines": []}
    curves: dict[str, dict[int, Any]] = {kind: {} for kind in ("left", "found", "proved", "targets")}
    times: dict[int, Any] = {}
    budgets: dict[int, list[FixedBudget]] = {}
    budgets_given = findings.table.numbered("budget")[0]
    whole = max((float(budget.get("seconds") or 0) for budget in budgets_given), default=0.0)
    moments = [whole * part for part in TABLE_BUDGETS] if whole else []
    for summary in findings.summaries:
        place, rows = places[summary.solver], findings.of_solvers[summary.solver]
        good = rows.take(~rows.failed)
        runs, attempts = findings.runs[summary.solver], findings.attempts[summary.solver]
        for kind, curve in (
            ("left", mean_left(runs)),
            ("found", share_done(found_at(good, findings.known))),
            ("proved", share_done(proved_at(good))),
            ("targets", reached(attempts)),
        ):
            if curve is not None:
                curves[kind][place] = _drawn(curve)
        times[place] = [_short([e.seconds, e.low, e.high, e.reached]) for e in expected_times(attempts)]
        budgets[place] = fixed_budgets(runs, moments)
        numbers = (summary.left, summary.low, summary.high, summary.best, summary.proved, summary.flips)
        counts = (summary.instances, summary.samples, summary.failures)
        shown["lines"].append([place, summary.alike, *_short([*numbers, summary.seconds]), *counts])
    # The last one always, so that there is a table.
    known = [any(not np.isnan(of[k].left) for of in budgets.values() if of) for k in range(len(moments))]
    shown_at = [k for k in range(len(moments)) if known[k] or k == len(moments) - 1]
    ranks, p, critical = mean_ranks(findings.scores)
    beaten, table = wins(findings)
    tested, at = pair_tests(findings.scores), {name: number for number, name in enumerate(findings.scores.solvers)}
    # A solver that only failed is in no test.
    p_values = [[float(tested[at[a], at[b]]) if a in at and b in at else None for b in beaten] for a in beaten]
    return {
        **shown,
        "curves": curves,
        "times": times,
        "moments": _short([moments[k] for k in shown_at]),
        "budgets": {place: [_budget(of[k]) for k in shown_at] if of else [] for place, of in budgets.items()},
        "ranks": {places[s]: rank for s, rank in zip(findings.scores.solvers, _short(ranks), strict=True)},
        "friedman": _short([p, critical]),
        "wins": [[places[s] for s in beaten], [_short(line) for line in table], [_short(line) for line in p_values]],
    }


def _instances(findings: Findings, names: list[str]) -> dict[str, list[Any]]:
    """A column for each thing that the table of instances shows; the solvers in `ahead` leave least."""
    found = findings.scores
    order = np.array([names.index(solver) for solver in found.solvers], dtype=int)
    # NaN, of a solver without rows, is never the least.
    filled = np.where(np.isnan(found.left), np.inf, found.left)
    least = filled.min(0, initial=np.inf)
    first = np.isfinite(filled) & (filled <= least + 1e-12)
    leading = {name: sorted(order[first[:, k]].tolist()) for k, name in enumerate(found.instances)}
    shown: dict[str, list[Any]] = {key: [] for key in ("name", "loss", "size", "samples", "best", "proven", "ahead")}
    for row in findings.table.firsts("instance"):
        name = row["instance"]
        of = findings.known.get(name)
        values = (
            printable(name),
            printable(row["loss"]),
            size_of(row),
            0 if of is None else len(of.objective),
            None if of is None else _short([of.mean])[0],
            0 if of is None else int(of.proven.sum()),
            leading.get(name, []),
        )
        for key, value in zip(shown, values, strict=True):
            shown[key].append(value)
    return shown


def _budget(at: FixedBudget) -> list[float | None]:
    return [*_short([at.left, at.low, at.high]), at.nothing, at.instances]


def _drawn(curve: Curve) -> list[list[float | None]]:
    seconds, values = thinned(curve, POINTS)
    return [_short(seconds), _short(values)]


def _short(values: Iterable[float | None]) -> list[float | None]:
    """Six digits of each; null for what is not finite."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in plain]
