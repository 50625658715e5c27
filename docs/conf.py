"""Sphinx settings: `sphinx-build -W -b html docs docs/_build/html`, without network."""

import dataclasses
import re
from typing import Any

from sphinx.application import Sphinx

from tpsolve import SOLVERS
from tpsolve._version import __version__

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


def _solver_rows() -> str:
    """The registry as a Markdown table, with what `tpsolve list` prints and a little more."""
    lines = ["| solver | exact | random | library | settings | what it does |", "|---|---|---|---|---|---|"]
    for name, kind in SOLVERS.items():
        settings = ", ".join(f"`{field.name}={field.default}`" for field in dataclasses.fields(kind))
        # The first sentence, or its first half, as on the command line; a bar would end the table's cell.
        summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).split(". ")[0].split("; ")[0].rstrip(".")
        summary = summary.replace("|", "\\|")
        exact, stochastic = ("yes" if flag else "no" for flag in (kind.exact, kind.stochastic))
        library = (kind.module or "-").partition(".")[0]
        lines.append("| " + " | ".join([f"`{name}`", exact, stochastic, library, settings or "-", summary]) + " |")
    return "\n".join(lines)


def _solver_classes() -> str:
    """Directives that document every registered solver, without what all of them inherit."""
    lines = [f".. autoclass:: tpsolve.search.{kind.__name__}\n   :show-inheritance:" for kind in SOLVERS.values()]
    return "\n".join(["```{eval-rst}", *lines, "```"])


myst_substitutions = {"solvers": _solver_rows(), "solver_classes": _solver_classes()}


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
