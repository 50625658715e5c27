"""The program target problem: which symbols would have made a program give the label?"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from tpsolve._check_arguments import own
from tpsolve._plain import is_real
from tpsolve._storage._archive import digest
from tpsolve.errors import ArgumentError, DeviceError, NotAcceptedError, ShapeError, ValueSetError
from tpsolve.problems._base import FlipProblem
from tpsolve.problems.program._asked import Asked
from tpsolve.problems.program._declared_constraints import Declaration, DeclaredConstraints
from tpsolve.problems.program._fold import Fold
from tpsolve.problems.program._program_calls import FAILED, Key, ProgramCalls
from tpsolve.problems.program._program_state import ProgramState
from tpsolve.problems.program._read_program import (
    all_whole,
    as_choices,
    check_logits,
    check_read,
    read_labels,
    read_mask,
    read_symbols,
    read_table,
)
from tpsolve.problems.program._symbol_spins import SymbolSpins

Symbols = str | int | Sequence[int | str]
ProgramFunction = Callable[..., Any]
AnswerLoss = str | Callable[[Any, Any], float]
"""How an answer is judged: "equal" to the label, or a function (answer, label) -> float of at least 0."""
UNKNOWN = -1
"""In `known`: a symbol without a label."""
MAX_COST = 1e300
"""What the costs of a sample may sum up to, so that no sum of them overflows."""
FAILURE_PENALTY = 1e9
"""What a failed call counts while a search walks, for a loss of one's own, whose values nobody knows."""


class ProgramProblem(FlipProblem):
    """For every sample of a batch, find the symbols s that minimise

        E(s) = loss(program(s_1, ..., s_n), label) + stay sum_j cost_j(s_j)

    where the program can be called and nothing else. A symbol is a class from 0 to K - 1, the value of a choice unit,
    or a spin in {-1, +1}. The cost of a value is what it takes away from the network's present belief: the largest
    logit of the unit less that of the value, 0 for the present symbol; for a spin |z| if it is negated. So for stay =
    1 it is
    -log p of the symbols, up to a constant. Symbols with which the program gives the label are *consistent*. With the
    loss "equal" all others have E = +inf: only consistent ones are answers.

    Args:
        program: called as `ProgramCalls` says, which it may be already: then its memory serves further problems.
        labels: B values, compared with the program's answers by ==; tensors and arrays are taken row by row.
        logits: of choice units `(B, n, K)`; of spins the pre-activations `(B, n)`. Detached. Of units of several sizes
            K is the largest, and what lies beyond a unit's own is not read.
        symbols: what each unit is: "sign", or a number of classes of at least 2, one for all n or a list of n of them.
        mask: `(B, n)` bool: which symbols exist; the program is called with those alone, in their order. None: all.
        known: `(B, n)` int64: classes, or spins, that are given; -1 for a choice and 0 for a spin where none is. The
            others are searched.
        stay: weight of the costs, at least 0.
        constraints: what the label demands of the symbols, as `DeclaredConstraints` takes it: instead of a program, or
            beside it, where symbols that break them are inconsistent and not called.
        loss: "equal", or a function (answer, label) -> number of at least 0; +inf and NaN make the symbols
            inconsistent.

    Targets are int64 `(B, n)`, classes and spins side by side; symbols that do not exist are 0 (choices) or -1 (spins).

    Raises:
        ArgumentError: an argument makes no sense; the message names it and the cure.
    """

    program: ProgramCalls | None
    constraints: DeclaredConstraints | None
    loss: AnswerLoss
    stay: float
    labels: list[Any]
    logits: Tensor
    cost: Tensor
    mask: Tensor | None
    sizes: Tensor
    is_spin: Tensor
    start: Tensor
    spins: SymbolSpins
    asked: list[Asked]
    device: torch.device
    dtype: torch.dtype
    n_vars: int
    batch_shape: tuple[int, ...]

    def __init__(
        self,
        program: ProgramFunction | ProgramCalls | None,
        labels: Any,
        logits: Tensor,
        *,
        symbols: Symbols,
        mask: Any = None,
        known: Any = None,
        stay: float = 1.0,
        loss: AnswerLoss = "equal",
        constraints: Declaration | DeclaredConstraints | None = None,
    ):
        check_logits(logits)
        if not is_real(stay) or not 0 <= stay < float("inf"):
            raise ArgumentError("stay", stay, "a finite number of at least 0")
        if not callable(loss) and not (isinstance(loss, str) and loss == "equal"):
            raise ArgumentError("loss", repr(loss), "'equal', or a function of (answer, label)")
        if program is None and constraints is None:
            raise ArgumentError(
                "program", None, "a function of the symbols, or constraints=", "Give one of them, or both."
            )
        if program is None and loss != "equal":
            raise ArgumentError("loss", repr(loss), "'equal' where there are only constraints")
        self.program = None if program is None else ProgramCalls.of(program)
        self.constraints = DeclaredConstraints.of(constraints)
        self.stay, self.loss = float(stay), loss
        self.device, self.dtype = logits.device, torch.int64
        z = own(logits)
        self.sizes, self.is_spin = read_symbols(symbols, z)
        self.n_vars, self.batch_shape = len(self.sizes), (len(z),)
        self.labels = read_labels(labels, len(z))
        self.mask = read_mask(own(mask), (len(z), self.n_vars), self.device)
        check_read(z, self.sizes, self.mask)
        self.logits = as_choices(z.double(), self.is_spin, self.sizes)
        """`(B, n, K)` float64: of a value, up to a constant of the unit, the log of its probability; -inf where it is
        none.
        """
        if self.mask is not None:
            only_first = torch.arange(self.logits.shape[2], device=self.device) == 0
            self.logits = torch.where(self.mask[..., None], self.logits, torch.where(only_first, 0.0, -torch.inf))
        self.cost = self.logits.amax(2, keepdim=True) - self.logits
        """`(B, n, K)` float64, at least 0: of each value; +inf where there is none such."""
        each = self.cost.masked_fill(torch.isinf(self.logits), 0.0)
        worst = float(max(1.0, self.stay) * each.amax(2).sum(1).amax())
        if worst > MAX_COST:
            raise ArgumentError(
                "logits",
                f"costs that sum up to {worst:.3g}",
                f"logits whose differences, times stay, sum up to at most {MAX_COST:g}",
                "Scale them down: sums overflow, and would look like symbols that do not exist.",
            )
        if known is not None:
            given = self.read_known(known)
            other = (given[..., None] != UNKNOWN) & (
                torch.arange(self.cost.shape[2], device=self.device) != given[..., None]
            )
            self.logits = self.logits.masked_fill(other, -torch.inf)
            self.cost = torch.where(other, torch.inf, torch.where(given[..., None] == UNKNOWN, self.cost, 0.0))
        self.start = self.symbols_of(self.cost.argmin(2))
        if self.mask is None and self.program is not None:
            self.program.check_arguments(self.n_vars)
        self.spins = SymbolSpins(self.sizes, self.is_spin)
        """How local searches see the symbols."""
        self.asked = [Asked(count) for count in self.count_assignments()]
        """What a search that walks has asked about each sample; made anew by `flatten`, and so by `solve`."""

    @property
    def present(self) -> Tensor:
        """The network's own symbols `(B, n)`, with those that are known in their place: what `start` is."""
        return self.start

    @property
    def fold(self) -> Fold | None:
        """The program, where it is a `Fold` and nothing else judges: no constraints, and the loss "equal"."""
        function = None if self.program is None else self.program.function
        return function if isinstance(function, Fold) and self.constraints is None and self.loss == "equal" else None

    def symbols_of(self, values: Tensor) -> Tensor:
        """Targets `(..., n)` of value numbers from 0: a spin's are -1 and +1."""
        return torch.where(self.is_spin, 2 * values - 1, values)

    def values_of(self, targets: Tensor) -> Tensor:
        """The value numbers, from 0, of targets `(..., n)`."""
        return torch.where(self.is_spin, (targets + 1) // 2, targets)

    def objective(self, targets: Tensor) -> Tensor:
        """E, `(..., B)` float64, of `targets (..., B, n)`; +inf where the program fails, or its answer is wrong.

        Remembered answers cost no call.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        return self.loss_of(targets) + self.stay * self.disturbance(targets)

    def disturbance(self, targets: Tensor) -> Tensor:
        """sum_j cost_j(s_j), `(..., B)` float64: what it takes to leave the present symbols; 0 for those.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        self._check_targets(targets)
        values = self.values_of(targets)
        cost = self.cost.expand(*values.shape[:-2], *self.cost.shape)
        return cost.gather(-1, values[..., None])[..., 0].sum(-1)

    def loss_of(self, targets: Tensor) -> Tensor:
        """The loss of the program's answers, `(..., B)` float64; one call for each distinct assignment that is not
        remembered.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        self._check_targets(targets)
        shape = targets.shape[:-1]
        rows = np.broadcast_to(np.arange(self.batch_shape[0]), tuple(shape)).reshape(-1)
        keys = self._keys(targets, rows)
        losses = self._losses(keys, rows.tolist(), self._allowed(keys, rows))
        return torch.from_numpy(losses).to(self.device).reshape(shape)

    def _losses(self, keys: list[Key], rows: list[int], allowed: list[bool]) -> np.ndarray:
        # What the constraints forbid is not called.
        kept = [i for i, good in enumerate(allowed) if good]
        answers: list[Any] = [FAILED] * len(keys)
        given = [None] * len(kept) if self.program is None else self.program.answers([keys[i] for i in kept])
        for i, answer in zip(kept, given, strict=True):
            answers[i] = answer
        labels = [self.labels[row] for row in rows]
        if self.loss == "equal" and all_whole(answers) and all_whole(self.labels):
            return np.where(np.array(answers) == np.array(labels), 0.0, np.inf)
        judged: dict[tuple[int, int], float] = {}
        losses = np.empty(len(keys))
        for i, (answer, label) in enumerate(zip(answers, labels, strict=True)):
            # Equal answers are one object, as long as they are remembered; labels are held by the problem.
            pair = id(answer), id(label)
            if pair not in judged:
                judged[pair] = self._judge(answer, label)
            losses[i] = judged[pair]
        return losses

    def answers(self, targets: Tensor) -> list[Any]:
        """What the program makes of targets `(B, n)`: B values.

        Raises:
            NotAcceptedError: there are only constraints.
        """
        if self.program is None:
            raise NotAcceptedError("problem", "constraints without a program", "a program, which gives answers")
        self._check_targets(targets)
        return self.program.answers(self._keys(targets, np.arange(self.batch_shape[0])))

    def consistent(self, targets: Tensor) -> Tensor:
        """Where E has no infinite loss, `(..., B)` bool: for the loss "equal", where the program gives the label."""
        return torch.isfinite(self.loss_of(targets))

    def log_probability(self, targets: Tensor) -> Tensor:
        """Log p of targets `(..., B, n)` under the network, `(..., B)` float64; known symbols have p = 1.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        self._check_targets(targets)
        values = self.values_of(targets)
        log_p = torch.log_softmax(self.logits, 2)
        return log_p.expand(*values.shape[:-2], *log_p.shape).gather(-1, values[..., None])[..., 0].sum(-1)

    @property
    def possible(self) -> Tensor:
        """Which values each unit may have, `(B, n, K)` bool."""
        return torch.isfinite(self.cost)

    @property
    def stay_weight(self) -> Tensor:
        """What the flip of each spin of the present symbols costs, `(B, m)`; +inf where it is no move."""
        values = self.values_of(self.present)
        rows = torch.arange(len(values), device=self.device)[:, None]
        cost = self.cost[rows, self.spins.unit, self.spins.after(values)]
        return cost.masked_fill(self.spins.after(values) == values[:, self.spins.unit], torch.inf)

    def penalty(self) -> Tensor:
        """What stands for an infinite loss while a search walks, `(B,)`.

        For the loss "equal" more than all costs, so that consistent symbols always count as better; else
        `FAILURE_PENALTY`, which greater losses count too.
        """
        if self.loss != "equal":
            return torch.full_like(self.cost[:, 0, 0], FAILURE_PENALTY)
        most = self.stay * torch.where(self.possible, self.cost, 0.0).amax(2).sum(1)
        # Beyond rounding, whatever its size.
        return 1 + most * (1 + 1e-9)

    def cost_of(self, values: Tensor, rows: Tensor | None = None) -> Tensor:
        """sum_j cost_j, `(R,)`, of the value numbers `values (R, n)` in the samples `rows (R,)`, by default all."""
        cost = self.cost if rows is None else self.cost[rows]
        return cost.gather(2, values[..., None])[..., 0].sum(1)

    def ask(self, values: Tensor, rows: Tensor) -> Tensor:
        """E `(R,)` of the value numbers `values (R, n)` in the samples `rows (R,)`, with `penalty` for infinite losses.

        A call for each that `asked` does not know; +inf where the sample has none left, the first ones first.
        """
        stay, numbers = self.stay * self.cost_of(values, rows), np.asarray(rows.cpu())
        keys, samples = self._keys(self.symbols_of(values), numbers), [self.asked[row] for row in rows.tolist()]
        allowed = self._allowed(keys, numbers)
        places = [
            i
            for i, (sample, key) in enumerate(zip(samples, keys, strict=True))
            if sample.admit(key, calls=allowed[i] and self.program is not None)
        ]
        losses = self._losses([keys[i] for i in places], numbers[places].tolist(), [allowed[i] for i in places])
        penalty, tables = self.penalty()[rows], values.tolist()
        for i, loss in zip(places, losses.tolist(), strict=True):
            samples[i].keep(keys[i], min(loss, float(penalty[i])) + float(stay[i]), tables[i])
        found = [sample.energies.get(key, float("inf")) for sample, key in zip(samples, keys, strict=True)]
        return torch.tensor(found, dtype=torch.float64, device=self.device)

    def calls_left(self) -> Tensor:
        """Calls that each sample has left, `(B,)`: +inf without a limit, 0 where all its assignments are known."""
        return torch.tensor([sample.left for sample in self.asked], dtype=torch.float64, device=self.device)

    @contextlib.contextmanager
    def limited(self, calls: int | None) -> Iterator[None]:
        """Let each sample spend at most `calls` more inside, within what it may."""
        before = [sample.most for sample in self.asked]
        for sample in self.asked:
            sample.most = min(sample.most, sample.calls + (float("inf") if calls is None else calls))
        try:
            yield
        finally:
            for sample, most in zip(self.asked, before, strict=True):
                sample.most = most

    def spend(self, calls: int) -> None:
        """Count calls that a solver makes of each sample by other ways than `ask`."""
        for sample in self.asked:
            sample.calls += calls

    def best_asked(self) -> Tensor:
        """The targets `(B, n)` of least energy among those asked; the present symbols where nothing was."""
        values = self.values_of(self.present).tolist()
        best = [sample.best or row for sample, row in zip(self.asked, values, strict=True)]
        return self.symbols_of(torch.tensor(best, device=self.device))

    def fully_asked(self, objective: Tensor) -> Tensor:
        """Where `objective (B,)`, the least of what was asked, is that of all assignments, `(B,)` bool."""
        whole = [len(sample.energies) >= sample.count for sample in self.asked]
        exact = torch.ones_like(objective, dtype=torch.bool) if self.loss == "equal" else objective < FAILURE_PENALTY
        return torch.tensor(whole, device=self.device) & exact

    def move_delta(self, targets: Tensor) -> Tensor:
        """Change of E when one symbol of `targets (B, n)` is set to a value: `(B, n, K)`; 0 for the present one.

        Infinite losses count `penalty`. +inf where a unit has no such value. Every move costs a call.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem.
        """
        self._check_targets(targets)
        values = self.values_of(targets)
        delta = self.spins.table(self.flip_delta(targets), values, torch.inf)
        return delta.scatter(2, values[..., None], 0.0)

    def flip_delta(self, targets: Tensor) -> Tensor:
        """`move_delta` of the flip of each spin: `(B, m)`; +inf for those of the present values."""
        return self.flatten().state(self.encode(targets)).flip_delta()

    def encode(self, targets: Tensor) -> Tensor:
        return self.spins.encode(self.values_of(targets))

    def decode(self, spins: Tensor) -> Tensor:
        return self.symbols_of(self.spins.decode(spins))

    def random_targets(self, copies: int, generator: torch.Generator) -> Tensor:
        drawn = torch.rand((copies, 1, self.n_vars), generator=generator, device=generator.device).to(self.device)
        number = (drawn * self.possible.sum(2)).long()
        first = (~self.possible).long().argsort(dim=2, stable=True)
        values = first.expand(copies, *first.shape).gather(3, number[..., None])[..., 0]
        return self.symbols_of(values).reshape(-1, self.n_vars)

    def state(self, targets: Tensor) -> ProgramState:
        """The search state of the spins `targets (B, m)` under single moves."""
        return ProgramState(self, targets)

    def repeat(self, copies: int) -> Self:
        return self.select(torch.arange(self.batch_shape[0], device=self.device).repeat(copies))

    def count_assignments(self) -> list[int]:
        """How many assignments each sample has, as Python's whole numbers."""
        return [math.prod(row) for row in torch.isfinite(self.cost).sum(2).tolist()]

    def lower_bound(self) -> Tensor:
        """What E is at least where the costs are the least, `(B,)`."""
        return self.least(self.cost.amin(2).sum(1))

    def least(self, cost: Tensor) -> Tensor:
        """What E is at least, `(B,)`, for symbols that cost at least `cost (B,)`: no loss is negative."""
        return self.stay * cost

    def rounding(self) -> Tensor:
        """How far the sum of costs may be from exact arithmetic, `(B,)`."""
        largest = torch.where(torch.isfinite(self.cost), self.cost, 0.0).amax(2).sum(1)
        return 2 * (self.n_vars + 2) * torch.finfo(torch.float64).eps * (1 + self.stay * largest)

    def flatten(self) -> Self:
        other = copy.copy(self)
        other.asked = [Asked(count) for count in self.count_assignments()]
        return other

    def select(self, keep: Tensor) -> Self:
        other = copy.copy(self)
        rows = torch.arange(self.batch_shape[0], device=self.device)[keep]
        for name in ("logits", "cost", "start", "mask"):
            value = getattr(self, name)
            setattr(other, name, None if value is None else value[rows])
        other.labels = [self.labels[row] for row in rows.tolist()]
        other.asked = [self.asked[row] for row in rows.tolist()]
        other.batch_shape = (len(rows),)
        return other

    def to(self, device: torch.device | str) -> Self:
        other = copy.copy(self)
        for name in ("logits", "cost", "start", "mask", "sizes", "is_spin"):
            value = getattr(self, name)
            setattr(other, name, None if value is None else value.to(device))
        other.device = other.cost.device
        other.spins = SymbolSpins(other.sizes, other.is_spin)
        return other

    def save(self, path: str | PathLike[str]) -> NoReturn:
        """Not possible: a program is code, which a file without pickle can't hold.

        Raises:
            NotAcceptedError: always.
        """
        mend = "Keep the code of the program, the logits and the labels; results can be saved."
        raise NotAcceptedError("problem", "a ProgramProblem, whose program is code", "another problem", mend)

    @property
    def fingerprint(self) -> str:
        """A hash of costs and labels and of the program's name; its code is not in it."""
        name = self._name()
        loss = self.loss if isinstance(self.loss, str) else getattr(self.loss, "__qualname__", type(self.loss).__name__)
        tensors = {"cost": self.cost, "sizes": self.sizes, "is_spin": self.is_spin}
        return digest([name, loss, self.stay, repr(self.labels)], tensors)

    def __repr__(self) -> str:
        sizes = self.sizes.tolist()
        return f"ProgramProblem({self._name()}, samples={self.batch_shape[0]}, sizes={sizes}, stay={self.stay})"

    def _facts(self) -> dict[str, object]:
        sizes = self.sizes.tolist()
        return {
            "program": self._name(),
            "samples": self.batch_shape[0],
            "symbols": len(sizes),
            "values of each symbol": sizes if len(set(sizes)) > 1 else sizes[0],
            "loss": self.loss,
            "stay": self.stay,
            "constraints": "declared" if self.constraints is not None else "none",
            "device": self.device,
        }

    def kinds(self, row: int) -> tuple[int, ...]:
        """What each symbol is that sample `row` has, in order: its number of classes, or 0 for a spin."""
        kinds = torch.where(self.is_spin, 0, self.sizes)
        return tuple((kinds if self.mask is None else kinds[self.mask[row]]).tolist())

    def _allowed(self, keys: list[tuple[int, ...]], rows: np.ndarray) -> list[bool]:
        if self.constraints is None:
            return [True] * len(keys)
        kinds = [self.kinds(row) for row in range(self.batch_shape[0])]
        return [
            self.constraints.holds(key, kinds[i], self.labels[i]) for key, i in zip(keys, rows.tolist(), strict=True)
        ]

    def _name(self) -> str:
        function = self.constraints.declare if self.program is None and self.constraints else self.program
        function = function.function if isinstance(function, ProgramCalls) else function
        return getattr(function, "__qualname__", type(function).__name__)

    def _judge(self, answer: Any, label: Any) -> float:
        if answer is FAILED:
            return float("inf")
        if self.program is None:
            return 0.0
        if self.loss == "equal":
            return 0.0 if self.is_equal(answer, label) else float("inf")
        assert callable(self.loss)
        try:
            value = float(self.loss(answer, label))
        except Exception as error:  # The user's own function, whatever it raises.
            got = f"{type(error).__name__} ({error}) for {answer!r} and {label!r}"
            raise ArgumentError("loss", got, "a function of (answer, label) that gives a number") from error
        if value < 0:
            raise ArgumentError("loss", f"{value:g} for {answer!r} and {label!r}", "numbers of at least 0", "Shift it.")
        return float("inf") if value != value else value

    @staticmethod
    def is_equal(answer: Any, label: Any) -> bool:
        """Whether an answer is the label, by ==.

        Raises:
            ArgumentError: == gives no bool.
        """
        try:
            return bool(answer == label)
        except Exception as error:  # Whatever == of these values raises.
            raise ArgumentError(
                "program",
                f"an answer of type {type(answer).__name__}, and == with a label of type {type(label).__name__} "
                f"raises {type(error).__name__} ({error})",
                "answers for which == gives one bool",
                "Return numbers, texts, or tuples of these; or give a loss= that compares them.",
            ) from error

    def _keys(self, targets: Tensor, rows: np.ndarray) -> list[tuple[int, ...]]:
        table = targets.reshape(-1, self.n_vars).tolist()
        if self.mask is None:
            return list(map(tuple, table))
        kept = [mask.nonzero()[:, 0].tolist() for mask in self.mask.cpu()]
        return [tuple(row[j] for j in kept[sample]) for row, sample in zip(table, rows, strict=True)]

    def _check_targets(self, targets: Tensor) -> None:
        if not isinstance(targets, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError("targets", type(targets).__name__, "a tensor of int64")
        shape = (*self.batch_shape, self.n_vars)
        if tuple(targets.shape[max(0, targets.dim() - 2) :]) != shape:
            raise ShapeError("targets", f"shape {tuple(targets.shape)}", f"(..., {shape[0]}, {shape[1]})")
        if targets.device != self.device:
            raise DeviceError("targets", f"a tensor on {targets.device}", f"{self.device}, where the logits lie")
        if targets.dtype != torch.int64:
            raise ArgumentError("targets", targets.dtype, "torch.int64: classes, and spins in {-1, +1}")
        values = self.values_of(targets)
        wrong = (values < 0) | (values >= self.sizes) | (self.is_spin & (targets == 0))
        if bool(wrong.any()):
            raise ValueSetError(
                "targets", f"{targets[wrong][0].item()}", "classes below each unit's number, spins -1 and +1"
            )

    def read_known(self, known: Any, name: str = "known") -> Tensor:
        """The value numbers `(B, n)` of symbols that are `known`, as the class takes them; -1 where they are not.

        Raises:
            ShapeError, ValueSetError: they don't fit the problem; the message calls them `name`.
        """
        given = read_table(name, known, self.device)
        shape = (*self.batch_shape, self.n_vars)
        if tuple(given.shape) != shape or given.is_floating_point() or given.dtype == torch.bool:
            raise ShapeError(name, f"{given.dtype} of shape {tuple(given.shape)}", f"whole numbers of shape {shape}")
        none = torch.where(self.is_spin, given == 0, given == -1)
        good = none | torch.where(self.is_spin, given.abs() == 1, (given >= 0) & (given < self.sizes))
        if not bool(good.all()):
            raise ValueSetError(name, f"{given[~good][0].item()}", "classes (-1: unknown) and spins (0: unknown)")
        none = none if self.mask is None else none | ~self.mask
        return torch.where(none, UNKNOWN, self.values_of(given.long()))
