"""`tpsolve solve`: one solver on a saved problem."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._files import check_output
from tpsolve.cli._terminal import INTERRUPTED, MAX_SEED, Interrupt, progress_bar


def solve(
    file: Annotated[Path, typer.Argument(help="A saved problem (.npz).")],
    solver: Annotated[str, typer.Option(help="A name that `tpsolve list` shows; settings follow a colon.")] = "cp-sat",
    seconds: Annotated[
        float | None, typer.Option(help="Wall-clock limit of the call; default: 10, if no limit is given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Limit in steps of each sample.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the solver.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    save: Annotated[Path | None, typer.Option(help="Write the result here (.npz), for `tpsolve verify`.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Solve a saved problem and print objective, bound and status of each sample."""
    import torch

    from tpsolve._check_arguments import find_device
    from tpsolve._result import Budget
    from tpsolve.problems import load_problem
    from tpsolve.search import find_solver
    from tpsolve.search import solve as run

    answers = Answers(as_json, as_csv, quiet)
    if seconds is None and steps is None:
        seconds = 10.0
    budget, chosen = Budget(seconds=seconds, steps=steps), find_solver(solver)
    check_output("--save", save, file)
    problem = load_problem(file).to(find_device(device))
    generator = torch.Generator().manual_seed(seed)
    with Interrupt() as interrupt, progress_bar(seconds, quiet=quiet) as bar:
        task = bar.add_task(chosen.name, total=seconds)
        result = run(
            problem,
            chosen,
            budget=budget,
            generator=generator,
            callback=lambda progress: bar.update(task, completed=progress.seconds) or interrupt.asked,
        )
    objective, bound = result.objective.reshape(-1).tolist(), result.bound.reshape(-1).tolist()
    statuses = [status.value for status in _flat(result.status)]
    table = Table(caption=f"{chosen.name}: {result.stats['seconds']:.3g} s, {result.stats['steps']} steps")
    for heading in ("sample", "objective", "bound", "gap", "status"):
        table.add_column(heading, justify="right", overflow="fold")
    rows = []
    for number, (value, least, status) in enumerate(zip(objective, bound, statuses, strict=True)):
        gap = max(0.0, value - least)
        table.add_row(str(number), f"{value:.6g}", f"{least:.6g}", f"{gap:.3g}", status)
        rows.append({"sample": number, "objective": value, "bound": least, "gap": gap, "status": status})
    if save is not None:
        result.save(save, fingerprint=problem.fingerprint)
    spent = {name: result.stats[name] for name in ("seconds", "steps")}
    saved = None if save is None else str(save)
    answers.give(table, rows, solver=chosen.name, **spent, notes=result.stats["notes"], saved=saved)
    for row, reason in result.stats["notes"].items():
        answers.remark(f"Sample {row}: {reason}")
    if save is not None:
        answers.tell(f"Saved: {save}")
    if interrupt.asked:
        raise typer.Exit(INTERRUPTED)


def _flat(nested: object) -> list:
    return [item for part in nested for item in _flat(part)] if isinstance(nested, list) else [nested]
