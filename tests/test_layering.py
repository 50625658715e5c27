"""The floors of DESIGN.md, section 2, read from the imports: downward only, and libraries where they belong."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

import tpsolve
from tpsolve import SOLVERS

ROOT = Path(tpsolve.__file__).parent

FLOORS = {
    "errors": 0,
    "version": 0,
    "spins": 0,
    "losses": 0,
    "result": 0,
    "archive": 0,
    "tables": 0,
    "units": 1,
    "problems": 2,
    "search": 3,
    "nn": 4,
    "train": 5,
    "compare": 5,
    "pictures": 5,
    # The public names and the command line stand above all floors.
    "__init__": 6,
    "cli": 6,
    "__main__": 7,
}

ON_REQUEST = {("problems/network.py", "tpsolve.nn")}
"""Upward imports inside a function: `NetworkProblem.network` returns a module of floor 4 to who asks for one."""

FLOOR_5 = ("train/*", "compare/*", "pictures.py", "cli/*")
ALLOWED = {
    "ortools": (
        "search/cp_sat.py",
        "search/cp_sat_master.py",
        "search/verify_bound.py",
        "search/weight_box.py",
        "search/whole_weights.py",
    ),
    "scipy.optimize": ("search/milp.py", "search/big_m.py", "units/separability.py", "units/elastic.py"),
    "dimod": ("problems/qubo.py",),
    "pysat": ("search/sat_master.py", "search/verify_bound.py"),
    # Tables that come with it are instances; loaded inside a function, when one is asked for.
    "sklearn": (*FLOOR_5, "units/*", "problems/instances/tables.py"),
    "matplotlib": FLOOR_5,
    "rich": FLOOR_5,
    "typer": FLOOR_5,
    "jinja2": FLOOR_5,
    "PIL": FLOOR_5,
}
"""The only files that may import a library, wherever in the file."""

HEAVY = ("ortools", "dimod", "scipy.optimize", "matplotlib", "sklearn", "typer", "rich", "jinja2", "PIL")


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name, and whether importing the file imports it."""

    file: str
    module: str
    at_once: bool


def imports(file: str, source: str) -> list[Import]:
    """The imports of a file of the package, given by its path below tpsolve/."""
    package = ["tpsolve", *Path(file).parts[:-1]]

    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, alias.name, at_once)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module or "")))
            yield Import(file, module, at_once)
            for alias in node.names:
                # May be a module or a name in one; a name does no harm below.
                yield Import(file, f"{module}.{alias.name}", at_once)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_once and not inside and not typing_only)

    return list(walk(ast.parse(source), True))


def is_in(module: str, library: str) -> bool:
    return module == library or module.startswith(library + ".")


def floor_of(file: str) -> int:
    return FLOORS[Path(file).parts[0].removesuffix(".py")]


def upward(found: list[Import]) -> list[Import]:
    """Imports of the package's own modules on a higher floor."""
    wrong = []
    for one in found:
        if not is_in(one.module, "tpsolve"):
            continue
        parts = one.module.split(".")
        target = parts[1] if len(parts) > 1 else "__init__"
        if len(parts) == 1 and any(o.file == one.file and o.module.startswith("tpsolve.") for o in found):
            # "from tpsolve import errors" names its module too, which is looked at by itself.
            continue
        on_request = not one.at_once and (one.file, f"tpsolve.{target}") in ON_REQUEST
        if FLOORS.get(target, FLOORS["__init__"]) > floor_of(one.file) and not on_request:
            wrong.append(one)
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
    """Imports below floor 5 of a heavy library that are not inside a function.

    `units/estimator.py` derives a class from one of scikit-learn's, and is itself imported where it is used.
    """
    return [
        one
        for one in found
        if one.at_once
        and floor_of(one.file) < 5
        and one.file != "units/estimator.py"
        and any(is_in(one.module, library) for library in HEAVY)
    ]


FILES = sorted(str(path.relative_to(ROOT).as_posix()) for path in ROOT.rglob("*.py"))
FOUND = [one for file in FILES for one in imports(file, (ROOT / file).read_text())]
ALGORITHMS = {kind.__module__.removeprefix("tpsolve.").replace(".", "/") for kind in SOLVERS.values()}


def told(found: list[Import]) -> list[str]:
    return [f"{one.file} imports {one.module}" for one in found]


def test_every_file_stands_on_a_floor():
    assert len(FILES) > 20
    assert [file for file in FILES if Path(file).parts[0].removesuffix(".py") not in FLOORS] == []


def test_imports_go_downward_only():
    assert told(upward(FOUND)) == []


def test_an_algorithm_never_imports_another():
    assert {"search/cp_sat", "search/milp", "search/enumerate", "search/hill_climb"} <= ALGORITHMS
    assert told(sideways(FOUND, ALGORITHMS)) == []


def test_one_algorithm_a_file():
    assert len(ALGORITHMS) == len(SOLVERS)


def test_libraries_are_imported_only_where_they_belong():
    assert told(misplaced(FOUND)) == []
    # Each that is here at all is found by this reading.
    assert any(is_in(one.module, "ortools") for one in FOUND)
    assert any(is_in(one.module, "scipy.optimize") for one in FOUND)


def test_heavy_libraries_are_imported_inside_functions():
    assert told(too_early(FOUND)) == []


def test_private_names_of_other_files_are_not_imported():
    assert (
        told([one for one in FOUND if one.module.startswith("tpsolve.") and "._" in one.module.replace(".__", "")])
        == []
    )


@pytest.mark.parametrize("module", ["tpsolve", "tpsolve.search", "tpsolve.problems"])
@pytest.mark.slow
def test_importing_the_package_loads_no_heavy_library(module: str):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_importing_the_package_alone_loads_nothing_and_every_public_name_is_there():
    code = "import sys, tpsolve; print('torch' in sys.modules, sorted(dir(tpsolve)) == sorted(tpsolve.__all__)); "
    code += "print([name for name in tpsolve.__all__ if getattr(tpsolve, name) is None])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.split("\n")[:2] == ["False True", "[]"], done.stderr


# --- the readers themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "source", "check"),
    [
        ("losses.py", "from tpsolve.search import solve", upward),
        ("losses.py", "import tpsolve", upward),
        ("losses.py", "from tpsolve import LayerProblem", upward),
        ("problems/layer.py", "def f():\n    from tpsolve.search.keep import Keep", upward),
        ("problems/layer.py", "from ..search import solve", upward),
        ("problems/network.py", "from tpsolve.nn import HardThreshold", upward),
        ("units/a.py", "from .. import problems", upward),
        ("search/milp.py", "import ortools.sat", misplaced),
        ("search/keep.py", "from scipy import optimize", misplaced),
        ("search/keep.py", "def f():\n    from scipy.optimize import milp", misplaced),
        ("nn/a.py", "import matplotlib.pyplot as plt", misplaced),
        ("search/cp_sat.py", "from ortools.sat.python import cp_model", too_early),
        ("search/cp_sat.py", "class A:\n    import ortools", too_early),
        ("search/cp_sat.py", "try:\n    import ortools\nexcept ImportError:\n    pass", too_early),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_readers_see_what_is_wrong(file: str, source: str, check: object):
    assert callable(check)
    assert check(imports(file, source))


def test_readers_see_another_algorithm():
    for source in ("from tpsolve.search.milp import Milp", "from tpsolve.search import milp", "from . import milp"):
        assert sideways(imports("search/cp_sat.py", source), ALGORITHMS)
    assert not sideways(imports("search/registry.py", "from tpsolve.search.milp import Milp"), ALGORITHMS)


def test_readers_allow_what_is_right():
    source = "from tpsolve.errors import ArgumentError\nfrom tpsolve import losses\nimport math, torch\n"
    inside = "def f():\n    from ortools.sat.python import cp_model\n"
    typing_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ortools\n"
    found = imports("search/cp_sat.py", source + inside + typing_only)
    assert len(found) > 6
    assert [upward(found), misplaced(found), sideways(found, ALGORITHMS), too_early(found)] == [[], [], [], []]
