"""The questions that a careful colleague asks of a comparison, answered from its rows."""

from collections import Counter

import numpy as np

from tpsolve._storage._printable import printable
from tpsolve.compare._row_table import RowTable
from tpsolve.compare._statistics import APART, LEVEL, RESAMPLES
from tpsolve.compare._summary import Findings
from tpsolve.compare.report._page_data import counted_words, groups_of

OVERRUN = 1.1
"""A solve that took more than this many times its budget has overrun it."""
MAX_NAMED = 12
"""Families of instances that an answer names, at most."""


def checklist(findings: Findings) -> list[tuple[str, str]]:
    """Ten questions with their answers, in plain words."""
    rows = findings.table
    good = rows.take(~rows.failed)
    machines, versions, budgets = Counter[str](), Counter[str](), Counter[str]()
    for (machine, libraries, budget), of in groups_of(rows).items():
        machines[machine] += len(of)
        versions[libraries] += len(of)
        budgets[budget] += len(of)
    return [
        ("Machine", _counted(machines, "row", " on ") + _one_only(machines, "machine")),
        ("Budget", _counted(budgets, "solve", " of at most ") + ". All samples of an instance are solved in one call."),
        ("Seeds", _seeds(findings)),
        ("Instances", _instances(findings)),
        (
            "Intervals",
            f"{1 - LEVEL:.0%}, by the studentised bootstrap: {RESAMPLES} draws of the instances, since samples and "
            "seeds of one instance are not independent. Tried on ten shapes of shares, those of 12 instances hold the "
            "mean in 90% to 99% of draws, those of 6 in 88% to 96%, or 72% where most shares are nothing. Where all "
            "instances have the same share, there is none. Those of expected running times are percentile intervals, "
            "expanded for the number of instances. Solvers are told apart by Wilcoxon's signed rank test over "
            f"instances, p values adjusted after Holm, at {APART:.1%}, where the means have the same order. Ranks: "
            "Friedman's test, and Nemenyi's critical difference.",
        ),
        ("Ties", _ties(findings)),
        ("Failures", _failures(findings)),
        ("Timeouts", _timeouts(good)),
        ("Versions", _counted(versions, "row", " with ") + _one_only(versions, "set of versions")),
        (
            "Raw data",
            f"rows.jsonl has all {counted_words(len(rows), 'row')} that are compared here, a solve each, with the "
            "fingerprint of its problem, its trace and its settings; all on this page follows from them. instances/ "
            "has the problems, unless they are programs.",
        ),
    ]


def _counted(counts: Counter[str], thing: str, words: str) -> str:
    found = (f"{counted_words(n, thing)}{words}{text or 'an unknown one'}" for text, n in counts.most_common())
    return "; ".join(found) or "No rows"


def _one_only(counts: Counter[str], what: str) -> str:
    return f". More than one {what}: their seconds are not comparable." if len(counts) > 1 else "."


def _seeds(findings: Findings) -> str:
    by_solver: dict[str, set[int]] = {}
    for solver, rows in findings.table.grouped("solver").items():
        by_solver[solver] = set(rows.numbered("seed")[0])
    seeds = sorted(set[int]().union(*by_solver.values()))
    once = [printable(solver) for solver, of in by_solver.items() if len(of) < len(seeds)]
    named = ", ".join(map(str, seeds[:10])) + (f" to {seeds[-1]}" if len(seeds) > 10 else "")
    few = f" Under fewer, since they draw nothing or were not finished: {', '.join(once)}." if once else ""
    return f"{counted_words(len(seeds), 'seed')}: {named}.{few} Figures of an instance are means over seeds."


def _instances(findings: Findings) -> str:
    losses = Counter(row["loss"] for row in findings.table.firsts("instance"))
    samples = sum(len(of.objective) for of in findings.known.values())
    families = ", ".join(f"{count} {printable(loss)}" for loss, count in losses.most_common())
    prints = len(findings.table.firsts("fingerprint"))
    counted = len(findings.counted)
    if not counted:
        means = "No solver finished one, so there are no means."
    elif _all_have(findings):
        means = f"Means are over the {counted} of which every solver that finished any has a row."
    else:
        means = "Fewer than half have rows of every solver, so each solver's means are over its own."
    named = [f"{len(of)} {printable(name)}" for name, of in findings.families.items() if name not in losses]
    if named:
        more = f" and {len(named) - MAX_NAMED} more" * (len(named) > MAX_NAMED)
        families += f"; by their names: {', '.join(named[:MAX_NAMED])}{more}"
    return (
        f"{counted_words(sum(losses.values()), 'instance')} ({families}), {counted_words(samples, 'sample')}, "
        f"{counted_words(prints, 'different problem')} by their fingerprints. {means}"
    )


def _all_have(findings: Findings) -> bool:
    found = findings.scores
    shared = [place for place, name in enumerate(found.instances) if name in findings.counted]
    return not np.isnan(found.proved[:, shared]).any()


def _ties(findings: Findings) -> str:
    solved = findings.solved
    best = solved.of_spots(solved.objective, np.inf, np.minimum)
    slack = solved.of_spots(solved.tolerance, -np.inf, np.maximum)
    worst = solved.of_spots(solved.objective, -np.inf, np.maximum)
    tied = int((worst <= best + slack).sum())
    nothing = int(np.isnan(findings.scores.left).all(0).sum()) if findings.scores.instances else 0
    return (
        "Objectives within the tolerance of their problem, which is its rounding, are equal. On "
        f"{tied} of {len(best)} samples every solve ended with the best known objective. Instances on which nothing "
        f"could be improved, {nothing} here, count for proofs, not for what is left. Tied ranks are shared, and "
        "Wilcoxon's test leaves ties out."
    )


def _failures(findings: Findings) -> str:
    failed = Counter(printable(row["solver"]) for row in findings.table.take(findings.table.failed))
    if not failed:
        return f"None of {counted_words(len(findings.rows), 'solve')} failed."
    return (
        f"{sum(failed.values())} of {counted_words(len(findings.rows), 'solve')} failed: "
        + ", ".join(f"{solver} {count}" for solver, count in failed.most_common())
        + ". They have no objective and count in no mean; in running times they count as runs without success."
    )


def _timeouts(good: RowTable) -> str:
    if not len(good):
        return "No solve ended without an error."
    limits = np.array([row["budget"].get("seconds") or np.inf for row in good])
    seconds = good.seconds
    if not np.isfinite(limits).any():
        return "No solve had a limit in seconds."
    over = seconds > OVERRUN * limits
    text = f"{int((seconds >= limits).sum())} of {len(good)} solves used all their seconds"
    if not over.any():
        return f"{text}; none took more than {OVERRUN:g} times its budget."
    late = Counter(printable(row["solver"]) for row, each in zip(good, over, strict=True) if each)
    worst = float((seconds / limits).max())
    named = ", ".join(f"{solver} {count}" for solver, count in late.most_common())
    return (
        f"{text}; {int(over.sum())} took more than {OVERRUN:g} times their budget ({named}), at most {worst:.3g} "
        "times. Their answers count as they are."
    )
