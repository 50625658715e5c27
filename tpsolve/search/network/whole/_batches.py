"""Networks for many samples: changes that are found on some of the points, and made where all points agree."""

import torch
from torch import Tensor

from tpsolve.search.network.whole._copies import Copies, Layers

ROUNDS = 1
"""Moves of each unit with the same points, before others are drawn."""


class BatchWalk:
    """R networks that change one unit at a time; a move compares changes on `batch` points, drawn now and then.

    The best of many thousand changes is partly luck with the points. So its cost is computed on all points, which takes
    one column of the inputs, and it is made only where it costs no more there. What costs more is undone.

    Args:
        layers: changed in place by `move`.
        batch: points drawn, at most all.

    Attributes:
        cost: `(R,)`, as `Copies.cost`.
        tried, made: changes of single networks so far.
    """

    def __init__(self, copies: Copies, layers: Layers, batch: int) -> None:
        self._copies, self._layers, self._batch = copies, layers, batch
        self._all = copies.walk(layers)
        self.cost = self._all.cost()
        self.tried = self.made = 0
        self._left = 0

    def move(self, d: int, j: int | None) -> Tensor:
        """Make the best change of unit `j` of layer `d` of each network where it costs no more on all points.

        None: of the bias that the layer shares, by all points.

        Returns:
            By how much the cost changes, `(R,)`.
        """
        if self._left == 0:
            rows = self._copies.random(len(self._copies.inputs)).argsort()[: self._batch]
            self._some = self._copies.at(rows).walk(self._layers)
            self._left = ROUNDS * len(self._copies.units)
        self._left -= 1
        if j is None:
            gain = self._all.move_bias(d)
            self._some.begin()
            self.cost = self.cost + gain
            return gain
        weight, bias = self._layers[d]
        old = weight[:, j].clone(), bias[:, j].clone()
        self._some.move(d, j)
        new = weight[:, j].clone(), bias[:, j].clone()
        changed = (new[0] != old[0]).any(1) | (new[1] != old[1])
        if not bool(changed.any()):
            return torch.zeros_like(self.cost)
        self._all.change(d, j, *old, *new)
        cost = self._all.cost()
        good = cost <= self.cost + self._copies.slack
        self.tried, self.made = self.tried + int(changed.sum()), self.made + int((good & changed).sum())
        if not bool(good.all()):
            kept = torch.where(good[:, None], new[0], old[0]), torch.where(good, new[1], old[1])
            self._all.change(d, j, *new, *kept)
            self._some.change(d, j, *new, *kept)
        gain = torch.where(good, cost - self.cost, 0.0)
        self.cost = torch.where(good, cost, self.cost)
        return gain
