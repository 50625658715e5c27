"""Many small simplex tableaus side by side: basic value + table @ free value = constant."""

import torch
from torch import Tensor

_PIVOT = 1e-9


class Tableau:
    """c solutions of A value = b with value >= 0, on their way to a vertex.

    Args:
        columns: `(c, r, K)`, A; its columns have norm 1 or 0. If its rank is below r, then so in the first rows.
        value: `(c, K)` >= 0.
    """

    def __init__(self, columns: Tensor, value: Tensor) -> None:
        self.total = columns.shape[2]
        self.units = torch.arange(len(columns), device=columns.device)
        # P A^T = L U, so A value is kept where L^T (P value) is: U drops out but for its rank.
        factor, pivots, _ = torch.linalg.lu_factor_ex(columns.mT)
        order = torch.lu_unpack(factor, pivots, unpack_data=False)[0].argmax(dim=1)
        rank = min(columns.shape[1:])
        lower = factor[:, :, :rank].tril(-1)
        self.present = factor.diagonal(dim1=1, dim2=2).abs() > _PIVOT
        lower = lower * self.present[:, None]
        # Rows that are not present hold 0 = 0, and the samples of their pivots are free.
        missing = int((~self.present).sum(dim=1).max())
        extra = self.present.to(torch.int8).argsort(dim=1, stable=True)[:, :missing]
        used = ~self.present.gather(1, extra)
        more = torch.where(used[:, :, None], lower.gather(1, extra[:, :, None].expand(-1, -1, rank)), 0.0)
        square = (lower[:, :rank] * self.present[:, :, None]).mT
        self.table = torch.linalg.solve_triangular(
            square, torch.cat([lower[:, rank:], more], dim=1).mT, upper=True, unitriangular=True
        )
        self.basis = order[:, :rank].clone()
        self.free = torch.cat([order[:, rank:], order.gather(1, extra)], dim=1)
        given = value.gather(1, order)
        self.basic_value = torch.where(self.present, given[:, :rank], 0.0)
        self.free_value = torch.cat([given[:, rank:], torch.where(used, given.gather(1, extra), 0.0)], dim=1)

    def step(self) -> Tensor:
        """Take one free value of each unit to 0, or exchange it for the basic one that gets there first.

        Returns `(c,)` bool: which units had a free value to move.
        """
        units = self.units
        if self.free.shape[1] == 0:
            return torch.zeros_like(units, dtype=torch.bool)
        amount, column = torch.where(self.free_value > 0, self.free_value, torch.inf).min(dim=1)
        moving = torch.isfinite(amount)
        entries = self.table[units, :, column]
        size = entries.abs()
        ratio = torch.where(self.present & (size > _PIVOT), self.basic_value / size, torch.inf)
        down, down_row = torch.where(entries < 0, ratio, torch.inf).min(dim=1)
        up, up_row = torch.where(entries > 0, ratio, torch.inf).min(dim=1)
        drop = moving & (amount <= down)
        # Either direction ends in an exchange: the larger pivot loses fewer digits.
        rises = torch.isfinite(up) & (size[units, up_row] > size[units, down_row])
        change = torch.where(drop, -amount, torch.where(rises, up, -down))
        change = torch.where(moving, change, 0.0)
        self.basic_value = torch.addcmul(self.basic_value, entries, change[:, None], value=-1).clamp_(min=0)
        moved = torch.where(drop, 0.0, self.free_value[units, column] + change)
        self.free_value[units, column] = moved
        exchange = (moving & ~drop).nonzero()[:, 0]
        if len(exchange):
            self._exchange(exchange, torch.where(rises, up_row, down_row)[exchange], column[exchange])
        return moving

    def values(self) -> Tensor:
        """`(c, K)`, in the order of the columns given."""
        value = self.table.new_zeros(len(self.units), self.total)
        value.scatter_add_(1, self.free, self.free_value)
        return value.scatter_add_(1, self.basis, self.basic_value)

    def _exchange(self, units: Tensor, row: Tensor, column: Tensor) -> None:
        entries, line = self.table[units, :, column], self.table[units, row]
        pivot = entries.gather(1, row[:, None])
        line, entries = line / pivot, -entries
        every = torch.arange(len(units), device=units.device)
        # The pivot's own row and column are written over below.
        if len(units) == len(self.units):
            self.table.addcmul_(entries[:, :, None], line[:, None, :])
        else:
            self.table[units] = self.table[units].addcmul_(entries[:, :, None], line[:, None, :])
        entries = entries / pivot
        line[every, column] = entries[every, row] = 1 / pivot[:, 0]
        self.table[units, row] = line
        self.table[units, :, column] = entries
        enters, leaves = self.free[units, column], self.basis[units, row]
        self.basis[units, row], self.free[units, column] = enters, leaves
        self.basic_value[units, row], self.free_value[units, column] = self.free_value[units, column], 0.0
