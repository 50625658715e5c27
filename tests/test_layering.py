"""The floors and rooms, read from the imports: downward only, no circle, and libraries where they belong."""

import subprocess
import sys
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

import pytest
from support.imports import (
    FILES,
    FLOORS,
    ROOT,
    SEARCH_FLOORS,
    UNITS_FLOORS,
    Import,
    arrows,
    file_of,
    imports,
    is_in,
    level,
    package_graph,
    package_imports,
)

from tpsolve import SOLVERS
from tpsolve.units import LEARNERS

STAND_APART = {"search/proofs": ("search/_base.py",), "units/checking": ("units/_data.py", "units/_base.py")}
"""Rooms that check what others claim: of their own floor they import these files at most."""

PUBLIC_MODULES = ("errors.py", "losses.py", "pictures.py", "spins.py")
"""Files without an underscore: all else that is public is exported by an __init__.py."""

FLOOR_5 = ("train/*", "compare/*", "pictures.py", "_glyphs.py", "cli/*")
ALLOWED = {
    "ortools": (
        "problems/program/_declared_constraints.py",
        "search/exact/_cp_sat.py",
        "search/programs/_declared.py",
        "search/network/circuits/_cp_sat_master.py",
        "search/proofs/_check_bound.py",
        "search/network/_weight_box.py",
        "search/network/circuits/_whole_weights.py",
    ),
    "scipy.optimize": (
        "nn/programs/_program_diagnosis.py",
        "search/exact/_milp.py",
        "search/network/_big_m.py",
        "search/network/packing/_packing.py",
        "search/network/packing/_walks.py",
        "units/separability/_elastic.py",
        "search/network/separating/_conflict_finder.py",
    ),
    "dimod": ("problems/layer/_qubo.py",),
    "polars": ("tables/_frames.py", "tables/_sheets.py"),
    "ray": ("compare/running/_ray_executor.py",),
    "dask": ("compare/running/_dask_executor.py",),
    "distributed": ("compare/running/_dask_executor.py",),
    "submitit": ("compare/running/_submitit_executor.py",),
    "onnx": ("models/export/_onnx.py", "models/export/_qonnx.py", "nn/deployment/_graph_nodes.py"),
    "onnxruntime": ("models/export/_onnx.py", "nn/deployment/_export_network.py"),
    "pysat": ("search/network/circuits/_sat_master.py",),
    "triton": ("thresholds/fused/_saturated.py",),
    # Tables that come with it are instances; loaded inside a function, when one is asked for.
    "sklearn": (*FLOOR_5, "units/_unit_classifier.py", "estimators/*", "problems/instances/_table_instances.py"),
    "matplotlib": FLOOR_5,
    "rich": FLOOR_5,
    "typer": FLOOR_5,
    "jinja2": FLOOR_5,
    "PIL": FLOOR_5,
}
"""The only files that may import a library, wherever in the file."""

HEAVY = (
    "ortools",
    "ray",
    "dask",
    "distributed",
    "submitit",
    "polars",
    "dimod",
    "scipy.optimize",
    "matplotlib",
    "sklearn",
    "typer",
    "rich",
    "jinja2",
    "PIL",
    "triton",
)

USED_LATE = ("units/_unit_classifier.py", "estimators/*", "thresholds/fused/_saturated.py")
"""Files that import a heavy library at once, and are themselves imported inside functions."""

MAX_FILES = 13
"""Of one folder, besides its __init__.py: more than that is no room but a corridor."""


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The files that reach themselves."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            file = waiting.pop()
            if file not in seen:
                seen.add(file)
                waiting += graph.get(file, ())
        return seen

    return sorted(file for file in graph if file in reach(file))


def upward(graph: dict[str, set[str]], folder: str, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """Arrows from a lower floor of `folder` to a higher one."""
    wrong = []
    for file, targets in graph.items():
        for target in targets:
            here, there = level(file, folder, floors), level(target, folder, floors)
            if here is not None and there is not None and there > here:
                wrong.append(f"{file} imports {target}")
    return wrong


def misplaced(found: list[Import]) -> list[Import]:
    """Imports of a library by a file that may not."""
    return [
        one
        for one in found
        for library, files in ALLOWED.items()
        if is_in(one.module, library) and not any(fnmatch(one.file, pattern) for pattern in files)
    ]


def sideways(found: list[Import], algorithms: set[str]) -> list[Import]:
    """Imports of one algorithm by another's file; algorithms are files, without .py."""
    modules = {f"tpsolve.{name.replace('/', '.')}": name for name in algorithms}
    return [
        one
        for one in found
        if (own := one.file.removesuffix(".py")) in algorithms
        for module, name in modules.items()
        if is_in(one.module, module) and name != own
    ]


def too_early(found: list[Import]) -> list[Import]:
    """Imports below the floor of runs of a heavy library that are not inside a function.

    Estimators derive classes from those of scikit-learn, and kernels are compiled from functions of their module. These
    files are themselves imported where they are used.
    """
    return [
        one
        for one in found
        if one.at_once
        and not any(fnmatch(one.file, pattern) for pattern in FLOOR_5)
        and not any(fnmatch(one.file, pattern) for pattern in USED_LATE)
        and any(is_in(one.module, library) for library in HEAVY)
    ]


def told(found: list[Import]) -> list[str]:
    return [f"{one.file} imports {one.module}" for one in found]


ALGORITHMS = {kind.__module__.removeprefix("tpsolve.").replace(".", "/") for kind in SOLVERS.values()}


def test_no_file_reaches_itself_by_imports():
    assert len(FILES) > 100
    assert circles(package_graph()) == []


@pytest.mark.parametrize(
    ("folder", "floors"),
    [("", FLOORS), ("search/", SEARCH_FLOORS), ("units/", UNITS_FLOORS)],
    ids=["all", "search", "units"],
)
def test_imports_go_downward_only(folder: str, floors: tuple[tuple[str, ...], ...]):
    assert upward(package_graph(), folder, floors) == []


@pytest.mark.parametrize("room", STAND_APART)
def test_what_checks_claims_shares_nothing_with_what_makes_them(room: str):
    floor = room.split("/")[0]
    taken = {target for file, targets in package_graph().items() if file.startswith(room) for target in targets}
    assert [t for t in taken if t.startswith(floor) and not t.startswith(room) and t not in STAND_APART[room]] == []


def test_an_algorithm_never_imports_another():
    assert {"search/exact/_cp_sat", "search/exact/_milp", "search/local/_hill_climb"} <= ALGORITHMS
    assert told(sideways(package_imports(), ALGORITHMS)) == []


def test_one_algorithm_a_file():
    assert len(ALGORITHMS) == len(SOLVERS)
    assert len({kind.__module__ for kind in LEARNERS.values()}) == len(LEARNERS)


def test_libraries_are_imported_only_where_they_belong():
    assert told(misplaced(package_imports())) == []
    # Each place is one where the library is in fact used.
    for library, patterns in ALLOWED.items():
        users = {one.file for one in package_imports() if is_in(one.module, library)}
        unused = [p for p in patterns if p not in FLOOR_5 and not any(fnmatch(file, p) for file in users)]
        assert unused == [], library


def test_heavy_libraries_are_imported_inside_functions():
    assert told(too_early(package_imports())) == []


def test_private_names_of_other_files_are_not_imported():
    private = [one for one in package_imports() if is_in(one.module, "tpsolve") and file_of(one.module, FILES) is None]
    named = [one for one in private if one.module.rsplit(".", 1)[1].startswith("_")]
    assert told([one for one in named if not one.module.endswith("__version__")]) == []


# --- rooms and names --------------------------------------------------------------------------------------------------


def test_modules_are_private_but_for_those_named_here():
    assert {file for file in FILES if not Path(file).name.startswith("_")} == set(PUBLIC_MODULES)


def test_no_two_modules_have_one_name():
    # Each floor has a base; a command of the command line is named like what it runs.
    by_name = defaultdict(list)
    for file in FILES:
        if Path(file).name not in ("__init__.py", "_base.py") and not file.startswith("cli/"):
            by_name[Path(file).name].append(file)
    assert {name: files for name, files in by_name.items() if len(files) > 1} == {}


def test_no_folder_is_a_corridor():
    sizes = defaultdict(int)
    for file in FILES:
        sizes[str(Path(file).parent)] += not file.endswith("__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > MAX_FILES} == {}


@pytest.mark.parametrize("module", ["tpsolve", "tpsolve.search", "tpsolve.problems"])
@pytest.mark.slow
def test_importing_the_package_loads_no_heavy_library(module: str):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_importing_the_package_alone_loads_nothing_and_every_public_name_is_there():
    # The command line neither: `tpsolve --help` answers at once.
    code = "import sys, tpsolve, tpsolve.cli; "
    code += "print('torch' in sys.modules, sorted(dir(tpsolve)) == sorted(tpsolve.__all__)); "
    code += "print([name for name in tpsolve.__all__ if getattr(tpsolve, name) is None])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.split("\n")[:2] == ["False True", "[]"], done.stderr


# --- the readers themselves -------------------------------------------------------------------------------------------


def judged(file: str, source: str) -> list[str]:
    """What the laws say of a file that holds `source`, and is in the package with all others."""
    rest = [one for one in package_imports() if one.file != file]
    graph = arrows([*rest, *imports(file, source)], FILES | {file})
    wrong = [
        *upward(graph, "", FLOORS),
        *upward(graph, "search/", SEARCH_FLOORS),
        *upward(graph, "units/", UNITS_FLOORS),
    ]
    return [*wrong, *circles(graph)]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("losses.py", "from tpsolve.search import solve"),
        ("losses.py", "import tpsolve"),
        ("losses.py", "from tpsolve import LayerProblem"),
        ("losses.py", "from tpsolve import search"),
        ("problems/_base.py", "def f():\n    from tpsolve.search.rules._keep import Keep"),
        ("problems/_base.py", "from ..search import solve"),
        ("problems/network/_network_problem.py", "def f():\n    from tpsolve.nn import target_backward"),
        ("units/_base.py", "from .. import problems"),
        ("search/_base.py", "from tpsolve.search._naming import find_solver"),
        ("search/rules/_keep.py", "def f():\n    from tpsolve.search import solve"),
        ("search/rules/_keep.py", "from tpsolve.search.exact._milp import Milp"),
        ("units/checking/_certificate.py", "from tpsolve.units.learners._hinge import Hinge"),
        ("losses.py", "import tpsolve.losses, tpsolve.nn"),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_readers_see_an_arrow_upward_or_a_circle(file: str, source: str):
    assert judged(file, source)


@pytest.mark.parametrize(
    ("file", "source", "check"),
    [
        ("search/exact/_milp.py", "import ortools.sat", misplaced),
        ("search/rules/_keep.py", "from scipy import optimize", misplaced),
        ("search/rules/_keep.py", "def f():\n    from scipy.optimize import milp", misplaced),
        ("nn/a.py", "import matplotlib.pyplot as plt", misplaced),
        ("search/exact/_cp_sat.py", "from ortools.sat.python import cp_model", too_early),
        ("search/exact/_cp_sat.py", "class A:\n    import ortools", too_early),
        ("search/exact/_cp_sat.py", "try:\n    import ortools\nexcept ImportError:\n    pass", too_early),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_readers_see_a_library_where_it_does_not_belong(file: str, source: str, check: object):
    assert callable(check)
    assert check(imports(file, source))


def test_readers_see_another_algorithm():
    milp = (
        "from tpsolve.search.exact._milp import Milp",
        "from tpsolve.search.exact import _milp",
        "from . import _milp",
    )
    for source in milp:
        assert sideways(imports("search/exact/_cp_sat.py", source), ALGORITHMS)
    assert not sideways(imports("search/__init__.py", milp[0]), ALGORITHMS)


def test_readers_allow_what_is_right():
    source = "from tpsolve.errors import ArgumentError\nfrom tpsolve import losses\nimport math, torch\n"
    inside = "def f():\n    from ortools.sat.python import cp_model\n"
    typing_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ortools\n"
    file = "search/exact/_cp_sat.py"
    found = imports(file, source + inside + typing_only)
    assert len(found) > 6
    assert [misplaced(found), sideways(found, ALGORITHMS), too_early(found)] == [[], [], []]
    assert judged(file, source + inside + typing_only) == []
