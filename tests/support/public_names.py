"""What a piece of code takes from tpsolve that is not public, as its text says."""

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path


def is_private(name: str) -> bool:
    """Whether a part of a dotted name begins with an underscore; names such as `__version__` don't count."""
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def is_module(name: str) -> bool:
    """Whether there is a module of this full name, all of whose parents are packages."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def exported(name: str) -> set[str]:
    """What the module `name` exports: its `__all__`, else what it imports as itself and what it defines.

    That is how type checkers read a package without `__all__`. A room of private modules exports nothing.
    """
    module = importlib.import_module(name)
    if hasattr(module, "__all__"):
        return set(module.__all__)
    assert module.__file__ is not None
    found: set[str] = set()
    top = ast.parse(Path(module.__file__).read_text()).body
    # What only type checkers import is exported too, and loaded when it is asked for.
    for node in [*top, *(inner for block in top if isinstance(block, ast.If) for inner in block.body)]:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {one for one in found if not is_private(one)}


def is_public(module: str, name: str) -> bool:
    """Whether `name` is exported by the public `module`, or is itself a public module in it."""
    if is_private(f"{module}.{name}"):
        return False
    return name in exported(module) or (is_module(f"{module}.{name}") and bool(exported(f"{module}.{name}")))


def not_public(source: str) -> list[str]:
    """The imports and attributes in `source` that are not public, each once, in the order of their lines."""
    return list(dict.fromkeys(_not_public(source)))


def _not_public(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "tpsolve" and not _leads_on(a.name))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tpsolve":
            public = _leads_on(node.module)
            yield from (
                f"{node.module}.{a.name}" for a in node.names if not public or not is_public(node.module, a.name)
            )
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if is_private(node.attr) or (re.fullmatch(r"tpsolve(\.\w+)+", text) and not _leads_on(text)):
                yield text


def _leads_on(name: str) -> bool:
    """Whether each part of a dotted name is public in the one before, as far as those are modules."""
    module, *parts = name.split(".")
    for part in parts:
        if not is_public(module, part):
            return False
        module = f"{module}.{part}"
        if not is_module(module):
            break
    return True
