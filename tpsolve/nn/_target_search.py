"""The search for the targets of one threshold, or of a module of choices, in the middle of a backward pass."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor

from tpsolve._result import Budget, Result
from tpsolve.nn._target_pass import TargetPass
from tpsolve.nn.passes._recording import Call
from tpsolve.problems import Problem, ProgramProblem
from tpsolve.problems.program._program_problem import FAILURE_PENALTY
from tpsolve.search import Solver, solve
from tpsolve.thresholds._base import Threshold
from tpsolve.thresholds._choice import Choice, change_without
from tpsolve.thresholds._staircase import Staircase


class TargetSearch:
    """Called with the gradient at a threshold's output, or at that of choices; returns what stands for the targets."""

    def __init__(
        self,
        target_pass: TargetPass,
        call: Call,
        solver: Solver | None,
        budget: Budget | None,
        importance: str,
        generator: torch.Generator,
        forward_only: bool = False,
    ) -> None:
        self.target_pass, self.call, self.solver = target_pass, call, solver
        self.budget, self.importance, self.generator = budget, importance, generator
        self.forward_only = forward_only
        """Whether no gradient reaches this threshold, so that all that is known comes from forward passes."""

    def __call__(self, gradient: Tensor) -> Tensor:
        if self.solver is not None:
            # A search runs in the dtypes of its problem, whatever the region around the call.
            with torch.autocast(gradient.device.type, enabled=False):
                each = self._searched(self.solver, gradient)
            if len(each) > 1:
                # The output has room for one; `pass_on` passes them on.
                self.target_pass.gradients[self.call.name] = each
                return gradient
            gradient = each[0]
        self.target_pass.gradients[self.call.name] = gradient
        return gradient

    def pass_on(self, below: Sequence[Tensor | None], above: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Called with what a staircase has passed on to its inputs; returns what its thresholds' targets pass on."""
        module, each = self.call.module, self.target_pass.gradients[self.call.name]
        assert isinstance(module, Staircase)
        if each.dim() == self.call.z.dim():
            return tuple(below)
        found = module.pass_back(self.call.z, each)
        found = (self.call.joined(found[0]), *found[1:])
        return tuple(old if old is None or new is None else new for old, new in zip_longest(below, found))

    def _searched(self, solver: Solver, g: Tensor) -> Tensor:
        """Gradients `(k, B, ...)` at the output, one for each of the k thresholds of a unit; of choices one."""
        assert self.budget is not None
        name, module = self.call.name, self.call.module
        read = self.call.z if isinstance(module, Choice) else self.call.h.detach()
        finite = torch.isfinite(g).flatten(1).all(1) & torch.isfinite(read).flatten(1).all(1)
        rows = finite.nonzero()[:, 0]
        if not len(rows):
            self.target_pass.fallbacks[name] = len(g)
            return g[None]
        scale = _scale_of(torch.full_like(g[rows], 1 / g.numel()) if self.forward_only else g[rows])
        problem = self.target_pass.problem(name, rows, scale)
        if isinstance(problem, ProgramProblem):
            result = solve(problem, solver, budget=self.budget, generator=self.generator)
            self._keep(result, rows, scale)
            return self._asking_for(result, problem, g, rows, scale)[None]
        assert isinstance(module, Threshold)
        shape = (len(rows), -1, *g.shape[1:])
        result = _in_order(problem, solve(problem, solver, budget=self.budget, generator=self.generator), shape)
        found = _found(result)
        targets, size = result.targets.to(g.dtype).reshape(shape), g[rows][:, None].abs()
        if self.importance == "flip-delta" or self.forward_only:
            gain, stretch, _ = module.parts(each=True)[0]
            # How far the output moves with one of its spins is gain / stretch.
            change = problem.flip_delta(result.targets).abs().to(g.dtype).reshape(shape)
            # A flip that can't be told, since the pass fails there, counts nothing.
            size = change.nan_to_num(posinf=0.0) / 2 * (stretch / gain) / scale
        each = g.repeat(targets.shape[1], *[1] * g.dim())
        each[:, rows[found]] = -(targets * size)[found].transpose(0, 1)
        self._keep(result, rows, scale)
        return each

    def _asking_for(self, result: Result, problem: ProgramProblem, g: Tensor, rows: Tensor, scale: float) -> Tensor:
        """The gradient `(B, ..., K)` at the outputs of choices that makes `wanted` find the targets of a search."""
        targets = result.targets[..., None]
        if self.importance == "flip-delta" or self.forward_only:
            change = problem.move_delta(result.targets)
            # What fails counts the penalty, which says nothing.
            change = change.masked_fill(change >= FAILURE_PENALTY / 2, torch.inf) / scale
        else:
            change = g[rows].double().reshape(len(rows), problem.n_vars, -1)
        lost = change_without(change, targets, problem.present[..., None]).abs().nan_to_num(posinf=0.0)
        asked = torch.zeros_like(change).scatter(2, targets, -lost).to(g.dtype).reshape(g[rows].shape)
        found = _found(result)
        each = g.clone()
        each[rows[found]] = asked[found]
        return each

    def _keep(self, result: Result, rows: Tensor, scale: float) -> None:
        name = self.call.name
        self.target_pass.fallbacks[name] = len(self.call.h) - int(_found(result).sum())
        self.target_pass.keep(name, _divided(result, scale), rows)


def _found(result: Result) -> Tensor:
    """The samples `(R,)` for which the search has targets."""
    return ~result.stats["missing"] & torch.isfinite(result.objective)


def _scale_of(g: Tensor) -> float:
    """A power of two that brings the gradients `(R, ...)` of a sample, all together, near 1.

    The tolerances of a search are made for objectives of about that size, and the loss of a sample in a large
    batch, or a loss that is small itself, is far below.
    """
    size = g.abs().flatten(1).sum(1).double().mean().item()
    return 2.0 ** max(-64, min(64, -round(math.log2(size)))) if size > 0 else 1.0


def _divided(result: Result, scale: float) -> Result:
    """The result in the units of the unscaled problem; powers of two divide without rounding."""
    trace = [replace(p, objective=p.objective / scale, bound=p.bound / scale) for p in result.trace]
    tolerance = None if result.tolerance is None else result.tolerance / scale
    objective, bound = result.objective / scale, result.bound / scale
    return replace(result, objective=objective, bound=bound, trace=tuple(trace), tolerance=tolerance)


def _in_order(problem: Problem, result: Result, shape: tuple[int, ...]) -> Result:
    """The result with the spins of each unit, axis 1 of `shape`, sorted downwards: the output only counts them."""
    if result.targets.reshape(shape).shape[1] == 1:
        return result
    targets = result.targets.reshape(shape).sort(1, descending=True).values.reshape(result.targets.shape)
    if torch.equal(targets, result.targets):
        return result
    objective = problem.objective(targets)
    return replace(result, targets=targets, objective=objective, bound=torch.minimum(result.bound, objective))
