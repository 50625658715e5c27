"""What a target backward pass found, layer by layer."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve._result import Result
from tpsolve.errors import NotAcceptedError
from tpsolve.nn._batch_checks import check_batch_axis
from tpsolve.nn._build_problem import Top, build_problem
from tpsolve.nn.passes._frozen import freeze, widened
from tpsolve.nn.passes._recording import Recording
from tpsolve.nn.passes._replay import check_replay
from tpsolve.nn.passes._segments import Segment, Segments
from tpsolve.problems import BlockProblem, LayerProblem
from tpsolve.search import SignGradient


class TargetReport(Mapping[str, Result]):
    """The `Result` of each threshold by name, in the order of their calls; those without gradient are left out.

    A search's result covers the samples that it was given, `rows[name]`. That of a closed form is
    computed when it is asked for, since the judge's forward passes would cost more than the rule
    itself. So ask before the weights change.

    Attributes:
        loss: the network's loss `()`, detached.
        output: the network's output `(B, ...)`, detached.
        fallbacks: by name, how many samples of a search kept the closed form.
        rows: by name, the samples `(R,)` of a search's result.

    It can be pickled if the model and its loss can, which it holds; a deep copy has a model of its own.

    Raises:
        NotAcceptedError: on access, if the weights have changed in the meantime.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, recording: Recording, top: Top, loss: Tensor, layer_loss: str | None
    ):
        self.loss, self.output = loss, top.output
        self.fallbacks: dict[str, int] = {}
        self.rows: dict[str, Tensor] = {}
        self.model, self.recording, self.top = model, recording, top
        self.gradients: dict[str, Tensor] = {}
        self._x, self._layer_loss = x, layer_loss
        self._results: dict[str, Result] = {}
        self._replayed: set[str] = set()
        self._versions = self._weight_versions()

    def __getstate__(self) -> dict[str, Any]:
        # Copied weights count their changes anew: what travels is the number of changes since the pass.
        changes = [now - then for now, then in zip(self._weight_versions(), self._versions, strict=True)]
        return {**vars(self), "_versions": changes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._versions = [now - since for now, since in zip(self._weight_versions(), self._versions, strict=True)]

    def __getitem__(self, name: str) -> Result:
        if name not in self.gradients:
            raise KeyError(name)
        if name not in self._results:
            self._results[name] = self._closed_form(name)
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.recording.calls if name in self.gradients)

    def __len__(self) -> int:
        return len(self.gradients)

    def __repr__(self) -> str:
        lines = [f"loss {self.loss.item():.4g}"]
        for name in self:
            # A search of which all samples fell back left no result.
            solver = self._results[name].stats["solver"] if name in self.rows else SignGradient.name
            fallback = self.fallbacks.get(name, 0)
            rest = f", {fallback} of {len(self.output)} samples keep the closed form" if fallback else ""
            lines.append(f"{name}: {solver}{rest}")
        return "\n".join(lines)

    def problem(self, name: str, rows: Tensor | None = None, scale: float = 1.0) -> LayerProblem | BlockProblem:
        """The target problem of this threshold, of `scale` times its losses.

        `rows (R,)`: the samples, by default all.
        """
        calls = self.recording.calls
        h = calls[name].h
        rows = torch.arange(len(h), device=h.device) if rows is None else rows
        with torch.autocast(h.device.type, enabled=False):
            return build_problem(
                calls[name], self.segment(name), calls, self.gradients, self.top, self._layer_loss, rows, scale
            )

    def segment(self, name: str) -> Segment:
        """What lies above this threshold.

        Raises:
            NotAcceptedError: a copy of it does not do once more what it did in this pass, or its first axis is
                not the batch.
        """
        check_batch_axis(self.recording.calls[name], self.output)
        segment = self._segments.of(name)
        if name not in self._replayed:
            with torch.autocast(self._x.device.type, enabled=False):
                check_replay(name, segment, self.model, self.recording.calls, self.top.output)
            self._replayed.add(name)
        return segment

    def keep(self, name: str, result: Result, rows: Tensor) -> None:
        """Note the result of a search."""
        self._results[name], self.rows[name] = result, rows

    def close(self) -> None:
        """Let go of the graph: what is left are numbers."""
        for call in self.recording.calls.values():
            call.h = call.h.detach()

    def _weight_versions(self) -> list[int]:
        return [value._version for value in self.model.parameters()]

    @cached_property
    def _segments(self) -> Segments:
        if self._versions != self._weight_versions():
            raise NotAcceptedError(
                "results", "weights that have changed since", "those of the pass", "Ask before optimizer.step()."
            )
        with torch.autocast(self._x.device.type, enabled=False):
            frozen, given = freeze(self.model, self.recording)
            return Segments(frozen, given, widened(self._x), list(self.recording.calls))

    def _closed_form(self, name: str) -> Result:
        with torch.autocast(self._x.device.type, enabled=False):
            problem, g = self.problem(name), self.gradients[name]
            assert problem.start is not None
            # One gradient for the spins of a unit, which are one or, in a staircase, several.
            spins, g = problem.start.reshape(len(g), -1, *g.shape[1:]), g[:, None]
            targets = torch.where(g == 0, spins, -g.sign().to(spins.dtype)).reshape(problem.start.shape)
            objective = problem.objective(targets)
            bound = torch.minimum(problem.lower_bound(), objective)
            return Result(targets, objective, bound, stats={"solver": SignGradient.name, "steps": 1})
