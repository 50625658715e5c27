"""Local search over the columns of hidden targets: the incumbents of every exact solver of network problems."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tpsolve.problems import NetworkProblem
from tpsolve.search._base import Report
from tpsolve.search.network._lines import best_on_lines
from tpsolve.search.network.columns._output_tables import OutputTables, code_sums, codes, output_tables
from tpsolve.units import LeastSquares, dichotomies
from tpsolve.units.checking._verification import separates

FEW_HYPERPLANES = 8_000
"""Up to so many, all dichotomies are listed: 30 ms of work. Lines find as few errors sooner where they are more."""
PATIENCE = 3
"""Rounds over the units without a gain, after which some of them are drawn anew."""
_OFFERS = 16
"""Steps between two offers of a search whose steps aren't counted."""
_ELEMENTS = 2**24
_LINE_ELEMENTS = 2**18
"""Points times lines that one part of a step looks at, before it looks at the clock: a tenth of a second."""
_MANY_POINTS = 2**15
"""With more, a unit moves along fewer lines at a time."""
_FITTED_POINTS = 2**13
"""That a fit to the labels sees at most: it is where a search begins."""


@dataclass
class Networks:
    """R networks side by side.

    Args:
        columns: `(R, h, M)` float32 in {-1, +1}, outputs of the hidden units; their order means nothing.
        weights: `(R, h, p + 1)` float64 that give them, the bias last; None where columns come from a list.
        table: `(R,)` int64, the output table of each.
        score: `(R,)` float32, sum of gain times output: errors = (most - score) / 2 + what no network avoids.
    """

    columns: Tensor
    weights: Tensor | None
    table: Tensor
    score: Tensor

    def copy(self) -> "Networks":
        """The same networks in tensors of their own."""
        weights = None if self.weights is None else self.weights.clone()
        return Networks(self.columns.clone(), weights, self.table.clone(), self.score.clone())

    def keep(self, other: "Networks", where: Tensor) -> None:
        """Take over `other`'s networks `where (R,)`."""
        self.columns[where], self.table[where] = other.columns[where], other.table[where]
        self.score[where] = other.score[where]
        if self.weights is not None and other.weights is not None:
            self.weights[where] = other.weights[where]


class Neighbourhood(ABC):
    """How one unit of every restart is chosen again."""

    def __init__(self, problem: NetworkProblem, tables: OutputTables, generator: torch.Generator) -> None:
        self.problem, self.tables, self.generator = problem, tables, generator
        self.units, self.device = problem.widths[0], problem.device
        self.gain = (problem.counts[:, 1] - problem.counts[:, 0]).float()

    @abstractmethod
    def start(self, restarts: int) -> Networks:
        """Random networks, each with its best output table."""

    @abstractmethod
    def step(self, state: Networks, unit: int, stop: Callable[[], bool]) -> None:
        """Choose the column of `unit` and the output table again, in place, network after network until `stop()`."""

    @abstractmethod
    def kick(self, state: Networks, where: Tensor) -> None:
        """Replace some units of the restarts `where (R,)` by random ones, in place."""

    def separable(self, state: Networks, row: Tensor) -> bool:
        """Whether network `row` certainly has weights for all its hidden units."""
        return True

    def others(self, state: Networks, unit: int) -> Tensor:
        """`(R, M)`: the codes with the bit of `unit` left at 0."""
        return codes(state.columns) & ~(1 << unit)

    def fit_tables(self, state: Networks) -> None:
        """The best output table of each restart's columns."""
        sums = code_sums(codes(state.columns), self.gain[None], 2**self.units)
        state.score, state.table = self.tables.best(sums)

    def draw(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def rows(self, most: int, *shape: int) -> Tensor:
        """Uniform whole numbers below `most`."""
        drawn = torch.randint(most, shape, generator=self.generator, device=self.generator.device)
        return drawn.to(self.device)


class Listed(Neighbourhood):
    """The best of a list of columns, such as all dichotomies.

    Args:
        columns: `(K, M)` int8 in {-1, +1}, separable.
    """

    def __init__(
        self, problem: NetworkProblem, tables: OutputTables, generator: torch.Generator, columns: Tensor
    ) -> None:
        super().__init__(problem, tables, generator)
        self.list = columns.float()

    def start(self, restarts: int) -> Networks:
        state = Networks(self._random(restarts, self.units), None, *self._blank(restarts))
        self.fit_tables(state)
        return state

    def step(self, state: Networks, unit: int, stop: Callable[[], bool]) -> None:
        every = torch.arange(2**self.units, device=self.device)
        low = every[(every >> unit) & 1 == 0]
        order = torch.cat([low, low + (1 << unit)]).argsort()
        size = max(1, _ELEMENTS // (len(low) * max(self.list.shape)))
        others = self.others(state, unit)
        for part in torch.arange(len(state.score), device=self.device).split(size):
            split = torch.where(others[part, None] == low[:, None], self.gain, 0.0)  # (R, half, M)
            total = split.sum(-1, keepdim=True)
            change = split @ self.list.T
            # |plus| + |minus| of each code, if any function of the codes could be the output.
            free = torch.maximum(change.abs(), total.abs()).sum(1)
            free += 0.5 * self.draw(*free.shape) * self._least()
            picked = free.topk(min(self.tables.shortlist, free.shape[1]), dim=1).indices
            near = change.gather(2, picked[:, None].expand(-1, len(low), -1))
            sums = torch.cat([total - near, total + near], dim=1)[:, order].mul_(0.5).mT  # (R, shortlist, codes)
            score, table = self.tables.best(sums.flatten(0, 1))
            score, table = score.reshape(picked.shape), table.reshape(picked.shape)
            best = (score + 0.5 * self.draw(*score.shape) * self._least()).argmax(1, keepdim=True)
            state.columns[part, unit] = self.list[picked.gather(1, best)[:, 0]]
            state.score[part], state.table[part] = score.gather(1, best)[:, 0], table.gather(1, best)[:, 0]
            if stop():
                return

    def kick(self, state: Networks, where: Tensor) -> None:
        fresh = self._random(len(where), self.units)
        swap = where[:, None] & (self.draw(len(where), self.units) < 1.5 / self.units)
        state.columns = torch.where(swap[..., None], fresh, state.columns)
        self.fit_tables(state)

    def _random(self, *shape: int) -> Tensor:
        return self.list[self.rows(len(self.list), *shape)]

    def _blank(self, restarts: int) -> tuple[Tensor, Tensor]:
        return self.rows(1, restarts), self.draw(restarts)

    def _least(self) -> float:
        sizes = self.gain.abs()
        return float(sizes[sizes > 0].min()) if bool((sizes > 0).any()) else 1.0


class Lines(Neighbourhood):
    """The best point on lines through a unit's weights, for any number of points and features.

    Along w + t d the output of point n changes once, where t = -z_n / (d . x_n); sorted, these places split the
    line into M + 1 columns, which one cumulative sum compares. Directions: random, along the gradient of the
    residual targets smoothed over a random width, and such that some random points stay on the hyperplane.
    """

    def __init__(self, problem: NetworkProblem, tables: OutputTables, generator: torch.Generator) -> None:
        super().__init__(problem, tables, generator)
        x = problem.inputs
        self.lines = 12 if len(x) <= _MANY_POINTS else 3
        scale = torch.exp2(torch.frexp(x.abs().amax(0).clamp(min=1e-300)).exponent.clamp(max=1023).double())
        self.scale = torch.cat([scale, scale.new_ones(1)])
        self.points = torch.cat([x / scale, torch.ones_like(x[:, :1])], dim=1)  # (M, p + 1)
        spread = self.points.std(0, correction=0)
        self.step_size = torch.where(spread > 0, 1 / spread.clamp(min=1e-12), 1.0)

    def start(self, restarts: int) -> Networks:
        weights = self._through_points(restarts, self.units)
        # In half of them one unit begins with a fit to the labels: random hyperplanes are far off if features are many.
        some = slice(None, None, -(-len(self.gain) // _FITTED_POINTS))
        labels, price = torch.where(self.gain > 0, 1.0, -1.0)[some, None], self.gain.abs()[some, None]
        fitted = LeastSquares().fit(self.points[some, :-1], labels, price)
        weights[::2, 0] = torch.cat([fitted.weight[0], fitted.bias]).double()
        state = Networks(self._outputs(weights), weights, self.rows(1, restarts), self.draw(restarts))
        self.fit_tables(state)
        return state

    def step(self, state: Networks, unit: int, stop: Callable[[], bool]) -> None:
        size = max(1, _LINE_ELEMENTS // (self.lines * len(self.points)))
        for part in torch.arange(len(state.score), device=self.device).split(size):
            self._move(state, unit, part)
            if stop():
                return

    def _move(self, state: Networks, unit: int, part: Tensor) -> None:
        assert state.weights is not None
        others = codes(state.columns[part]) & ~(1 << unit)
        table = self.tables.signs[state.table[part]]
        low, high = table.gather(1, others), table.gather(1, others + (1 << unit))
        residual = self.gain * (high - low)  # (R, M): what +1 of the last unit is worth
        w = state.weights[part, unit]
        z = w @ self.points.T
        directions = self._directions(w, z, residual)
        slope = directions @ self.points.T  # (R, L, M)
        noise = 0.5 * self.draw(*slope.shape[:2], slope.shape[2] + 1)
        w = best_on_lines(w, z, directions, slope, residual, noise)
        state.weights[part, unit], state.columns[part, unit] = w, self._outputs(w)
        sums = code_sums(codes(state.columns[part]), self.gain[None], 2**self.units)
        state.score[part], state.table[part] = self.tables.best(sums)

    def kick(self, state: Networks, where: Tensor) -> None:
        assert state.weights is not None
        fresh = self._through_points(len(where), self.units)
        swap = where[:, None] & (self.draw(len(where), self.units) < 1.5 / self.units)
        state.weights = torch.where(swap[..., None], fresh, state.weights)
        state.columns = self._outputs(state.weights)
        self.fit_tables(state)

    def separable(self, state: Networks, row: Tensor) -> bool:
        assert state.weights is not None
        raw = state.weights[row] / self.scale
        columns = state.columns[row].T.double()
        return bool(separates(self.problem.inputs, columns, raw[:, :-1].contiguous(), raw[:, -1]).all())

    def _directions(self, w: Tensor, z: Tensor, residual: Tensor) -> Tensor:
        count, size = w.shape
        noise = self._normal(count, self.lines, size) * self.step_size
        third = self.lines // 3
        width = z.abs().mean(1, keepdim=True)[:, None] * torch.exp2(-6 * self.draw(count, third, 1).double())
        pull = (residual[:, None] / torch.cosh((z[:, None] / width).clamp(-30, 30)).square()).double() @ self.points
        noise[:, :third] = pull * self.step_size**2 + 0.1 * pull.norm(dim=-1, keepdim=True) * noise[:, :third]
        # Some points keep their pre-activation: d loses its part in their span.
        held = self._nearest(z, third, max(1, size - 2))
        q = torch.linalg.qr(self.points[held].mT)[0]
        turn = noise[:, third : 2 * third]
        noise[:, third : 2 * third] = turn - (q @ (q.mT @ turn[..., None]))[..., 0]
        return noise

    def _nearest(self, z: Tensor, lines: int, few: int) -> Tensor:
        few = min(few, z.shape[1])
        jitter = z.abs()[:, None] * torch.exp(2 * self._normal(len(z), lines, z.shape[1]))
        return jitter.topk(few, dim=-1, largest=False).indices

    def _through_points(self, *shape: int) -> Tensor:
        """Weights of hyperplanes between random points."""
        normal = self._normal(*shape, self.points.shape[1]) * self.step_size
        anchor = self.points[self.rows(len(self.points), *shape, 2)].mean(-2)
        normal[..., -1] = -(normal[..., :-1] * anchor[..., :-1]).sum(-1)
        return normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-300)

    def _outputs(self, weights: Tensor) -> Tensor:
        return torch.where(weights @ self.points.T >= 0, 1.0, -1.0).float()

    def _normal(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return drawn.to(self.device)


def improve_columns(problem: NetworkProblem, report: Report, generator: torch.Generator, *, restarts: int) -> None:
    """Search the columns of `problem`, two classes and one hidden layer of at most 10 units, as `search_columns`.

    All dichotomies are compared where they are few, else those on lines.
    """
    tables = output_tables(problem, "column search")
    # Each takes the longer the more points it goes through.
    if hyperplanes(problem) <= FEW_HYPERPLANES / 2 ** max(0, problem.inputs.shape[1] - 4):
        hood: Neighbourhood = Listed(problem, tables, generator, dichotomies(problem.inputs))
    else:
        hood = Lines(problem, tables, generator)
    search_columns(hood, report, restarts=restarts, counted=True)


def search_columns(
    hood: Neighbourhood,
    report: Report,
    *,
    restarts: int,
    steps: int | None = None,
    counted: bool = False,
) -> None:
    """Improve `restarts` networks side by side, and offer the best, until the report stops.

    Args:
        steps: the maximum to spend; None: what the report allows.
        counted: whether each step is one of the report's budget.
    """
    state = hood.start(restarts)
    best, level = state.copy(), state.score.clone()
    stale, offered, turn = torch.zeros_like(state.table), -math.inf, 0
    while True:
        best.keep(state, state.score > best.score)
        # A short search offers what it ends with: judging takes longer than a step.
        if (counted or turn % _OFFERS == _OFFERS - 1) and report.may_judge:
            offered = _offer(hood, best, offered, report)
        stopped = report.step() if counted else report.pulse()
        if stopped or turn == steps:
            _offer(hood, best, offered, report)
            return
        hood.step(state, turn % hood.units, report.pulse)
        turn += 1
        stale = torch.where(state.score > level, 0, stale + 1)
        level = torch.maximum(level, state.score)
        tired = stale >= PATIENCE * hood.units
        if bool(tired.any()):
            state.keep(best, tired & (hood.draw(restarts) < 0.5))
            hood.kick(state, tired)
            level, stale = torch.where(tired, state.score, level), torch.where(tired, 0, stale)


def hyperplanes(problem: NetworkProblem) -> int:
    """How many hyperplanes through points `dichotomies` would look at."""
    points, features = problem.inputs.shape
    return math.comb(points, min(features, points - 1))


def _offer(hood: Neighbourhood, best: Networks, offered: float, report: Report) -> float:
    """Offer the best networks that are better than `offered`, until one is taken; the score reached."""
    while float(best.score.max()) > offered:
        row = best.score.argmax()
        if not hood.separable(best, row):
            best.score[row] = -math.inf
            continue
        columns = best.columns[row].T
        outputs = hood.tables.signs[best.table[row]][codes(best.columns[row])]
        targets = hood.problem.pack(columns, outputs[:, None])
        report.offer(targets.expand(len(report.objective), -1))
        return float(best.score[row])
    return offered
