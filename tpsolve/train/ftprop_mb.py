"""FTPROP-MB: feasible target propagation on mini-batches, Algorithm 2 of Friesen and Domingos (2018)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from tpsolve.nn import target_backward
from tpsolve.result import Budget
from tpsolve.search import Solver

LossFunction = Callable[[Tensor, Tensor], Tensor]


def ftprop_mb(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_function: LossFunction,
    optimizer: torch.optim.Optimizer,
    *,
    solver: Solver | str | Mapping[str | int, Solver | str] | None = None,
    budget: Budget | None = None,
    arithmetic: AbstractContextManager | None = None,
    before_step: Callable[[], None] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One pass over `batches`; gives loss, outputs and labels of each, after its step.

    The hidden units of `model` are modules such as `tpsolve.nn.HardThreshold`. On the way down from the
    loss, each sets the targets of its outputs, t = sign(-g), and their importance, |g|, from the gradient
    g that arrives; its rule is the slope of the layer loss of (z, t). So one backward pass sets the targets
    of all layers and leaves the gradients of all layer losses in `.grad`; the optimizer takes one step.

    With a `solver` the targets are searched instead, layer by layer from the top down, and the gradients are
    those of the layer losses of what it found: see `tpsolve.nn.target_backward`. Its seed comes from torch's
    global generator.

    Args:
        solver: of targets, one for all thresholds or one for each of some; None: the closed form.
        budget: of each search.
        arithmetic: the forward pass runs in it, such as in `torch.autocast`.
        before_step: called between the two, such as to average gradients over processes.
    """
    model.train()
    for inputs, labels in batches:
        optimizer.zero_grad()
        if solver is None:
            with arithmetic or nullcontext():
                outputs = model(inputs)
            loss = loss_function(outputs.float(), labels)
            loss.backward()
        else:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            report = target_backward(
                model, inputs, labels, loss_function, solver=solver, budget=budget, generator=generator
            )
            loss, outputs = report.loss, report.output
        if before_step is not None:
            before_step()
        optimizer.step()
        yield loss.detach(), outputs.detach(), labels
