"""The floors of the package, and readers of its imports: the layering test and the pictures of docs share them."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tpsolve

ROOT = Path(tpsolve.__file__).parent

FLOORS = (
    ("errors", "_version"),
    ("_registry", "_plain", "_check_arguments", "spins", "losses", "_gap", "_result", "_storage"),
    ("thresholds", "units", "tables"),
    ("problems",),
    ("search",),
    ("_register", "testing"),
    ("models",),
    ("nn", "estimators"),
    ("train", "pictures", "_glyphs"),
    ("compare",),
    # The public names and the command line stand above all floors.
    ("__init__", "cli"),
    ("__main__",),
)
"""What stands in tpsolve/, from the ground up; things on one floor may import each other."""

SEARCH_FLOORS = (
    ("_base", "_cp_sat_run", "proofs"),
    ("_naming",),
    ("_solve",),
    ("rules", "local"),
    ("exact", "bridges", "programs"),
    ("combined", "network"),
    ("__init__",),
)
UNITS_FLOORS = (
    ("_data",),
    ("_base", "checking"),
    ("_learner_registry",),
    ("learners", "separability"),
    ("patterns",),
    ("_for_sklearn",),
    ("_unit_classifier",),
    ("__init__",),
)


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


def file_of(module: str, files: Iterable[str]) -> str | None:
    """The file of a module of the package, below tpsolve/; None where the name is no module's."""
    path = module.removeprefix("tpsolve").strip(".").replace(".", "/")
    candidates = (f"{path}.py", f"{path}/__init__.py" if path else "__init__.py")
    return next((c for c in candidates if c in files), None) if is_in(module, "tpsolve") else None


def arrows(found: Iterable[Import], files: set[str]) -> dict[str, set[str]]:
    """Which files of the package each file imports, wherever in the file."""
    own = [one for one in found if is_in(one.module, "tpsolve")]
    taken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in own:
        taken[one.file, one.module.rpartition(".")[0]].append(one.module)
    graph: dict[str, set[str]] = defaultdict(set)
    for one in own:
        target = file_of(one.module, files)
        # "from tpsolve import errors" names its package too; where all it takes are modules, they are looked at.
        names = taken[one.file, one.module]
        package_only = names and all(file_of(name, files) for name in names)
        if target and target != one.file and not package_only:
            graph[one.file].add(target)
    return graph


def level(file: str, folder: str, floors: tuple[tuple[str, ...], ...]) -> int | None:
    """The number of the floor of a file below `folder`; None where it stands elsewhere."""
    if not file.startswith(folder):
        return None
    name = file.removeprefix(folder).split("/")[0].removesuffix(".py")
    return next(number for number, names in enumerate(floors) if name in names)


FILES = {str(path.relative_to(ROOT).as_posix()) for path in ROOT.rglob("*.py")}


@cache
def package_imports() -> list[Import]:
    """The imports of every file of the package."""
    return [one for file in sorted(FILES) for one in imports(file, (ROOT / file).read_text())]


@cache
def package_graph() -> dict[str, set[str]]:
    """Which files of the package each file imports."""
    return arrows(package_imports(), FILES)
