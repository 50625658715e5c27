"""Symbols of a program under single moves: each is judged by a call, or by what was asked before."""

import copy
from typing import Protocol, Self

import torch
from torch import Tensor

from tpsolve.problems._base import Limit, State
from tpsolve.problems.program._symbol_spins import SymbolSpins


class Symbols(Protocol):
    """What a state needs of a program problem, one sample a chain; `ProgramProblem` says what these are."""

    spins: SymbolSpins
    stay: float
    cost: Tensor

    @property
    def possible(self) -> Tensor: ...

    def ask(self, values: Tensor, rows: Tensor) -> Tensor: ...

    def cost_of(self, values: Tensor, rows: Tensor | None = None) -> Tensor: ...

    def least(self, cost: Tensor) -> Tensor: ...

    def rounding(self) -> Tensor: ...

    def select(self, keep: Tensor) -> Self: ...


class ProgramState(State):
    """State of the spins `targets (B, m)` of symbols.

    Flipping a spin of -1 sets its symbol to that value, or negates a sign unit; flipping that of the present value does
    nothing, nor does a flip for which the sample has no calls left. The objective is what the problem's `ask` answers:
    finite also where E is not, so that searches can walk there; +inf where no call was left to ask.

    `flip_delta` asks for every move of every chain. Where fewer calls are left, it asks for those that lead to the
    cheapest symbols, and the others are +inf, as are moves to values that don't exist.
    """

    problem: "Symbols"
    spins: SymbolSpins
    values: Tensor
    targets: Tensor
    objective: Tensor

    def __init__(self, problem: Symbols, targets: Tensor):
        self.problem, self.spins = problem, problem.spins
        self.targets = targets.double().clone()
        self.refresh()

    def refresh(self) -> None:
        self.values = self.spins.decode(self.targets)
        rows = torch.arange(len(self.values), device=self.values.device)
        self.objective = self.problem.ask(self.values, rows)

    def flip_delta(self) -> Tensor:
        new, step = self._steps()
        rows, spins = (torch.isfinite(step) & torch.isfinite(self.objective)[:, None]).nonzero(as_tuple=True)
        values = self.values[rows]
        values[torch.arange(len(rows), device=rows.device), self.spins.unit[spins]] = new[rows, spins]
        order = self.problem.cost_of(values, rows).argsort(stable=True)
        rows, spins = rows[order], spins[order]
        delta = torch.full_like(self.targets, torch.inf)
        delta[rows, spins] = self.problem.ask(values[order], rows) - self.objective[rows]
        return delta

    def flip(self, units: Tensor, where: Tensor) -> None:
        self._go(units, where, torch.full_like(self.objective, torch.inf))

    def sweep(self, most: Limit) -> None:
        for unit in range(self.targets.shape[1]):
            limit = most(slice(unit, unit + 1))
            if limit is None:
                return
            units = torch.full_like(self.values[:, 0], unit)
            self._go(units, torch.ones_like(units, dtype=torch.bool), limit[0])

    def _go(self, units: Tensor, where: Tensor, limit: Tensor) -> None:
        """Flip `units (B,)` where that is a move, and changes the objective by at most `limit (B,)`."""
        new, step = (each[:, 0] for each in self._steps(units[:, None]))
        # A move whose cost alone is too high is not asked for.
        least = self.problem.least(self.problem.cost_of(self.values) + step) - self.objective
        rows = (where & torch.isfinite(step) & torch.isfinite(self.objective) & (least <= limit)).nonzero()[:, 0]
        if not len(rows):
            return
        values = self.values[rows]
        values.scatter_(1, self.spins.unit[units[rows]][:, None], new[rows][:, None])
        energy = self.problem.ask(values, rows)
        good = torch.isfinite(energy) & (energy - self.objective[rows] <= limit[rows])
        rows, values = rows[good], values[good]
        self.values[rows], self.objective[rows] = values, energy[good]
        self.targets[rows] = self.spins.encode(values)

    def gradient(self) -> Tensor:
        """Half of what each move adds to the cost of leaving the present symbols: all that is known without a call."""
        step = self.problem.stay * self._steps()[1]
        least = step.masked_fill(torch.isinf(step), -torch.inf).amax(1, keepdim=True)
        step = torch.where(torch.isfinite(step), step, least).nan_to_num(neginf=0.0)
        return -0.5 * step * self.targets

    def met(self) -> Tensor:
        """`(B,)` bool: where the loss is 0, so that for the loss "equal" the symbols are consistent."""
        return self.objective - self.problem.stay * self.problem.cost_of(self.values) <= self.problem.rounding()

    def inverse(self, units: Tensor) -> Tensor:
        unit = self.spins.unit[units]
        return self.spins.place[unit, self.values.gather(1, unit[:, None])[:, 0]]

    def whole(self, chosen: Tensor) -> Tensor:
        symbols = torch.zeros_like(self.values).index_add_(1, self.spins.unit, chosen.long()) > 0
        return symbols[:, self.spins.unit]

    def near(self, share: float) -> Tensor:
        possible = self.problem.possible[:, self.spins.unit, self.spins.value]
        others = (self.problem.possible.sum(2) - 1)[:, self.spins.unit]
        moved = possible * (1 - share) / others.clamp(min=1)
        kept = torch.where(others > 0, share, 1.0)
        chance = torch.where(self.targets > 0, kept, moved)
        return chance.double()

    def draw(self, chance: Tensor, uniform: Tensor) -> Tensor:
        # The least of exponential times whose rates are the chances: each value in proportion to its own.
        possible = self.problem.possible[:, self.spins.unit, self.spins.value]
        rate = torch.where(possible, chance, 0.0).clamp(min=0)
        time = torch.where(rate > 0, -torch.log(uniform) / rate, torch.inf)
        # A sign is +1 where its number is below the chance.
        score = torch.where(self.spins.is_sign, (uniform < chance).double(), -time)
        values = self.spins.argmax(score, torch.full_like(score, 0.5))
        there = self.problem.possible.gather(2, values[..., None])[..., 0]
        return self.spins.encode(torch.where(there, values, self.values))

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        other.problem = self.problem.select(keep)
        for name in ("targets", "values", "objective"):
            setattr(other, name, getattr(self, name)[keep])
        return other

    def _steps(self, spins: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The value to which the flip of each of `spins (B, u)` leads, by default of all, and what it adds to the cost.

        Both `(B, u)`; +inf: no move.
        """
        rows = torch.arange(len(self.values), device=self.values.device)[:, None]
        spins = torch.arange(len(self.spins.unit), device=rows.device)[None] if spins is None else spins
        unit = self.spins.unit[spins]
        present = self.values[rows, unit]
        new = torch.where(self.spins.is_sign[spins], 1 - present, self.spins.value[spins])
        cost = self.problem.cost
        return new, (cost[rows, unit, new] - cost[rows, unit, present]).masked_fill(new == present, torch.inf)
