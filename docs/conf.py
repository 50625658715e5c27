"""Sphinx settings: `sphinx-build -W -b html docs docs/_build/html`, without network."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sphinx.application import Sphinx

from tpsolve import SOLVERS
from tpsolve._version import __version__
from tpsolve.testing import LEARNER_CHECKS, SOLVER_CHECKS

project = "tpsolve"
author = "the tpsolve developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"tpsolve {release}"
# Nothing is fetched when a page is opened either.
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False

myst_enable_extensions = ["deflist", "substitution"]
myst_heading_anchors = 3

# A backtick in a docstring is code, and a link where the name is known.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

_CODE = re.compile(r"(`[^`]*`)")


KINDS = {name: kind for name, kind in SOLVERS.items() if kind.__module__.startswith("tpsolve.")}
"""The solvers of the package, without plug-ins that are installed here."""


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _solver_rows() -> str:
    """The registry as a Markdown table, with what `tpsolve list` prints and a little more."""
    rows = []
    for name, kind in KINDS.items():
        settings = ", ".join(f"`{field.name}={field.default}`" for field in dataclasses.fields(kind))
        # The first sentence, or its first half, as on the command line.
        summary = _flow((kind.__doc__ or "").split("\n\n")[0]).split(". ")[0].split("; ")[0].rstrip(".")
        accepts = ", ".join(accepted.__name__.removesuffix("Problem").lower() for accepted in kind.accepts)
        if kind.losses is not None:
            accepts += f" ({', '.join(kind.losses)})"
        exact, stochastic = ("yes" if flag else "no" for flag in (kind.exact, kind.stochastic))
        library = (kind.module or "-").partition(".")[0]
        rows.append([f"`{name}`", accepts, exact, stochastic, library, settings or "-", summary])
    return _table(["solver", "accepts", "exact", "random", "library", "settings", "what it does"], rows)


def _steps() -> str:
    """What a budget counts as one step; solvers with equal steps share a row."""
    names: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        names.setdefault(kind.one_step, []).append(f"`{name}`")
    return _table(["solver", "one step"], ([", ".join(found), step] for step, found in names.items()))


def _step_costs() -> str:
    """The solvers that say what one step costs."""
    rows = [[f"`{name}`", kind.one_step, kind.step_cost] for name, kind in KINDS.items() if kind.step_cost]
    return _table(["solver", "one step", "cost of a step"], rows)


def _solver_classes() -> str:
    """Directives that document every solver, without what all of them inherit, and what its step is."""
    lines = []
    for kind in KINDS.values():
        lines.append(f".. autoclass:: tpsolve.search.{kind.__name__}\n   :show-inheritance:\n")
        step = re.sub(r"([*|]|_\b)", r"\\\1", kind.one_step.replace("`", "``"))
        lines.append(f"   One step: {step}.\n")
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _checks(checks: Iterable[Callable[..., None]]) -> str:
    """The checks of `tpsolve.testing` and what each asserts."""
    return _table(["check", "what it asserts"], ([f"`{one.__name__}`", _flow(one.__doc__)] for one in checks))


def _flow(text: str | None) -> str:
    return " ".join((text or "").split())


myst_substitutions = {
    "solvers": _solver_rows(),
    "steps": _steps(),
    "step_costs": _step_costs(),
    "solver_classes": _solver_classes(),
    "solver_checks": _checks(SOLVER_CHECKS),
    "learner_checks": _checks(LEARNER_CHECKS),
}


def _escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Outside of backticks, a star, a bar or a trailing underscore of a docstring means itself, as in |g|."""
    if what in ("attribute", "property"):
        # Napoleon would read "`energy` in float64: what judges" as a type and a text.
        lines.insert(0, "\\ ")
    for number, line in enumerate(lines):
        parts = _CODE.split(line)
        plain = [re.sub(r"([*|]|_\b)", r"\\\1", part) if i % 2 == 0 else part for i, part in enumerate(parts)]
        lines[number] = "".join(plain)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    # Before napoleon (500), whose own markup must stay.
    app.connect("autodoc-process-docstring", _escape, priority=400)
