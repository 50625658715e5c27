"""Local search: a race against C++ samplers, how often the optimum is hit, anytime curves, the cost of a step.

`python -m benchmarks.local_search` asks all questions; names of them as arguments ask some. Rows are appended as they
are finished, and a second call goes on where the first ended; `--fresh` begins anew.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.record import RESULTS, in_turns, median_ratio, where
from tpsolve import Budget, LayerProblem, solve
from tpsolve.compare.rows import RowLog
from tpsolve.compare.suites import SUITES
from tpsolve.problems import make_instance
from tpsolve.search import CpSat, Tabu

Row = dict[str, Any]
Task = tuple[str, Callable[[], Row]]

RACERS = ("anneal", "anneal:sweeps=100,restarts=15", "anneal:sweeps=200,restarts=15", "anneal:sweeps=600,restarts=15")
SWEEPS, MILLISECONDS = (100, 1000, 10_000), (1, 5, 20, 50)
"""Sweeps of the annealing sampler, time limits of the tabu sampler."""
ANYTIME = (
    *("hill-climb:restarts=7", "tabu:patience=1000000", "tabu:restarts=7,patience=1000000", "beam"),
    *(f"anneal:sweeps={sweeps},restarts={restarts}" for sweeps in (16, 64, 256) for restarts in (0, 7)),
    *("guided-random:restarts=7", "cross-entropy-method", "auto"),
)
SECONDS = (0.001, 0.01, 0.1)
"""Budgets a sample of the anytime curves."""


def race() -> Iterator[Task]:
    """256 QUBO problems, n = 128, m = 64: seconds of the whole call against the mean objective."""
    problem = make_instance("qubo", n=128, m=64, samples=256, seed=0).problem

    def ours(text: str) -> Row:
        started = time.perf_counter()
        result = solve(problem, text, budget=Budget(seconds=600))
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "mean_objective": result.objective.mean().item(), "steps": result.stats["steps"]}

    def theirs(name: str, **settings: int) -> Row:
        import numpy as np
        from dimod import BinaryQuadraticModel
        from dwave import samplers

        # The problems are put into the sampler's form beforehand, which is not timed.
        V, S = problem.weight.double().numpy(), problem.targets.double().numpy()
        gram = V.T @ V
        couplings = {(i, j): 2 * gram[i, j] for i in range(len(gram)) for j in range(i)}
        models = [BinaryQuadraticModel(dict(enumerate(-2 * V.T @ s)), couplings, 0.0, "SPIN") for s in S]
        sampler, found = getattr(samplers, name)(), []
        started = time.perf_counter()
        answers = [sampler.sample(model, num_reads=1, seed=i, **settings) for i, model in enumerate(models)]
        seconds = time.perf_counter() - started
        for answer in answers:
            record = answer.record
            found.append(record.sample[record.energy.argmin()][np.argsort(np.array(answer.variables))])
        objective = problem.objective(torch.tensor(np.array(found), dtype=problem.dtype))
        return {"seconds": seconds, "mean_objective": objective.mean().item()}

    for text in RACERS:
        yield text, lambda text=text: ours(text)
    for sweeps in SWEEPS:
        yield (
            f"SimulatedAnnealingSampler, {sweeps} sweeps",
            lambda sweeps=sweeps: theirs("SimulatedAnnealingSampler", num_sweeps=sweeps),
        )
    for limit in MILLISECONDS:
        yield f"TabuSampler, {limit} ms", lambda limit=limit: theirs("TabuSampler", timeout=limit)


def optima() -> Iterator[Task]:
    """How often local searches hit the optimum that CP-SAT proved, and in what share of its time."""

    def measure(loss: str, n: int, m: int, samples: int, solver: str) -> Row:
        problem = layer(loss, n, m, samples)
        exact = solve(problem, CpSat(workers=2), budget=Budget(seconds=60.0 * samples))
        proved = exact.optimal
        result = solve(problem, solver, budget=Budget(seconds=max(1e-3, 0.01 * exact.stats["seconds"])))
        hit = (result.objective <= exact.objective + 1e-6 * exact.objective.abs().clamp(min=1))[proved]
        return {
            "proved": int(proved.sum()),
            "hit_rate": hit.double().mean().item(),
            "cp_sat_seconds": exact.stats["seconds"],
            "share_of_time": result.stats["seconds"] / exact.stats["seconds"],
        }

    for loss, n, m, samples in (("hinge", 32, 32, 64), ("hinge", 64, 64, 16), ("cross-entropy", 32, 10, 64)):
        for solver in ("anneal", "anneal:sweeps=200", "tabu:restarts=7,patience=1000000"):
            yield f"{loss} {n}x{m}, {solver}", lambda a=(loss, n, m, samples, solver): measure(*a)


def anytime() -> Iterator[Task]:
    """Mean objective on harvested layers under 1, 10 and 100 ms a sample."""
    for instance in SUITES["wide"](64, 0):
        for seconds in SECONDS:
            for text in ANYTIME:
                yield f"{instance.name}, {seconds:g} s, {text}", lambda a=(instance, seconds, text): _anytime(*a)


def _anytime(instance: Any, seconds: float, text: str) -> Row:
    problem = instance.problem
    result = solve(problem, text, budget=Budget(seconds=seconds * problem.n_samples))
    return {
        "instance": instance.name,
        "loss": problem.loss,
        "n": problem.n_vars,
        "m": problem.n_units,
        "budget": seconds,
        "solver": text,
        "seconds": result.stats["seconds"] / problem.n_samples,
        "mean_objective": result.objective.mean().item(),
        "start": problem.objective(problem.start).mean().item(),
    }


def step() -> Iterator[Task]:
    """One tabu step, B = 128, n = 1024, m = 10, cross-entropy, against passes over the (B, n, m) tensor."""

    def measure() -> Row:
        problem = layer("cross-entropy", 1024, 10, 128)
        many = [torch.randn(128, 1024, 10) for _ in range(16)]  # 84 MB: what a pass finds is no longer in a cache
        shift, steps = torch.randn(1024, 10), 200

        def cold() -> None:
            for tensor in many:
                tensor.add_(shift)

        seconds = in_turns(
            {
                "steps": lambda: solve(problem, Tabu(patience=10**6), budget=Budget(steps=steps)),
                "cold": cold,
                "hot": lambda: [many[0].add_(shift) for _ in range(16)],
            },
            repeats=11,
        )
        done = solve(problem, Tabu(patience=10**6), budget=Budget(steps=steps)).stats["steps"]
        return {
            "step_ms": 1e3 * statistics.median(seconds["steps"]) / done,
            "ratio_to_update_in_memory": median_ratio(seconds, "steps", "cold") * 16 / done,
            "ratio_to_update_in_cache": median_ratio(seconds, "steps", "hot") * 16 / done,
            "flips_per_second": 128 * done / statistics.median(seconds["steps"]),
        }

    yield "tabu step", measure


def layer(loss: str, n: int, m: int, samples: int) -> LayerProblem:
    """A random layer problem with activations."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(m, n, generator=generator) / n**0.5
    by_class = loss == "cross-entropy"
    shape = (samples,) if by_class else (samples, m)
    targets = torch.randint(m if by_class else 2, shape, generator=generator)
    start = 2.0 * torch.randint(0, 2, (samples, n), generator=generator) - 1
    return LayerProblem(weight, targets if by_class else 2 * targets - 1, loss=loss, start=start)


QUESTIONS = {question.__name__: question for question in (race, optima, anytime, step)}


def main(arguments: list[str]) -> None:
    """Ask what has no row yet."""
    path = RESULTS / "local_search.jsonl"
    if "--fresh" in arguments:
        path.unlink(missing_ok=True)
    log = RowLog(path, ("question", "task"))
    RESULTS.mkdir(exist_ok=True)
    done = {(row["question"], row["task"]) for row in log.read()}
    for name in [a for a in arguments if a in QUESTIONS] or QUESTIONS:
        for task, measure in QUESTIONS[name]():
            if (name, task) not in done:
                row = {"question": name, "task": task, **measure()}
                log.append({**row, **where()})
                print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
