"""`solve`: the one way to run a solver, and the judge of what it returns."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from tpsolve._result import Budget, Result
from tpsolve.errors import ArgumentError, BudgetError, ContradictionError
from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.problems.program._choice_problem import ChoiceProblem
from tpsolve.search._base import Callback, Report, Solver, check_counts_passes
from tpsolve.search._naming import find_solver, with_parts


def solve(
    problem: Problem,
    solver: Solver | str | None = None,
    *,
    budget: Budget,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Result:
    """Search `problem` for its best targets with `solver`, within `budget`.

    The problem recomputes the objective of whatever the solver returns, in float64, and the status of
    each sample follows from its objective and its proven bound. A budget that runs out is a result.
    Samples for which nothing was found in time get the problem's `start`, or +1 without one; where even
    that has no objective, it is +inf, the status unknown, and the reason in `stats["notes"]`. Where no call of a
    program is left to judge the start, they get what was tried last.

    Args:
        solver: settings such as `HillClimb(restarts=8)`, or a text such as "hill-climb:restarts=8"; None:
            `Auto(proof=True)`, which is exact for layer and network problems.
        generator: the source of all randomness; None: one of seed 0.
        callback: called with each `Progress`; True stops the search cleanly.

    Raises:
        TpsolveError: the solver can't take the problem, or an argument makes no sense; before any search. A
            `BudgetError` where all limits are of a kind that the problem does not have, or where the budget has passes
            and the solver does not count them.
        ContradictionError: the solver's bound exceeds the objective of its own targets: a defect of it.
    """
    if not isinstance(problem, Problem):
        raise ArgumentError("problem", type(problem).__name__, "a Problem such as LayerProblem")
    if not isinstance(budget, Budget):
        raise ArgumentError("budget", repr(budget), "a Budget", "For example Budget(seconds=10).")
    kinds = {
        "calls": isinstance(problem, ProgramProblem),
        "passes": isinstance(problem, LayerProblem | BlockProblem | ChoiceProblem),
    }
    check_limits(type(problem).__name__, kinds, budget)
    if not isinstance(generator, torch.Generator | None):
        raise ArgumentError(
            "generator", type(generator).__name__, "a torch.Generator", "torch.Generator().manual_seed(0)"
        )
    if callback is not None and not callable(callback):
        raise ArgumentError("callback", type(callback).__name__, "a function of a Progress")
    solver = find_solver("auto:proof=True" if solver is None else solver)
    solver.check(problem)
    if budget.passes is not None and isinstance(problem, LayerProblem | BlockProblem):
        for part in with_parts(solver):
            check_counts_passes(part)
    if budget.passes is not None and isinstance(problem, ChoiceProblem):
        budget = replace(budget, calls=min(budget.calls or budget.passes, budget.passes), passes=None)
    generator = torch.Generator().manual_seed(0) if generator is None else generator

    flat = problem.flatten()
    report = Report(flat, budget, callback)
    solver.run(flat, budget, generator, report)
    missing = torch.isinf(report.objective)
    _fill_missing(flat, report)
    report.pulse()
    _check_claims(solver, flat, report)

    shape = problem.batch_shape
    targets = report.targets.reshape((*shape, *problem.target_shape))
    objective = report.judge().reshape(shape)
    return Result(
        targets=targets,
        objective=objective,
        # What is above is rounding, as the check has shown.
        bound=torch.minimum(report.bound.reshape(shape), objective),
        trace=tuple(report.trace),
        stats={
            "solver": solver.name,
            "steps": report.steps,
            "seconds": report.seconds,
            "judge_seconds": report.judge_seconds,
            "found_at": report.found_at.reshape(shape),
            "proved_at": report.proved_at.reshape(shape),
            **({"passes": report.meter.spent.reshape(shape)} if report.meter and solver.counts_passes else {}),
            "missing": missing.reshape(shape),
            "notes": report.notes,
            **report.stats,
        },
        target_set=report.target_set,
        tolerance=report.tolerance.reshape(shape),
    )


def check_limits(name: str, has: Mapping[str, bool], budget: Budget) -> None:
    """Raise BudgetError where no limit of the budget is one of the problem `name`, which `has` calls or passes."""
    given = [kind for kind in has if getattr(budget, kind) is not None]
    if budget.seconds is None and budget.steps is None and not any(has[kind] for kind in given):
        limits = ", ".join(f"{kind}={getattr(budget, kind)}" for kind in given)
        none = " or ".join(given)
        raise BudgetError("budget", f"{limits} alone", "seconds or steps", f"A {name} has no {none}.")


def _fill_missing(problem: Problem, report: Report) -> None:
    """Give samples without targets their start; those whose objective can't be computed stay unknown, with a note."""
    rows = torch.isinf(report.objective).nonzero()[:, 0]
    if not len(rows):
        return
    if problem.start is not None:
        taken = rows
        if isinstance(problem, ProgramProblem):
            spent = report.offered & (problem.calls_left() <= 0)
            taken = rows[~spent[rows]]
        report.targets[taken] = problem.start[taken]
    report.offer(
        report.targets[rows], rows, weights=problem.start_weights if isinstance(problem, NetworkProblem) else None
    )
    for place, reason in problem.select(rows).failures(report.targets[rows]).items():
        report.note(rows[place], reason)


def _check_claims(solver: Solver, problem: Problem, report: Report) -> None:
    # Twice: the objective and the bound are each rounded once.
    excess = report.bound - report.objective - 2 * problem.rounding()
    if bool((excess > 0).any()):
        row = int(excess.argmax())
        raise ContradictionError(
            f"{solver.name} claims the bound {report.bound[row].item()!r} for sample {row}, but its own targets "
            f"reach {report.objective[row].item()!r}. Please report this with the problem saved by problem.save()."
        )
