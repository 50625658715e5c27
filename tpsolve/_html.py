"""How values show themselves in notebooks."""

import html
from collections.abc import Iterable, Mapping, Sequence

SHOWN = 20
"""Lines of a table."""


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """A table of a fact a line, below its title; whatever the texts hold, they stay texts."""
    lines = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(fact))}</td></tr>'
        for name, fact in facts.items()
    )
    return f"<table><caption><b>{html.escape(title)}</b></caption>{lines}</table>"


def lines_table(headings: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table of the first lines, and how many more there are; whatever the texts hold, they stay texts."""
    every = list(lines)
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) + "</tr>" for line in every[:SHOWN]
    )
    more = f"<p>{len(every) - SHOWN} more</p>" if len(every) > SHOWN else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"
