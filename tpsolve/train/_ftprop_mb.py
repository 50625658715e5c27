"""FTPROP-MB: feasible target propagation on mini-batches, Algorithm 2 of Friesen and Domingos (2018)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, UnknownNameError
from tpsolve.nn import TargetReport, target_backward
from tpsolve.nn._batch_checks import detached, loss_of_nest
from tpsolve.nn._target_backward import IMPORTANCES
from tpsolve.nn.passes._frozen import widened
from tpsolve.nn.passes._nests import call
from tpsolve.search import Solver

LossFunction = Callable[[Any, Any], Tensor]


def ftprop_mb(
    model: nn.Module,
    batches: Iterable[tuple[Any, Any]],
    loss_function: LossFunction,
    optimizer: torch.optim.Optimizer,
    *,
    solver: Solver | str | Mapping[str | int, Solver | str] | None = None,
    budget: Budget | None = None,
    importance: str = "gradient",
    generator: torch.Generator | None = None,
    arithmetic: Callable[[], AbstractContextManager] = nullcontext,
    before_step: Callable[[], None] | None = None,
    told: Callable[[TargetReport], None] | None = None,
) -> Iterator[tuple[Tensor, Any, Any]]:
    """One pass over `batches`; gives loss, outputs and labels of each, after its step.

    The hidden units of `model` are modules such as `tpsolve.nn.HardThreshold`. On the way down from the
    loss, each sets the targets of its outputs, t = sign(-g), and their importance, |g|, from the gradient
    g that arrives; its rule is the slope of the layer loss of (z, t). So one backward pass sets the targets
    of all layers and leaves the gradients of all layer losses in `.grad`; the optimizer takes one step.

    With a `solver` the targets are searched instead, layer by layer from the top down, and the gradients are
    those of the layer losses of what it found: see `tpsolve.nn.target_backward`.

    Args:
        batches: of inputs and labels: tensors, or tuples and mappings as `target_backward` takes them.
        solver: of targets, one for all thresholds or one for each of some; None: the closed form.
        budget: of each search.
        importance: of the targets that it finds.
        generator: that it draws from; None: one whose seed comes from torch's global generator.
        arithmetic: makes the context that each forward pass and search runs in, such as `torch.autocast`.
        before_step: called between gradients and step, such as to average gradients over processes.
        told: gets the report of each search, which says how many samples kept the closed form.

    The whole model goes into training mode at the start; put a part that is to stay in evaluation back after the
    first batch, or let its `train` do nothing.

    Raises:
        ArgumentError: an optimizer whose step needs a closure, or an unknown importance.
        NotAcceptedError: a loss that fails on an output that is no tensor. All before the first step.
    """
    if importance not in IMPORTANCES:
        raise UnknownNameError("importance", str(importance), IMPORTANCES)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ArgumentError("optimizer", "LBFGS, which asks for many losses a step", "one that takes a step from .grad")
    model.train()
    for inputs, labels in batches:
        optimizer.zero_grad()
        if solver is None:
            with arithmetic():
                outputs = call(model, inputs)
            loss = loss_of_nest(loss_function, tree_map(_widened, outputs), labels)
            loss.backward()
        else:
            draws = generator or torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            with arithmetic():
                report = target_backward(
                    model,
                    inputs,
                    labels,
                    loss_function,
                    solver=solver,
                    budget=budget,
                    importance=importance,
                    generator=draws,
                )
            loss, outputs = report.loss, report.output
            if told is not None:
                told(report)
        if before_step is not None:
            before_step()
        optimizer.step()
        yield loss.detach(), detached(outputs), labels


def _widened(leaf: Any) -> Any:
    return widened(leaf) if isinstance(leaf, Tensor) else leaf
