"""Copies of a network with whole weights, side by side: what they cost, and the best change of one unit of each."""

import copy
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from tpsolve.problems import NetworkProblem
from tpsolve.problems.network._labels import decode
from tpsolve.search.network.whole._unit_moves import (
    Move,
    Shortfall,
    Ties,
    TwoValues,
    Unit,
    Window,
    as_values,
    best_move,
    sorted_changes,
    unshifted_changes,
)
from tpsolve.spins import sign

NEAR = 0.2
"""What a wrong output unit counts, beside an error, where several outputs name a class."""
ROUNDING = 1e-6
"""Of all samples together: costs that differ by less are equal."""
STRESS = 0.5
"""What a point counts more, in times of itself, each time that a walk finds no better move while it is wrong."""
RELIEF = 4
"""Such times after which all points that count more than once lose as much again."""
TIE = 0.1
"""Of the least difference of costs: below it are the random numbers that choose among equal ones."""
MAX_SORTED = 2**17
"""Pre-activations that one move sorts; of more inputs or values it looks at some, drawn anew each time."""
MAX_COUNTED = 2**21
"""Changes that one move compares otherwise; of more values it looks at some."""

Layers = list[tuple[Tensor, Tensor]]
"""Of each layer the weights `(R, units, n)` and the biases `(R, units)` of R networks."""


class Copies:
    """R networks for one problem, in float32 where that holds every sum, else float64.

    Args:
        problem: of one sample, with a `weight_set`.
        window: thresholds on either side of the present one that a move compares, where sums are whole.
    """

    def __init__(self, problem: NetworkProblem, generator: torch.Generator, window: int) -> None:
        assert problem.weight_set is not None
        self.problem, self.generator, self.window = problem, generator, window
        self.dtype = torch.float32 if self._is_small() else torch.float64
        self.inputs = problem.inputs.to(self.dtype)
        self.values = torch.tensor(problem.weight_set).to(self.inputs)
        self.biases = as_values(problem.bias_set, self.inputs)
        self._middle = (self.values[1:] + self.values[:-1]) / 2
        self.counts = problem.counts.to(self.dtype)
        self.total = self.counts.sum(1)
        self.least = self.total - self.counts.amax(1)
        """At each point the errors of the best outputs."""
        span = self.counts.amax(1) - self.counts.amin(1)
        self.inverse_span = torch.where(span > 0, 1 / span.clamp(min=1e-30), 0.0)
        self.columns = self.inputs.T.contiguous()
        self.two_values = TwoValues.of(self.inputs)
        self._windows: dict[int, Window] = {}
        self.gain = self.counts[:, 0] - self.counts[:, 1]
        self.shortfalls = self._shortfalls()
        outputs = problem.layers[-1]
        step = float(problem.least_difference().max()) * (1.0 if outputs == 1 else NEAR / outputs)
        self.slack = ROUNDING * float(self.total.sum())
        if problem.margin is not None:
            # Small prices of a margin are no rounding.
            self.slack *= min(1.0, problem.margin_price)
        self.ties = Ties(max(step * TIE, self.slack), generator)
        sizes = [self.inputs.shape[1], *problem.widths]
        self._allowed = [problem.rules.allowed(d, n, self.values) for d, n in enumerate(sizes)]
        self._limits = [
            [(torch.tensor(group, device=self.values.device), most) for group, most in problem.rules.limits(d, n)]
            for d, n in enumerate(sizes)
        ]
        self.prices = [price.to(self.inputs) for price in problem.layer_prices]
        """Of a weight of each input of a unit of each layer, `(n,)`, where it is not 0."""
        self.paying = self.counts.new_ones(())
        """What share of the prices moves count: `()` of all networks, or `(R,)` of each."""
        self.is_priced = problem.most_paid > 0
        self.units = [(d, j) for d, units in enumerate(problem.layers) for j in range(units)]
        self.shared = [d for d in range(len(problem.widths)) if problem.rules.shared_bias]
        """Hidden layers whose units have one bias."""

    def _is_small(self) -> bool:
        """Whether float32 holds all sums of weights, and of samples, without rounding."""
        problem = self.problem
        assert problem.weight_set is not None
        reach = max(float(problem.inputs.abs().sum(1).max()), *map(float, problem.widths))
        size = 2 * max(map(abs, problem.weight_set)) * reach + max(map(abs, problem.bias_set or [1]))
        whole = problem.has_whole_inputs and bool((problem.counts == problem.counts.round()).all())
        # Halves, quarters and so on of shortfalls are exact.
        price, below = Fraction(problem.margin_price), Fraction(problem.margin_price).denominator
        cost = (float(problem.counts.sum()) + float(price) * problem.most_shortfall) * below
        return whole and max(size, cost) < 2**23

    def _shortfalls(self) -> list[Shortfall | None]:
        """Of each output unit."""
        problem = self.problem
        if problem.margin is None:
            return [None] * problem.layers[-1]
        up, down = (problem.margin_price * weight.to(self.inputs).T for weight in problem.wanting)
        return [Shortfall(problem.margin, u, d) for u, d in zip(up, down, strict=True)]

    def without_inputs(self, count: int) -> Layers:
        """Networks of which no unit reads an input, and each unit above reads one of those below.

        Where weights have a price, a unit that is read gains inputs one by one, each of which must pay.
        """
        layers: Layers = []
        bias = 0.0 if self.biases is None else float(self.biases[self.biases.abs().argmin()])
        for units, n in zip(self.problem.layers, (self.inputs.shape[1], *self.problem.widths), strict=True):
            weight = self.inputs.new_zeros(count, units, n)
            if layers:
                each, allowed = torch.arange(units, device=weight.device), self._allowed[len(layers)]
                values = self.values if allowed is None else self.values[allowed[0]]
                weight[:, each, each % n] = float(values[values.abs().argmax()])
            layers.append((weight, self.inputs.new_full((count, units), bias)))
        return layers

    def sums(self, layers: Layers) -> Tensor:
        """Of the output units, `(R, M, outputs)`."""
        below = self.inputs
        for weight, bias in layers[:-1]:
            below = sign(torch.matmul(below, weight.mT) + bias[:, None])
        weight, bias = layers[-1]
        return torch.matmul(below, weight.mT) + bias[:, None]

    def costs(self, outputs: Tensor) -> Tensor:
        """Errors of `outputs (R, M, outputs)` at each point `(R, M)`, and a little for each wrong one of several."""
        if outputs.shape[-1] == 1:
            return torch.where(outputs[..., 0] > 0, self.counts[:, 0], self.counts[:, 1])
        named = decode(outputs)
        right = self.counts.expand(*named.shape, -1).gather(-1, named.clamp(min=0)[..., None])[..., 0]
        costs = self.total - torch.where(named >= 0, right, 0.0)
        wrong = (outputs != self.problem.wanted.to(outputs)).to(outputs).mean(-1)
        return costs + NEAR * self.total * wrong

    def lacking(self, sums: Tensor) -> Tensor:
        """What `sums (R, M, outputs)` that lack the margin cost at each point: `(R, M)`; 0 where none is asked for."""
        if self.problem.margin is None:
            return torch.zeros_like(sums[..., 0])
        return self.problem.margin_price * self.problem.lacking(sums).sum(-1)

    def paid(self, layers: Layers) -> Tensor:
        """The penalty of each network `(R,)`."""
        if not self.is_priced:
            return torch.zeros_like(layers[0][1][:, 0])
        used = [(w != 0).sum(1) * price for (w, _), price in zip(layers, self.prices, strict=True)]
        return torch.stack([each.sum(1) for each in used]).sum(0)

    def cost(self, layers: Layers) -> Tensor:
        """What the search lowers, `(R,)`: `costs` of all points, what they lack of a margin, and the penalty."""
        sums = self.sums(layers)
        return (self.costs(sign(sums)) + self.lacking(sums)).sum(1) + self.paid(layers)

    def objective(self, layers: Layers) -> Tensor:
        """The problem's own, `(R,)`, but for rounding."""
        sums = self.sums(layers)
        errors = self.problem.errors(sign(sums)).to(self.dtype)
        return errors + self.lacking(sums).sum(1) + self.paid(layers)

    def at(self, rows: Tensor) -> "Copies":
        """Copies for the points `rows` alone, of which costs are sums; networks keep their price."""
        some, problem = copy.copy(self), copy.copy(self.problem)
        problem.inputs, problem.counts = self.problem.inputs[rows], self.problem.counts[rows]
        problem.wanted = self.problem.wanted[rows]
        # What was computed of all points, and kept.
        vars(problem).pop("wanting", None)
        some.problem, some.inputs, some.counts = problem, self.inputs[rows], self.counts[rows]
        some.total, some.least, some.gain = self.total[rows], self.least[rows], self.gain[rows]
        some.inverse_span, some.columns = self.inverse_span[rows], self.inputs[rows].T.contiguous()
        if self.two_values is not None:
            some.two_values = replace(self.two_values, is_high=self.two_values.is_high[rows])
        some.shortfalls = [s and replace(s, up=s.up[rows], down=s.down[rows]) for s in self.shortfalls]
        # Prices of weights count as much as they do beside all points.
        some.paying = self.paying * (float(some.total.sum()) / max(1e-30, float(self.total.sum())))
        return some

    def walk(self, layers: Layers) -> "Walk":
        """Copies that change one unit at a time, beginning with `layers`, which change in place."""
        return Walk(self, layers)

    def nearest(self, d: int, real: Tensor) -> Tensor:
        """Weights of layer `d`, near to `real (..., n)`, that are of the set and keep to the rules."""
        allowed = self._allowed[d]
        if allowed is None:
            found = self.values[torch.bucketize(real, self._middle)]
        else:
            found = self.values[torch.where(allowed, (real[..., None] - self.values).abs(), torch.inf).argmin(-1)]
        return self.limited(d, found, real.abs())

    def drawn(self, d: int, like: Tensor) -> Tensor:
        """Weights of layer `d` at random, `like (..., n)`, that may each be there."""
        allowed = self._allowed[d]
        if allowed is None:
            return self.values[(self.random(*like.shape) * len(self.values)).long()]
        return self.values[torch.where(allowed, self.random(*like.shape, len(self.values)), 2.0).argmin(-1)]

    def limited(self, d: int, weight: Tensor, size: Tensor) -> Tensor:
        """Of each limit on weights `(..., n)` of layer `d` only those of the largest `size (..., n)`, the others 0."""
        for group, most in self._limits[d]:
            part = weight[..., group]
            order = torch.where(part != 0, size[..., group], -1.0).argsort(dim=-1, descending=True)
            weight = weight.clone()
            weight[..., group] = part.scatter(-1, order[..., most:], 0.0)
        return weight

    def random(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1."""
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return drawn.to(self.inputs)

    def extra(self, d: int, weight: Tensor, kept: Tensor | None = None) -> Tensor | None:
        """What each change of a weight costs besides errors, `(R, n, V)`; +inf where it breaks a rule.

        Args:
            weight: `(R, n)`, of a unit of layer `d`.
            kept: the numbers of some values; None: all of them.
        """
        values, allowed = self.values, self._allowed[d]
        if kept is not None:
            values, allowed = values[kept], None if allowed is None else allowed[:, kept]
        if not self.is_priced and allowed is None and not self._limits[d]:
            return None
        used = (weight != 0)[..., None]
        price = self.paying.reshape(-1, 1, 1) * self.prices[d][:, None]
        cost = price * ((values != 0).to(values) - used.to(values))
        if allowed is not None:
            cost = torch.where(allowed, cost, torch.inf)
        for group, most in self._limits[d]:
            full = used[:, group].sum(1, keepdim=True) >= most
            cost[:, group] = torch.where(full & ~used[:, group] & (values != 0), torch.inf, cost[:, group])
        return cost

    def first_of_pair(self, unit: Unit, d: int) -> tuple[Tensor, Tensor, Tensor]:
        """A weight of a unit of layer `d`, another value for it that keeps to the rules, and the price, each `(R,)`.

        Where no weight may change, its value is that of now.
        """
        extra = self.extra(d, unit.weight)
        other = self.values != unit.weight[..., None]
        if extra is not None:
            other = other & torch.isfinite(extra)
        drawn = torch.where(other, self.random(*other.shape), -1.0).flatten(1)
        chosen = drawn.argmax(1, keepdim=True)
        some = drawn.gather(1, chosen)[:, 0] >= 0
        feature = chosen[:, 0] // len(self.values)
        value = torch.where(some, self.values[chosen[:, 0] % len(self.values)], unit.weight[:, 0])
        paid = torch.zeros_like(value) if extra is None else extra.flatten(1).gather(1, chosen)[:, 0]
        return torch.where(some, feature, 0), value, torch.where(some, paid, 0.0)

    def best(self, unit: Unit, two: TwoValues | None, d: int) -> Move:
        """The best of all changes of a unit of layer `d`, or where these are too many, of some that are drawn."""
        features = torch.arange(unit.weight.shape[1], device=unit.weight.device)
        whole = d > 0 or self.problem.has_whole_inputs
        if two is not None:
            window = self._window_of(d, two)
            if window.is_narrow:
                most = MAX_COUNTED // (unit.weight.numel() * len(window.thresholds))
                kept = self._some(len(self.values), most) if most < len(self.values) else None
                changes = window.changes(unit, two, self.biases, kept)
                if d in self.shared:
                    changes.worth.masked_fill_(changes.bias != unit.bias[:, None, None, None], torch.inf)
                values = self.values if kept is None else self.values[kept]
                return best_move(changes, values, self.extra(d, unit.weight, kept), features, self.ties)
        each = unit.z.numel() if self.biases is None else len(unit.z) * max(unit.z.shape[1], len(self.biases))
        kept = self._some(len(self.values), MAX_SORTED // each)
        values, features = self.values[kept], self._some(len(features), MAX_SORTED // (each * len(kept)))
        some = replace(unit, below=unit.below[..., features], weight=unit.weight[:, features])
        if d in self.shared:
            changes = unshifted_changes(some, values)
        else:
            changes = sorted_changes(some, values, self.biases, whole=whole)
        extra = self.extra(d, unit.weight, kept)
        return best_move(changes, values, None if extra is None else extra[:, features], features, self.ties)

    def _window_of(self, d: int, two: TwoValues) -> Window:
        if d not in self._windows:
            self._windows[d] = Window(two, self.values, self.window)
        return self._windows[d]

    def _some(self, count: int, most: int) -> Tensor:
        """The numbers below `count`, rising; if these are more than `most`, so many of them at random, at least one."""
        if count <= most:
            return torch.arange(count, device=self.inputs.device)
        return self.random(count).argsort()[: max(1, most)].sort().values


class Walk:
    """R networks that change one unit at a time; what all units sum up is kept, and brought up to date.

    Args:
        layers: changed in place by `move`.

    Attributes:
        stress: `(R, M)`, at least 1, how often errors at each point count in moves, beside margins and weights.
    """

    def __init__(self, copies: Copies, layers: Layers) -> None:
        self._copies, self._layers = copies, layers
        self._each = torch.arange(len(layers[0][1]), device=copies.inputs.device)
        self.stress = copies.gain.new_ones(len(self._each), len(copies.gain))
        self._raised = torch.zeros_like(self._each)
        self.begin()

    def begin(self, rows: Tensor | None = None) -> None:
        """Compute all sums anew: after weights were changed by others. Of networks `rows (R,)` the stress ends."""
        if rows is not None:
            self.stress[rows], self._raised[rows] = 1.0, 0
        self._sums: list[Tensor] = []
        for d, (weight, bias) in enumerate(self._layers):
            below = self._copies.inputs.T if d == 0 else sign(self._sums[-1])
            self._sums.append(torch.matmul(weight, below) + bias[..., None])

    def move(self, d: int, j: int) -> Tensor:
        """Make the best change of unit `j` of layer `d` of each network where it costs no more.

        Returns:
            By how much the cost changes, `(R,)`.
        """
        unit = self.unit(d, j)
        move = self._copies.best(unit, self._two(d, unit), d)
        return self._make(d, j, unit, move, move.cost)

    def move_pair(self, d: int, j: int) -> Tensor:
        """Change one weight of unit `j` that is drawn, and then make the best change, where both cost no more.

        Returns:
            By how much the cost changes, `(R,)`.
        """
        unit = self.unit(d, j)
        feature, value, paid = self._copies.first_of_pair(unit, d)
        place = feature[:, None]
        change = value - unit.weight.gather(1, place)[:, 0]
        weight = unit.weight.scatter(1, place, value[:, None])
        first = replace(unit, weight=weight, z=self._moved(d, unit.z, weight, unit.bias, feature, change))
        move = self._copies.best(first, self._two(d, unit), d)
        cost = move.cost + (first.present() - unit.present()) + paid
        # Of a pair that costs more neither change is made.
        good = cost <= self._copies.slack
        self._layers[d][0][:, j] = torch.where(good[:, None], weight, unit.weight)
        first = replace(first, z=torch.where(good[:, None], first.z, unit.z))
        return self._make(d, j, unit, move, cost, first.z)

    def change(self, d: int, j: int, weight: Tensor, bias: Tensor, new_weight: Tensor, new_bias: Tensor) -> None:
        """Give unit `j` of layer `d` other weights and biases than those that the sums of now are of.

        Args:
            weight, bias: `(R, n)` and `(R,)`, of which the sums are.
            new_weight, new_bias: the others.
        """
        own, z = self._layers[d], self._sums[d][:, j]
        own[0][:, j], own[1][:, j] = new_weight, new_bias
        if d > 0 or self._copies.problem.has_whole_inputs:
            places = (new_weight != weight).any(0).nonzero()[:, 0]
            step = (new_weight - weight)[:, places]
            read = self._copies.columns[places] if d == 0 else sign(self._sums[d - 1][:, places])
            now = z + (step[:, None] @ read)[:, 0] + (new_bias - bias)[:, None]
        else:
            now = new_weight @ self._copies.columns + new_bias[:, None]
        before = sign(z)
        self._sums[d][:, j] = now
        if d + 1 < len(self._layers):
            self._pass_up(d, j, sign(now) - before)

    def move_bias(self, d: int) -> Tensor:
        """Change the bias that the units of layer `d` share, of each network, where it costs no more.

        Of whole sums it tries all shifts of the window, of others some that bring the sum of one point to 0.

        Returns:
            By how much the cost changes, `(R,)`.
        """
        copies, bias, before = self._copies, self._layers[d][1], self._priced(self._sums[-1])
        sums, best = self._sums[d], torch.zeros_like(before)
        now = bias[:, 0].clone()
        gain, chosen = best, now
        if copies.biases is None and d == 0 and not copies.problem.has_whole_inputs:
            drawn = (copies.random(len(now), 2 * copies.window) * sums[0].numel()).long()
            tried = [now - shift for shift in sums.flatten(1).gather(1, drawn).T]
        else:
            tried = [now + shift for shift in range(-copies.window, copies.window + 1) if shift]
        for other in tried:
            above = sums + (other - now)[:, None, None]
            for weight, own in self._layers[d + 1 :]:
                above = torch.matmul(weight, sign(above)) + own[..., None]
            cost = self._priced(above) - before
            if copies.biases is not None:
                cost = torch.where(torch.isin(other, copies.biases), cost, torch.inf)
            # The last one of equally good ones, so that it walks along plateaus.
            better = cost <= gain + copies.slack
            gain, chosen = torch.where(better, cost, gain), torch.where(better, other, chosen)
        bias[:] = chosen[:, None]
        self.begin()
        return gain

    def _priced(self, sums: Tensor) -> Tensor:
        """What outputs with these sums `(R, outputs, M)` cost by their stress, and what they lack of a margin."""
        sums = sums.mT
        return (self.stress * self._copies.costs(sign(sums)) + self._copies.lacking(sums)).sum(1)

    def _two(self, d: int, unit: Unit) -> TwoValues | None:
        return self._copies.two_values if d == 0 else TwoValues.of_spins(unit.below)

    def _make(self, d: int, j: int, unit: Unit, move: Move, cost: Tensor, z: Tensor | None = None) -> Tensor:
        """Make a move of unit `j` of each network where it costs no more; z: its sums with the weights of now."""
        weight, bias = self._layers[d]
        good = cost <= self._copies.slack
        place = move.feature[:, None]
        old = weight[:, j].gather(1, place)[:, 0]
        value, shift = torch.where(good, move.value, old), torch.where(good, move.bias, unit.bias)
        weight[:, j].scatter_(1, place, value[:, None])
        before = unit.z if z is None else z
        now = self._moved(d, before, weight[:, j], shift, move.feature, value - old, shift - unit.bias)
        if d + 1 < len(self._layers):
            self._pass_up(d, j, sign(now) - sign(unit.z))
        self._sums[d][:, j], bias[:, j] = now, shift
        return torch.where(good, cost, 0.0)

    def _moved(
        self,
        d: int,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        feature: Tensor,
        change: Tensor,
        shift: Tensor | None = None,
    ) -> Tensor:
        """The sums `z (R, M)` after the weight of `feature (R,)` changed, and the bias by `shift`, to those of now."""
        if d > 0 or self._copies.problem.has_whole_inputs:
            columns = self._copies.columns
            read = columns[feature] if d == 0 else sign(self._sums[d - 1][self._each, feature])
            found = torch.addcmul(z, change[:, None], read)
            return found if shift is None else found.add_(shift[:, None])
        return weight @ self._copies.columns + bias[:, None]

    def _pass_up(self, d: int, j: int, change: Tensor) -> None:
        """Bring the sums above layer `d` up to date, where outputs of its unit `j` changed by `change (R, M)`."""
        for number in range(d + 1, len(self._layers)):
            weight, bias = self._layers[number]
            if number == d + 1:
                self._sums[number] += weight[:, :, j, None] * change[:, None]
            else:
                self._sums[number] = torch.matmul(weight, sign(self._sums[number - 1])) + bias[..., None]

    def cost(self) -> Tensor:
        """What the networks cost, `(R,)`: as `Copies.cost`."""
        each, rest = self._parts()
        return each.sum(1) + rest + self._copies.paid(self._layers)

    def stressed(self, paying: Tensor) -> Tensor:
        """What moves lower, `(R,)`: points count by their stress, and weights of the networks `paying (R,)` only."""
        each, rest = self._parts()
        return (self.stress * each).sum(1) + rest + self._copies.paid(self._layers) * paying

    def raise_stress(self, rows: Tensor) -> None:
        """Points that networks `rows (R,)` get wrong count more from now on; all others in time less again."""
        excess = (self._parts()[0] - self._copies.least) * self._copies.inverse_span
        self.stress += STRESS * rows[:, None] * excess
        self._raised = self._raised + rows.long()
        relieved = rows & (self._raised % RELIEF == 0)
        self.stress = torch.where(relieved[:, None], (self.stress - STRESS).clamp(min=1.0), self.stress)

    def settled(self) -> Tensor:
        """Whether each network gets all points as right as any can, `(R,)`."""
        return (self._parts()[0] <= self._copies.least).all(1)

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Of each point its errors, `(R, M)`, and what sums lack of a margin, `(R,)`."""
        sums = self._sums[-1].mT
        return self._copies.costs(sign(sums)), self._copies.lacking(sums).sum(1)

    def unit(self, d: int, j: int) -> Unit:
        """Unit `j` of layer `d`."""
        copies, (weight, bias), z = self._copies, self._layers[d], self._sums[d]
        below = copies.inputs if d == 0 else sign(self._sums[d - 1]).mT
        shortfall = copies.shortfalls[j] if d == len(self._layers) - 1 else None
        return Unit(below, z[:, j], self._worth(d, j), weight[:, j], bias[:, j], shortfall)

    def _worth(self, d: int, j: int) -> Tensor:
        """The cost with an output +1 of unit `j` of layer `d` less that with -1, `(R, M)`."""
        copies, last = self._copies, len(self._layers) - 1
        if d == last and self._sums[d].shape[1] == 1:
            return copies.gain * self.stress
        if d == last - 1 and self._sums[last].shape[1] == 1:
            # The output unit without unit j, and with either sign of it.
            read = self._layers[last][0][:, 0, j, None]
            rest = self._sums[last][:, 0] - read * sign(self._sums[d][:, j])
            worth = copies.gain * self.stress * ((rest + read >= 0).to(rest) - (rest - read >= 0).to(rest))
            short = copies.shortfalls[0]
            return worth if short is None else worth + short.at(rest + read) - short.at(rest - read)
        outputs, costs = sign(self._sums[d]), []
        for value in (-1.0, 1.0):
            if d == last:
                # What its own sum costs is not a matter of its output.
                outputs[:, j] = value
                costs.append(self.stress * copies.costs(outputs.mT))
                continue
            weight = self._layers[d + 1][0][:, :, j, None]
            sums = self._sums[d + 1] + weight * (value - outputs[:, j])[:, None]
            for weight, bias in self._layers[d + 2 :]:
                sums = torch.matmul(weight, sign(sums)) + bias[..., None]
            costs.append(self.stress * copies.costs(sign(sums).mT) + copies.lacking(sums.mT))
        return costs[1] - costs[0]
