"""Consistent assignments that are known from earlier problems of the same program."""

import torch
from torch import Tensor

from tpsolve.problems import ProgramProblem
from tpsolve.problems.program._program_calls import is_simple


def recalled(problem: ProgramProblem, max_count: int) -> tuple[Tensor, Tensor, bool]:
    """What earlier calls of the program found for the labels of the problem, at most `max_count` of each sample.

    Returns:
        value numbers `(B, R, n)`, and which of them are there, `(B, R)` bool: they are different, are consistent, and
        have values that the sample may have. Whether no sample has others.
    """
    samples, device = problem.batch_shape[0], problem.device
    present = problem.present
    if problem.program is None or problem.constraints is not None or problem.loss != "equal" or max_count == 0:
        nothing = torch.zeros(samples, 0, dtype=torch.bool, device=device)
        return present.new_zeros(samples, 0, problem.n_vars), nothing, False
    read = torch.ones_like(present, dtype=torch.bool) if problem.mask is None else problem.mask
    tables = [
        problem.program.giving(label, length, max_count)
        for label, length in zip(problem.labels, read.sum(1).tolist(), strict=True)
    ]
    width = max(map(len, tables))
    there = torch.arange(width, device=device) < torch.tensor([[len(table)] for table in tables], device=device)
    # In numpy, where a loop over rows costs a tenth of what it costs with tensors.
    listed = present.cpu().numpy()[:, None].repeat(width, 1)
    for own, table, units in zip(listed, tables, read.cpu().numpy(), strict=True):
        own[: len(table), units] = table
    targets = torch.from_numpy(listed).to(device)
    values = problem.values_of(targets)
    # Not so where a sample reads other symbols than the one whose search asked: 0 is no spin, and -1 no class.
    exists = (values >= 0) & (values < problem.sizes) & (problem.symbols_of(values) == targets)
    cost = problem.cost.gather(2, values.clamp(min=0).minimum(problem.sizes - 1).transpose(1, 2)).transpose(1, 2)
    # The range of targets that each unit has, whether or not the sample may have them.
    every = tuple(
        (-1, 1) if is_spin else tuple(range(size))
        for size, is_spin in zip(problem.sizes.tolist(), problem.is_spin.tolist(), strict=True)
    )
    # A label of another kind may be equal to answers that are not looked up for it.
    whole = (
        problem.mask is None
        and width < max_count
        and all(map(is_simple, problem.labels))
        and problem.program.knows_all(every)
    )
    there = there & (exists & torch.isfinite(cost)).all(2)
    return torch.where(there[..., None], values, problem.values_of(present)[:, None]), there, whole
