"""Local search: a race against C++ samplers, how often the optimum is hit, anytime curves, the cost of a step.

`python -m benchmarks.local_search` asks all questions on one thread; names of them as arguments ask some. Rows are
appended as they are finished, and a second call goes on where the first ended; `--fresh` begins anew.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.record import RESULTS, Rows, in_turns, is_elsewhere, median_ratio, parser_of, where
from tpsolve import Budget, LayerProblem, Result, solve
from tpsolve.compare.suites._suites import SUITES
from tpsolve.problems import make_instance
from tpsolve.search import Anneal, CpSat, Tabu, find_solver

Row = dict[str, Any]
Task = tuple[str, Callable[[list[Row]], Row]]
"""Its name, and what measures it, given the rows of the question so far."""

OURS = "anneal:sweeps={},restarts={},hot=0.1"
RACERS = tuple(
    OURS.format(*settings) for settings in ((16, 7), (32, 7), (64, 7), (100, 15), (200, 15), (400, 15), (800, 15))
)
PEERS = (
    *(("SimulatedAnnealingSampler", {"num_sweeps": sweeps}) for sweeps in (100, 1000, 10_000)),
    *(("TabuSampler", {"timeout": milliseconds}) for milliseconds in (1, 5, 20, 50)),
)
REPEATS = 3
PROVED = (("hinge", 32, 32, 64), ("hinge", 64, 10, 256), ("hinge", 64, 64, 12), ("cross-entropy", 32, 10, 32))
"""Loss, targets, units and samples of the problems that CP-SAT solves."""
SHARE = 0.0095
"""Of CP-SAT's time; a step that has begun may exceed it."""
HITTERS = ("anneal:sweeps=8", "anneal", "anneal:restarts=15", "tabu:restarts=15,patience=1000000")
ANYTIME = (
    *("hill-climb:restarts=7", "tabu:patience=1000000", "tabu:restarts=7,patience=1000000", "beam"),
    *("anneal:sweeps=16,restarts=0", "anneal:restarts=0", "anneal:sweeps=256,restarts=0", "anneal"),
    *("guided-random:restarts=7", "cross-entropy-method", "auto"),
)
SECONDS = (0.001, 0.01, 0.1)
"""Budgets a sample of the anytime curves."""


def race() -> Iterator[Task]:
    """256 QUBO problems, n = 128, m = 64: milliseconds a problem against the mean objective.

    Ours is one call for all problems, the samplers' one call a problem; one thread each.
    """
    problem = make_instance("qubo", n=128, m=64, samples=256, seed=0).problem

    def row(seconds: list[float], offered: int | None, objective: torch.Tensor) -> Row:
        # Flips that were offered, taken or not; the tabu sampler does not tell.
        second = statistics.median(seconds)
        rate = None if offered is None else offered * problem.n_vars * problem.n_samples / second / 1e6
        return {
            "ms_a_problem": 1e3 * second / problem.n_samples,
            "mean_objective": objective.mean().item(),
            "million_flips_a_second": rate,
        }

    def ours(text: str) -> Row:
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            result = solve(problem, text, budget=Budget(steps=10_000))
            seconds.append(time.perf_counter() - started)
        solver = find_solver(text)
        assert isinstance(solver, Anneal)
        assert solver.sweeps is not None
        return {**row(seconds, solver.sweeps * solver.copies, result.objective), "ours": True}

    def theirs(name: str, settings: dict[str, int], rows: list[Row]) -> Row:
        import numpy as np
        from dimod import BinaryQuadraticModel
        from dwave import samplers

        # The problems are put into the sampler's form beforehand, which is not timed.
        V, S = problem.weight.double().numpy(), problem.targets.double().numpy()
        gram = V.T @ V
        couplings = {(i, j): 2 * gram[i, j] for i in range(len(gram)) for j in range(i)}
        models = [BinaryQuadraticModel(dict(enumerate(-2 * V.T @ s)), couplings, 0.0, "SPIN") for s in S]
        sampler, seconds = getattr(samplers, name)(), []
        for _ in range(REPEATS):
            started = time.perf_counter()
            answers = [sampler.sample(model, num_reads=1, seed=i, **settings) for i, model in enumerate(models)]
            seconds.append(time.perf_counter() - started)
        records = [answer.record.sample[0][np.argsort(np.array(answer.variables))] for answer in answers]
        objective = problem.objective(torch.tensor(np.array(records), dtype=problem.dtype))
        found = row(seconds, settings.get("num_sweeps"), objective)
        reached = [r for r in rows if r.get("ours") and r["mean_objective"] <= found["mean_objective"]]
        in_time = [r for r in rows if r.get("ours") and r["ms_a_problem"] <= found["ms_a_problem"]]
        return {
            **found,
            "times_sooner": max((found["ms_a_problem"] / r["ms_a_problem"] for r in reached), default=None),
            "ours_in_the_same_time": min((r["mean_objective"] for r in in_time), default=None),
        }

    for text in RACERS:
        yield text, lambda _, text=text: ours(text)
    for name, settings in PEERS:
        label = f"{name}, " + ", ".join(f"{key}={value}" for key, value in settings.items())
        yield label, lambda rows, name=name, settings=settings: theirs(name, settings, rows)


def optima() -> Iterator[Task]:
    """How often local searches hit the optimum that CP-SAT proved, in a hundredth of its time; one thread each."""

    @functools.cache
    def proofs(loss: str, n: int, m: int, samples: int) -> tuple[LayerProblem, Result]:
        problem = layer(loss, n, m, samples)
        return problem, solve(problem, CpSat(workers=1), budget=Budget(seconds=10.0 * samples))

    def measure(size: tuple[str, int, int, int], solver: str) -> Row:
        problem, exact = proofs(*size)
        proved = exact.optimal
        result = solve(problem, solver, budget=Budget(seconds=SHARE * exact.stats["seconds"]))
        hit = (result.objective <= exact.objective + 1e-6 * exact.objective.abs().clamp(min=1))[proved]
        return {
            "loss": problem.loss,
            "n": problem.n_vars,
            "m": problem.n_units,
            "solver": solver,
            "proved": f"{int(proved.sum())} of {problem.n_samples}",
            "cp_sat_ms": 1e3 * exact.stats["seconds"] / problem.n_samples,
            "hit_rate": hit.double().mean().item(),
            "share_of_time": result.stats["seconds"] / exact.stats["seconds"],
        }

    for size in PROVED:
        for solver in HITTERS:
            yield f"{size}, {solver}", lambda _, size=size, solver=solver: measure(size, solver)


def anytime() -> Iterator[Task]:
    """Mean objective on harvested layers under 1, 10 and 100 ms a sample; other networks than `auto` was chosen on."""
    for instance in SUITES["wide"](16, 100):
        for seconds in SECONDS:
            for text in ANYTIME:
                task = f"{instance.name}, {seconds:g} s, {text}"
                yield task, lambda _, i=instance, s=seconds, t=text: _anytime(i, s, t)


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
        "ms_a_sample": 1e3 * result.stats["seconds"] / problem.n_samples,
        "mean_objective": result.objective.mean().item(),
        "start": problem.objective(problem.start).mean().item(),
    }


def step() -> Iterator[Task]:
    """One tabu step, B = 128, n = 1024, m = 10, cross-entropy, against passes over the (B, n, m) tensor."""

    def measure(_: list[Row]) -> Row:
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


def main(questions: list[str], fresh: bool = False) -> None:
    """Ask what has no row yet."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    for name in questions or QUESTIONS:
        path = RESULTS / f"local_search_{name}.jsonl"
        if fresh:
            path.unlink(missing_ok=True)
        log = Rows(path, ("task",))
        for task, measure in QUESTIONS[name]():
            rows = log.read()
            if task not in {row["task"] for row in rows} and not is_elsewhere(task):
                row = {"task": task, **measure(rows)}
                log.append({**row, **where()})
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("questions", nargs="*", choices=(*QUESTIONS, []), metavar="QUESTION", help="by default all")
    parser.add_argument("--fresh", action="store_true", help="delete the rows of before")
    given = parser.parse_args()
    main(given.questions, given.fresh)
