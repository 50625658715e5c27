"""`Program`: a program without a gradient as a module in the middle of a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve.errors import ArgumentError
from tpsolve.problems import ProgramCalls
from tpsolve.problems.program._program_calls import FAILED


class Program(nn.Module):
    """What a program makes of the outputs of thresholds; no gradient passes it.

    `loss.backward()` ends here: what lies below learns nothing from it. `target_backward` searches the thresholds below
    by forward passes only, while what lies above gets its gradients as usual.

    Args:
        program: as `ProgramCalls` takes it; called with the n outputs of a sample, whole numbers such as -1 and +1. Its
            answers are numbers, or lists of numbers of one length.
        options: of `ProgramCalls`, such as batched="numpy".

    Takes `(B, ...)`, of n numbers a sample, and returns `(B, k)` for lists of k numbers, `(B, 1)` for single ones, in
    the dtype of its input. The answer of a call that raises is NaN, so that a search takes other targets.

    Raises:
        ArgumentError: inputs that are no whole numbers, or answers that are no numbers.
    """

    program: ProgramCalls

    def __init__(self, program: Callable[..., Any] | ProgramCalls, **options: Any):
        super().__init__()
        if options and isinstance(program, ProgramCalls):
            raise ArgumentError("options", sorted(options), "none beside a ProgramCalls", "Give them to ProgramCalls.")
        self.program = program if isinstance(program, ProgramCalls) else ProgramCalls(program, **options)

    def forward(self, h: Tensor) -> Tensor:
        """The answers for each sample."""
        flat = h.detach().flatten(1)
        whole = flat.round()
        if not bool((whole == flat).all()):
            raise ArgumentError("h", "numbers that are not whole", "outputs of thresholds, such as -1 and +1")
        answers = self.program.answers([tuple(row) for row in whole.long().tolist()])
        rows = [answer if isinstance(answer, tuple) or answer is FAILED else (answer,) for answer in answers]
        width = next((len(row) for row in rows if row is not FAILED), 1)
        filled = [(float("nan"),) * width if row is FAILED else row for row in rows]
        try:
            return torch.tensor(filled, dtype=h.dtype, device=h.device)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                "program", f"answers such as {answers[0]!r}", "numbers, or lists of one length"
            ) from error
