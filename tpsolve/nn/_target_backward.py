"""`target_backward`: a backward pass in which any solver sets the targets of each threshold and choice."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve._plain import is_real, plain_number
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, NotAcceptedError, ShapeError, UnknownNameError
from tpsolve.losses import Loss, find_loss
from tpsolve.nn._batch_checks import (
    check_batch,
    check_called,
    check_labels,
    detached,
    find_loss_value,
    run_model,
)
from tpsolve.nn._build_problem import Top, loss_above
from tpsolve.nn._layer_losses import loss_of
from tpsolve.nn._target_pass import TargetPass
from tpsolve.nn._target_report import TargetReport
from tpsolve.nn._target_search import TargetSearch
from tpsolve.nn.passes._nests import Inputs
from tpsolve.nn.passes._recording import Call, called, record, unwrap
from tpsolve.nn.passes._segments import OUTPUT
from tpsolve.problems import BlockProblem, LayerProblem, Problem, ProgramProblem
from tpsolve.search import CurvatureFlip, SignGradient, Solver, find_solver
from tpsolve.search._base import check_counts_passes
from tpsolve.search._naming import with_parts
from tpsolve.search._solve import check_limits
from tpsolve.thresholds._base import Threshold
from tpsolve.thresholds._choice import Choice, is_own_choice
from tpsolve.thresholds._convert import find_hard_units
from tpsolve.thresholds._staircase import Staircase, is_own

IMPORTANCES = ("gradient", "flip-delta")


def target_backward(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    solver: Solver | str | Mapping[str | int, Solver | str] = "sign-gradient",
    budget: Budget | None = None,
    layer_loss: str | None = None,
    importance: str = "gradient",
    loss_scale: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> TargetReport:
    """Forward, loss, and a backward pass in which `solver` sets the targets of every threshold and choice.

    The graph is cut at its thresholds. From the top down each threshold gets a target problem: a
    `LayerProblem` where a linear layer, with or without a batch norm, leads to the one next threshold or
    to the loss; else a `BlockProblem` of whatever lies between it and the thresholds that it reaches,
    residual branches included. Then the layer loss of its targets gives the gradient at its
    pre-activations, and so on downwards. Gradients are added to `.grad`, as `loss.backward()` adds them.

    A `HardThreshold` has one target a unit, shaped as its output. A `Staircase` has k, one for each of its
    thresholds: `(B, k, ...)`, which a `LayerProblem` flattens; the output that they stand for is the share
    of +1. Those found are sorted, +1 first, which keeps that output and so the objective. What is passed
    on is then the sum of the rule over the k thresholds and their own targets, also where `steps` is
    "merged": one threshold for all would push a unit past any inner level.

    `SignGradient` is not searched: its targets are -sign(g), where g is the gradient that arrives, and
    the gradients are those of `loss.backward()`. The solvers of a block see batch norm with the
    statistics of this batch held, and dropout and other draws of torch as they were drawn in this pass.

    Words or frames may lie along the first axis of a threshold, `(B k, ...)`, the k of a sample side by side. Its
    targets are then `(B, k, ...)`. In a model of `fully_shard` a search works on a whole copy, which all processes
    gather at once.

    Targets belong to a call. Those of a module that is called several times have the names "relu#1", "relu#2", ...

    A `Choice` has a class as target in each of its places, `(B, n)` for n choices of a sample. Its problem is a
    `ProgramProblem` whose program is what lies above, run for many classes at once. Its moves set one choice to another
    class, and solvers of program problems take it. What is passed on is the slope of its own layer loss, also where
    `layer_loss` names another.

    A threshold or a choice whose output reaches the loss only through what has no gradient, such as `Program`, is
    searched by forward passes only, and counts as with importance="flip-delta".

    Args:
        model: any module; called once. `torch.fx` cuts it, unless it is all `nn.Sequential`; where that fails, or gives
            something else than ran, each pass through a block runs the whole model with the other thresholds held.
        x: inputs `(B, ...)`; whole numbers where the model takes them, as an embedding does. A tuple holds what the
            model takes by place, a mapping what it takes by name; tensors of B entries in them, also deeper in, are of
            the samples, and all else is shared by all samples.
        y: what `loss_fn` compares the output with, `(B, ...)`, or a nest of such tensors.
        loss_fn: of (output, y), the sum or mean over the samples of a loss of each, or a weighted one whose weights `y`
            alone decides, such as a mean over the tokens that are not ignored. A search computes it of single samples:
            by `torch.func.vmap`, or one by one, which is slow, where that can't run it. torch's cross-entropy is known,
            also with smoothed labels, class weights and ignored labels: as a module, or a `functools.partial` of the
            function. Searches have its exact flips; below a linear layer smoothing shifts their objective by a
            constant. `curvature-flip` takes any loss that can be differentiated twice. A function gets the output as it
            is, also a tuple or a mapping. A search gives it one of the same form, with None for all that is no
            floating-point tensor `(B, ...)`.
        solver: one for all thresholds and choices; or a mapping from their names in the model, or from depths
            (1 is the first that is called, -1 the last), to solvers. Those left out keep `SignGradient`. The name of
            a module means all its calls, "relu#2" one.
        budget: of each search; needed unless all are `SignGradient`. `Budget(passes=3)` allows each sample three
            passes through what lies between a threshold and the next ones, as `Budget` counts them.
        layer_loss: a name of `LOSSES` for the problems; by default that of each threshold's rule.
        importance: how much a target counts once it is found. "gradient": |g| at the activations, of which
            each threshold of a staircase has the part 1 / 2k, as its target moves the output by 1 / k;
            "flip-delta": half the change of the objective if only this target were negated. A target class is
            changed to the present class; where it is the present class itself, or where what lies above fails for that
            one, to the best of the others. Half of that change counts, by g or by the objective.
        loss_scale: what the loss is multiplied by, a positive, finite number or a tensor of one: 1 / k for each of k
            batches whose gradients are accumulated, or `GradScaler.get_scale()`. Gradients and objectives are
            multiplied, `TargetReport.loss` is not. torch's cross-entropy stays known, unlike inside a function that
            scales it.
        generator: the source of all randomness of the searches; None: one of seed 0.

    Returns:
        The `Result` of each threshold, and of each module of choices, by name, in the order of their calls.

    A sample for which a search finds nothing, or whose numbers are not finite, keeps the closed-form
    target in that layer, at every threshold of a staircase; `TargetReport.fallbacks` counts them and
    `print(report)` says so.

    Raises:
        NotAcceptedError: a model without thresholds and choices, a solver that does not take the problem of its
            threshold, or a searched threshold whose output a hook replaces, whose first axis is not the batch, which a
            reentrant checkpoint runs without autograd, or above which a copy does not do once more what this pass did,
            as with draws of other generators than torch's; a loss that a search can't take sample by sample.
        NotAcceptedError, too: a threshold or a choice that no gradient reaches and that is not searched, with
            parameters below it that no gradient reaches either.
        ArgumentError: an argument makes no sense. All of this is raised before `.grad` changes.
        BlockError: a searched threshold lies below a block that mixes samples. This, and what a solver raises
            in mid-search, may leave the upper layers' gradients there.
    """
    _check(model, x, loss_fn, importance, layer_loss, generator)
    times = _check_scale(loss_scale)
    with record(model) as recording:
        output = run_model(model, x)
    calls = recording.calls
    check_called(calls)
    chosen = _choose(solver, list(calls))
    searched = {name: one for name, one in chosen.items() if not isinstance(one, SignGradient)}
    nest = check_labels(output, y)
    loss = find_loss_value(loss_fn, output, y)
    top = replace(Top.of(output, y, loss_fn, nest), scale=times)
    target_pass = TargetPass(model, Inputs.of(x, len(top.output)), recording, top, layer_loss)
    if searched:
        _check_searches(searched, budget, target_pass, layer_loss)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    cut_off = _cut_off(loss, target_pass, searched)
    for name in cut_off:
        if name not in searched:
            raise NotAcceptedError(
                f"model.{name}",
                f"{called(calls[name].module)} whose output reaches the loss only through what has no gradient",
                "a search of its targets",
                f"Pass solver='hill-climb', or solver={{'{name}': 'hill-climb'}}, and a budget.",
            )
    for name, call in calls.items():
        if call.edge is not None:
            forward_only = name in cut_off
            search = TargetSearch(target_pass, call, searched.get(name), budget, importance, generator, forward_only)
            call.listener = search
            if name in searched and isinstance(call.module, Staircase):
                call.edge.node.register_hook(search.pass_on)
    heads: list[Tensor] = [head for name in cut_off if (head := calls[name].head) is not None]
    gradients: list[Tensor | None] = [torch.zeros_like(h) for h in heads]
    if loss.requires_grad:
        heads, gradients = [loss if times == 1 else loss * times, *heads], [None, *gradients]
    torch.autograd.backward(heads, gradients)
    target_pass.close()
    return TargetReport(loss.detach(), detached(output), target_pass.fallbacks, target_pass.rows, _pass=target_pass)


def _cut_off(loss: Tensor, target_pass: TargetPass, searched: Collection[str]) -> list[str]:
    """The thresholds that no gradient reaches, neither from the loss nor from one that is named before it.

    Those are left out that are not searched and below which all that could learn is reached without them, such as the
    spikes of a neuron that only reset it.

    Raises:
        ShapeError: the loss depends on nothing that could learn.
    """
    reached: set[Any] = set()
    _reach(loss.grad_fn, reached)
    names = []
    calls = target_pass.recording.calls
    for name, call in reversed(calls.items()):
        if call.edge is not None and call.edge.node not in reached:
            with_it = set(reached)
            _reach(call.edge.node, with_it)
            if name in searched or any(hasattr(node, "variable") for node in with_it - reached):
                names.append(name)
                reached = with_it
    if not loss.requires_grad and not names:
        raise ShapeError("loss_fn", "a number without gradient", "one number that depends on the output")
    return names


def _reach(node: Any, reached: set[Any]) -> None:
    """Add the nodes of autograd's graph below `node`, itself included."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting += [below for below, _ in node.next_functions]


def _check(model: nn.Module, x: Any, loss_fn: Any, importance: str, layer_loss: str | None, generator: Any) -> None:
    if hasattr(model, "_orig_mod"):  # Asking for its class would import the compiler, which takes a second.
        raise NotAcceptedError("model", "a compiled module", "the module itself", "Pass what torch.compile was given.")
    find_hard_units(model)
    check_batch(x, loss_fn)
    if not isinstance(generator, torch.Generator | None):
        raise ArgumentError("generator", repr(generator), "a torch.Generator", "torch.Generator().manual_seed(0).")
    if importance not in IMPORTANCES:
        raise UnknownNameError("importance", str(importance), IMPORTANCES)
    if layer_loss is not None and not isinstance(find_loss(layer_loss), Loss):
        raise ArgumentError("layer_loss", repr(layer_loss), "a loss of single units")


def _check_scale(loss_scale: object) -> float:
    """The number that `loss_scale` is; raise ArgumentError unless it is positive and finite."""
    single = isinstance(loss_scale, Tensor) and loss_scale.numel() == 1 and not loss_scale.is_complex()
    number = plain_number(loss_scale.item() if isinstance(loss_scale, Tensor) and single else loss_scale)
    if not is_real(number) or not 0 < number < math.inf:
        mend = "1 / k for each of k batches, or scaler.get_scale()."
        raise ArgumentError("loss_scale", repr(loss_scale), "a positive, finite number", mend)
    return float(number)


def _choose(solver: Any, order: list[str]) -> dict[str, Solver]:
    """The solver of each threshold, by name."""
    if not isinstance(solver, Mapping):
        return dict.fromkeys(order, find_solver(solver))
    chosen: dict[str, Solver] = dict.fromkeys(order, SignGradient())
    for key, one in solver.items():
        key = plain_number(key)
        if isinstance(key, int):
            if not 1 <= abs(key) <= len(order):
                raise ArgumentError("solver", f"depth {key}", f"a depth from 1 to {len(order)}, or -1 for the last")
            chosen[order[key - 1 if key > 0 else key]] = find_solver(one)
        elif keys := [name for name in order if key in (name, name.rpartition("#")[0])]:
            chosen |= dict.fromkeys(keys, find_solver(one))
        else:
            raise UnknownNameError("threshold of solver", str(key), order)
    return chosen


def _check_searches(
    searched: dict[str, Solver], budget: Budget | None, target_pass: TargetPass, layer_loss: str | None
) -> None:
    """Raise what can be known before the backward pass."""
    if not isinstance(budget, Budget):
        raise ArgumentError("budget", repr(budget), "a Budget", "For example Budget(steps=20).")
    calls = target_pass.recording.calls
    for name, one in searched.items():
        if calls[name].edge is None:
            if calls[name].graph or not _learns_around(calls[name].path, unwrap(target_pass.model)):
                continue
            raise NotAcceptedError(
                f"model.{name}",
                "a call without autograd, as in torch.no_grad() or a reentrant checkpoint",
                "one with it",
                "Pass use_reentrant=False to checkpoint, or let SignGradient() set these targets.",
            )
        segment = target_pass.segment(name)
        if _is_replaced(calls[name]):
            raise NotAcceptedError(
                f"model.{name}",
                f"a {type(calls[name].module).__name__} whose output a hook or a compiled block has replaced",
                "the output as it is",
                "Do without, or let SignGradient() set these targets.",
            )
        for sink in segment.sinks:
            if sink in calls and isinstance(module := calls[sink].module, Threshold):
                loss_of(module, sink, layer_loss)
        loss = loss_above(segment, calls, target_pass.top, layer_loss)
        if loss is None and OUTPUT in segment.sinks:
            target_pass.top.of_samples()
        kind: type[Problem] = LayerProblem if segment.linear is not None and loss is not None else BlockProblem
        if isinstance(calls[name].module, Choice):
            kind = ProgramProblem
        check_limits(kind.__name__, {"calls": kind is ProgramProblem, "passes": True}, budget)
        for part in with_parts(one):
            if budget.passes is not None and kind is not ProgramProblem:
                check_counts_passes(part)
            if not issubclass(kind, part.accepts):
                raise NotAcceptedError(
                    f"model.{name}", f"{part.name}, which takes no {kind.__name__}", f"a solver of a {kind.__name__}"
                )
            if isinstance(part, CurvatureFlip) and loss is None and OUTPUT in segment.sinks:
                target_pass.top.check_curvature()


def _learns_around(name: str, model: nn.Module) -> bool:
    """Whether parameters are trained in the smallest module around the threshold `name` that has any."""
    while name:
        name = name.rpartition(".")[0]
        if parameters := list(model.get_submodule(name).parameters()):
            return any(value.requires_grad for value in parameters)
    return False


def _is_replaced(call: Call) -> bool:
    """Whether the output is not what the threshold returned."""
    node = None if call.edge is None else call.edge.node
    if isinstance(call.module, Staircase):
        return not is_own(node)
    if isinstance(call.module, Choice):
        return not is_own_choice(node)
    spins = call.module.to_spins(call.h)
    return bool(call.module._forward_hooks) and not bool(((spins.abs() == 1) | spins.isnan()).all())
