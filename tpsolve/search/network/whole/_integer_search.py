"""IntegerSearch: networks with whole weights, by the best change of one weight and one bias at a time."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._plain import is_real
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.problems import NetworkProblem, Problem
from tpsolve.search._base import Report, Solver
from tpsolve.search.network.whole._batches import BatchWalk
from tpsolve.search.network.whole._copies import Copies, Layers, Walk
from tpsolve.search.network.whole._straight_through import STEPS, StraightThrough

MANY, BATCH = 2**22, 2000
"""Inputs of all points from which moves look at some of the points; so many."""
PATIENCE = 1
"""Rounds over the units without a gain, after which the points that a copy gets wrong count more."""
RAISES = (64, 32, 16, 4)
"""How often they do since the best of a copy was found, before it is kicked: of every fourth copy."""
SHARED = 0.3
"""How often a copy that is kicked goes on from the best of all, rather than from its own best."""
FREE = 0.5
"""How often weights cost nothing for a while after a kick, where they have a price."""
FREE_RAISES, FREE_UNITS = 8, 9
"""How often what a copy gets wrong counts more while its weights cost nothing, before they cost: until it is right.

So in networks of so many units at most. With 17 this took the time in which weights are lost: in 3 seconds, errors and
weights of two runs on one of the first tables of `benchmarks.whole_numbers` were a third more."""
PAIRS = 0.2
"""Of moves that change two weights, where a unit may read few: so it changes what it reads at no cost on the way.

On six of the first tables of `benchmarks.whole_numbers`, with three inputs a unit, a fifth beat none on four.
Without such a rule, pairs were no better than single changes."""
ANEW = 0.5
"""How often one unit of it is drawn anew; else a few weights change at random."""


@dataclass(frozen=True)
class IntegerSearch(Solver):
    """Networks whose weights are whole numbers of a set: the best change of one unit after the other.

    With all other units held, one table of sums gives the costs of all changes of one weight of a unit, each with all
    shifts of its bias in a window (see `Window.changes` in the code). The best is made where it costs no more, and
    among several one at random. So copies of the network walk along plateaus. Where a copy finds no better change, the
    points that it gets wrong count more from then on, as clauses do in local searches for satisfiability (Thornton et
    al. 2004). Copies that find no better network for long are kicked: they go back to their own best, or to that of
    all, and have a unit drawn anew or a few weights changed.

    It begins with networks trained by a straight-through gradient, side by side, for a share of the budget. It takes
    network problems with a `weight_set`, of any number of layers and classes, and it offers weights with its targets.
    Inputs of two whole values each, such as -1 and +1, are quick. Where others have many values, sorting them takes
    longer, and a move looks at some inputs only. Where weights have a price, networks that cost more than one without
    weights are replaced by ones of which no unit reads an input yet, and so is every fourth. The others begin without
    the price, and after half of the kicks they are free again. They pay once they make no errors that can be avoided,
    or find nothing better, in small networks though what they get wrong counted more a few times.
    It proves nothing beyond the problem's own bound.

    One step changes one unit of every copy; the steps of the gradient are not counted.

    Args:
        share: of the seconds in which the first networks are trained, from 0 to below 1.
        first_steps: of that training, where the budget has no seconds.
        copies: networks searched side by side; fewer where a training of that many would not end in its share.
        window: shifts of a bias up and down that a move compares, where sums are whole.
        kept: of the networks that were the best so far in turn, so many of the latest are in `stats["path"]`, the best
            last: weights as in `stats["weights"]`. For whoever chooses among them by other samples.
        pairs: share of the moves that change two weights of a unit, the first of which is drawn, from 0 to 1. None: a
            fifth where rules say how many weights of a unit may be other than 0, and else none.
        batch: points on which a move compares changes of one network; what it then makes is checked on all. None: all
            points, or 2000 where they have more than four million inputs.
    """

    share: float = 0.3
    first_steps: int = 300
    copies: int = 8
    window: int = 4
    kept: int = 0
    pairs: float | None = None
    batch: int | None = None

    name = "integer-search"
    accepts: ClassVar[tuple[type[Problem], ...]] = (NetworkProblem,)
    one_step = "one unit of every copy, changed in one weight and its bias"
    stochastic = True
    whole = True

    def __post_init__(self) -> None:
        check_count("copies", self.copies, 1)
        check_count("window", self.window, 1)
        check_count("first_steps", self.first_steps, 0)
        check_count("kept", self.kept, 0)
        if self.batch is not None:
            check_count("batch", self.batch, 1)
        if self.pairs is not None and not (is_real(self.pairs) and 0 <= self.pairs <= 1):
            raise ArgumentError("pairs", self.pairs, "a share from 0 to 1")
        if not (is_real(self.share) and 0 <= self.share < 1):
            raise ArgumentError("share", self.share, "a share from 0 to below 1")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        assert isinstance(problem, NetworkProblem)
        if problem.weight_set is None:
            mend = 'Give the problem weight_set="ternary", or take circuits or line-search.'
            raise NotAcceptedError("problem", "real weights", f"a weight_set for {self.name}", mend)

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, NetworkProblem)
        report.offer(problem.start, weights=problem.start_weights)
        if self.kept:
            report.stats["path"] = [problem.start_weights]
        if report.pulse():
            return
        single = problem.select(torch.zeros(1, dtype=torch.int64, device=problem.device))
        copies = Copies(single, generator, self.window)
        champion = _Champion(copies, report, self.kept)
        batch = self._batch_of(single)
        state = self._first(copies, budget, report, champion, batch)
        if batch is not None:
            self._by_batches(copies, state, batch, report, champion)
            return
        best, walk = _cloned(state), copies.walk(state)
        cost = copies.cost(state)
        lowest, level = cost.clone(), cost.clone()
        free = torch.zeros_like(cost, dtype=torch.bool)
        if copies.is_priced:
            # Networks that read nothing yet pay from the beginning: others lose the weights that they need least.
            free = copies.paid(state) > copies.paid(copies.without_inputs(1))
            cost = level = self._priced(copies, walk, free)
        stale, blocked = (torch.zeros_like(cost, dtype=torch.int64) for _ in range(2))
        most = blocked.new_tensor(RAISES).repeat(-(-len(blocked) // len(RAISES)))[: len(blocked)]
        order, places = list[int](), _places(copies)
        raises = FREE_RAISES if len(copies.units) <= FREE_UNITS else 0
        limited = single.rules.max_fan_in is not None or bool(single.rules.groups)
        pairs = (PAIRS if limited else 0.0) if self.pairs is None else self.pairs
        while not report.step():
            if not order:
                order = torch.randperm(len(places), generator=generator, device=generator.device).tolist()
            d, j = places[order.pop()]
            pair = pairs > 0 and float(copies.random(1)) < pairs
            cost = cost + (walk.move_bias(d) if j is None else walk.move_pair(d, j) if pair else walk.move(d, j))
            true = walk.cost()
            stale = torch.where(cost < level, 0, stale + 1)
            level = torch.minimum(level, cost)
            better = true < lowest
            if bool(better.any()):
                lowest, blocked = torch.where(better, true, lowest), torch.where(better, 0, blocked)
                for kept, now in zip(best, state, strict=True):
                    for k, n in zip(kept, now, strict=True):
                        k[better] = n[better]
                champion.see(state, better)
            champion.offer()
            tired = stale >= PATIENCE * len(places)
            if bool(tired.any()):
                paying = tired & ~free
                # Copies that look for errors alone go on until they make none, so that what pays then is worth it.
                pays = tired & free & (walk.settled() | (blocked >= raises))
                blocked = torch.where(pays, 0, blocked + tired.long())
                free = free & ~pays
                kicked = paying & (blocked > most)
                walk.raise_stress(tired & ~pays & ~kicked)
                if bool(kicked.any()):
                    blocked = torch.where(kicked, 0, blocked)
                    self._kick(copies, state, best, int(lowest.argmin()), kicked)
                    walk.begin(kicked)
                    if copies.is_priced:
                        free |= kicked & (copies.random(len(kicked)) < FREE)
                cost = torch.where(tired, self._priced(copies, walk, free), cost)
                level, stale = torch.where(tired, cost, level), torch.where(tired, 0, stale)
        champion.offer(last=True)

    def _batch_of(self, problem: NetworkProblem) -> int | None:
        """How many points a move looks at; None: all."""
        points = len(problem.inputs)
        batch = (BATCH if problem.inputs.numel() > MANY else points) if self.batch is None else self.batch
        return None if batch >= points else batch

    def _by_batches(self, copies: Copies, state: Layers, batch: int, report: Report, champion: "_Champion") -> None:
        """Let networks walk downhill: there is no time to leave places where no change helps."""
        walk, order, places = BatchWalk(copies, state, batch), list[int](), _places(copies)
        every = torch.ones_like(walk.cost, dtype=torch.bool)
        while not report.step():
            if not order:
                # What all points say takes as long as many moves.
                champion.see(state, every)
                champion.offer()
                g = copies.generator
                order = torch.randperm(len(places), generator=g, device=g.device).tolist()
            walk.move(*places[order.pop()])
        champion.see(state, every)
        champion.offer(last=True)
        report.stats["changes"] = {"tried": walk.tried, "made": walk.made}

    def _first(
        self, copies: Copies, budget: Budget, report: Report, champion: "_Champion", batch: int | None
    ) -> Layers:
        """The networks that a straight-through gradient finds in its share of the budget."""
        ends = math.inf if budget.seconds is None else report.seconds + self.share * report.seconds_left
        steps = self.first_steps if budget.seconds is None else None
        trivial = float(report.objective.max())
        if batch is None:
            training = StraightThrough(copies, self._count(copies, ends, report))
        else:
            training = self._long_training(copies, ends, report, batch)
        done = 0
        while report.seconds < ends and done != steps and not report.pulse():
            before = training.cost
            training.step()
            done += 1
            champion.see(training.best, training.cost < before)
            champion.offer()
        champion.see(training.best, torch.ones_like(training.cost, dtype=torch.bool))
        champion.offer()
        first = _cloned(training.best)
        if copies.is_priced and 0 in copies.values:
            # Where weights have a price, trained networks may cost more than none at all.
            swapped = training.cost >= trivial
            swapped[1::4] = True
            for (weight, bias), (own_w, own_b) in zip(first, copies.without_inputs(len(swapped)), strict=True):
                weight[swapped], bias[swapped] = own_w[swapped], own_b[swapped]
        return first

    def _priced(self, copies: Copies, walk: Walk, free: Tensor) -> Tensor:
        """What moves lower, `(R,)`, from now on, where weights of the `free (R,)` ones have no price."""
        if copies.is_priced:
            copies.paying = (~free).to(copies.counts)
        return walk.stressed(~free)

    def _count(self, copies: Copies, ends: float, report: Report) -> int:
        """As many copies as train once until `ends`, at least one, by the time that a step of one takes."""
        if math.isinf(ends) or self.copies == 1 or self.share == 0:
            return self.copies
        one = StraightThrough(copies, 1)
        one.step()
        began = report.seconds
        one.step()
        return max(1, min(self.copies, int((ends - report.seconds) / (STEPS * max(1e-9, report.seconds - began)))))

    def _long_training(self, copies: Copies, ends: float, report: Report, batch: int) -> StraightThrough:
        """One training of one network on drawn points, which takes until `ends`."""
        if math.isinf(ends):
            return StraightThrough(copies, 1, steps=max(1, self.first_steps), batch=batch)
        trial = StraightThrough(copies, 1, batch=batch)
        trial.step()
        began = report.seconds
        for _ in range(3):
            trial.step()
        steps = 3 * (ends - report.seconds) / max(1e-9, report.seconds - began)
        return StraightThrough(copies, 1, steps=max(STEPS, int(0.9 * steps)), batch=batch)

    def _kick(self, copies: Copies, state: Layers, best: Layers, champion: int, tired: Tensor) -> None:
        """Networks `tired (R,)` go back to a best one, and have a unit drawn anew or a few weights changed."""
        random = copies.random
        shared, anew = tired & (random(len(tired)) < SHARED), tired & (random(len(tired)) < ANEW)
        chosen = (random(len(tired)) * len(copies.units)).long()
        first = 0
        for d, ((weight, bias), (best_w, best_b)) in enumerate(zip(state, best, strict=True)):
            units = weight.shape[1]
            weight[tired], bias[tired] = best_w[tired], best_b[tired]
            weight[shared], bias[shared] = best_w[champion], best_b[champion]
            here = chosen[:, None] == torch.arange(first, first + units, device=chosen.device)
            share = torch.where(anew[:, None] & here, 0.5, 0.0)
            share = torch.where(anew[:, None], share, 1.5 / (len(copies.units) * weight.shape[2]) ** 0.5)
            swap = (random(*weight.shape) < share[..., None]) & tired[:, None, None]
            kicked = torch.where(swap, copies.drawn(d, weight), weight)
            weight[:] = copies.limited(d, kicked, random(*weight.shape))
            first += units


def _places(copies: Copies) -> list[tuple[int, int | None]]:
    """What moves change: a unit of a layer, or, where it is None, the bias that the layer shares."""
    return [*copies.units, *((d, None) for d in copies.shared)]


class _Champion:
    """The best network of all copies, offered when the report may judge."""

    def __init__(self, copies: Copies, report: Report, kept: int) -> None:
        self._copies, self._report, self._kept = copies, report, kept
        self._least = math.inf
        self._waiting: list[tuple[Tensor, Tensor]] | None = None

    def see(self, layers: Layers, rows: Tensor) -> None:
        """Look at the networks `rows (R,)` that have become better."""
        if not bool(rows.any()):
            return
        some = [(w[rows], b[rows]) for w, b in layers]
        objective = self._copies.objective(some)
        row = objective.argmin()
        if float(objective[row]) < self._least:
            self._least = float(objective[row])
            self._waiting = [(w[row].double(), b[row].double()) for w, b in some]

    def offer(self, *, last: bool = False) -> None:
        """Offer it, if it has not been."""
        if self._waiting is None or not (last or self._report.may_judge):
            return
        if self._kept:
            self._report.stats["path"] = [*self._report.stats["path"], self._waiting][-self._kept :]
        targets = self._copies.problem.from_weights(self._waiting)
        self._report.offer(targets.expand(len(self._report.objective), -1), weights=self._waiting)
        self._waiting = None


def _cloned(layers: Layers) -> Layers:
    return [(weight.clone(), bias.clone()) for weight, bias in layers]
