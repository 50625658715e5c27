"""DimodSampler: any sampler of dimod, such as those of dwave-samplers, as a solver of squared-loss problems."""

import importlib.util
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tpsolve._check_arguments import check_count
from tpsolve._result import Budget
from tpsolve.errors import ArgumentError, MissingLibraryError, UnknownNameError
from tpsolve.problems import LayerProblem, Problem
from tpsolve.problems.layer._qubo import to_bqm
from tpsolve.search._base import Report, Solver

NAMED = {
    "tabu": "TabuSampler",
    "simulated-annealing": "SimulatedAnnealingSampler",
    "steepest-descent": "SteepestDescentSampler",
    "path-integral-annealing": "PathIntegralAnnealingSampler",
}
"""Samplers of dwave-samplers that a text can name."""
TABU_RESTARTS = 10
"""Restarts of dwave-samplers' tabu search under a budget in steps, where its clock must not decide."""


@dataclass(frozen=True)
class DimodSampler(Solver):
    """Samples of a dimod sampler, the best of each sample of the batch; one call of the sampler a step.

    Each sample of a squared-loss problem goes to the sampler as a binary quadratic model, one after the other, again
    and again with new seeds until the budget ends. A call can be interrupted only where the sampler takes a `timeout`
    in milliseconds or an `interrupt_function`; these are set from a budget in seconds. `seed` is set where the sampler
    has it, and `num_restarts` too with a budget in steps. A sampler without `seed` draws its own random numbers, so
    that runs differ.

    Args:
        sampler: a dimod sampler, or a name of dwave-samplers': "tabu", "simulated-annealing", "steepest-descent",
            "path-integral-annealing".
        options: further keyword arguments of its `sample`, as pairs such as `(("num_sweeps", 500),)`.
        reads: `num_reads` of a call, where the sampler has them.
    """

    sampler: Any = "tabu"
    options: tuple[tuple[str, Any], ...] = ()
    reads: int = 1

    name = "dimod"
    accepts: ClassVar[tuple[type[Problem], ...]] = (LayerProblem,)
    one_step = "one call of the sampler for each sample"
    losses: ClassVar[tuple[str, ...] | None] = ("squared",)
    stochastic = True
    module: ClassVar[str | None] = "dimod"

    def __post_init__(self) -> None:
        if isinstance(self.sampler, str) and self.sampler not in NAMED:
            raise UnknownNameError("sampler", self.sampler, NAMED)
        if not isinstance(self.sampler, str) and not hasattr(self.sampler, "sample"):
            raise ArgumentError("sampler", type(self.sampler).__name__, "a dimod sampler or one of its names")
        if not isinstance(self.options, tuple) or not all(isinstance(o, tuple) and len(o) == 2 for o in self.options):
            raise ArgumentError("options", repr(self.options), "pairs of name and value", 'Say (("num_sweeps", 500),).')
        check_count("reads", self.reads, 1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if isinstance(self.sampler, str) and importlib.util.find_spec("dwave.samplers") is None:
            raise MissingLibraryError(f"the sampler {self.sampler!r}", "dwave-samplers", "dwave-samplers")

    def run(self, problem: Problem, budget: Budget, generator: torch.Generator, report: Report) -> None:
        assert isinstance(problem, LayerProblem)
        sampler, models = self._sampler(), to_bqm(problem)
        while True:
            for row, model in enumerate(models):
                if math.isfinite(report.proved_at[row]):
                    continue
                seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
                share = report.seconds_left / (len(models) - row)
                best = sampler.sample(model, **self._settings(sampler, seed, share, report)).first
                targets = torch.tensor([[float(best.sample[j]) for j in range(problem.n_vars)]], dtype=torch.float64)
                report.offer(targets.to(problem.device), torch.tensor([row], device=problem.device))
                if report.pulse():
                    return
            if report.step():
                return

    def _sampler(self) -> Any:
        if not isinstance(self.sampler, str):
            return self.sampler
        return getattr(importlib.import_module("dwave.samplers"), NAMED[self.sampler])()

    def _settings(self, sampler: Any, seed: int, share: float, report: Report) -> dict[str, Any]:
        """Keyword arguments of one call: of those wanted, the ones that the sampler knows."""
        wanted: dict[str, Any] = {"num_reads": self.reads, "seed": seed}
        if math.isinf(share):
            # Its own clock would make equal seeds differ.
            wanted |= {"timeout": 10**9, "num_restarts": TABU_RESTARTS}
        else:
            # At least a millisecond; at most a tenth of a second, so that rounds and callbacks go on.
            wanted["timeout"] = max(1, min(100, int(1000 * share)))
            wanted["interrupt_function"] = lambda: report.seconds_left <= 0
        known = {name: value for name, value in wanted.items() if name in sampler.parameters}
        return known | dict(self.options)
