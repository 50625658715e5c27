"""Which logit stands for which value: a value that a network leaves out comes to where two inputs share one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tpsolve.errors import ArgumentError
from tpsolve.problems import ProgramProblem
from tpsolve.problems.program._program_calls import is_simple

WINDOW, JUDGED, FIRST = 1000, 512, 64
"""Samples after which the values in use are counted; the last of them, which judge a new order; and the first of
these, which rule out most orders.
"""
SELDOM = 0.25
"""Of an even share: a value that is read less often is not in use."""
EXPLAINED = 0.75
"""Share of samples whose present symbols must be consistent: before that, readings move by themselves."""
MIN_GAIN, MAX_LOSS, FIRST_LOSS = 0.01, 0.03, 0.1
"""Shares of samples: that a new order must keep consistent more where a value is split; that it may lose where none is,
but no more than it gains; and that it may lose of the first ones.
"""
MAX_WAIT = 4
"""Windows between two tries that were of no use."""

Window = Callable[[Tensor, list[Any], Tensor | None], ProgramProblem]
"""The problem of samples whose present symbols have the value numbers `(B, n)`, with their labels and mask."""


class ValueOrder:
    """The order of the values of units with as many values.

    Labels of an order, such as `a < b`, let a network read each input as the next value: one value is not in use, and
    at the end of the order two inputs share one. Few labels tell, and no small step mends it. So a value that is not in
    use is put beside the value that is read most often, if about as many samples stay consistent. The place is found by
    calls: a random half of the readings of the frequent value are replaced by the other one, and the place at which
    most samples stay consistent is the best. Where the labels need the present order, no other place keeps them.

    Attributes:
        places: by the number of values, `(K,)` int64: value v stands at logit `places[K][v]`. Empty: v at logit v.
    """

    def __init__(self) -> None:
        self.places: dict[int, Tensor] = {}
        self._values: list[Tensor] = []
        self._labels: list[Any] = []
        self._masks: list[Tensor] = []
        self._wait, self._attempts = 1, 0

    def apply(self, logits: Tensor, symbols: Any) -> Tensor:
        """Logits `(B, n, K)`, those of each unit in the order of its values."""
        if not self.places or logits.dim() != 3:
            return logits
        each = list(symbols) if isinstance(symbols, list | tuple) else [symbols] * logits.shape[1]
        width = torch.arange(logits.shape[2])
        place = [
            torch.cat([found, width[len(found) :]]) if (found := self.places.get(size)) is not None else width
            for size in each
        ]
        if len(place) != logits.shape[1]:
            return logits  # The problem says what is wrong.
        return logits.gather(2, torch.stack(place).to(logits.device).expand(len(logits), -1, -1))

    def watch(self, problem: ProgramProblem, explained: float, window: Window) -> str:
        """See the present symbols of a batch; how values were moved, in words, or "" if they were not.

        Args:
            explained: running share of samples whose present symbols are consistent.
            window: makes a problem of the same kind.
        """
        values = problem.values_of(problem.present).cpu()
        mask = torch.ones_like(values, dtype=torch.bool) if problem.mask is None else problem.mask.cpu()
        if self._values and self._values[0].shape[1] != values.shape[1]:
            self._begin()
        self._values.append(values)
        self._masks.append(mask)
        self._labels += problem.labels
        if len(self._labels) < WINDOW * self._wait:
            return ""
        seen, there, labels = torch.cat(self._values), torch.cat(self._masks), self._labels[-JUDGED:]
        self._begin()
        if explained <= EXPLAINED:
            return ""
        moved = ""
        for size in problem.sizes[~problem.is_spin].unique().tolist():
            units = ((problem.sizes == size) & ~problem.is_spin).cpu()
            share = torch.bincount(seen[:, units][there[:, units]], minlength=size).double()
            share = share / share.sum().clamp(min=1)
            if size > 2 and float(share.min()) < SELDOM / size:
                masks = None if problem.mask is None else there[-JUDGED:]
                judge = _Judge(seen[-JUDGED:], units, window, labels, masks, self._attempts)
                self._attempts += 1
                moved = moved or self._move(size, int(share.argmin()), int(share.argmax()), judge)
                # What was of no use is tried ever more seldom.
                self._wait = 1 if moved else min(2 * self._wait, MAX_WAIT)
        return moved

    def _begin(self) -> None:
        self._values, self._labels, self._masks = [], [], []

    def _move(self, size: int, unused: int, frequent: int, judge: "_Judge") -> str:
        rest = torch.tensor([value for value in range(size) if value != unused])
        same = torch.arange(size)
        split = judge.split(frequent, unused)
        base, base_first = judge.share(same), judge.share(same, first=True)
        base_split = judge.share(same, split)
        most, best = MIN_GAIN, None
        for place in range(size):
            order = torch.cat([rest[:place], torch.tensor([unused]), rest[place:]])
            if place == unused or judge.share(order, first=True) < base_first - FIRST_LOSS:
                continue
            loss = base - judge.share(order)
            if loss <= MAX_LOSS and (gain := judge.share(order, split) - base_split) >= max(most, loss):
                most, best = gain, order
        if best is None:
            return ""
        self.places[size] = self.places.get(size, same)[best]
        return f"value {unused} of {size} was not in use; it now stands beside value {frequent}, which two inputs share"

    def state(self) -> dict[str, Any]:
        """What `load_state` takes; samples that were seen since the last look are kept where their labels are plain."""
        plain = all(is_simple(label) for label in self._labels)
        return {
            "places": {size: place.tolist() for size, place in self.places.items()},
            "values": [each.clone() for each in self._values] if plain else [],
            "masks": [each.clone() for each in self._masks] if plain else [],
            "labels": list(self._labels) if plain else [],
            "tries": [self._wait, self._attempts],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on with what `state()` gave.

        Raises:
            ArgumentError: it is something else.
        """
        try:
            places = {int(size): torch.tensor(place) for size, place in state["places"].items()}
            right = all(
                place.dtype == torch.int64 and sorted(place.tolist()) == list(range(size))
                for size, place in places.items()
            )
            self._values, self._masks, self._labels = (list(state[name]) for name in ("values", "masks", "labels"))
            self._wait, self._attempts = map(int, state["tries"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            raise ArgumentError("state", repr(error), "what get_extra_state() gave") from error
        if not right:
            raise ArgumentError("state", "values at places that are no order", "what get_extra_state() gave")
        self.places = places


class _Judge:
    """How many samples stay consistent if the values of some units `units (n,)` take other places."""

    def __init__(
        self,
        values: Tensor,
        units: Tensor,
        window: Window,
        labels: list[Any],
        mask: Tensor | None,
        seed: int,
    ) -> None:
        self._values, self._units, self._mask = values, units, mask
        self._problem = window(values, labels, mask)
        self._first = self._problem.select(torch.arange(min(FIRST, len(values))))
        self._random = torch.Generator().manual_seed(seed)

    def split(self, frequent: int, unused: int) -> Tensor:
        """The values, of which a random half of those that are frequent are the unused one."""
        coin = torch.rand(self._values.shape, generator=self._random) < 0.5
        return torch.where(coin & self._units & (self._values == frequent), unused, self._values)

    def share(self, order: Tensor, values: Tensor | None = None, *, first: bool = False) -> float:
        """Of the samples, or the first of them, if value `order[v]` becomes v."""
        problem = self._first if first else self._problem
        old = (self._values if values is None else values)[: problem.batch_shape[0]]
        # Values of other units may be greater.
        place = order.argsort()[old.clamp(max=len(order) - 1)]
        new = torch.where(self._units, place, old)
        return float(problem.consistent(problem.symbols_of(new)).double().mean())
