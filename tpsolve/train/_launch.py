"""How a run uses its device: precision of the arithmetic, determinism, and launches that small batches can afford."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from tpsolve.errors import ArgumentError
from tpsolve.search import find_solver
from tpsolve.train._program_judge import check_program
from tpsolve.train._recipe import Recipe

WARM_UP = 3
"""Steps before a CUDA graph is recorded, in which libraries choose their kernels."""


def check_launch(recipe: Recipe, device: torch.device, processes: int) -> None:
    """Raise ArgumentError if the recipe asks for what this device, or its solver, does not allow."""
    if recipe.model == "mlp" and recipe.batch_norm and recipe.batch == processes:
        raise ArgumentError("batch", recipe.batch, f"at least {2 * processes}, as batch norm compares samples")
    check_program(recipe, processes)
    if recipe.solver_layers == "last" and not recipe.solver:
        raise ArgumentError("solver_layers", "last", "all, where there is no solver")
    if recipe.launch == "graphs" and device.type != "cuda":
        raise ArgumentError("launch", "graphs", "a CUDA device", "Take launch=eager.")
    if recipe.solver and not recipe.program:
        find_solver(recipe.solver)
        if recipe.activation not in ("sign", "staircase"):
            raise ArgumentError("solver", repr(recipe.solver), f"none, as {recipe.activation} has no targets")
        for setting, needed in (("launch", "eager"), ("precision", "float32")):
            if getattr(recipe, setting) != needed:
                raise ArgumentError(setting, getattr(recipe, setting), f"{needed}, with a solver of targets")
    if recipe.precision == "tf32" and device.type != "cuda":
        raise ArgumentError("precision", "tf32", "a CUDA device", "Take precision=float32.")


@contextmanager
def arithmetic(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """While entered, torch's switches are the recipe's: tf32 or none, and kernels that give equal bits every time."""
    tf32 = recipe.precision == "tf32"
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager:
    """Bfloat16 inside networks, if the recipe asks for it."""
    if recipe.precision != "bf16":
        return nullcontext()
    # Weights that are cast once and cached would stay as they were when a graph was recorded.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=recipe.launch != "graphs")


def prepare(model: nn.Module, recipe: Recipe, sample: Tensor, device: torch.device) -> None:
    """Make `model` launch its passes as the recipe says; in training on batches shaped as `sample`."""
    if recipe.launch == "compile":
        model.compile()
    elif recipe.launch == "graphs":
        model.train()
        # The passes before the recording must leave no trace in the statistics of batch norm.
        kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with autocast(recipe, device):
            torch.cuda.make_graphed_callables(model, (sample,), num_warmup_iters=WARM_UP)
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
