"""What a target backward pass found, layer by layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tpsolve._result import Result, facts_table
from tpsolve.nn._target_pass import TargetPass
from tpsolve.problems import BlockProblem, LayerProblem, ProgramProblem
from tpsolve.search import SignGradient


@dataclass(frozen=True, eq=False, repr=False)
class TargetReport(Mapping[str, Result]):
    """The `Result` of each threshold, and of each module of choices, by name, in the order of their calls.

    Those without gradient are left out. Targets of choices are classes `(B, n)` int64, the n choices of a sample in the
    order of their logits.

    A search's result covers the samples that it was given, `rows[name]`. That of a closed form is
    computed when it is asked for, since the judge's forward passes would cost more than the rule
    itself. So ask before the weights change.

    Attributes:
        loss: the network's loss `()`, detached.
        output: the network's output, `(B, ...)` or a nest of such, detached.
        fallbacks: by name, how many samples of a search kept the closed form.
        rows: by name, the samples `(R,)` of a search's result.

    It can be pickled if the model and its loss can, which it holds; a deep copy has a model of its own.

    Raises:
        NotAcceptedError: on access, if the weights have changed in the meantime.
    """

    loss: Tensor
    output: Any
    fallbacks: Mapping[str, int]
    rows: Mapping[str, Tensor]
    _pass: TargetPass

    def __getitem__(self, name: str) -> Result:
        return self._pass.result(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pass.names)

    def __len__(self) -> int:
        return len(self._pass.names)

    def __repr__(self) -> str:
        lines = [f"loss {self.loss.item():.4g}"]
        for name in self:
            # A search of which all samples fell back left no result.
            searched = name in self.rows
            solver = self[name].stats["solver"] if searched else SignGradient.name
            fallback = self.fallbacks.get(name, 0)
            rest = f", {fallback} of {len(self._pass.top.output)} samples keep the closed form" if fallback else ""
            # The closed form reads the gradient of the batch's own pass, and is not computed for this line.
            lines.append(f"{name}: {solver}{_spent(self[name]) if searched else ', 0 passes a sample'}{rest}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the loss, and a line a threshold or module of choices."""
        head, *lines = repr(self).split("\n")
        return facts_table(head, dict(line.split(": ", 1) for line in lines))

    def problem(self, name: str, rows: Tensor | None = None) -> LayerProblem | BlockProblem | ProgramProblem:
        """The target problem of this threshold or module of choices; for choices a `ProgramProblem` of their classes.

        Args:
            rows: the samples `(R,)`; None: all.

        Raises:
            NotAcceptedError: the weights have changed since the pass; or a copy of what lies above the threshold does
                not do once more what it did in the pass; or the first axis of its output is not the batch.
        """
        return self._pass.problem(name, rows)


def _spent(result: Result) -> str:
    """What the passes of a search come to, where they were counted."""
    if "passes" not in result.stats:
        return ""
    most = int(result.stats["passes"].max())
    return f", {most} pass{'es' * (most != 1)} a sample"
