"""`tpsolve verify`: a check that trusts nothing but the problem, or the data."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tpsolve._storage._documents import parse_json
from tpsolve.cli._answers import Answers, Csv, Json, Quiet
from tpsolve.cli._limited import limited
from tpsolve.cli._tables import show_schema, unrounded_words
from tpsolve.cli._terminal import refuse_given
from tpsolve.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor


def verify(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="A saved problem, a proof of `tpsolve exact` (.npz), or the folder of a comparison.")
    ],
    result: Annotated[
        Path | None,
        typer.Argument(help="A result of the problem (.npz), or the table of the proof (.csv); none of a comparison."),
    ] = None,
    max_enumerated: Annotated[int, typer.Option(help="Enumerate problems of at most this many targets.")] = 20,
    engine: Annotated[
        str, typer.Option(help="For proofs: cadical195, cp-sat, glucose4, clausal, clausal-cadical; default: another.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="Wall-clock limit of the check.")] = 3600.0,
    memory: Annotated[float, typer.Option(help="GiB that the check may take (on Linux).")] = 4.0,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Recompute the objective of a result, and check its bound by enumeration where that is possible.

    For a network it checks separability and errors; it checks the bound only where contradictory labels give it.

    For a proof it checks weights, circuits and clauses in exact arithmetic, and the bound by another engine than
    found it. With `--engine clausal` it trusts no engine: it checks every lemma of a refutation that Glucose logs,
    which is slow. With `clausal-cadical` CaDiCaL logs it.

    For the folder of a comparison it recomputes the objectives of all rows, and says what is known of their bounds.

    The files may be a stranger's: sizes are looked at first, nothing in them is run, and time and memory are limited.

    Exit status 0: all claims hold, or could not be refuted; 1: a claim is false, or not all was checked.
    """
    from tpsolve._storage._archive import read_kind
    from tpsolve.search.proofs._proof import KIND, MODEL_KIND

    answers = Answers(as_json, as_csv, quiet)
    with limited(seconds, memory):
        if file.is_dir():
            refuse_given(context, ("engine",), "for a comparison")
            if result is not None:
                raise ArgumentError("RESULT", result, "none with the folder of a comparison")
            holds = _verify_comparison(file, max_enumerated, answers)
        elif not file.exists():
            expected = "a saved problem, a proof, or the folder of a comparison"
            raise ArgumentError("FILE", file, expected, "There is no such file or folder.")
        elif result is None:
            expected = "a result of the problem, or the table of the proof"
            raise ArgumentError("RESULT", "nothing", expected, f"Name it after {file}.")
        elif read_kind(file) in (KIND, MODEL_KIND):
            refuse_given(context, ("max_enumerated",), "for a proof")
            holds = _verify_proof(file, result, engine or None, seconds, answers)
        else:
            refuse_given(context, ("engine",), "for a result, only for a proof")
            holds = _verify_result(context, file, result, max_enumerated, answers)
    if not holds:
        answers.remark("A claim is false.")
        raise typer.Exit(1)


def _verify_comparison(folder: Path, max_enumerated: int, answers: Answers) -> bool:
    """Print a line for each solver, and one for each claim that is false."""
    from tpsolve.compare.running._check_rows import BY_ENUMERATION, NOT_ABOVE, OWN, RECOUNTED, check_rows

    of_solver: dict[str, list[Any]] = {}
    for check in check_rows(folder, max_enumerated):
        of_solver.setdefault(check.key[1], []).append(check)
    rows: list[dict[str, Any]] = []
    for solver, checks in of_solver.items():
        bounds = sum((check.bounds for check in checks), Counter[str]())
        failed, objectives = sum(check.failed for check in checks), sum(check.objectives for check in checks)
        counts = {"rows": len(checks), "failed": failed, "objectives recomputed": objectives}
        known = {how: bounds[how] for how in (BY_ENUMERATION, RECOUNTED, OWN, NOT_ABOVE)}
        rows.append({"solver": solver, **counts, **known})
    # At 80 columns there is no room for one of zeros.
    rare = "failed", RECOUNTED
    shown = [name for name in rows[0] if name not in rare or any(row[name] for row in rows)] if rows else []
    table = Table(caption="Bounds by how much is known of them.", caption_justify="left")
    for name in shown:
        table.add_column(name, justify="left" if name == "solver" else "right", overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,}" for value in map(row.get, shown)))
    answers.give(table, rows)
    every = [check for checks in of_solver.values() for check in checks]
    for check in every:
        for words in check.false:
            answers.remark(f"{_named(check.key)}: {words}.")
    missing = [check for check in every if check.missing]
    if missing and not any(check.false for check in every):
        first = f"{_named(missing[0].key)}: {missing[0].missing}"
        answers.remark(f"Not checked: {len(missing)} rows. {first}.")
        raise typer.Exit(1)
    return not any(check.false for check in every)


def _named(key: tuple[str, str, int]) -> str:
    return f"{key[1]}, seed {key[2]}, on {key[0]}"


def _verify_proof(file: Path, data: Path, engine: str | None, seconds: float, answers: Answers) -> bool:
    from tpsolve.search import load_proof, verify_proof

    proof = load_proof(file)
    if "target" not in proof.about:
        raise ArgumentError("PROOF", file, "a proof saved by tpsolve exact", "Use verify_proof from Python.")
    inputs, labels, exact = _read_data(data, proof.about, answers.quiet)
    table = Table()
    for heading in ("part", "holds", "what was found"):
        table.add_column(heading, overflow="fold")
    rows, classes = inputs.numpy(), list(labels)
    findings = verify_proof(proof, rows, classes, engine=engine, seconds=seconds, exact=exact)
    for finding in findings:
        word = {True: "yes", False: "no", None: "not checked"}[finding.holds]
        table.add_row(finding.part, word, finding.words)
    claims = [{"part": finding.part, "holds": finding.holds, "found": finding.words} for finding in findings]
    holds = all(finding.holds for finding in findings)
    about: dict[str, Any] = {"holds": holds}
    if exact is not None:
        about["unrounded"] = findings[-1].holds
    answers.give(table, claims, **about)
    if exact is not None and findings[0].holds and findings[-1].holds is not None:
        found = [] if holds else verify_proof(proof, rows, classes, engine=engine, seconds=seconds)
        if holds or all(finding.holds for finding in found):
            answers.say(unrounded_words(holds))
    if findings[-1].holds is None:
        answers.remark("Not checked: give it more --seconds, or another --engine.")
        raise typer.Exit(1)
    return holds


def _read_data(data: Path, about: dict[str, str], quiet: bool) -> tuple["Tensor", tuple[str, ...], list[Any] | None]:
    """Inputs and classes of a table, read as it was for the proof; and the inputs before rounding, if any is rounded.

    What the columns were taken for is found out anew, since a proof that says so itself could change the data.
    """
    if "reading" not in about:
        from tpsolve.tables._first_reading import read_first

        return *read_first(data, about["target"]), None
    from tpsolve.tables import TableOptions, read_table

    options = parse_json(about["reading"], "reading options of the proof")
    read = read_table(data, about["target"], TableOptions.from_json(options))
    if not quiet:
        show_schema(read.schema, read.dropped)
    return read.inputs, read.labels, read.exact_rows()


def _verify_result(context: typer.Context, file: Path, result: Path, max_enumerated: int, answers: Answers) -> bool:
    from tpsolve._result import load_result
    from tpsolve.problems import NetworkProblem, load_problem
    from tpsolve.search import verify_result

    problem = load_problem(file)
    if isinstance(problem, NetworkProblem):
        refuse_given(context, ("max_enumerated",), "for a network, whose targets are not enumerated")
    claimed, fingerprint = load_result(result)
    if fingerprint != problem.fingerprint:
        raise ArgumentError("RESULT", result, f"a result of {file}", "It was saved for another problem.")
    table = Table()
    for heading in ("sample", "objective", "bound", "status"):
        table.add_column(heading, justify="left" if heading == "status" else "right", overflow="fold")
    checks = verify_result(problem, claimed, max_enumerated)
    for number, check in enumerate(checks):
        table.add_row(str(number), check.objective, check.bound, check.status)
    rows = [{"sample": number, **asdict(check)} for number, check in enumerate(checks)]
    answers.give(table, rows, holds=all(check.holds for check in checks))
    return all(check.holds for check in checks)
