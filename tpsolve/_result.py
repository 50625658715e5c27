"""What a search is allowed to spend, what it reports, and what it returns."""

import html
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from os import PathLike
from typing import Any, TypedDict

import torch
from torch import Tensor

from tpsolve._gap import is_closed
from tpsolve._plain import make_plain
from tpsolve._storage._archive import read_archive, write_archive
from tpsolve._storage._documents import Count, FloatText
from tpsolve.errors import BudgetError, FileFormatError, MissingLibraryError

SHOWN = 20
"""Samples of a result that a notebook shows."""


class Status(Enum):
    """What is known of a sample; derived from its objective and bound, never asserted."""

    UNKNOWN = "unknown"
    """No targets were found, and none are ruled out."""
    FEASIBLE = "feasible"
    """Targets were found; better ones may exist."""
    OPTIMAL = "optimal"
    """The objective meets a proven lower bound, within the result's `tolerance`."""
    INFEASIBLE = "infeasible"
    """It is proven that no targets satisfy the constraints."""


_COUNTS = ("steps", "calls", "passes")


@dataclass(frozen=True)
class Budget:
    """What a search may spend at most; at least one of the limits is set, and the first reached ends it.

    Args:
        seconds: wall-clock time of the whole call, shared by the samples of a batch.
        steps: steps of each sample; every solver's `one_step` says what one step is. Equal seeds
            and a budget in steps give equal results on one device; seconds promise no such thing.
        calls: of a program problem: assignments of each sample whose answer is asked for. Remembered answers
            count too, so that equal seeds give equal results whatever is remembered. The program is called only for
            the others. Other problems have no calls.
        passes: of layer and block problems: passes of each sample through what lies above, for all its chains
            together. A forward pass counts 1, and so does each backward pass. Of a linear layer, and of a convolution
            whose flips are computed where they are felt, a look at all flips counts 1, and a sweep too: each is about
            as much work as a product with the weight. What the problem does to judge the result is not counted. Of
            choices in a network a call is a pass. Solvers that count no passes are refused. Equal seeds and a budget
            in passes give equal results on one device.

    Raises:
        BudgetError: no limit, or one that is not positive.
    """

    seconds: float | None = None
    steps: int | None = None
    calls: int | None = None
    passes: int | None = None

    def __post_init__(self) -> None:
        make_plain(self)
        if all(getattr(self, name) is None for name in ("seconds", *_COUNTS)):
            raise BudgetError(
                "budget", "no limit at all", "seconds, steps, calls or passes", "For example Budget(seconds=10)."
            )
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if self.seconds is not None and not (number and 0 < self.seconds < math.inf):
            raise BudgetError("budget.seconds", self.seconds, "a positive, finite number of seconds")
        for name in _COUNTS:
            limit = getattr(self, name)
            whole = isinstance(limit, int) and not isinstance(limit, bool)
            if limit is not None and not (whole and limit > 0):
                raise BudgetError(f"budget.{name}", limit, "a positive whole number")
            if limit is not None and limit >= 2**63:
                raise BudgetError(f"budget.{name}", f"a number of {limit.bit_length()} bits", "less than 2^63")


@dataclass(frozen=True)
class Progress:
    """One moment of a search: means over the batch.

    Args:
        step: steps done so far.
        seconds: wall-clock time since the call began.
        objective: mean objective of the best targets so far; +inf while some sample has none.
        bound: mean proven lower bound; -inf while there is none.
    """

    step: int
    seconds: float
    objective: float
    bound: float


@dataclass(frozen=True)
class TargetSet:
    """Several target sets of each sample, as weighted draws and marginals give them.

    Args:
        targets: `(B, K, n)`, as those of a `Result`.
        weights: `(B, K)` float64, at least 0; they sum to 1 over the sets of a sample, or are all 0 where there is
            none.
        shares: `(B, n, K)` float64, of solvers that count more assignments than they list: the share of all of them
            that has each value; None: what the sets and their weights say.
        entropy: `(B,)` float64, with `shares`: of the weights of all these assignments, in nats.
    """

    targets: Tensor
    weights: Tensor
    shares: Tensor | None = None
    entropy: Tensor | None = None


@dataclass(frozen=True, repr=False)
class Result:
    """What `solve()` returns, all tensors on the problem's device.

    Args:
        targets: `(*batch, *target_shape)`, in the problem's dtype: spins in {-1, +1}; of a program problem int64, of
            choice units their classes.
        objective: `(*batch,)` float64, recomputed by the problem from `targets` alone; +inf: none found.
        bound: `(*batch,)` float64, a proven lower bound; +inf: proven infeasible.
        trace: incumbents and bounds as they came.
        stats: `solver`, `steps`, `seconds`, of which `judge_seconds` went into the problem's own checks of what was
            found: the last one ends after the budget does. And `found_at`, `proved_at`: seconds per sample at which
            the final objective was reached and the gap closed (+inf: never), `missing` `(*batch,)` bool:
            where the search found nothing and the start was taken, and `notes`: why a sample ended
            early, by its index in the flat batch. Of layer and block problems, where the solver counts them, `passes`
            `(*batch,)` int64: what each sample took of them, as `Budget` counts. Of network problems with a
            `weight_set`, `weights`: weight and bias of each layer, which give the targets.
        target_set: of solvers that give several target sets a sample: all of them; `targets` is the cheapest.
        tolerance: `(*batch,)` float64, `Problem.tolerance()`: a gap of at most this is closed, since it is rounding or
            less than two objectives can differ; None: only a gap of 0 is.
    """

    targets: Tensor
    objective: Tensor
    bound: Tensor
    trace: tuple[Progress, ...] = ()
    stats: dict[str, Any] = field(default_factory=dict)
    target_set: TargetSet | None = None
    tolerance: Tensor | None = None

    @property
    def gap(self) -> Tensor:
        """`objective - bound`, `(*batch,)`, never below 0; 0 where proven infeasible."""
        gap = (self.objective - self.bound).clamp(min=0)
        return torch.where(self.bound == math.inf, 0.0, gap)

    @property
    def optimal(self) -> Tensor:
        """Where the gap is closed: `(*batch,)` bool."""
        return is_closed(self.objective, self.bound, self._tolerance)

    @property
    def _tolerance(self) -> Tensor:
        return torch.zeros_like(self.objective) if self.tolerance is None else self.tolerance

    @property
    def status(self) -> Any:
        """The `Status` of the sample; for a batch, nested lists of them, shaped as the batch."""
        return _nested_status(self.objective, self.bound, self._tolerance)

    def __repr__(self) -> str:
        """Five lines: solver and size, objective, bound, gap, statuses."""
        count = self.objective.numel()
        size = f"{self.targets.numel() // max(1, count)} targets" if count else "no targets"
        spent = f", {self.stats['steps']} steps in {self.stats['seconds']:.3g} s" if "seconds" in self.stats else ""
        if "passes" in self.stats:
            spent += f", at most {int(torch.as_tensor(self.stats['passes']).max())} passes a sample"
        counts = Counter(status.value for status in self._statuses())
        lines = [
            f"Result of {self.stats.get('solver', 'a search')}: {count} sample{'s' * (count != 1)} of {size}{spent}",
            f"  objective  {_range(self.objective)}",
            f"  bound      {_range(self.bound)}",
            f"  gap        {_range(self.gap)}",
            f"  status     {', '.join(f'{number} {name}' for name, number in counts.items()) or 'none'}",
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the five lines, and a table of the first samples."""
        head = html.escape(repr(self)).replace("\n", "<br>")
        columns = self._columns()
        rows = zip(*columns.values(), strict=True)
        lines = ([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
        return f"<pre>{head}</pre>{lines_table(list(columns), lines, 'samples')}"

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row a sample: sample, objective, bound, gap, status, found_at, proved_at.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingLibraryError("to_frame()", "pandas", "pandas") from error
        return pandas.DataFrame(self._columns())

    def _statuses(self) -> list[Status]:
        flat = (each.reshape(-1) for each in (self.objective, self.bound, self._tolerance))
        return _nested_status(*flat)

    def _columns(self) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            "sample": list(range(self.objective.numel())),
            **{name: getattr(self, name).reshape(-1).tolist() for name in ("objective", "bound", "gap")},
            "status": [status.value for status in self._statuses()],
        }
        for name in ("found_at", "proved_at"):
            if name in self.stats:
                columns[name] = torch.as_tensor(self.stats[name]).reshape(-1).tolist()
        return columns

    def save(self, path: str | PathLike[str], *, fingerprint: str = "") -> None:
        """Write the result to `path` (.npz, no pickle); `fingerprint` ties it to its problem."""
        write_archive(
            path,
            "result",
            {
                "targets": self.targets,
                "objective": self.objective,
                "bound": self.bound,
                "tolerance": self.tolerance,
            },
            {"fingerprint": fingerprint, "stats": _plain(self.stats), "trace": [_row(p) for p in self.trace]},
        )


class _Header(TypedDict):
    fingerprint: str
    stats: dict[str, Any]
    trace: list[tuple[Count, FloatText, FloatText, FloatText]]


def load_result(path: str | PathLike[str]) -> tuple[Result, str]:
    """The result saved at `path`, on the CPU, and the fingerprint of its problem.

    Raises:
        FileFormatError: no tpsolve result, truncated, or of another version.
    """
    required = ("targets", "objective", "bound")
    arrays, header = read_archive(path, "result", _Header, required, ("tolerance",))
    shape = arrays["objective"].shape
    for name in ("objective", "bound", "tolerance"):
        if name in arrays and (arrays[name].shape, arrays[name].dtype) != (shape, torch.float64):
            raise FileFormatError(f"{path}: {name} is not one float64 a sample; the file is damaged.")
    if arrays["targets"].shape[: len(shape)] != shape:
        raise FileFormatError(f"{path}: targets and objective are of different samples; the file is damaged.")
    trace = tuple(Progress(int(s), *map(float, rest)) for s, *rest in header["trace"])
    given = (arrays[name] for name in required)
    result = Result(*given, trace=trace, stats=header["stats"], tolerance=arrays.get("tolerance"))
    return result, header["fingerprint"]


def _nested_status(objective: Tensor, bound: Tensor, tolerance: Tensor) -> Any:
    if objective.dim():
        return [_nested_status(*each) for each in zip(objective, bound, tolerance, strict=True)]
    if bound == math.inf:
        return Status.INFEASIBLE
    if objective == math.inf:
        return Status.UNKNOWN
    return Status.OPTIMAL if is_closed(objective, bound, tolerance) else Status.FEASIBLE


def _range(values: Tensor) -> str:
    flat = values.double().reshape(-1)
    if not len(flat):
        return "none"
    low, high = float(flat.min()), float(flat.max())
    return f"{low:.6g}" if low == high else f"mean {float(flat.mean()):.6g}, from {low:.6g} to {high:.6g}"


def _row(progress: Progress) -> list[Any]:
    # JSON has no infinity: as text, which float() reads back.
    return [progress.step, *(str(v) for v in (progress.seconds, progress.objective, progress.bound))]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """For notebooks, a table of a fact a line, below its title; whatever the texts hold, they stay texts."""
    lines = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(fact))}</td></tr>'
        for name, fact in facts.items()
    )
    return f"<table><caption><b>{html.escape(title)}</b></caption>{lines}</table>"


def lines_table(headings: Sequence[str], lines: Iterable[Sequence[object]], what: str) -> str:
    """For notebooks, a table of the first lines, and how many more of `what` there are; texts stay texts here too."""
    every = list(lines)
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) + "</tr>" for line in every[:SHOWN]
    )
    more = f"<p>{len(every) - SHOWN} more {what}</p>" if len(every) > SHOWN else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"
