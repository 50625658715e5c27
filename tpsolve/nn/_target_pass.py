"""A target backward pass under way: what it recorded, and what it has found so far."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve._result import Result
from tpsolve.errors import BlockError, NotAcceptedError
from tpsolve.nn._batch_checks import check_batch_axis
from tpsolve.nn._build_problem import Top, build_problem
from tpsolve.nn.passes._frozen import freeze, widened
from tpsolve.nn.passes._nests import Inputs
from tpsolve.nn.passes._recording import Recording
from tpsolve.nn.passes._replay import find_segment
from tpsolve.nn.passes._segments import Segment, Segments
from tpsolve.problems import BlockProblem, LayerProblem, Problem, ProgramProblem
from tpsolve.problems.program._choice_problem import ChoiceProblem
from tpsolve.search import SignGradient
from tpsolve.thresholds._choice import Choice, wanted


class TargetPass:
    """One forward pass and the backward pass through it, in which searches note what they find.

    Args:
        model: as called.
        inputs: of it.
        recording: of the forward pass.
        top: the network's output and its loss.
        layer_loss: a name of `LOSSES` for the problems; None: that of each threshold's rule.

    Attributes:
        gradients: by name, the gradient that arrived at a threshold's output, or the one that stands for its targets.
        fallbacks: by name, how many samples of a search kept the closed form.
        rows: by name, the samples `(R,)` of a search's result.
    """

    def __init__(
        self, model: nn.Module, inputs: Inputs, recording: Recording, top: Top, layer_loss: str | None
    ) -> None:
        recording.split(len(top.output))
        self.model, self.recording, self.top = model, recording, top
        self.gradients: dict[str, Tensor] = {}
        self.fallbacks: dict[str, int] = {}
        self.rows: dict[str, Tensor] = {}
        self._inputs, self._layer_loss = inputs, layer_loss
        self._results: dict[str, Result] = {}
        self._segment_of: dict[str, Segment] = {}
        self._versions = self._weight_versions()

    def __getstate__(self) -> dict[str, Any]:
        # Copied weights count their changes anew: what travels is the number of changes since the pass.
        changes = [now - then for now, then in zip(self._weight_versions(), self._versions, strict=True)]
        return {**vars(self), "_versions": changes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._versions = [now - since for now, since in zip(self._weight_versions(), self._versions, strict=True)]

    @property
    def names(self) -> list[str]:
        """The thresholds and choices that a gradient reached, in the order of their calls."""
        return [name for name in self.recording.calls if name in self.gradients]

    def result(self, name: str) -> Result:
        """The result of the search; where there was none, that of the closed form, computed when it is first asked for.

        Raises:
            KeyError: no gradient reached this threshold.
            NotAcceptedError: the closed form of weights that have changed since the pass.
        """
        if name not in self.gradients:
            raise KeyError(name)
        if name not in self._results:
            self._results[name] = self._closed_form(name)
        return self._results[name]

    def problem(
        self, name: str, rows: Tensor | None = None, scale: float = 1.0
    ) -> LayerProblem | BlockProblem | ProgramProblem:
        """The target problem of this threshold, of `scale` times its losses.

        `rows (R,)`: the samples, by default all.

        Raises:
            BlockError: what lies above acts on several samples together.
        """
        calls = self.recording.calls
        h = calls[name].h
        rows = torch.arange(len(h), device=h.device) if rows is None else rows
        with torch.autocast(h.device.type, enabled=False):
            segment = self.segment(name)
            try:
                problem = build_problem(
                    calls[name], segment, calls, self.gradients, self.top, self._layer_loss, rows, scale
                )
            except BlockError as error:
                got = str(error).removeprefix("block: got ").partition(", expected")[0]
                raise BlockError(
                    f"model.{name}",
                    f"modules above it of which a search can't tell the samples apart: {got}",
                    "modules that treat each sample by itself",
                    "Nodes that edges join are one sample: pass (x[None], edges) and y[None]. "
                    "Where the whole batch meets, pass *one_sample(model, x, y, loss_fn), or let SignGradient() set "
                    "these targets.",
                ) from error
            if not isinstance(module := calls[name].module, Choice):
                return problem
            assert isinstance(problem, BlockProblem)
            return ChoiceProblem(problem, calls[name].z[rows].reshape(len(rows), -1, module.classes))

    def segment(self, name: str) -> Segment:
        """What lies above this threshold.

        Raises:
            NotAcceptedError: a copy of it does not do once more what it did in this pass, or its first axis is
                not the batch.
        """
        check_batch_axis(self.recording.calls[name], self.top.output)
        if name not in self._segment_of:
            with torch.autocast(self.top.output.device.type, enabled=False):
                self._segment_of[name] = find_segment(
                    name, self._segments.of(name), self.model, self.recording, self.top.output
                )
        return self._segment_of[name]

    def keep(self, name: str, result: Result, rows: Tensor) -> None:
        """Note the result of a search."""
        self._results[name], self.rows[name] = result, rows

    def close(self) -> None:
        """Let go of the graph: what is left are numbers."""
        for call in self.recording.calls.values():
            call.head = call.edge = call.listener = None

    def _weight_versions(self) -> list[int]:
        return [value._version for value in self.model.parameters()]

    @cached_property
    def _segments(self) -> Segments:
        if self._versions != self._weight_versions():
            raise NotAcceptedError(
                "results", "weights that have changed since", "those of the pass", "Ask before optimizer.step()."
            )
        with torch.autocast(self.top.output.device.type, enabled=False):
            frozen = freeze(self.model, self.recording, self._inputs, self.top.nest)
            return Segments(
                frozen, tuple(map(widened, self._inputs.tensors)), list(self.recording.calls), len(self.top.output)
            )

    def _closed_form(self, name: str) -> Result:
        with torch.autocast(self.top.output.device.type, enabled=False):
            problem, g, call = self.problem(name), self.gradients[name], self.recording.calls[name]
            assert problem.start is not None
            if isinstance(call.module, Choice):
                target, importance = wanted(g, call.z)
                targets = torch.where(importance == 0, call.z.argmax(-1, keepdim=True), target).reshape(len(g), -1)
                return _judged(problem, targets)
            # One gradient for the spins of a unit, which are one or, in a staircase, several.
            spins, g = problem.start.reshape(len(g), -1, *g.shape[1:]), g[:, None]
            targets = torch.where(g == 0, spins, -g.sign().to(spins.dtype)).reshape(problem.start.shape)
            return _judged(problem, targets)


def _judged(problem: Problem, targets: Tensor) -> Result:
    """The result of the closed form."""
    objective = problem.objective(targets)
    bound = torch.minimum(problem.lower_bound(), objective)
    # Its gradient is that of the batch's own pass.
    stats = {"solver": SignGradient.name, "steps": 1, "passes": torch.zeros_like(objective, dtype=torch.int64)}
    return Result(targets, objective, bound, stats=stats, tolerance=problem.tolerance())
