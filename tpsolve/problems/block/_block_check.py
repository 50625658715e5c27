"""What a block must be: a function of each sample's own activations, and of nothing else."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tpsolve.errors import BlockError
from tpsolve.problems.block._block_passes import Passes

PROBES = 4
"""Samples that are tried, each at its activations and at their negation."""
EVAL = "Call .eval() on the block first."


def tolerance(dtype: torch.dtype) -> float:
    """How far two passes of equal activations may differ, per unit of the largest output."""
    return 1e-9 if dtype == torch.float64 else 1e-4


@contextlib.contextmanager
def trying(device: torch.device) -> Iterator[None]:
    """Passes in here leave no gradients, and the global random generators as they were."""
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def check_mode(block: nn.Module) -> None:
    """Raise BlockError if a module of the block is in a mode in which it can't be searched."""
    for name, module in block.named_modules():
        where = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            got = f"{where} without running statistics, which mixes the samples of a batch"
            raise BlockError("block", got, "frozen statistics", "Build it with track_running_stats=True.")
        keeps = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if module.training and (keeps or drops):
            what = "updates its statistics" if keeps else "drops values at random"
            raise BlockError("block", f"{where} in training mode, which {what}", "frozen modules", EVAL)


def check_block(passes: Passes, start: Tensor) -> None:
    """Raise unless the block is a function of each sample's own activations `start (B, n)`, as far as a few tell.

    Samples whose pass raises are passed over.

    Raises:
        BlockError: it keeps state, is random, mixes samples, or changes shape with the batch.
    """
    with trying(start.device):
        before = {name: value.clone() for name, value in passes.block.named_buffers()}
        h, rows, alone = _probe(passes, start)
        together = passes.output(h, rows)
        again = passes.output(h, rows)
    for name, value in passes.block.named_buffers():
        if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
            raise BlockError(
                "block", f"a module whose buffer {name} changes in a pass", "one that keeps no state", EVAL
            )
    shapes = {tuple(output.shape[1:]) for output in alone}
    if len(shapes) > 1 or together.shape != (len(h), *alone[0].shape[1:]):
        raise BlockError(
            "block",
            f"outputs of shape {tuple(alone[0].shape)} for one sample and {tuple(together.shape)} for {len(h)}",
            "(b, ...) for b samples",
            "Keep the batch axis: flatten(1) for view(-1), squeeze(dim) for squeeze().",
        )
    if not _agree(together, again, passes.dtype):
        raise BlockError(
            "block", "a module of which two equal passes differ", "a deterministic one", f"{EVAL} Draw nothing in it."
        )
    if not _agree(together, torch.cat(alone), passes.dtype):
        raise BlockError(
            "block",
            "a module whose output for a sample depends on the other samples of the batch",
            "one that treats each sample by itself",
            f"{EVAL} Normalise with frozen statistics, or within each sample.",
        )


def first_output(passes: Passes, start: Tensor) -> Tensor:
    """The block's output `(1, ...)` for the first sample on which its pass does not raise.

    Raises:
        BlockError: there is none, or the output is no tensor with a batch axis.
    """
    failure = None
    for row in range(len(start)):
        try:
            with trying(start.device):
                output = passes.output(start[row, None], torch.tensor([row], device=start.device))
        except Exception as error:  # A block may raise anything; what it raises on every sample is told.
            failure = error
            continue
        if not isinstance(output, Tensor) or output.dim() == 0:
            got = "a number" if isinstance(output, Tensor) else type(output).__name__
            raise BlockError("block", f"a module that returns {got}", "one that returns a tensor (b, ...)")
        return output
    raise BlockError(
        "block",
        f"{type(failure).__name__} ({failure}) on every sample",
        f"a module that takes activations (b, {', '.join(map(str, passes.shape))})",
        "Pass its further inputs as context=.",
    ) from failure


def _probe(passes: Passes, start: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Activations `(P, n)`, P >= 2, that the block takes one by one, their samples, and its outputs."""
    taken, alone = [], []
    for number in range(len(start)):
        row = torch.tensor([number], device=start.device)
        for h in (start[row], -start[row]):
            with contextlib.suppress(Exception):  # What raises here ends as a sample of unknown status.
                alone.append(passes.output(h, row))
                taken.append((h, row))
        if len(taken) >= 2 * PROBES:
            break
    if len(taken) == 1:
        taken, alone = taken * 2, alone * 2
    return torch.cat([h for h, _ in taken]), torch.cat([row for _, row in taken]), alone


def _agree(first: Tensor, second: Tensor, dtype: torch.dtype) -> bool:
    size = 1 + float(first.abs().nan_to_num(0.0, 0.0, 0.0).max()) if first.numel() else 1.0
    return torch.allclose(first, second, rtol=0.0, atol=tolerance(dtype) * size, equal_nan=True)
