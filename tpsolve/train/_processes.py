"""Data-parallel runs: the processes that torchrun starts, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tpsolve._check_arguments import find_device
from tpsolve.errors import ArgumentError


@dataclass(frozen=True)
class Processes:
    """One of `world` processes, each of which holds a copy of the network; alone, all calls do nothing.

    Each takes an equal part of every global batch, so the mean of their gradients is the gradient of
    the batch. Batch norm sees the process's own part.
    """

    rank: int = 0
    world: int = 1

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(flat)
        parts = (flat / self.world).split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def before_step(self, model: nn.Module) -> partial[None] | None:
        """What `ftprop_mb` calls before each step."""
        return None if self.world == 1 else partial(self.average_gradients, model)

    def same_state(self, model: nn.Module) -> None:
        """Give every process the weights and buffers of the first."""
        if self.world > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                distributed.broadcast(tensor.data, src=0)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.world > 1:
            distributed.all_reduce(numbers)
        return numbers

    def gather(self, state: Any) -> list[Any]:
        """The `state` of every process, in order of their ranks."""
        states: list[Any] = [state] * self.world
        if self.world > 1:
            distributed.all_gather_object(states, state)
        return states

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether `here` holds in some process."""
        return bool(self.total(torch.tensor(float(here), device=device)) > 0) if self.world > 1 else here


@contextmanager
def joined(device: str, batch: int) -> Iterator[tuple[Processes, torch.device]]:
    """The place of this process among those of its torchrun, if it has any, and the device it works on.

    Raises:
        ArgumentError: the number of processes does not divide `batch`.
        DeviceError: there is no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(), find_device(device)
        return
    if batch % world:
        raise ArgumentError("batch", batch, f"a multiple of the number of processes, {world}")
    on_gpu = device.startswith("cuda")
    place = find_device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else device)
    if on_gpu:
        torch.cuda.set_device(place)
    # Optimizers import this module, whose functions take the group of that moment as a default. A group that is kept so
    # outlives its destruction, and its threads may abort a process that exits. Imported now, there is none to keep.
    import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), world), place
    finally:
        distributed.destroy_process_group()
