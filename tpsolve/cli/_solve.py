"""`tpsolve solve`: one solver on a saved problem."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tpsolve.cli._files import check_output
from tpsolve.cli._terminal import INTERRUPTED, MAX_SEED, Interrupt, notes, output, progress_bar, say


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
) -> None:
    """Solve a saved problem and print objective, bound and status of each sample."""
    import torch

    from tpsolve._check_arguments import find_device
    from tpsolve._result import Budget
    from tpsolve.problems import load_problem
    from tpsolve.search import find_solver
    from tpsolve.search import solve as run

    if seconds is None and steps is None:
        seconds = 10.0
    budget, chosen = Budget(seconds=seconds, steps=steps), find_solver(solver)
    check_output("--save", save, file)
    problem = load_problem(file).to(find_device(device))
    generator = torch.Generator().manual_seed(seed)
    with Interrupt() as interrupt, progress_bar(seconds) as bar:
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
    for number, (value, least, status) in enumerate(zip(objective, bound, statuses, strict=True)):
        table.add_row(str(number), f"{value:.6g}", f"{least:.6g}", f"{max(0.0, value - least):.3g}", status)
    output.print(table)
    for row, reason in result.stats["notes"].items():
        notes.print(f"Sample {row}: {reason}", highlight=False)
    if save is not None:
        result.save(save, fingerprint=problem.fingerprint)
        say(f"Saved: {save}")
    if interrupt.asked:
        raise typer.Exit(INTERRUPTED)


def _flat(nested: object) -> list:
    return [item for part in nested for item in _flat(part)] if isinstance(nested, list) else [nested]
