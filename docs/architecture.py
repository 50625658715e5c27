"""Write the pictures and lists of architecture.md from the code: `python -m docs.architecture`.

Imports give the house. Each journey really runs, and its stations are calls that were seen. With a folder as
argument, page and pictures are written there instead.
"""

import ast
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from typer.testing import CliRunner

import tpsolve
from docs.architecture_pictures import Station, draw_house, draw_journey, module_summary, summary
from tests.support.imports import FILES, ROOT
from tpsolve import cli
from tpsolve.nn import convert, target_backward
from tpsolve.search import make_proof, verify_proof, verify_result

HERE = Path(__file__).parent
PAGE = HERE / "architecture.md"
MAX_STATIONS = 13


@dataclass(frozen=True)
class Journey:
    """A use of the package, and the calls of it that are shown.

    Args:
        name: of its picture, and of its part of the page.
        run: what is followed.
        stations: files, as patterns below tpsolve/, each with the function to look for or without: then the
            first call into the file counts. They must be seen in this order.
    """

    name: str
    run: Callable[[], Any]
    stations: tuple[str, ...]


# --- the four journeys ------------------------------------------------------------------------------------------------


def layer() -> None:
    """Two units above, three targets, two samples."""
    problem = tpsolve.LayerProblem(
        weight=[[0.5, -1.0, 0.25], [1.0, 0.75, -0.5]], targets=[[1, -1], [-1, 0]], loss="soft-hinge"
    )
    result = tpsolve.solve(problem, "cp-sat", budget=tpsolve.Budget(steps=1000))
    verify_result(problem, result)


def network() -> None:
    """Twelve points of a grid, two classes, two hidden units: at least two errors."""
    x = np.array([[i, j] for i in range(4) for j in range(3)], dtype=float)
    y = np.array([0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1])
    problem = tpsolve.NetworkProblem(x, y, widths=(2,))
    # The master that is always installed.
    result = tpsolve.solve(problem, "circuits:engine=cp-sat", budget=tpsolve.Budget(steps=1000))
    verify_proof(make_proof(problem, result), x, y)


def batch() -> None:
    """Two layers of thresholds, eight samples."""
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), nn.ReLU)
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    budget = tpsolve.Budget(steps=20)
    target_backward(model, x, y, nn.CrossEntropyLoss(), solver="hill-climb", budget=budget)


def table() -> None:
    """Two solvers that end by themselves, long before the seconds do."""
    words = "compare --suite generated-12 --samples 1 --seeds 1 --seconds 60 --solver sign-gradient --solver hill-climb"
    with tempfile.TemporaryDirectory() as folder:
        result = CliRunner().invoke(cli.app, [*words.split(), "--runs", folder], prog_name="tpsolve")
    if result.exit_code:
        raise SystemExit(f"tpsolve {words}:\n{result.output}")


JOURNEYS = (
    Journey(
        "journey-layer",
        layer,
        (
            "problems/layer/_layer_problem.py",
            "search/_solve.py",
            "search/_naming.py",
            "search/exact/_cp_sat.py:CpSat.run",
            "search/local/_loop.py",
            "search/_base.py:Report.offer",
            "problems/layer/_layer_problem.py:LayerProblem.objective",
            "search/exact/_sample_model.py:sample_model",
            "search/exact/_pieces.py:pieces",
            "search/_cp_sat_run.py",
            "search/_base.py:Report.prove",
            "search/proofs/_check_result.py",
        ),
    ),
    Journey(
        "journey-network",
        network,
        (
            "problems/network/_network_problem.py",
            "search/_solve.py",
            "search/network/circuits/*:Circuits.run",
            "search/network/columns/*:ColumnSearch.run",
            "units/separability/*:Separability.learn",
            "units/checking/_verification.py:separates",
            "search/network/circuits/*:NetworkFormula",
            "search/network/circuits/*:CircuitPool",
            "search/network/circuits/*:CpSatMaster.solve",
            "search/_base.py:Report.prove",
            "search/network/circuits/*:make_proof",
            "search/proofs/_check_proof.py",
            "search/proofs/_check_bound.py:refutes",
        ),
    ),
    Journey(
        "journey-batch",
        batch,
        (
            "nn/*:target_backward",
            "nn/passes/_recording.py:record",
            "thresholds/_hard_threshold.py:HardThreshold.forward",
            "nn/passes/_segments.py",
            "nn/*:TargetSearch",
            "nn/*:build_problem",
            "problems/layer/_layer_problem.py:LayerProblem",
            "search/_solve.py",
            "search/local/_loop.py",
            "problems/layer/_class_state.py:*._all_deltas",
            "search/_base.py:Report.offer",
            "thresholds/_rules.py",
        ),
    ),
    Journey(
        "journey-table",
        table,
        (
            "cli/compare/_compare.py",
            "compare/*:run_comparison",
            "compare/suites/_suites.py",
            "problems/instances/_layer_instances.py",
            "_storage/_archive.py:write_archive",
            "search/_solve.py",
            "search/rules/_sign_gradient.py",
            "_storage/_row_log.py:RowLog.append",
            "search/local/_loop.py",
            "compare/*:report_of",
            "compare/_summary.py:Findings.summaries",
            "compare/report/_plots.py",
            "compare/report/_page_data.py:page_data",
        ),
    ),
)


# --- following a run --------------------------------------------------------------------------------------------------


def follow(run: Callable[[], Any]) -> list[tuple[str, str]]:
    """The calls of functions of the package from another file or from outside, in order: (file, qualified name)."""
    calls: list[tuple[str, str]] = []
    inside = f"{ROOT}/"

    def called(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # Not the bodies of modules, comprehensions and lambdas.
        if not code.co_filename.startswith(inside) or code.co_name.startswith("<"):
            return
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(inside):
            caller = caller.f_back
        if caller is None or caller.f_code.co_filename != code.co_filename:
            calls.append((code.co_filename.removeprefix(inside), code.co_qualname))

    threading.settrace(called)
    sys.settrace(called)
    try:
        run()
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    return calls


def stations(journey: Journey) -> list[Station]:
    """What the journey shows, each seen after the one before it."""
    if len(journey.stations) > MAX_STATIONS:
        raise SystemExit(f"{journey.name}: {len(journey.stations)} stations, at most {MAX_STATIONS} can be read")
    calls, found = iter(follow(journey.run)), []
    for wanted in journey.stations:
        pattern, _, function = wanted.partition(":")
        for file, name in calls:
            if fnmatch(file, pattern) and fnmatch(shown(name), function or "*"):
                found.append(Station(file, shown(name), about(file, name)))
                break
        else:
            raise SystemExit(f"{journey.name}: {wanted} was not called after {found[-1] if found else 'the start'}")
    return found


def shown(name: str) -> str:
    """A qualified name as readers know it: an object that is made or called is its class."""
    return re.sub(r"\.__(init|post_init|call)__$", "", name.rpartition("<locals>.")[2])


def about(file: str, name: str) -> str:
    """The first sentence of what a function says of itself; else of what its class or function says, or its file."""
    node: ast.AST = ast.parse((ROOT / file).read_text())
    told = module_summary(file)
    for part in name.split("."):
        inside = [one for one in ast.walk(node) if getattr(one, "name", None) == part]
        if inside and isinstance(inside[0], ast.FunctionDef | ast.ClassDef):
            node = inside[0]
            first = (ast.get_docstring(node) or "").split("\n\n")[0]
            # One that goes on with a formula is no sentence.
            told = summary(first) if first.endswith((".", "?")) else told
    return told


# --- where things live ------------------------------------------------------------------------------------------------

PLACES = {
    "the list of solvers, one import line each": "search/__init__.py",
    "the table of solvers by name": "SOLVERS",
    "the reader of texts such as `hill-climb:restarts=8`": "find_solver",
    "the table of learners": "LEARNERS",
    "the judge that compares a bound with the solver's own targets": "_check_claims",
    "the shares of a budget that samples get": "Report.each_sample",
    "the best targets so far, and who recomputes their objective": "Report.offer",
    "the loop of all local searches": "ChainSolver",
    "the table from which `auto` chooses": "search/combined:table",
    "the slopes of the layer losses": "losses:LOSSES",
    "the closed-form rules that replace a gradient": "RULES",
    "the objective of a layer problem, and its rounding bound": "LayerEnergy.rounding",
    "what single flips change, all at once": "LayerState.flip_delta",
    "whole numbers in place of real weights, for CP-SAT": "IntegerModel",
    "the rounding bound of certificates": "separates",
    "the ledger that takes only claims that verify": "Ledger",
    "all dichotomies of some points": "dichotomies",
    "the clauses of truth tables": "NetworkFormula.wire",
    "the circuits drawn at random, and the search among them": "CircuitPool",
    "the refutation of a bound that shares nothing with the search": "refutes",
    "the calls of thresholds in one forward pass": "record",
    "the cut of a model at its thresholds": "Segments",
    "the target problem of one threshold": "build_problem",
    "the format of saved problems and results": "write_archive",
    "a file that is written whole or not at all": "write_whole",
    "a row log that survives a kill": "RowLog.append",
    "a checkpoint, written": "save_checkpoint",
    "a recipe, read": "load_recipe",
    "the suites of a comparison": "SUITES",
    "the words that say which solver to take": "advice",
}
"""What people look for, and the name that the code has for it."""


def places() -> str:
    """The table of `PLACES`, with the file that each is found in."""
    lines = ["| what | file | name |", "|---|---|---|"]
    for what, wanted in PLACES.items():
        if wanted in FILES:
            lines.append(f"| {what} | `{wanted}` | |")
        else:
            lines.append(f"| {what} | `{definition(wanted)}` | `{wanted.rpartition(':')[2]}` |")
    return "\n".join(lines)


def definition(wanted: str) -> str:
    """The file that defines a name, such as `solve` or `Report.offer`; `folder:name` where several do."""
    folder, _, name = wanted.rpartition(":")
    found = [file for file in sorted(FILES) if file.startswith(folder) and name in names_in(file)]
    if len(found) != 1:
        raise SystemExit(f"{wanted}: defined in {', '.join(found) or 'no file'}")
    return found[0]


@cache
def names_in(file: str) -> set[str]:
    """What a file defines: names of its own, and members of its classes."""
    found: set[str] = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        found |= {one.id for one in targets if isinstance(one, ast.Name)}
    return found


# --- the page ---------------------------------------------------------------------------------------------------------


def told(found: list[Station]) -> str:
    """The stations as a numbered list."""
    return "\n".join(
        f"{number}. `{one.file}`: **`{one.function}`**. {one.about}{'' if one.about.endswith('?') else '.'}"
        for number, one in enumerate(found, 1)
    )


def main(folder: Path) -> None:
    """Write page and pictures into a folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    draw_house().save(folder / "images/architecture.svg")
    parts = {"places": places()}
    for journey in JOURNEYS:
        found = stations(journey)
        draw_journey(found).save(folder / f"images/{journey.name}.svg")
        parts[journey.name] = told(found)
    text = PAGE.read_text()
    for name, part in parts.items():
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(\n<!-- {name}: end -->)", re.DOTALL)
        text, count = marked.subn(lambda found, part=part: f"{found[1]}\n{part}\n{found[2]}", text)
        if count != 1:
            raise SystemExit(f"{PAGE.name}: expected one part that is marked {name}, got {count}")
    (folder / PAGE.name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
