"""`ProgramLoss`: a loss for networks whose symbols are read by a program that has no gradient."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve._check_arguments import check_count
from tpsolve._plain import is_real
from tpsolve._result import Budget, Result, TargetSet
from tpsolve.errors import ArgumentError, NotAcceptedError
from tpsolve.nn.programs._value_order import ValueOrder
from tpsolve.problems import CallCounts, DeclaredConstraints, Fold, ProgramCalls, ProgramProblem
from tpsolve.problems.program._declared_constraints import Declaration
from tpsolve.problems.program._read_program import as_choices, check_logits
from tpsolve.search import Solver, find_solver, solve

MEMORY = 0.95
"""Of the running means, a batch."""


@dataclass(frozen=True)
class ProgramReport:
    """What one pass of a `ProgramLoss` found.

    Args:
        samples: of the batch.
        consistent: samples for which consistent symbols were found; the others have no weight in the loss.
        counts: calls, remembered answers and failed calls of this pass.
        disturbance: mean cost of leaving the present symbols for the cheapest consistent ones; NaN where none was
            found.
        explained: share of samples whose present symbols are consistent.
        unreachable: samples whose label no symbols give, which is proved.
        result: of the solver.
    """

    samples: int
    consistent: int
    counts: CallCounts
    disturbance: float
    explained: float
    unreachable: int
    result: Result

    def __str__(self) -> str:
        lines = [
            f"consistent symbols for {self.consistent} of {self.samples} samples",
            f"present symbols consistent in {self.explained:.0%} of them, mean disturbance {self.disturbance:.3g}",
            f"{self.counts.calls} calls, of which {self.counts.failed} failed",
            f"{self.counts.remembered} answers remembered",
        ]
        if self.unreachable:
            lines.append(f"{self.unreachable} samples have a label that no symbols give")
        if self.counts.failed:
            lines.append(f"the first failure: {self.counts.first_failure}")
        return "\n".join(lines)


class ProgramLoss(nn.Module):
    """The loss of logits whose symbols a program reads, where only the program's answer is labelled.

    A search finds symbols with which the program gives the label, by calls alone. They are the targets of the layer
    loss: the cross-entropy of each unit's logits, for several target sets of a sample weighted as the solver says. Its
    value is the Kullback-Leibler divergence from these weights to the network's probabilities, so that for the solver
    "marginal" it is -log P(label). A sample without consistent symbols counts 0.

    Labels leave the symbols open for a while: many readings of the inputs agree with what was seen so far, and a
    network that settles on one too early keeps it. In training the gradient has two terms more, which fade by
    themselves; the value is without them. *Balance* is the entropy of the batch's mean distribution over the values,
    times the share of samples that the present symbols do not explain yet, and the share of its unevenness that is more
    than chance: it keeps all values in use. *Confidence* is
    minus the mean entropy of single symbols, times this entropy over its maximum: it makes an undecided network take
    sides. Both shares are running means. Unweighted, the two terms are the mutual information that Krause, Perona and
    Gomes (Discriminative clustering by regularized information maximization, NeurIPS 2010) maximise. A weight of 0
    leaves a term out.

    Args:
        program: as `ProgramCalls` takes it: called with n symbols, whole numbers from 0 to K - 1 or spins in {-1, +1}.
        symbols: classes K of each unit, or "sign", or a list of these, one a unit.
        count: how many units; None: as many as the logits have.
        constraints: as `DeclaredConstraints` takes them, instead of a program, or beside it.
        solver: a solver of program problems; None: "weighted-draws", with constraints "declared".
        loss: "equal", or a function (answer, label) -> number of at least 0.
        budget: of the search of each batch.
        stay: weight of the cost of leaving the present symbols, where the loss is not "equal".
        balance: weight of the entropy of the mean distribution.
        confidence: weight of minus the mean entropy.
        reorder: whether values may change places, see below.
        reduction: "mean" over the samples, "sum", or "none".
        generator: the source of all randomness; None: one of seed 0.
        options: of `ProgramCalls`, such as batched="numpy" or path="answers.sqlite".

    Labels of an order, such as `a < b`, have a trap of their own: a network reads each input as the next value, leaves
    one value out, and lets two inputs share one at the end. Few labels tell. Every 1,000 samples, or later if it was of
    no use, a value of choices that is not in use is therefore put beside the one that is read most often, if calls say
    that the labels stay explained. The logits stay as they are; `order` says which of them stands for which value, and
    `read(logits)` gives the values. A warning tells of the first move, and `settle(layer)` puts the rows of the last
    layer in this order. It needs the loss "equal", no `known` symbols, and one process. It supposes that all values
    occur about as often: with `reorder=False` no value moves.

    Called with `(logits, labels)`: logits `(B, n, K)` of choices or `(B, n)` of spins, labels B values. In `eval()` no
    program is called but by `accuracy` and `predict`: assignments without a remembered answer count as wrong.

    Attributes:
        report: what the last pass found, to be printed.
        explained: running share of samples whose present symbols are consistent.
        undecided: running mean entropy of single symbols, over its maximum.
        warned: whether a label that no symbols give was named in a warning; it is named once.
        order: by the number of values K, which logit stands for each value, `(K,)` int64; empty while none has moved.
        program: the `ProgramCalls`.
    """

    program: ProgramCalls | None
    constraints: DeclaredConstraints | None
    symbols: int | str | Sequence[int | str]
    count: int | None
    loss: str | Callable[[Any, Any], float]
    stay: float
    balance: float
    confidence: float
    reorder: bool
    reduction: str
    solver: Solver
    budget: Budget
    generator: torch.Generator
    report: ProgramReport | None
    explained: float
    undecided: float
    warned: bool

    def __init__(
        self,
        program: Callable[..., Any] | ProgramCalls | None = None,
        symbols: int | str | Sequence[int | str] = 10,
        count: int | None = None,
        *,
        constraints: Declaration | DeclaredConstraints | None = None,
        solver: Solver | str | None = None,
        loss: str | Callable[[Any, Any], float] = "equal",
        budget: Budget | None = None,
        stay: float = 1.0,
        balance: float = 4.0,
        confidence: float = 0.3,
        reorder: bool = True,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
        **options: Any,
    ):
        super().__init__()
        if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
            raise ArgumentError("reduction", repr(reduction), "'mean', 'sum' or 'none'")
        for name, weight in (("balance", balance), ("confidence", confidence)):
            if not is_real(weight) or not 0 <= weight < math.inf:
                raise ArgumentError(name, weight, "a finite number of at least 0")
        if not isinstance(reorder, bool):
            raise ArgumentError("reorder", repr(reorder), "True or False")
        if options and isinstance(program, ProgramCalls):
            raise ArgumentError("options", sorted(options), "none beside a ProgramCalls", "Give them to ProgramCalls.")
        if program is None and constraints is None:
            raise ArgumentError(
                "program", None, "a function of the symbols, or constraints=", "Give one of them, or both."
            )
        if count is not None:
            check_count("count", count, 1)
        if not isinstance(budget, Budget | None):
            raise ArgumentError("budget", repr(budget), "a Budget", "For example Budget(calls=64).")
        if not isinstance(generator, torch.Generator | None):
            raise ArgumentError("generator", type(generator).__name__, "a torch.Generator")
        self.program = program if isinstance(program, ProgramCalls | None) else ProgramCalls(program, **options)
        self.constraints = DeclaredConstraints.of(constraints)
        self.symbols, self.count, self.loss, self.stay, self.reduction = symbols, count, loss, stay, reduction
        self.balance, self.confidence = float(balance), float(confidence)
        self.explained, self.undecided, self.warned = 0.0, 1.0, False
        self.reorder, self._order, self._told = reorder, ValueOrder(), False
        usual = "weighted-draws" if constraints is None else "declared"
        if (
            self.program is not None
            and isinstance(self.program.function, Fold)
            and (constraints, loss) == (None, "equal")
        ):
            usual = "forward-backward"
        self.solver = find_solver(usual if solver is None else solver)
        if not any(issubclass(ProgramProblem, kind) for kind in self.solver.accepts):
            raise NotAcceptedError("solver", self.solver.name, "a solver that accepts a ProgramProblem", "Take k-best.")
        self.budget = Budget(calls=64) if budget is None else budget
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.report = None

    def problem(self, logits: Tensor, labels: Any, *, mask: Any = None, known: Any = None) -> ProgramProblem:
        """The target problem of a batch, on the CPU."""
        check_logits(logits)
        return self._problem(self._order.apply(logits, self.symbols), labels, mask=mask, known=known)

    def _problem(self, logits: Tensor, labels: Any, *, mask: Any, known: Any = None) -> ProgramProblem:
        """Of logits in the order of their values."""
        if self.count is not None and logits.shape[1] != self.count:
            raise ArgumentError("logits", f"{logits.shape[1]} units", f"{self.count}, as count= says")
        z = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).cpu()
        return ProgramProblem(
            self.program,
            labels,
            z,
            symbols=self.symbols,
            mask=mask,
            known=known,
            stay=self.stay,
            loss=self.loss,
            constraints=self.constraints,
        )

    def forward(self, logits: Tensor, labels: Any, *, mask: Any = None, known: Any = None) -> Tensor:
        """The loss, `()`, or with reduction="none" `(B,)`.

        Args:
            mask: `(B, n)` bool: which symbols exist. known: `(B, n)`: symbols that are labelled, -1 (spins: 0) where
                not.
        """
        check_logits(logits)
        logits = self._order.apply(logits, self.symbols)
        problem = self._problem(logits, labels, mask=mask, known=known)
        calls = ProgramCalls(_no_program) if self.program is None else self.program
        before = dataclasses.replace(calls.counts)
        # A fold is no cost to save: its states are read, and few of its answers are remembered.
        calls.frozen = not self.training and not isinstance(calls.function, Fold)
        frozen = calls.frozen
        try:
            result = solve(problem, self.solver, budget=self.budget, generator=self.generator)
        finally:
            calls.frozen = False
        if frozen:
            # What was not asked is not wrong: without calls nothing is proved.
            result = dataclasses.replace(result, bound=problem.lower_bound())
        found = torch.isfinite(result.objective)
        targets = result.target_set
        if targets is None:
            targets = TargetSet(result.targets[:, None], found.double()[:, None])
        cost = problem.disturbance(result.targets)[found]
        # Consistent at no cost: the present symbols themselves, or others that are as probable.
        explained = float((found & (problem.disturbance(result.targets) == 0)).double().mean())
        self.report = ProgramReport(
            len(found),
            int(found.sum()),
            calls.counts - before,
            float(cost.mean()) if len(cost) else float("nan"),
            explained,
            self._unreachable(problem, result),
            result,
        )
        each = _divergence(problem, logits, targets)
        if self.training:
            self.explained += (1 - MEMORY) * (explained - self.explained)
        if self.training and (self.balance or self.confidence):
            added = self._information(problem, logits)
            # Only the gradient has them: a loss that rises as they fade would look like a failure.
            each = each + (added - added.detach())
        if self.training and self.reorder and known is None and self.loss == "equal" and not _is_shared():
            self._watch(problem)
        if self.reduction == "none":
            return each
        return each.sum() / (len(each) if self.reduction == "mean" else 1)

    def _watch(self, problem: ProgramProblem) -> None:
        def window(values: Tensor, labels: list[Any], mask: Tensor | None) -> ProgramProblem:
            width = int(problem.sizes.max())
            return self._problem(torch.nn.functional.one_hot(values, width).float(), labels, mask=mask)

        moved = self._order.watch(problem, self.explained, window)
        if moved:
            # Balance draws the two inputs apart that shared a value.
            self.explained = 0.0
            if not self._told:
                self._told = True
                warnings.warn(
                    f"logits: {moved}. From now on read the symbols with read(logits), and see `order`; or give "
                    "reorder=False. This is said once.",
                    stacklevel=4,
                )

    def _unreachable(self, problem: ProgramProblem, result: Result) -> int:
        rows = torch.isinf(result.bound).nonzero()[:, 0].tolist()
        if rows and not self.warned:
            self.warned = True
            warnings.warn(
                f"labels: no symbols give {problem.labels[rows[0]]!r}, which is proved. A call that fails gives "
                "nothing. Samples with such a label don't count. Look at program and labels. This is said once.",
                stacklevel=4,
            )
        return len(rows)

    def _information(self, problem: ProgramProblem, logits: Tensor) -> Tensor:
        """Minus the weighted entropy of the mean distribution, plus that of single symbols, `()`.

        Units of one number of values share a mean distribution.
        """
        log_p = _log_p(problem, logits)
        p = log_p.exp()
        entropy = -(p * log_p.masked_fill(p == 0, 0.0)).sum(2)  # (B, n)
        there = torch.ones_like(entropy, dtype=torch.bool) if problem.mask is None else problem.mask.to(p.device)
        spread, most = entropy.new_zeros(()), torch.log(problem.sizes.to(p))
        for size in problem.sizes.unique().tolist():
            of_size = there & (problem.sizes == size).to(p.device)
            count = int(of_size.sum())
            if count:
                each = p[of_size]
                mean = each.mean(0)
                # A value that no sample has counts 0, and its slope must be finite.
                log_mean = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
                # The share of the unevenness that is not chance: means of few symbols vary as the symbols do.
                chance = float(each.detach().var(0, correction=0).sum()) / max(1, count - 1)
                uneven = float((mean[:size].detach() - 1 / size).square().sum())
                beyond = max(0.0, 1 - chance / max(uneven, 1e-12))
                spread = spread - beyond * (mean * log_mean).sum() * count / there.sum()
        undecided = float((entropy.detach() / most)[there].mean())
        self.undecided += (1 - MEMORY) * (undecided - self.undecided)
        decide = self.confidence * self.undecided * entropy[there].mean()
        return decide - self.balance * (1 - self.explained) * spread

    @property
    def order(self) -> dict[int, Tensor]:
        return {size: place.clone() for size, place in self._order.places.items()}

    @torch.no_grad()
    def read(self, logits: Tensor, *, mask: Any = None) -> Tensor:
        """The network's present symbols `(B, n)` int64, of values in the order that `order` says."""
        problem = self.problem(logits, [None] * len(logits), mask=mask)
        return problem.present.to(logits.device)

    @torch.no_grad()
    def settle(self, layer: nn.Linear) -> None:
        """Put the rows of the layer that makes the logits into the order of the values, in place: v at logit v again.

        After the training: an optimizer that goes on has the moments of the old rows.

        Args:
            layer: its outputs are the logits of one unit, or of all units of a sample one after the other.

        Raises:
            ArgumentError: units have different numbers of values, or the outputs are no whole number of units.
        """
        if not isinstance(layer, nn.Linear):
            raise ArgumentError("layer", type(layer).__name__, "the torch.nn.Linear whose outputs are the logits")
        size = self.symbols
        if not isinstance(size, int) or layer.out_features % size:
            raise ArgumentError(
                "layer", f"{layer.out_features} outputs for symbols {size!r}", "K outputs a unit, of symbols=K"
            )
        place = self._order.places.pop(size, None)
        if place is not None:
            rows = torch.arange(layer.out_features).view(-1, size)[:, place].flatten().to(layer.weight.device)
            layer.weight.copy_(layer.weight[rows].clone())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[rows].clone())

    @torch.no_grad()
    def predict(self, logits: Tensor, *, mask: Any = None) -> list[Any]:
        """What the program makes of the network's present symbols: B answers, by B calls less what is remembered."""
        check_logits(logits)
        problem = self.problem(logits, [None] * len(logits), mask=mask)
        return problem.answers(problem.present)

    @torch.no_grad()
    def accuracy(self, logits: Tensor, labels: Any, *, mask: Any = None) -> float:
        """The share of samples for which the program gives the label."""
        problem = self.problem(logits, labels, mask=mask)
        return float(problem.consistent(problem.present).double().mean())

    def get_extra_state(self) -> dict[str, Any]:
        """What is remembered, and the state of the generator."""
        answers = [] if self.program is None else self.program.state()
        running = [self.explained, self.undecided]
        generator, order = self.generator.get_state(), self._order.state()
        return {"answers": answers, "generator": generator, "running": running, "order": order}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with what `get_extra_state` gave.

        Raises:
            ArgumentError: it is something else.
        """
        if not isinstance(state, dict) or not {"answers", "generator", "running"} <= state.keys():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError("state", type(state).__name__, "what get_extra_state() gave")
        if self.program is not None:
            self.program.load_state(state["answers"])
        self.generator.set_state(state["generator"])
        self.explained, self.undecided = state["running"]
        self._order = ValueOrder()
        if "order" in state:  # Older ones have none.
            self._order.load_state(state["order"])


def _is_shared() -> bool:
    """Whether several processes train the network, whose orders might come to differ."""
    group = torch.distributed
    return group.is_available() and group.is_initialized() and group.get_world_size() > 1


def _no_program(*symbols: int) -> None:
    """What is counted where there are only constraints: nothing."""


def _divergence(problem: ProgramProblem, logits: Tensor, targets: TargetSet) -> Tensor:
    """sum_k w_k log(w_k / p(s_k)) of each sample, `(B,)`, where p is of the symbols that exist; 0 without any."""
    log_p = _log_p(problem, logits)
    if targets.shares is None or targets.entropy is None:
        values = problem.values_of(targets.targets).to(logits.device)  # (B, K, n)
        weights = targets.weights.to(log_p)
        share = torch.zeros_like(log_p).scatter_add_(
            2, values.transpose(1, 2), weights[:, None].expand(-1, values.shape[2], -1)
        )
        entropy = -torch.xlogy(weights, weights).sum(1)
    else:
        share, entropy = targets.shares.to(log_p), targets.entropy.to(log_p)
    each = -(share * log_p.masked_fill(share == 0, 0.0)).sum(2)
    if problem.mask is not None:
        each = each * problem.mask.to(each.device)
    return each.sum(1) - entropy


def _log_p(problem: ProgramProblem, logits: Tensor) -> Tensor:
    """Log p `(B, n, K)` of the values of every unit, -inf where it has no such value."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if problem.mask is not None:
        # What is not read may be NaN or infinite, which no product with 0 ends.
        there = problem.mask.to(logits.device)
        wide = torch.where(there if wide.dim() == 2 else there[..., None], wide, 0.0)
    z = as_choices(wide, problem.is_spin.to(logits.device), problem.sizes.to(logits.device))
    return torch.log_softmax(z, 2)
