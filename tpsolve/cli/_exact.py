"""`tpsolve exact`: the fewest training errors of a small network on a table, with a proof."""

import json
import time
from contextlib import nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._executors import ExecutorName, MaxMemory, ShardText, connected
from tpsolve.cli._files import check_output, check_picture, check_plot, run_folder, save_picture
from tpsolve.cli._tables import (
    TABLE_HELP,
    Columns,
    Dates,
    Decimal,
    Delimiter,
    Drop,
    Missing,
    Words,
    read_groups,
    read_options,
    read_set,
    read_signs,
    read_widths,
    show_schema,
    table_stem,
    unrounded_words,
)
from tpsolve.cli._terminal import INTERRUPTED, MAX_SEED, Interrupt, progress_bar, refuse_given
from tpsolve.cli.compare._sweep_tables import sweep as run_sweep
from tpsolve.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tpsolve._result import Budget, Progress, Result
    from tpsolve.models import Model
    from tpsolve.problems import NetworkProblem
    from tpsolve.search import Solver
    from tpsolve.tables import LabelledTable

NOT_SWEPT = (
    *("file", "engine", "prefer", "weight_set", "bias_set", "penalty", "margin", "margin_price"),
    *("max_fan_in", "group", "rising", "falling", "shared_bias", "frontier", "save", "plot"),
)
MAX_SEARCH, SEARCH_SHARE = 3.0, 0.1
"""Seconds in which `integer-search` looks for whole weights before a proof begins, and at most this share of all."""

MAX_UNROUNDED = 10.0
"""Seconds in which a proof of rounded numbers is checked for those of the table."""
UNPROVED = (
    "The errors are those of the numbers of the table, with all their digits. integer-search looked for whole weights, "
    "and no bound was proved for them."
)
PROVED = (
    "Errors and bound are those of the numbers of the table. Where float64 rounds sums of them, these were compared as "
    "fractions."
)
NO_SIZES = (
    "No solver holds the sums of these inputs. So only what equal inputs of different labels cost is proved, and what "
    "networks without weights do."
)
LEAST_ANEW = 5.0
"""Seconds that a search in exact arithmetic gets at least, or all of --seconds if these are fewer."""


def exact(
    context: typer.Context,
    target: Annotated[str, typer.Option(help="The column that holds the classes.")],
    file: Annotated[Path | None, typer.Argument(help=TABLE_HELP)] = None,
    widths: Annotated[
        str, typer.Option(help="Units of each hidden layer, such as 3 or 3,2; with --sweep also 1..4, or 2;3;3,2.")
    ] = "3",
    seconds: Annotated[float, typer.Option(help="Wall-clock limit, with --sweep that of each solve.")] = 60.0,
    solver: Annotated[
        str,
        typer.Option(
            help="As `tpsolve list` writes it, such as sweep; default: circuits, or all-columns or weight-box for sets."
        ),
    ] = "",
    engine: Annotated[str, typer.Option(help="auto, glucose4, minisat22, cadical195, maplechrono or cp-sat.")] = "auto",
    prefer: Annotated[
        str, typer.Option(help="Which optimal network: any, or the one of the best margin, units or weights.")
    ] = "any",
    weight_set: Annotated[
        str, typer.Option(help="Whole weights only: ternary, binary, a range such as -7..7, or numbers such as -4,0,4.")
    ] = "",
    bias_set: Annotated[str, typer.Option(help="Likewise the biases; default: any.")] = "",
    penalty: Annotated[float, typer.Option(help="With --weight-set: what a weight other than 0 costs, in errors.")] = 0,
    margin: Annotated[
        int | None,
        typer.Option(min=0, help="With --weight-set: how far sums of output units should be beyond their thresholds."),
    ] = None,
    margin_price: Annotated[
        float, typer.Option(help="With --margin: what each step that a sum lacks costs, in errors.")
    ] = 0.25,
    max_fan_in: Annotated[
        int, typer.Option(min=0, help="With --weight-set: weights other than 0 of a unit, at most; 0: any number.")
    ] = 0,
    group: Annotated[
        list[str] | None,
        typer.Option(help="With --weight-set: of columns how many a unit may read, such as 1:age,income; repeatable."),
    ] = None,
    rising: Annotated[
        str, typer.Option(help="With --weight-set: number columns as which the second class may only become likelier.")
    ] = "",
    falling: Annotated[str, typer.Option(help="Likewise columns as which it may only become less likely.")] = "",
    shared_bias: Annotated[
        bool, typer.Option("--shared-bias", help="With --weight-set: one bias for all units of a hidden layer.")
    ] = False,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="With --weight-set: errors against the number of weights other than 0.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the search.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes: of one table they share the proof, of a sweep each has its solves.")
    ] = None,
    executor: ExecutorName = "",
    sweep: Annotated[
        Path | None, typer.Option(help="A folder of tables in place of FILE: all of them with all --widths.")
    ] = None,
    name: Annotated[str, typer.Option(help="With --sweep: name of the run; by default the folder's.")] = "",
    runs: Annotated[Path, typer.Option(help="With --sweep: folder that holds the runs.")] = Path("runs"),
    shard: ShardText = "",
    max_memory: MaxMemory = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="With --sweep: delete the run's earlier files.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the model and its proof here (.npz).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a plane or frontier here; default: NAME-exact.png.")] = None,
    columns: Columns = "",
    drop: Drop = "",
    words: Words = "",
    missing: Missing = "refuse",
    dates: Dates = "auto",
    delimiter: Delimiter = "",
    decimal: Decimal = "",
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Find the fewest training errors that any weights of a small hard-threshold network reach, and prove it.

    It prints the errors of the best network found and a proven lower bound. Where they meet, no network of these
    widths does better. Columns of words become a column of 0 and 1 for each word. Tables of two number columns
    are drawn: regions, hyperplanes and errors. `tpsolve verify PROOF FILE` checks a saved proof in exact arithmetic.

    With --weight-set the weights are whole numbers of that set, and what is proved is proved for these. With --frontier
    too it finds networks of up to 10 sizes, and draws their errors (NAME-frontier.png).

    With --workers several processes share the work on one hard table (cube and conquer), and make one proof.

    With --sweep every table of a folder is solved with every width. Rows are kept under runs/NAME, and a second call
    goes on where the first one ended. A table and a picture (sweep.png) come at the end.
    """
    import torch

    from tpsolve._check_arguments import check_count
    from tpsolve._result import Budget
    from tpsolve.errors import TooLargeError
    from tpsolve.models import make_model
    from tpsolve.models._words import inequality, unscaled
    from tpsolve.problems import NetworkProblem
    from tpsolve.search import Circuits, IntegerSearch, find_solver, solve
    from tpsolve.search.network.circuits._prove import PROVING_WHOLE
    from tpsolve.tables import read_table

    if workers is not None or executor:
        from tpsolve.compare.running._conquer import conquer
    answers = Answers(as_json, as_csv, quiet)
    budget = Budget(seconds=seconds)
    for option, text in (("weight_set", weight_set), ("bias_set", bias_set)):
        if not text:
            refuse_given(context, [option], "without numbers")
    if sweep is not None:
        refuse_given(context, NOT_SWEPT, "with --sweep")
        options = read_options(columns, drop, words, missing, dates, delimiter, decimal)
        run = run_folder(runs, name, sweep.resolve().name)
        of_run = {"solver": solver or "circuits", "seconds": seconds, "seed": seed, "workers": workers}
        of_run |= {"max_memory": max_memory, "executor": executor, "shard": shard, "fresh": fresh}
        run_sweep(sweep, target, widths, options, run, **of_run, answers=answers)
        return
    if file is None:
        raise ArgumentError("FILE", "nothing", "a table, or --sweep with a folder of tables")
    refuse_given(context, ("name", "runs", "shard", "max_memory", "fresh"), "without --sweep")
    layers, apart = read_widths(widths), workers is not None or bool(executor)
    if apart:
        refuse_given(context, ("weight_set", "solver", "prefer"), "beside --workers or --executor")
        if workers is not None:
            check_count("--workers", workers, 1)
    if weight_set:
        refuse_given(context, ("engine", "prefer"), "beside --weight-set")
        chosen = find_solver(solver) if solver else None
    else:
        rules = ("margin", "margin_price", "max_fan_in", "group", "rising", "falling", "shared_bias")
        refuse_given(context, ("bias_set", "penalty", *rules, "frontier"), "without --weight-set")
        chosen = find_solver(solver or "circuits")
        if isinstance(chosen, Circuits) and solver in ("", "circuits"):
            chosen = Circuits(engine=engine, prefer=prefer)
        else:
            refuse_given(context, ("engine", "prefer"), f"beside --solver {solver}")
    if frontier:
        refuse_given(context, ("solver", "save", "penalty", "margin"), "beside --frontier")
    if margin is None:
        refuse_given(context, ("margin_price",), "without --margin")
    sets = read_set("--weight-set", weight_set), read_set("--bias-set", bias_set)
    check_output("--save", save, file)
    options = read_options(columns, drop, words, missing, dates, delimiter, decimal)
    read = read_table(file, target, options)
    if len(read.schema.classes) < 2:
        raise ArgumentError(str(file), f"the class {read.labels[0]!r} only", "at least two classes")
    if frontier:
        check_picture("--plot", plot)
    else:
        check_plot(plot, len(read.features))
    numbers, is_told_apart = read.exact_rows(), True
    if numbers is not None:
        try:
            read.check_told_apart(str(file))
        except ArgumentError:
            is_told_apart = False
    posed = partial(
        NetworkProblem,
        read.inputs,
        read.labels,
        layers,
        weight_set=sets[0],
        bias_set=sets[1],
        penalty=penalty,
        margin=margin,
        margin_price=None if margin is None else margin_price,
        monotone=read_signs(read.features, rising, falling),
        max_fan_in=max_fan_in or None,
        groups=read_groups(read.schema, group or ()),
        shared_bias=shared_bias or None,
    )
    try:
        problem = posed()
    except TooLargeError:
        if not weight_set:
            raise
        # Sums beyond float64: fractions have no end.
        is_told_apart = False
        numbers = numbers or [tuple(map(Fraction, row)) for row in read.inputs.tolist()]
        problem = unrounded = posed(exact=numbers)
    else:
        unrounded = problem if numbers is None else posed(exact=numbers)
    if chosen is None:
        # What proves the sizes of a frontier is up to it.
        chosen = IntegerSearch() if frontier else _proving(unrounded, min(MAX_SEARCH, SEARCH_SHARE * seconds))
    proves = chosen.exact or chosen.name in PROVING_WHOLE
    # Margins of rounded numbers are others.
    first = problem if prefer in ("any", "units") and not _takes(chosen, unrounded) else unrounded
    chosen.check(first)
    if not quiet:
        show_schema(read.schema, read.dropped)
    if frontier:
        _show_frontier(unrounded, budget, seed, plot, f"{table_stem(file)}-frontier.png", answers)
        return
    with Interrupt() as interrupt, progress_bar(seconds, quiet=quiet) as bar:
        task = bar.add_task("", total=seconds)

        def show(progress) -> bool:
            figures = f"{progress.objective:g} errors, at least {max(0.0, progress.bound):g}"
            bar.update(task, completed=progress.seconds, description=figures)
            return interrupt.asked

        def search(problem: "NetworkProblem") -> "Result":
            """By what was asked for, if it takes numbers that float64 rounds; else by another, in the time left."""
            generator = torch.Generator().manual_seed(seed)
            anew = problem.exact is not None and proves
            if apart and not anew:
                cluster, cores = connected(executor, runs) or (None, 1)
                how = {"engine": engine, "generator": generator, "callback": show}
                with cluster or nullcontext():
                    return conquer(problem, seconds=seconds, workers=workers or cores, executor=cluster, **how)
            left = max(seconds - time.monotonic() + began, min(seconds, LEAST_ANEW))
            solver = chosen
            if anew:
                solver = Circuits(engine=engine, prefer=prefer)
                if weight_set:
                    solver = chosen if _takes(chosen, problem) else IntegerSearch()
            return solve(problem, solver, budget=Budget(seconds=left), generator=generator, callback=show)

        began = time.monotonic()
        problem = first
        if numbers is not None and not (is_told_apart and proves):
            problem = unrounded
        result = search(problem)
        holds = _holds(problem, result, read) if numbers is not None else None
        if weight_set and numbers is not None and holds is None and not _gives_the_same(unrounded, result):
            holds = False
        anew = holds is False and problem.exact is None and unrounded is not problem and not interrupt.asked
        if anew:
            problem = unrounded
            result = search(problem)
            holds = _holds(problem, result, read)
    objective, bound = result.objective.item(), result.bound.item()
    table = Table(caption=f"{result.stats['seconds']:.3g} s, {result.stats['steps']} steps", caption_justify="left")
    row: dict[str, object] = {"samples": len(read.labels)}
    if problem.weight_set is None:
        row |= {"points": len(problem.inputs), "features": len(read.features)}
    row |= {"classes": len(problem.classes), "widths": layers}
    if problem.weight_set is not None:
        row |= {"weights": problem.nonzero(result.stats["weights"])}
    if penalty or margin is not None:
        row |= {"errors": round(problem.errors(problem.columns(result.targets)[-1]).item()), "cost": objective}
        row |= {"bound": bound}
    else:
        row |= {"errors": round(objective), "bound": round(bound)}
    row |= {"status": result.status.value}
    for heading in row:
        table.add_column(heading, justify="right", overflow="fold")
    table.add_row(*map(_shown, row.values()))
    about: dict[str, Any] = {"saved": None if save is None else str(save), "rules": None}
    lines = []
    if "preferred" in result.stats:
        about |= {name: result.stats[name] for name in ("preferred", "preference_proved")}
        best = "none better" if result.stats["preference_proved"] else "not proved to be the best"
        lines.append(f"{prefer}: {result.stats['preferred']:.4g}, {best}")
    elif prefer != "any":
        lines.append(f"{prefer}: not looked for, as the fewest errors were not proved in time")
    if "weights" in result.stats:
        about["rules"] = []
        for number, (weight, bias) in enumerate(zip(*result.stats["weights"][0], strict=True), 1):
            whole = unscaled([round(w) for w in weight.tolist()], Fraction(bias.item()), read.schema.scaling)
            about["rules"].append(f"unit {number}: +1 where {inequality(*whole, read.features)}")
        lines += about["rules"]

    def make() -> "Model":
        reading = {"target": target, "reading": json.dumps(options.to_json())}
        return make_model(problem, result, features=read.features, target=target, schema=read.schema, about=reading)

    by_search = result.stats["solver"] == IntegerSearch.name
    if numbers is not None and problem.weight_set is not None and problem.exact is not None and by_search:
        about |= {"unrounded": None, "anew": anew}
        lines.append(UNPROVED)
    elif numbers is not None and problem.weight_set is not None and problem.exact is not None:
        about |= {"unrounded": True, "anew": anew}
        lines.append(PROVED)
    elif numbers is not None and proves:
        about |= {"unrounded": holds, "anew": anew}
        lines.append(unrounded_words(holds))
    elif numbers is not None:
        lines.append("The errors are those of the numbers of the table, which float64 rounds.")
    if anew and not weight_set:
        lines.append("The answer for rounded numbers was another one. So circuits searched again, in exact arithmetic.")
    spent = {"seconds": result.stats["seconds"], "steps": result.stats["steps"]}
    answers.give(table, [{**row, **spent}], **about)
    for line in lines:
        answers.say(line)
    if save is not None:
        # First: float64 may give no network for a picture.
        model = make()
        model.save(save)
        answers.tell(f"Saved: {save}" + ("" if model.proof else ", without a proof"))
    if len(read.features) == 2:
        from tpsolve.pictures import draw_network

        def draw() -> "Figure":
            network = problem.network(result.targets, result.stats.get("weights"))
            return draw_network(problem, network, read.features, read.schema.scaling)

        save_picture(plot, f"{table_stem(file)}-exact.png", draw, answers)
    if interrupt.asked:
        raise typer.Exit(INTERRUPTED)


def _holds(problem: "NetworkProblem", result: "Result", read: "LabelledTable") -> bool | None:
    """Whether the proof of a result holds for the numbers of a table that float64 rounds; None: not decided in time."""
    from tpsolve.search import make_proof
    from tpsolve.search.network.circuits._prove import has_proof
    from tpsolve.search.proofs._check_proof import holds_unrounded

    rows = read.exact_rows()
    if rows is None or not has_proof(problem, result.stats.get("solver")):
        return None
    proof = make_proof(problem, result)
    return holds_unrounded(proof, read.inputs.numpy(), read.labels, rows, MAX_UNROUNDED)


def _takes(solver: "Solver", problem: "NetworkProblem") -> bool:
    """Whether a solver that proves what whole weights cost takes the numbers of a table that float64 rounds."""
    from tpsolve.errors import NotAcceptedError, TooLargeError
    from tpsolve.search.network.circuits._prove import PROVING_WHOLE

    if problem.weight_set is None or problem.exact is None or solver.name not in PROVING_WHOLE:
        return False
    try:
        solver.check(problem)
    except (NotAcceptedError, TooLargeError):
        return False
    return True


def _gives_the_same(unrounded: "NetworkProblem", result: "Result") -> bool:
    """Whether whole weights cost as much on the numbers of the table as on those that float64 makes of them."""
    weights = unrounded.check_weights(result.stats["weights"])
    return unrounded.objective(unrounded.from_weights(weights), weights).item() == result.objective.item()


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    return escape(",".join(map(str, value)) if isinstance(value, list) else str(value))


def _proving(problem: "NetworkProblem", search_seconds: float) -> "Solver":
    """The solver that proves how few errors weights of a set make; where none takes its numbers, one that searches."""
    from tpsolve.errors import NotAcceptedError, TooLargeError
    from tpsolve.search import AllColumns, IntegerSearch, WeightBox

    box = WeightBox(search_seconds=search_seconds, real_seconds=search_seconds)
    listed = AllColumns(search_seconds=search_seconds)
    try:
        listed.check(problem)
    except (NotAcceptedError, TooLargeError):
        return box if problem.has_whole_inputs else IntegerSearch()
    return listed


def _show_frontier(
    problem: "NetworkProblem", budget: "Budget", seed: int, plot: Path | None, name: str, answers: Answers
) -> None:
    """Print and draw errors against the number of weights; Ctrl-C leaves what is known by then."""
    import torch

    from tpsolve.pictures import draw_frontier
    from tpsolve.search import size_frontier
    from tpsolve.search.network.whole._size_frontier import proves_sizes

    began = time.monotonic()
    with Interrupt() as interrupt, progress_bar(budget.seconds, quiet=answers.quiet) as bar:
        task = bar.add_task("", total=budget.seconds)

        def show(progress: "Progress") -> bool:
            figures = f"{progress.objective:g}, at least {max(0.0, progress.bound):g}"
            bar.update(task, completed=time.monotonic() - began, description=figures)
            return interrupt.asked

        generator = torch.Generator().manual_seed(seed)
        points = size_frontier(problem, budget=budget, generator=generator, callback=show)
    seconds = time.monotonic() - began
    table = Table(caption=f"{seconds:.3g} s", caption_justify="left")
    for heading in ("weights at most", "weights", "errors", "bound", "proved"):
        table.add_column(heading, justify="right", overflow="fold")
    rows = []
    for point in points:
        figures = (f"{value:.12g}" for value in (point.errors, point.bound))
        table.add_row(str(point.max_nonzero), str(point.nonzero), *figures, "yes" if point.proved else "no")
        names = ("max_nonzero", "nonzero", "errors", "bound", "proved")
        rows.append({name: getattr(point, name) for name in names})
    is_exact, solver = problem.exact is not None, proves_sizes(problem)
    about = {"unrounded": None if solver is None else True} if is_exact else {}
    answers.give(table, rows, seconds=seconds, **about)
    if solver is None:
        answers.say(NO_SIZES)
    elif is_exact:
        answers.say(PROVED)
    save_picture(plot, name, lambda: draw_frontier(points), answers)
    if interrupt.asked:
        raise typer.Exit(INTERRUPTED)
