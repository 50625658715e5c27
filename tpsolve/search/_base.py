"""What a solver is, and the report through which it speaks while it runs."""

import copy
import importlib
import importlib.util
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from tpsolve._gap import is_closed
from tpsolve._plain import Settings
from tpsolve._result import Budget, Progress, TargetSet
from tpsolve.errors import BudgetError, MissingLibraryError, NotAcceptedError
from tpsolve.problems import BlockProblem, LayerProblem, NetworkProblem, Problem, ProgramProblem
from tpsolve.problems._meter import Meter

Callback = Callable[[Progress], bool | None]
"""Called with each `Progress`; True stops the search, which then returns what it has."""

NUMBER_SECONDS = 4e-7
"""For each number of a network's inputs, what a check of one network takes, and a model at least to write down."""
CHECK_SHARE = 0.1
"""Of the seconds of a search, what may go into checks on the way."""

USUAL = {
    "LayerProblem": "cp-sat",
    "BlockProblem": "hill-climb",
    "NetworkProblem": "circuits",
    "ProgramProblem": "k-best",
}
"""A solver for each kind of problem, for messages of those that don't take it."""
WHOLE = ("integer-search", "weight-box", "all-columns")
"""The solvers of network problems whose weights are of a set."""


@dataclass(frozen=True)
class Solver(Settings, ABC):
    """Settings of a search. All its state lives inside the call, so one solver serves many problems."""

    name: ClassVar[str]
    """Its name in `SOLVERS` and on the command line."""
    accepts: ClassVar[tuple[type[Problem], ...]]
    """The kinds of problem that it takes."""
    one_step: ClassVar[str]
    """What a budget counts as one step, such as "one flip in every chain"."""
    step_cost: ClassVar[str] = ""
    """What one step costs for C chains, n targets and m units above, such as "C n m"; empty: not stated."""
    losses: ClassVar[tuple[str, ...] | None] = None
    """The losses of layer problems that it takes; None: all."""
    exact: ClassVar[bool] = False
    """Whether it proves a bound that meets the optimum, given time."""
    stochastic: ClassVar[bool] = False
    """Whether its result depends on the seed."""
    needs_start: ClassVar[bool] = False
    """Whether it reads the activations, so that the problem must have `start`."""
    compared: ClassVar[bool] = True
    """Whether a comparison runs it if it is not told which solvers to run."""
    module: ClassVar[str | None] = None
    """A module that must be installed for it; its package is named like its first part."""

    counts_passes: ClassVar[bool] = False
    """Whether it counts the passes of layer and block problems, so that a budget in passes limits it."""
    unrounded: ClassVar[bool] = False
    """Whether its bounds are those of the exact rows of a network problem too, where float64 rounds them."""
    whole: ClassVar[bool] = False
    """Whether it takes network problems with a `weight_set`, and offers weights of it with its targets."""

    @classmethod
    def installed(cls) -> bool:
        """Whether the library that it needs is there."""
        return cls.module is None or importlib.util.find_spec(cls.module.partition(".")[0]) is not None

    def check(self, problem: Problem) -> None:
        """Raise if this solver can't take `problem`; called before any work.

        Raises:
            NotAcceptedError: another kind of problem, or it lacks something.
            TooLargeError: more targets than the solver can take.
            MissingLibraryError: its library is not installed.
        """
        if not isinstance(problem, self.accepts):
            expected = " or ".join(kind.__name__ for kind in self.accepts)
            name = type(problem).__name__
            mend = f"For a {name} take {USUAL[name]}." if name in USUAL else ""
            raise NotAcceptedError("problem", name, f"{expected} for {self.name}", mend)
        if isinstance(problem, NetworkProblem) and problem.weight_set is not None and not self.whole:
            mend = f"Take {' or '.join(WHOLE)}, or leave out weight_set for a bound on the errors."
            raise NotAcceptedError("problem", "a weight_set", f"real weights for {self.name}", mend)
        rounds = isinstance(problem, NetworkProblem) and problem.exact is not None
        if rounds and self.exact and not self.unrounded:
            mend = "Take circuits, or leave out exact= for a bound of the rounded numbers."
            raise NotAcceptedError("problem", "numbers that float64 rounds", f"float64 numbers for {self.name}", mend)
        if self.needs_start and problem.start is None:
            raise NotAcceptedError("problem", "no start", "a problem with start", "Pass the activations as start=.")
        if self.module is not None:
            if not self.installed():
                package = self.module.partition(".")[0]
                raise MissingLibraryError(f"the solver {self.name}", package, package)
            # Loaded here, where it is not charged to the budget.
            importlib.import_module(self.module)
        if isinstance(problem, LayerProblem) and self.losses is not None and problem.loss not in self.losses:
            expected = " or ".join(map(repr, self.losses))
            raise NotAcceptedError("problem", f"the loss {problem.loss!r}", f"the loss {expected} for {self.name}")

    @abstractmethod
    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: "Report") -> None:
        """Search a flat batch; tell `report` of targets, bounds and steps, and end when it says stop.

        What is offered must not depend on the clock when the budget has only steps.
        """


def check_counts_passes(solver: Solver) -> None:
    """Raise BudgetError unless a budget in passes limits `solver`."""
    if not solver.counts_passes:
        raise BudgetError(
            "budget.passes", f"passes for {solver.name}", "a solver that counts them", "Give seconds or steps."
        )


class Report:
    """Incumbents and bounds of B samples go in; whether to stop comes out.

    A pickled report can be loaded on any machine: its clock goes on from the seconds that were spent. What is
    offered to it there stays there. A callback that is a lambda or a local function needs cloudpickle.

    Args:
        problem: a flat batch; it judges every offer in float64.
        budget: of the whole call.
        callback: may be None.
    """

    problem: Problem
    budget: Budget
    start: Tensor | None
    """Targets `(B, n)` where a search begins; None: wherever it likes."""
    targets: Tensor
    objective: Tensor
    bound: Tensor
    judge_seconds: float
    """What the problem's own checks of targets have taken of `seconds`."""
    check_seconds: float
    """About what one check of a network takes, by its inputs; 0 for other problems."""
    tolerance: Tensor
    """`Problem.tolerance()`: gaps of at most this, `(B,)`, are closed."""
    found_at: Tensor
    proved_at: Tensor
    steps: int
    stopped: bool
    asked: bool
    """Whether the callback has asked to stop."""

    offered: Tensor

    def __init__(self, problem: Problem, budget: Budget, callback: Callback | None) -> None:
        self.problem, self.budget = problem, budget
        if isinstance(problem, ProgramProblem) and budget.calls is not None:
            for sample in problem.asked:
                sample.most = min(sample.most, sample.calls + budget.calls)
        if isinstance(problem, LayerProblem | BlockProblem):
            most = math.inf if budget.passes is None else budget.passes
            problem.meter = Meter(len(problem.targets), problem.device, most)
        self.start = problem.start
        self._callback = callback
        self._started = time.perf_counter()
        self._ends = math.inf if budget.seconds is None else budget.seconds
        self._steps_before = 0
        shape = problem.batch_shape
        self.targets = torch.ones(*shape, problem.n_vars, device=problem.device, dtype=problem.dtype)
        self.objective = torch.full(shape, math.inf, device=problem.device, dtype=torch.float64)
        self.bound = problem.lower_bound()
        self.tolerance = problem.tolerance()
        self.found_at, self.proved_at = self.objective.clone(), self.objective.clone()
        self.judge_seconds = 0.0
        # Targets of one sample, and what the problem itself said of them: nobody else writes to these.
        self._verdict: dict[str, Tensor] = {}
        # That of the trivial network takes nothing.
        self.check_seconds = NUMBER_SECONDS * problem.inputs.numel() if isinstance(problem, NetworkProblem) else 0.0
        self._judge_from = self.check_seconds / CHECK_SHARE
        self.steps = 0
        self.stopped = False
        self.asked = False
        self.trace: list[Progress] = []
        self.offered = torch.zeros(shape, dtype=torch.bool, device=problem.device)
        """Of a program problem, the samples `(B,)` that `targets` have been offered for, even if without objective."""
        self.notes: dict[int, str] = {}
        self.stats: dict[str, Any] = {}
        """What a solver has to say besides; ends up in `Result.stats`."""
        self.target_set: TargetSet | None = None
        """Of solvers that give several target sets a sample; ends up in `Result.target_set`."""

    def __getstate__(self) -> dict[str, Any]:
        # The zero of a clock is another one in every process.
        return {**vars(self), "_started": self.seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._started = time.perf_counter() - state["_started"]

    @property
    def seconds(self) -> float:
        """Since the call began."""
        return time.perf_counter() - self._started

    @property
    def seconds_left(self) -> float:
        """Until the budget ends; +inf if it has no limit in seconds."""
        return max(0.0, self._ends - self.seconds)

    @property
    def closed(self) -> Tensor:
        """The samples `(B,)` whose gap is closed."""
        return is_closed(self.objective, self.bound, self.tolerance)

    @property
    def meter(self) -> Meter | None:
        """Where passes of a layer or block problem are counted; None: the problem has none."""
        return self.problem.meter if isinstance(self.problem, LayerProblem | BlockProblem) else None

    @property
    def passes_left(self) -> Tensor:
        """Passes that each sample may still take, `(B,)`: +inf without a limit."""
        return torch.full_like(self.objective, math.inf) if self.meter is None else self.meter.left

    def affords(self, passes: int, what: str) -> bool:
        """Whether each sample has so many passes left; if not, the notes say what would have taken them."""
        short = self.passes_left < passes
        for row in short.nonzero()[:, 0]:
            self.note(row, f"{what} takes {passes} passes, and {int(self.passes_left[row])} are left")
        return not bool(short.any())

    @property
    def called_out(self) -> Tensor:
        """The samples `(B,)` without a call or pass left, and those of a program whose assignments are all known."""
        if isinstance(self.problem, ProgramProblem):
            return self.problem.calls_left() <= 0
        return self.passes_left <= 0

    def share_spent(self) -> Callable[[], float]:
        """A clock that begins now: the share of what is left of seconds, calls and passes that is spent, the largest
        one; 0 where none has a limit.
        """
        began, seconds, problem = self.seconds, self.seconds_left, self.problem
        if isinstance(problem, ProgramProblem) and self.budget.calls is not None:
            left = problem.calls_left
        elif self.budget.passes is not None:

            def left() -> Tensor:
                return self.passes_left
        else:
            return lambda: (self.seconds - began) / max(seconds, 1e-9)
        whole = left().clamp(min=1)
        return lambda: max((self.seconds - began) / max(seconds, 1e-9), 1 - float((left() / whole).mean()))

    @property
    def incumbent(self) -> Tensor | None:
        """The best targets `(B, n)`; of samples without any, where a search begins. None if that is unknown."""
        found = torch.isfinite(self.objective)[:, None]
        if self.start is None:
            return self.targets.clone() if bool(found.all()) else None
        return torch.where(found, self.targets, self.start)

    def offer(
        self,
        targets: Tensor,
        rows: Tensor | None = None,
        found_at: Tensor | None = None,
        weights: Sequence[tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        """Keep `targets (R, n)` of the samples `rows (R,)` (by default all) where they are the best so far.

        Args:
            found_at: `(R,)`, when they were found, by default now.
            weights: of a network problem with a `weight_set`, `(weight (units, n), bias (units,))` of each layer, which
                show that the set gives these targets; those of the best are kept in `stats["weights"]`.
        """
        every = rows is None or len(self.objective) == 1
        known = self._verdict.get("targets") if every and weights is None else None
        if known is not None and torch.equal(known, targets.to(known.dtype)) and torch.equal(known, self.targets):
            return
        rows = torch.arange(len(self.objective), device=self.problem.device) if rows is None else rows
        value = self._judge(self.problem.select(rows), targets, weights)
        better = value < self.objective[rows]
        # Other weights may give the same targets at another price.
        if every and (
            bool(better.all())
            or (torch.equal(value, self.objective) and torch.equal(targets.to(self.targets.dtype), self.targets))
        ):
            self._verdict.update(targets=targets.to(self.targets.dtype, copy=True), objective=value)
        if isinstance(self.problem, ProgramProblem):
            self.offered[rows] = True
            none = torch.isinf(value) & torch.isinf(self.objective[rows])
            self.targets[rows[none]] = targets[none]
        kept = rows[better]
        # What is lower by rounding alone was there before.
        new = better & ~is_closed(self.objective[rows], value, self.tolerance[rows])
        self.found_at[rows[new]] = self.seconds if found_at is None else found_at[new].double()
        self.targets[kept] = targets[better].to(self.targets.dtype)
        self.objective[kept] = value[better]
        if len(kept) and weights is not None:
            self.stats["weights"] = [(weight.clone(), bias.clone()) for weight, bias in weights]
        self._note_closed()
        if len(kept):
            self._record(self._progress(self.objective, self.bound))

    def judge(self) -> Tensor:
        """The problem's objective `(B,)` of `targets`; not computed again where all were offered together at last."""
        if self._verdict and torch.equal(self._verdict["targets"], self.targets):
            return self._verdict["objective"].clone()
        return self._judge(self.problem, self.targets, self.stats.get("weights"))

    def _judge(
        self, problem: Problem, targets: Tensor, weights: Sequence[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        began = time.perf_counter()
        if isinstance(problem, NetworkProblem) and problem.weight_set is not None:
            value = problem.objective(targets, weights)
        else:
            value = problem.objective(targets)
        spent = time.perf_counter() - began
        self.judge_seconds += spent
        self._judge_from = self.seconds + max(spent, self.check_seconds) / CHECK_SHARE
        return value

    @property
    def may_judge(self) -> bool:
        """Whether a network that is better may be offered now; else later or at the end, since checks take too long.

        Always with a budget in steps alone.
        """
        return self.budget.seconds is None or self.seconds >= self._judge_from

    def prove(self, bound: Tensor | float, rows: Tensor | None = None) -> None:
        """Raise the bound of the samples `rows` (by default all) to a proven `bound`."""
        rows = torch.arange(len(self.bound), device=self.problem.device) if rows is None else rows
        self.bound[rows] = torch.maximum(
            self.bound[rows], torch.as_tensor(bound, dtype=torch.float64, device=rows.device)
        )
        self._note_closed()

    def note(self, row: Tensor, reason: str) -> None:
        """Say why the sample `row`, a tensor of one index, ended early; ends up in `Result.stats["notes"]`."""
        self.notes[int(row)] = reason

    def step(self, objective: Tensor | None = None, bound: Tensor | None = None) -> bool:
        """Count a step of all samples, then as `pulse`; also ends when the budget's steps are spent."""
        self.steps += 1
        if self.budget.steps is not None and self.steps >= self.budget.steps:
            self.stopped = True
        return self.pulse(objective, bound)

    def pulse(self, objective: Tensor | None = None, bound: Tensor | None = None) -> bool:
        """Trace and call back; True: end now, since time is up, the callback asked, or all gaps are closed.

        `objective`, `bound (B,)`: what the solver knows and has not offered or proven yet.
        """
        best = self.objective if objective is None else torch.minimum(self.objective, objective.double())
        proven = self.bound if bound is None else torch.maximum(self.bound, bound)
        progress = self._progress(best, proven)
        self._record(progress)
        if self._callback is not None and self._callback(progress):
            self.stopped = self.asked = True
        if self.seconds_left <= 0 or self._is_done(best, proven):
            self.stopped = True
        return self.stopped

    def spend(self, count: int) -> None:
        """Count calls or passes that a solver has made of each sample, other than by search states."""
        if isinstance(self.problem, ProgramProblem):
            self.problem.spend(count)
        elif self.meter is not None:
            self.meter.spend(count)

    def run(self, solver: Solver, generator: torch.Generator, share: float = 1.0, start: Tensor | None = None) -> None:
        """Let `solver` search the same samples for a share of the budget that is left; all it finds is kept.

        `start (B, n)`: where it begins, by default where this report says.
        """
        left = None if self.budget.steps is None else int(share * (self.budget.steps - self.steps))
        calls, passes = self._share_of_calls(share), self._share_of_passes(share)
        if self.budget.passes is not None:
            check_counts_passes(solver)
        # Read once: a moment later it may be 0, which is no budget.
        seconds = share * self.seconds_left
        if self.stopped or 0 in (left, calls, passes) or seconds <= 0:
            return
        part = copy.copy(self)
        part.budget = Budget(None if math.isinf(seconds) else seconds, left, calls, passes)
        part._ends, part._steps_before, part.steps = self.seconds + seconds, self._steps_before + self.steps, 0
        part.start = self.start if start is None else start
        with self._limited(calls, passes):
            solver.run(self.problem, part.budget, generator, part)
        self.steps += part.steps
        self.target_set, self.judge_seconds = part.target_set, part.judge_seconds
        self._judge_from = part._judge_from
        self.asked = part.asked
        spent = self.budget.steps is not None and self.steps >= self.budget.steps
        self.stopped = self.asked or spent or self._is_done(self.objective, self.bound) or self.seconds_left <= 0

    def _is_done(self, objective: Tensor, bound: Tensor) -> bool:
        done = is_closed(objective, bound, self.tolerance)
        limited = self.budget.calls is not None or self.budget.passes is not None
        return bool((done | self.called_out if limited else done).all())

    def _limited(self, calls: int | None, passes: int | None) -> AbstractContextManager[None]:
        if isinstance(self.problem, ProgramProblem):
            return self.problem.limited(calls)
        return nullcontext() if self.meter is None else self.meter.limited(passes)

    def _share_of_passes(self, share: float) -> int | None:
        """Of the passes left to each open sample, where there is a limit."""
        if self.budget.passes is None:
            return None
        left = self.passes_left
        left = left[(left > 0) & ~self.closed]
        return int(share * float(left.min())) if len(left) else 0

    def _share_of_calls(self, share: float) -> int | None:
        """Of the calls left to each open sample, where there is a limit."""
        if self.budget.calls is None or not isinstance(self.problem, ProgramProblem):
            return None
        left = self.problem.calls_left()
        left = left[(left > 0) & ~self.closed]
        return int(share * float(left.min())) if len(left) else 0

    def each_sample(self) -> Iterator[tuple[Tensor, Budget]]:
        """For solvers that take one sample at a time: its row `(1,)` and its share of the budget.

        Each open sample gets an equal share of the time that is left, and the budget's steps in full.
        Time left over at the end goes to the samples that were cut short, once more in equal shares,
        for as long as that gives them more than they had.
        """
        waiting, earlier = list(range(len(self.objective))), 0.0
        while waiting and not self.stopped:
            if self.seconds_left / len(waiting) <= earlier:
                return
            cut, count = [], len(waiting)
            earlier = self.seconds_left / count
            for position, row in enumerate(waiting):
                if self.stopped:
                    return
                if bool(self.closed[row]):
                    continue
                share, began = self.seconds_left / (count - position), self.seconds
                seconds = None if math.isinf(share) else max(1e-3, share)
                share_of_budget = replace(self.budget, seconds=seconds)
                yield torch.tensor([row], device=self.problem.device), share_of_budget
                self.pulse()
                if self.seconds - began >= 0.9 * share:
                    cut.append(row)
            waiting = cut

    def _progress(self, objective: Tensor, bound: Tensor) -> Progress:
        return Progress(self._steps_before + self.steps, self.seconds, float(objective.mean()), float(bound.mean()))

    def _record(self, progress: Progress) -> None:
        last = self.trace[-1] if self.trace else None
        if last is not None:
            # What a solver knew before and has not offered yet still holds.
            progress = replace(
                progress,
                objective=min(progress.objective, last.objective),
                bound=max(progress.bound, last.bound),
            )
            if (last.objective, last.bound) == (progress.objective, progress.bound):
                return
        # Often enough to draw the curve, without a point for each of a million steps; the newest is always there.
        if len(self.trace) > 1 and self.trace[-1].seconds < 1.005 * self.trace[-2].seconds:
            self.trace[-1] = progress
        else:
            self.trace.append(progress)

    def _note_closed(self) -> None:
        fresh = self.closed & torch.isinf(self.proved_at)
        self.proved_at[fresh] = self.seconds
