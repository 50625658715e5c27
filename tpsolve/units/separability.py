"""Separability of m units at once, each answer with a certificate."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tpsolve.errors import ContradictionError
from tpsolve.result import Budget
from tpsolve.units.base import Callback, Meter, UnitLearner, Units, check_start
from tpsolve.units.certificate import Certificate
from tpsolve.units.data import WORKING_ELEMENTS, Samples, check_samples, merge_duplicates
from tpsolve.units.elastic import solve_elastic
from tpsolve.units.frame import Frame, make_frame
from tpsolve.units.hard_margin import HardMargin, fit_hard_margin
from tpsolve.units.purify import purify, sharpen
from tpsolve.units.rational import decide_exactly


@dataclass(frozen=True)
class Separability(UnitLearner):
    """Which units can learn their targets, proved: weights, or an irreducible circuit (see `Certificate`).

    Newton's method on all units settles most of them, a linear program (HiGHS) most of the rest, and the
    simplex method in exact arithmetic what is left. A status is what `Certificate.verify` proves from
    the raw data, so without a budget none is 0. One step is a Newton step of a chunk of units, or one unit
    of the later stages. The mean objective that a callback sees is the share of undecided units.

    `start`: units that may separate already; those are only verified. Of the sample weights only
    whether they are 0 matters. Weights come as float64 on the device of the inputs.
    """

    name: ClassVar[str] = "separability"

    def fit(
        self,
        inputs: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        *,
        start: Units | None = None,
        budget: Budget | None = None,
        callback: Callback | None = None,
        generator: torch.Generator | None = None,
    ) -> Certificate:
        """As `UnitLearner.fit`; exact, so the generator is not needed."""
        samples = check_samples(inputs, targets, weight)
        meter = Meter(budget, callback)
        x, t = samples.inputs.double(), samples.targets.double()
        if samples.weight is not None:
            t = torch.where(samples.weight > 0, t, 0.0)
        answer = empty_certificate(x, t.shape[1], self.bias)
        answer = _try(answer, x, t, check_start(start, t.shape[1], samples.inputs))
        merged = merge_duplicates(Samples(x, t))
        frame = make_frame(merged.inputs, self.bias)
        search = Search(x, t, merged, frame, self.bias)
        for units in search.chunks((answer.status == 0).nonzero()[:, 0], self.chunk):
            if meter.stopped:
                break
            answer = search.newton(answer, units, meter)
        for stage in (search.program, search.exact):
            for unit in (answer.status == 0).nonzero()[:, 0].tolist():
                if meter.stopped:
                    return answer
                answer = stage(answer, unit, meter)
                meter.step((answer.status == 0).double())
        if not meter.stopped and bool((answer.status == 0).any()):
            raise ContradictionError("Separability: an answer of exact arithmetic did not verify")
        return answer


@dataclass
class Search:
    """The stages, from raw samples `x (N, n)`, `t (N, m)` and their merged form."""

    x: Tensor
    t: Tensor
    merged: Samples
    frame: Frame
    bias: bool

    def __post_init__(self):
        self.guides: dict[int, list[int]] = {}

    def chunks(self, units: Tensor, chunk: int | None) -> list[Tensor]:
        """The units in parts that the working memory holds."""
        rows, size = self.frame.points.shape
        most = max(1, WORKING_ELEMENTS // max(rows, size * size))
        return list(units.split(chunk or most)) if len(units) else []

    def newton(self, answer: Certificate, units: Tensor, meter: Meter) -> Certificate:
        """Separators and circuits by products of whole matrices, for many units at once."""
        points, t = self.frame.points, self.merged.targets[:, units]
        # Whitened points make the least-squares weights a plain product.
        start = (t.T @ points) / (t != 0).sum(dim=0).clamp(min=1)[:, None]
        few = 4 * (points.shape[1] + 1)
        if len(points) >= 2 * few:
            start, answer = self._hardest_first(answer, units, t, start, few, meter)
            left = answer.status[units] == 0
            units, t, start = units[left], t[:, left], start[left]
        if meter.stopped or not len(units):
            return answer
        counts = None if self.merged.weight is None else self.merged.weight[:, units]
        found = fit_hard_margin(points, t, counts, meter, start)
        return self._settle(answer, units, found, points, t, None)

    def _hardest_first(
        self, answer: Certificate, units: Tensor, t: Tensor, start: Tensor, few: int, meter: Meter
    ) -> tuple[Tensor, Certificate]:
        # A conflict among the few samples that least squares finds hardest, on either side of its
        # boundary, is one of all; and weights that separate them are a better start.
        points, weight = self.frame.points, start.clone()
        for part in torch.arange(len(units), device=units.device).split(self._owned_at_once(few)):
            margin = t[:, part] * (points @ start[part].T)
            margin[t[:, part] == 0] = torch.inf
            worst = margin.topk(few // 2, dim=0, largest=False).indices
            margin.scatter_(0, worst, torch.inf)
            margin[margin < 0] = torch.inf
            samples = torch.cat([worst, margin.topk(few // 2, dim=0, largest=False).indices])
            own = t[:, part].gather(0, samples)
            found = fit_hard_margin(points[samples.T], own, None, meter, start[part])
            weight[part] = found.weight
            answer = self._settle(answer, units[part], found, points[samples.T], own, samples.T)
            if meter.stopped:
                break
        return weight, answer

    def _settle(
        self, answer: Certificate, units: Tensor, found: HardMargin, points: Tensor, t: Tensor, samples: Tensor | None
    ) -> Certificate:
        """Keep what verifies of `found`; `samples (c, K)` says which ones `points (c, K, d)` are."""
        yes = found.separated
        answer = with_weights(answer, self.x, self.t, units[yes], found.weight[yes] @ self.frame.back)
        no = (~yes & (found.slack > 0).any(dim=0)).nonzero()[:, 0]
        width = points.shape[-1] + 1
        support = torch.full((len(no), width), -1, device=no.device)
        for rows in torch.arange(len(no), device=no.device).split(self._purified_at_once()) if len(no) else ():
            part = no[rows]
            own = purify(points if samples is None else points[part], t[:, part], found.slack[:, part])
            if samples is not None:
                own = torch.where(own >= 0, samples[part].gather(1, own.clamp(min=0)), -1)
            support[rows, : own.shape[1]] = own
        answer = self._with_merged(answer, units[no], support)
        failed = answer.status[units[no]] == 0
        support = sharpen(self.frame.points, self.merged.targets[:, units[no[failed]]], support[failed])
        return self._with_merged(answer, units[no[failed]], support)

    def _with_merged(self, answer: Certificate, units: Tensor, support: Tensor) -> Certificate:
        raw = self.raw_support(support, self.merged.targets[:, units], units)
        return with_circuits(answer, self.x, self.t, units, raw)

    def program(self, answer: Certificate, unit: int, meter: Meter) -> Certificate:
        """Separators or a circuit by HiGHS."""
        t = self.merged.targets[:, unit]
        rows = (t != 0).nonzero()[:, 0]
        guide = solve_elastic(self.frame.points[rows].cpu().numpy(), t[rows].cpu().numpy(), meter.seconds_left)
        if guide is None:
            return answer
        self.guides[unit] = rows.cpu()[guide.order].tolist()
        one = torch.tensor([unit], device=self.x.device)
        raw = torch.as_tensor(guide.weight, device=self.x.device) @ self.frame.back
        answer = with_weights(answer, self.x, self.t, one, raw[None])
        if answer.status[unit] == 0 and guide.support:
            support = rows[guide.support][None]
            answer = with_circuits(answer, self.x, self.t, one, self.raw_support(support, t[:, None], one))
        return answer

    def exact(self, answer: Certificate, unit: int, meter: Meter) -> Certificate:
        """Separators or a circuit in exact arithmetic."""
        t = self.merged.targets[:, unit]
        rows = self.guides.get(unit) or (t != 0).nonzero()[:, 0].tolist()
        points = self.merged.inputs[rows]
        if self.bias:
            points = torch.cat([points, points.new_ones(len(rows), 1)], dim=1)
        decision = decide_exactly(points.tolist(), [int(s) for s in t[rows].tolist()], range(len(rows)))
        one = torch.tensor([unit], device=self.x.device)
        if decision.weights is None:
            support = torch.tensor([[rows[i] for i in decision.support]], device=self.x.device)
            return with_circuits(answer, self.x, self.t, one, self.raw_support(support, t[:, None], one))
        weights = decision.weights if self.bias else (*decision.weights, decision.weights[0] * 0)
        raw = torch.tensor([[float(v) for v in weights]], dtype=torch.float64, device=self.x.device)
        rounded = with_weights(answer, self.x, self.t, one, raw)
        if rounded.status[unit] != 0:
            return rounded
        return with_weights(replace(answer, rationals={**answer.rationals, unit: weights}), self.x, self.t, one, raw)

    def raw_support(self, support: Tensor, targets: Tensor, units: Tensor) -> Tensor:
        """Merged samples `(c, s)` as raw ones: for each the first that equals it and has its target in that unit."""
        if self.merged.group is None:
            return _in_order(support, len(self.x))
        rows = torch.full_like(support, -1)
        distinct = self._distinct_of_merged()
        for k, unit in enumerate(units.tolist()):
            for place, row in enumerate(support[k].tolist()):
                if row >= 0:
                    same = (self.merged.group == distinct[row]) & (self.t[:, unit] == targets[row, k])
                    rows[k, place] = int(same.nonzero()[0, 0])
        return _in_order(rows, len(self.x))

    def _distinct_of_merged(self) -> list[int]:
        group = self.merged.group
        assert group is not None
        count = int(group.max()) + 1
        by_point = self.merged.inputs.new_empty(count, self.x.shape[1])
        by_point[group] = self.x
        extra = self.merged.inputs[count:]
        # Rows kept twice stand behind the others, in the same order.
        found, start = list(range(count)), 0
        for row in extra:
            start += int((by_point[start:] == row).all(dim=1).nonzero()[0, 0])
            found.append(start)
            start += 1
        return found

    def _owned_at_once(self, few: int) -> int:
        return max(1, WORKING_ELEMENTS // (4 * few * self.frame.points.shape[1]))

    def _purified_at_once(self) -> int:
        size = self.frame.points.shape[1] + 1
        # About as much as a processor's cache holds; a GPU is better off with more.
        return max(1, (2**19 if self.x.device.type == "cpu" else 2**24) // (2 * size * size))


def empty_certificate(x: Tensor, units: int, bias: bool) -> Certificate:
    """A certificate of m undecided units."""
    return Certificate(
        x.new_zeros(units, x.shape[1], dtype=torch.float64),
        x.new_zeros(units, dtype=torch.float64),
        torch.zeros(units, dtype=torch.int8, device=x.device),
        torch.full((units, 0), -1, dtype=torch.int64, device=x.device),
        bias,
    )


def with_weights(answer: Certificate, x: Tensor, t: Tensor, units: Tensor, raw: Tensor) -> Certificate:
    """`answer` with the weights `raw (c, n + 1)` of these units, where they verify."""
    empty = empty_certificate(x, len(units), answer.has_bias)
    rationals = {k: answer.rationals[u] for k, u in enumerate(units.tolist()) if u in answer.rationals}
    claim = replace(
        empty, weight=raw[:, :-1], bias=raw[:, -1], status=torch.ones_like(empty.status), rationals=rationals
    )
    good = claim.verify(x, t[:, units]) == 1
    weight, bias, status = answer.weight.clone(), answer.bias.clone(), answer.status.clone()
    weight[units[good]], bias[units[good]], status[units[good]] = raw[good, :-1], raw[good, -1], 1
    return replace(answer, weight=weight, bias=bias, status=status)


def with_circuits(answer: Certificate, x: Tensor, t: Tensor, units: Tensor, support: Tensor) -> Certificate:
    """`answer` with the circuits `support (c, s)` of these units, where they verify."""
    empty = empty_certificate(x, len(units), answer.has_bias)
    claim = replace(empty, support=support, status=-torch.ones_like(empty.status))
    good = claim.verify(x, t[:, units]) == -1
    width = int((support[good] >= 0).sum(dim=1).max()) if bool(good.any()) else 0
    width = max(width, answer.support.shape[1])
    wide = torch.nn.functional.pad(answer.support, (0, width - answer.support.shape[1]), value=-1)
    narrow = torch.nn.functional.pad(support, (0, max(0, width - support.shape[1])), value=-1)[:, :width]
    status = answer.status.clone()
    wide[units[good]], status[units[good]] = narrow[good], -1
    return replace(answer, support=wide, status=status)


def _in_order(support: Tensor, rows: int) -> Tensor:
    ordered = torch.where(support < 0, rows, support).sort(dim=1).values
    return torch.where(ordered < rows, ordered, -1)


def _try(answer: Certificate, x: Tensor, t: Tensor, start: Units | None) -> Certificate:
    # Zero weights separate a column of only don't-cares, and nothing else.
    careless = (t == 0).all(dim=0).nonzero()[:, 0]
    answer = with_weights(answer, x, t, careless, x.new_zeros(len(careless), x.shape[1] + 1))
    if start is None:
        return answer
    units = (answer.status == 0).nonzero()[:, 0]
    raw = torch.cat([start.weight, start.bias[:, None]], dim=1).double()
    return with_weights(answer, x, t, units, raw[units])
