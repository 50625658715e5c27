"""A zoo of tiny program problems, and an oracle that shares no code with tpsolve."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tpsolve import ProgramProblem
from tpsolve.problems import DeclaredConstraints, Fold

SAMPLES = 5


@dataclass(frozen=True)
class Case:
    """A program problem by its parts; `known`: by sample and symbol, None where it is sought."""

    name: str
    program: Callable[..., Any]
    symbols: tuple[int | str, ...]
    labels: tuple[Any, ...]
    stay: float = 1.0
    loss: Callable[[Any, Any], float] | None = None
    mask: tuple[tuple[bool, ...], ...] | None = None
    known: tuple[tuple[int | None, ...], ...] | None = None
    constraints: Callable[..., None] | None = None
    seed: int = 0

    def __str__(self) -> str:
        return self.name

    @property
    def logits(self) -> Tensor:
        """`(B, n, K)`; of signs the first counts."""
        width = max(2 if kind == "sign" else int(kind) for kind in self.symbols)
        generator = torch.Generator().manual_seed(self.seed)
        return 2 * torch.randn(len(self.labels), len(self.symbols), width, generator=generator, dtype=torch.float64)

    def problem(self, rows: slice = slice(None)) -> ProgramProblem:
        """The problem of the samples `rows`, with a memory of its own for what the program answers."""
        known = None
        if self.known is not None:
            none = [0 if kind == "sign" else -1 for kind in self.symbols]
            known = [[n if v is None else v for v, n in zip(row, none, strict=True)] for row in self.known][rows]
        return ProgramProblem(
            self.program,
            list(self.labels[rows]),
            self.logits[rows],
            symbols=list(self.symbols),
            stay=self.stay,
            loss="equal" if self.loss is None else self.loss,
            mask=None if self.mask is None else torch.tensor(self.mask)[rows],
            known=None if known is None else torch.tensor(known),
            constraints=None if self.constraints is None else _declared(self.constraints),
        )

    def assignments(self, b: int) -> Iterator[tuple[tuple[int, ...], float]]:
        """Every assignment of sample b with its E; symbols that do not exist are 0, signs -1."""
        choices: list[list[tuple[int, float]]] = []
        for j, kind in enumerate(self.symbols):
            z = self.logits[b, j].tolist()
            if kind == "sign":
                values = [(s, abs(z[0]) if (s > 0) != (z[0] > 0) else 0.0) for s in (-1, 1)]
            else:
                values = [(v, max(z[: int(kind)]) - z[v]) for v in range(int(kind))]
            given = None if self.known is None else self.known[b][j]
            if self.mask is not None and not self.mask[b][j]:
                values = [(-1 if kind == "sign" else 0, 0.0)]
            elif given is not None:
                values = [(given, 0.0)]
            choices.append(values)
        for combined in itertools.product(*choices):
            symbols = tuple(value for value, _ in combined)
            seen = symbols if self.mask is None else [s for s, m in zip(symbols, self.mask[b], strict=True) if m]
            yield symbols, self._loss(seen, self.labels[b]) + self.stay * sum(cost for _, cost in combined)

    def optimum(self, b: int) -> float:
        """The least E of sample b; +inf where nothing is consistent."""
        return _optimum(self, b)

    def _loss(self, symbols: Any, label: Any) -> float:
        try:
            answer = self.program(*symbols)
        except ArithmeticError:
            return math.inf
        if self.loss is None:
            return 0.0 if answer == label else math.inf
        return self.loss(answer, label)


@cache
def _optimum(case: Case, b: int) -> float:
    return min(value for _, value in case.assignments(b))


@cache
def _declared(constraints: Callable[..., None]) -> DeclaredConstraints:
    """One for all problems of a declaration, which share what it remembers."""
    return DeclaredConstraints(constraints)


def total(*symbols: int) -> int:
    return sum(symbols)


def distance(answer: float, label: float) -> float:
    return abs(answer - label)


def look_up(a: int, b: int) -> str:
    return {(0, 0): "tea", (0, 1): "milk", (1, 0): "milk", (2, 2): "salt"}.get((a, b), "nothing")


def sum_is(model: Any, symbols: list[Any], label: int) -> None:
    model.add(sum(symbols) == label)


def total_and_first(state: tuple[int, int] | None, symbol: int) -> tuple[int, int]:
    """Remembers the first symbol."""
    if state is None:
        return symbol, symbol
    if state[0] + symbol > 5:
        raise ArithmeticError("more than five")
    return state[0] + symbol, state[1]


ZOO = (
    Case("sum", total, (3, 3, 3), (0, 3, 6, 2, 5)),
    Case("sum, costs do not count", total, (3, 3, 3), (0, 3, 6, 2, 5), stay=0.0),
    Case("never", total, (3, 3), (1, 99, 2, -1, 4)),
    Case("product", lambda s, a, b: s * a * b, ("sign", 4, 3), (-6, 0, 2, 4, -1)),
    Case("comparison", lambda a, b: a < b, (4, 4), (True, False, True, False, True)),
    Case("table", look_up, (3, 3), ("tea", "milk", "salt", "nothing", "milk")),
    Case("raises", lambda a, b: a // b, (4, 3), (0, 1, 3, 2, 7)),
    Case("one symbol", lambda a: a % 2, (5,), (0, 1, 0, 1, 0)),
    Case("signs", lambda *s: sum(2**i for i, v in enumerate(s) if v > 0), ("sign",) * 5, (0, 31, 10, 21, 7)),
    Case(
        "length",
        total,
        (3, 3, "sign"),
        (2, 4, -1, 1, 3),
        mask=((True, True, False), (True, True, False), (False, False, True), (True, False, False), (True,) * 3),
    ),
    Case(
        "known",
        total,
        (4, "sign", 4),
        (3, 1, 6, -1, 4),
        known=((None, None, 2), (None, 1, None), (None, None, None), (0, None, None), (None, -1, 3)),
    ),
    Case("graded", total, (4, 4, 4), (0, 9, 4, 12, 20), stay=0.5, loss=distance),
    Case("graded, raises", lambda a, b: a / b, (4, 3), (0, 1, 3, 0.5, 9), loss=distance),
    Case("fold", Fold(total_and_first, None), (3, "sign", 4), ((3, 0), (7, 1), (1, 2), (-1, 0), (4, 1))),
    Case("declared", total, (3, 4, 3), (0, 7, 3, 5, 4), constraints=sum_is),
)
