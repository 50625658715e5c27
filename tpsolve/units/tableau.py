"""Many small simplex tableaus side by side: basic value + table @ free value = constant."""

import torch
from torch import Tensor

_PIVOT = 1e-9
_DEPENDENT = 1e-7


class Tableau:
    """c solutions of A value = b with value >= 0, on their way to a vertex.

    Args:
        columns: `(c, r, K)`, A; its columns have norm 1 or 0.
        value: `(c, K)` >= 0.
    """

    def __init__(self, columns: Tensor, value: Tensor):
        count, rows, total = columns.shape
        self.total = total
        self.units = torch.arange(count, device=columns.device)
        rank = min(rows, total)
        order = torch.arange(total, device=columns.device).expand(count, -1)
        self.basis, self.free = order[:, :rank].clone(), order[:, rank:].clone()
        self.table = columns.new_zeros(count, rank, total - rank)
        bad = torch.ones(count, dtype=torch.bool, device=columns.device)
        if total >= rows:
            factor, pivots, _ = torch.linalg.lu_factor_ex(columns[:, :, :rows])
            size = factor.diagonal(dim1=1, dim2=2).abs()
            bad = ~(size.amin(dim=1) > _DEPENDENT)
            factor[bad] = torch.eye(rows, dtype=factor.dtype, device=factor.device)
            self.table = torch.linalg.lu_solve(factor, pivots, columns[:, :, rows:])
        self.present = torch.ones(count, rank, dtype=torch.bool, device=columns.device)
        self.basic_value = value.gather(1, self.basis)
        self.free_value = value.gather(1, self.free)
        if bool(bad.any()):
            self._eliminate(columns, value, bad)

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
        self.basic_value = torch.where(self.present, self.basic_value - entries * change[:, None], 0.0).clamp_(min=0)
        moved = torch.where(drop, 0.0, self.free_value[units, column] + change)
        self.free_value[units, column] = moved
        exchange = (moving & ~drop).nonzero()[:, 0]
        if len(exchange):
            self._exchange(exchange, torch.where(rises, up_row, down_row)[exchange], column[exchange])
        return moving

    def values(self) -> Tensor:
        """`(c, K)`, in the order of the columns given."""
        value = self.table.new_zeros(len(self.units), self.total)
        value.scatter_(1, self.free, self.free_value)
        # Rows that are not present hold columns that are free or basic elsewhere.
        return value.scatter_add_(1, self.basis, torch.where(self.present, self.basic_value, 0.0))

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

    def _eliminate(self, columns: Tensor, value: Tensor, bad: Tensor) -> None:
        # Gauss-Jordan with the largest entry of each row as its pivot, for units whose first columns
        # are (nearly) dependent. A row without a pivot is redundant; it stays, with zeros.
        rows, rank, width = columns.shape[1], self.basis.shape[1], self.free.shape[1]
        table = columns[bad].clone()
        every = torch.arange(len(table), device=table.device)
        used = torch.zeros(table.shape[0], table.shape[2], dtype=torch.bool, device=table.device)
        basis = torch.full((len(table), rows), -1, dtype=torch.int64, device=table.device)
        for r in range(rows):
            size, column = torch.where(used, 0.0, table[:, r].abs()).max(dim=1)
            fine = size > _PIVOT
            entries = torch.where(fine[:, None], table[every, :, column], 0.0)
            line = table[:, r] / torch.where(fine, table[every, r, column], 1.0)[:, None]
            entries[:, r] = 0.0
            table -= entries[:, :, None] * line[:, None, :]
            table[:, r] = torch.where(fine[:, None], line, 0.0)
            basis[:, r] = torch.where(fine, column, -1)
            used[every, column] |= fine
        # The condensed form wants `rank` rows: those with a pivot first, then redundant ones.
        order = (basis >= 0).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :rank]
        table, basis = table.gather(1, order[:, :, None].expand(-1, -1, table.shape[2])), basis.gather(1, order)
        free = used.to(torch.int8).argsort(dim=1, stable=True)
        missing = rank - (basis >= 0).sum(dim=1)
        self._widen(width + int(missing.max()))
        spread = torch.arange(self.free.shape[1], device=table.device)
        valid = spread < (width + missing)[:, None]
        free = free[:, : self.free.shape[1]]
        picked = table.gather(2, free[:, None, :].expand(-1, rank, -1))
        self.table[bad] = torch.where(valid[:, None, :], picked, 0.0)
        self.free[bad], self.present[bad] = free, basis >= 0
        self.free_value[bad] = torch.where(valid, value[bad].gather(1, free), 0.0)
        self.basis[bad] = basis.clamp(min=0)
        self.basic_value[bad] = torch.where(basis >= 0, value[bad].gather(1, basis.clamp(min=0)), 0.0)

    def _widen(self, width: int) -> None:
        extra = width - self.free.shape[1]
        pad = torch.nn.functional.pad
        self.table, self.free = pad(self.table, (0, extra)), pad(self.free, (0, extra))
        self.free_value = pad(self.free_value, (0, extra))
