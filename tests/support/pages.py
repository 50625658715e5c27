"""Pages of HTML as a reader of tags and words, and rows to draw them from."""

import math
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Page(HTMLParser):
    """A page's tags, attributes and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.style: list[str] = []

    @classmethod
    def of(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text())
        page.close()
        assert page.open == [], "every element is closed"
        return page

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "link", "br", "img", "hr", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open:
            (self.style if "style" in self.open else self.words).append(data)


def drawn_rows(
    solvers: tuple[str, ...], instances: tuple[str, ...], *, samples: int = 2, seeds: int = 1, worse: float = 0.0
) -> list[Row]:
    """Rows as the runner writes them: later solvers find worse targets, later; `worse` is added to all objectives."""
    drawn = random.Random(0)
    rows = []
    for number, instance in enumerate(instances):
        best = [drawn.uniform(0, 5) for _ in range(samples)]
        start = [value + drawn.uniform(1, 5) for value in best]
        for place, solver in enumerate(solvers):
            for seed in range(seeds):
                left = [min(1.0, drawn.random() * place / len(solvers) + worse) for _ in best]
                objective = [b + share * (s - b) for b, share, s in zip(best, left, start, strict=True)]
                seconds = drawn.uniform(0.02, 0.08)
                first, final = math.fsum(start) / samples, math.fsum(objective) / samples
                rows.append(
                    {
                        "instance": instance,
                        "solver": solver,
                        "settings": {},
                        "exact": place == 0,
                        "seed": seed,
                        "budget": {"seconds": 0.1, "steps": None},
                        "loss": ("hinge", "squared")[number % 2],
                        "n_vars": 8,
                        "n_units": 4,
                        "start": start,
                        "fingerprint": f"print of {instance}",
                        "device": "cpu, 2 threads, x86_64",
                        "versions": {"tpsolve": "0.1.0", "torch": "2.13.0"},
                        "time": "2026-01-01T00:00:00+00:00",
                        "objective": objective,
                        "bound": best if place == 0 else [None] * samples,
                        "tolerance": [1e-6] * samples,
                        "status": ["optimal" if place == 0 and share == 0 else "feasible" for share in left],
                        "flips": [0.25] * samples,
                        "seconds": seconds,
                        "steps": 3,
                        "found_at": [seconds / 2] * samples,
                        "proved_at": [seconds if place == 0 and share == 0 else None for share in left],
                        "notes": {},
                        "trace": [
                            [seconds / 8, first, None],
                            [seconds / 4, (first + final) / 2, None],
                            [seconds, final, None],
                        ],
                    }
                )
    return rows
