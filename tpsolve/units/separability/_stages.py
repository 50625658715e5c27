"""The stages by which `Separability` decides units: each finds claims, and the ledger takes what verifies."""

import torch
from torch import Tensor

from tpsolve.units._base import Meter
from tpsolve.units._data import WORKING_ELEMENTS, Samples, merge_duplicates, raw_rows
from tpsolve.units.separability._elastic import solve_elastic
from tpsolve.units.separability._frame import make_frame
from tpsolve.units.separability._hard_margin import HardMargin, fit_hard_margin
from tpsolve.units.separability._ledger import Ledger
from tpsolve.units.separability._purify import purify, sharpen
from tpsolve.units.separability._rational import decide_exactly


class Stages:
    """Newton's method for many units at once, then a linear program and exact arithmetic for one unit each."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.merged = merge_duplicates(Samples(ledger.x, ledger.t))
        self.frame = make_frame(self.merged.inputs, ledger.has_bias)
        self._orders: dict[int, list[int]] = {}

    def chunks(self, units: Tensor, chunk: int | None) -> list[Tensor]:
        """The units in parts that the working memory holds."""
        rows, size = self.frame.points.shape
        most = max(1, WORKING_ELEMENTS // max(rows, size * size))
        return list(units.split(chunk or most)) if len(units) else []

    def newton(self, units: Tensor, meter: Meter) -> None:
        """Separators and circuits by products of whole matrices, for many units at once."""
        points, t = self.frame.points, self.merged.targets[:, units]
        # Whitened points make the least-squares weights a plain product.
        start = (t.T @ points) / (t != 0).sum(dim=0).clamp(min=1)[:, None]
        few = 4 * (points.shape[1] + 1)
        if len(points) >= 2 * few:
            start = self._hardest_first(units, t, start, few, meter)
            left = self.ledger.status[units] == 0
            units, t, start = units[left], t[:, left], start[left]
        if meter.stopped or not len(units):
            return
        counts = None if self.merged.weight is None else self.merged.weight[:, units]
        self._settle(units, fit_hard_margin(points, t, counts, meter, start), points, t, None)

    def program(self, unit: int, meter: Meter) -> None:
        """Separators or a circuit by HiGHS."""
        t = self.merged.targets[:, unit]
        rows = (t != 0).nonzero()[:, 0]
        guide = solve_elastic(self.frame.points[rows].cpu().numpy(), t[rows].cpu().numpy(), meter.seconds_left)
        if guide is None:
            return
        self._orders[unit] = rows.cpu()[guide.order].tolist()
        one = torch.tensor([unit], device=t.device)
        raw = torch.as_tensor(guide.weight, device=t.device) @ self.frame.back
        self.ledger.offer_weights(one, raw[None])
        if guide.support and self.ledger.status[unit] == 0:
            self._offer(one, rows[guide.support][None])

    def exact(self, unit: int, meter: Meter) -> None:
        """Separators or a circuit in exact arithmetic."""
        t = self.merged.targets[:, unit]
        rows = self._orders.get(unit) or (t != 0).nonzero()[:, 0].tolist()
        points = self.merged.inputs[rows]
        if self.ledger.has_bias:
            points = torch.cat([points, points.new_ones(len(rows), 1)], dim=1)
        decision = decide_exactly(points.tolist(), [int(s) for s in t[rows].tolist()], range(len(rows)))
        one = torch.tensor([unit], device=t.device)
        if decision.weights is None:
            self._offer(one, torch.tensor([[rows[i] for i in decision.support]], device=t.device))
            return
        weights = decision.weights if self.ledger.has_bias else (*decision.weights, decision.weights[0] * 0)
        raw = torch.tensor([[float(v) for v in weights]], dtype=torch.float64, device=t.device)
        self.ledger.offer_weights(one, raw)
        if self.ledger.status[unit] == 0:
            self.ledger.offer_weights(one, raw, {0: weights})

    def _hardest_first(self, units: Tensor, t: Tensor, start: Tensor, few: int, meter: Meter) -> Tensor:
        # A conflict among the few samples that least squares finds hardest, on either side of its
        # boundary, is one of all; and weights that separate them are a better start.
        points, weight = self.frame.points, start.clone()
        at_once = max(1, WORKING_ELEMENTS // (4 * few * points.shape[1]))
        for part in torch.arange(len(units), device=units.device).split(at_once):
            margin = t[:, part] * (points @ start[part].T)
            margin[t[:, part] == 0] = torch.inf
            worst = margin.topk(few // 2, dim=0, largest=False).indices
            margin.scatter_(0, worst, torch.inf)
            margin[margin < 0] = torch.inf
            samples = torch.cat([worst, margin.topk(few // 2, dim=0, largest=False).indices])
            own = t[:, part].gather(0, samples)
            found = fit_hard_margin(points[samples.T], own, None, meter, start[part])
            weight[part] = found.weight
            self._settle(units[part], found, points[samples.T], own, samples.T)
            if meter.stopped:
                break
        return weight

    def _settle(self, units: Tensor, found: HardMargin, points: Tensor, t: Tensor, samples: Tensor | None) -> None:
        """Offer what was found; `samples (c, K)` says which ones `points (c, K, d)` are."""
        yes = found.separated
        self.ledger.offer_weights(units[yes], found.weight[yes] @ self.frame.back)
        no = (~yes & (found.slack > 0).any(dim=0)).nonzero()[:, 0]
        size = points.shape[-1] + 1
        support = torch.full((len(no), size), -1, device=no.device)
        # About as much as a processor's cache holds; a GPU is better off with more.
        at_once = max(1, (2**19 if t.device.type == "cpu" else 2**24) // (2 * size * size))
        for rows in torch.arange(len(no), device=no.device).split(at_once) if len(no) else ():
            part = no[rows]
            own = purify(points if samples is None else points[part], t[:, part], found.slack[:, part])
            if samples is not None:
                own = torch.where(own >= 0, samples[part].gather(1, own.clamp(min=0)), -1)
            support[rows, : own.shape[1]] = own
        self._offer(units[no], support)
        failed = self.ledger.status[units[no]] == 0
        if bool(failed.any()):
            targets = self.merged.targets[:, units[no[failed]]]
            self._offer(units[no[failed]], sharpen(self.frame.points, targets, support[failed]))

    def _offer(self, units: Tensor, support: Tensor) -> None:
        self.ledger.offer_circuits(units, raw_rows(self.merged, self.ledger.t[:, units], support, units))
