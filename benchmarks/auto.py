"""Makes the table of `Auto` from measurements of local searches, and holds `auto` against a grid on other problems.

`python -m benchmarks.auto made-from` measures, `table` writes `auto.json` from those rows, and `held-out` measures the
grid, `auto` among it, on other problems; then `python docs/choosing_a_solver.py`. The problems of `held_out` were
written down before `auto` was tuned, on those of `tuned_on`, and none of them was solved before it was done. Rows are
appended as they are finished, and a second call goes on where the first ended. All budgets are processor time of one
thread, so other work on the machine does not shorten a search; only CP-SAT, HiGHS and each call of a sampler of
dwave-samplers look at the wall clock.
"""

import itertools
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.local_search import layer
from benchmarks.record import RESULTS, Rows, is_elsewhere, parser_of, where
from tpsolve import Budget, LayerProblem, solve
from tpsolve._storage._write_whole import write_whole
from tpsolve.compare.suites._suites import SUITES
from tpsolve.problems import make_instance
from tpsolve.search import _base, find_solver

Row = dict[str, Any]
TABLE = Path(__file__).parent.parent / "tpsolve" / "search" / "combined" / "auto.json"
ROWS = RESULTS / "auto.jsonl"

CANDIDATES = {
    "anneal": ("anneal:restarts=0", "anneal", "anneal:restarts=15", "anneal:restarts=31", "anneal:restarts=63"),
    "tabu": ("tabu", "tabu:restarts=7", "tabu:restarts=31"),
}
"""Those of each kind that the table chooses among."""
RACERS = tuple(itertools.chain(*CANDIDATES.values()))
EXACT = ("cp-sat:workers=1", "milp", "branch")
OTHERS = (
    *("hill-climb:restarts=7", "guided-random:restarts=7", "beam"),
    *("sign-gradient", "curvature-flip", "hill-climb", "minimum-disturbance", "cross-entropy-method"),
    *("anneal:sweeps=16,restarts=0", "anneal:sweeps=1000,restarts=63"),
)
PEERS = ("dwave tabu", "dwave annealing, 100 sweeps", "dwave annealing, 1000 sweeps")
"""Of dwave-samplers, for the squared loss: reads follow until the time is up, and the best counts."""
GRID = ("auto", *RACERS, *OTHERS, *EXACT, *PEERS)

SECONDS = {"made-from": (0.1, 1.0, 10.0), "held-out": (0.01, 0.1, 1.0, 10.0)}
"""Of a call, whatever its number of samples."""
SEEDS = {0.01: 3, 0.1: 2, 1.0: 1, 10.0: 1}
RACES = {"made-from": {1.0: (0.01, 3), 10.0: (0.005, 2)}, "held-out": {1.0: (0.05, 6), 10.0: (0.01, 2)}}
"""Which solvers are measured so long: those that left, ten times shorter, at most so much more than the best, and at
most so many."""
ALIKE = {1.0: 1e-9, 10.0: 1e-3}
"""Candidates that differed by no more, ten times shorter, are not measured again for the table."""
WIDE = (
    *("64-1024-256-10/layer-2/hinge", "64-1024-256-10/layer-2/squared", "64-1024-10/layer-2/cross-entropy"),
    *("64-256-256-10/layer-2/hinge", "64-256-256-10/layer-2/squared", "64-256-256-10/layer-4/cross-entropy"),
)
RULE = (
    "On each problem the share of (start - best found) that anneal and tabu leave under several numbers of restarts is "
    "measured, from the start of the problem, under {seconds} seconds of processor time a call. For each loss, size, "
    "number of samples and budget, the table names of each of the two the number of restarts of the least mean share, "
    "over this entry and, with less weight, those of the same budget near it; the better one is named first. What was "
    "not measured so long counts as it was in a tenth of the time, after what was."
)


def _of_suite(suite: str, seed: int, name: str, samples: int) -> LayerProblem:
    found = next(instance for instance in _suite(suite, seed) if instance.name == name)
    return found.problem.select(torch.arange(samples))


@cache
def _suite(suite: str, seed: int) -> list[Any]:
    return list(SUITES[suite](16, seed))


def _generated(loss: str, n: int, samples: int, seed: int) -> LayerProblem:
    if loss == "cross-entropy":
        return layer(loss, n, 10, samples)
    made = make_instance("random", n=n, m=n // 2, samples=samples, seed=seed).problem
    return LayerProblem(made.weight, made.targets, loss=loss, start=made.start)


def made_from() -> Iterator[tuple[str, LayerProblem]]:
    """Problems that the table is made from: drawn ones of 8 to 128 targets, and layers of trained networks."""
    for samples in (1, 16):
        for loss in ("hinge", "squared", "cross-entropy"):
            for n in (8, 24, 64, 128):
                yield f"{loss}-{n}, {samples} samples", _generated(loss, n, samples, 0)
        for name in WIDE:
            yield f"wide/{name}, {samples} samples", _of_suite("wide", 0, f"wide/{name}", samples)
    for loss in ("soft-hinge", "zero-one"):
        for n in (32, 128):
            yield f"{loss}-{n}, 16 samples", _generated(loss, n, 16, 0)
    for name in ("layer-2/hinge", "layer-4/cross-entropy"):
        yield f"digits/{name}, 16 samples", _of_suite("digits", 0, f"digits/epoch-2/{name}", 16)
    for n, samples in ((20, 16), (48, 2)):
        yield f"parity-{n}, {samples} samples", make_instance("parity", n=n, m=n // 2, samples=samples, seed=0).problem
    yield "ties-64, 4 samples", make_instance("ties", n=64, m=32, samples=4, seed=0).problem


def tuned_on() -> Iterator[tuple[str, LayerProblem]]:
    """Problems on which `auto` was tuned: held out from its first table, and seen since."""
    yield "qubo-96, 24 samples", make_instance("qubo", n=96, m=48, samples=24, seed=7).problem
    yield "qubo-12, 1 sample", make_instance("qubo", n=12, m=8, samples=1, seed=7).problem
    yield "hinge-48, 8 samples", make_instance("random", n=48, m=24, samples=8, seed=7).problem
    yield "digits/hinge, 12 samples", _of_suite("digits", 100, "digits/epoch-10/layer-2/hinge", 12)
    yield "wide/hinge, 4 samples", _of_suite("wide", 100, "wide/64-256-256-10/layer-2/hinge", 4)
    yield "wide/squared, 16 samples", _of_suite("wide", 100, "wide/64-1024-256-10/layer-2/squared", 16)
    yield "cross-entropy-200, 4 samples", layer("cross-entropy", 200, 10, 4)
    yield "soft-hinge-96, 1 sample", _generated("soft-hinge", 96, 1, 7)
    yield "parity-40, 8 samples", make_instance("parity", n=40, m=20, samples=8, seed=7).problem
    yield "ties-80, 4 samples", make_instance("ties", n=80, m=40, samples=4, seed=7).problem


def held_out() -> Iterator[tuple[str, LayerProblem]]:
    """Problems that were chosen before `auto` was tuned, and first measured after.

    They have other sizes, networks, seeds and batches, and three losses that are not in the table.
    """
    yield "qubo-72, 12 samples", make_instance("qubo", n=72, m=36, samples=12, seed=11).problem
    yield "qubo-160, 2 samples", make_instance("qubo", n=160, m=80, samples=2, seed=11).problem
    yield "squared-16, 32 samples", _generated("squared", 16, 32, 11)
    yield "hinge-56, 6 samples", make_instance("random", n=56, m=40, samples=6, seed=11).problem
    yield "perceptron-96, 1 sample", _generated("perceptron", 96, 1, 11)
    yield "logistic-64, 8 samples", _generated("logistic", 64, 8, 11)
    yield "saturated-hinge-40, 8 samples", _generated("saturated-hinge", 40, 8, 11)
    yield "digits/cross-entropy, 8 samples", _of_suite("digits", 200, "digits/epoch-10/layer-4/cross-entropy", 8)
    yield "wide/hinge, 8 samples", _of_suite("wide", 200, "wide/64-256-256-10/layer-2/hinge", 8)
    yield "wide/hinge, 1 sample", _of_suite("wide", 200, "wide/64-1024-256-10/layer-2/hinge", 1)
    yield "wide/squared, 4 samples", _of_suite("wide", 200, "wide/64-256-256-10/layer-2/squared", 4)
    yield "wide/cross-entropy, 2 samples", _of_suite("wide", 200, "wide/64-1024-10/layer-2/cross-entropy", 2)
    yield "parity-28, 4 samples", make_instance("parity", n=28, m=14, samples=4, seed=11).problem
    yield "ties-120, 8 samples", make_instance("ties", n=120, m=60, samples=8, seed=11).problem


def measure(name: str, problem: LayerProblem, seconds: float, solver: str, seed: int) -> Row:
    """The mean objective that a solver reaches in so many seconds of processor time."""
    start = problem.start
    assert start is not None
    if seed == 0 and solver not in PEERS:
        # What a process computes once and for all is not charged to whoever comes first.
        solve(problem, solver, budget=Budget(min(seconds, 0.01)))
    began, stats = time.process_time(), {}
    if solver in PEERS:
        objective, spent = _peer(problem, seconds, solver, seed)
    else:
        result = solve(problem, solver, budget=Budget(seconds), generator=torch.Generator().manual_seed(seed))
        objective, stats = result.objective, {k: v for k, v in result.stats.items() if k == "taken"}
        spent = time.process_time() - began
    return {
        "instance": name,
        "loss": problem.loss,
        "n": problem.n_vars,
        "m": problem.n_units,
        "samples": problem.n_samples,
        "budget": seconds,
        "solver": solver,
        "seed": seed,
        **stats,
        "processor_seconds": spent,
        "mean_objective": objective.mean().item(),
        "start": problem.objective(start).mean().item(),
    }


@lru_cache(maxsize=1)
def _models(problem: LayerProblem) -> list[Any]:
    """What the samplers read, of each sample; its energy is the objective."""
    import numpy as np
    from dimod import BinaryQuadraticModel, Vartype

    V, S = problem.weight.double().numpy(), problem.targets.double().numpy()
    bias = problem.bias.double().numpy() if problem.bias is not None else np.zeros(len(V))
    given = 1.0 if problem.unit_weight is None else problem.unit_weight.double().numpy()
    rows, columns = np.tril_indices(V.shape[1], -1)
    models = []
    for s, c in zip(S, np.broadcast_to(given, S.shape) * (S != 0), strict=True):
        gram = V.T @ (c[:, None] * V)
        couplings = (rows, columns, 2 * gram[rows, columns])
        constant = np.trace(gram) + c @ (bias - s) ** 2
        linear = 2 * V.T @ (c * (bias - s))
        models.append(BinaryQuadraticModel.from_numpy_vectors(linear, couplings, constant, Vartype.SPIN))
    return models


def _peer(problem: LayerProblem, seconds: float, solver: str, seed: int) -> tuple[torch.Tensor, float]:
    """The best objective of each sample by a sampler of dwave-samplers, and its seconds; its model is made untimed."""
    import numpy as np
    from dwave import samplers

    found, spent = [], 0.0
    for row, model in enumerate(_models(problem)):
        began, read, best = time.process_time(), 0, np.inf
        ends = began + seconds / problem.n_samples
        spins = np.zeros(problem.n_vars)
        while not read or time.process_time() < ends:
            left = max(1, round(1e3 * (ends - time.process_time())))
            if solver == "dwave tabu":
                answer = samplers.TabuSampler().sample(model, timeout=left, num_reads=1, seed=1000 * seed + read)
            else:
                sweeps = int(solver.split()[-2])
                annealing = samplers.SimulatedAnnealingSampler()
                answer = annealing.sample(model, num_sweeps=sweeps, num_reads=1, seed=1000 * seed + read)
            read += 1
            sample, energy, *_ = answer.first
            if energy < best:
                best, spins = energy, np.array([sample[k] for k in range(problem.n_vars)])
        spent += time.process_time() - began
        own = problem.select(torch.tensor([row])).objective(torch.tensor(spins[None], dtype=problem.dtype))
        assert math.isclose(own.item(), best, rel_tol=1e-4, abs_tol=1e-4), "the model is not the problem"
        found.append(own)
    return torch.cat(found), spent


def applies(solver: str, problem: LayerProblem, seconds: float = math.inf) -> bool:
    """Whether the grid has a row of this solver for the problem; samplers must have time to read their models."""
    if solver in PEERS:
        # The stay penalty and the like would have to go into the model.
        reading = 1e-3 + 1e-6 * problem.n_vars**2
        return problem.loss == "squared" and problem.stay == 0 and seconds >= reading * problem.n_samples
    try:
        find_solver(solver).check(problem)
    except ValueError:
        return False
    return True


def shares(rows: list[Row]) -> dict[tuple[str, float, str], float]:
    """The share of (start - best found) that is left, by instance, budget and solver; a mean over seeds."""
    best = defaultdict(lambda: math.inf)
    for row in rows:
        best[row["instance"]] = min(best[row["instance"]], row["mean_objective"])
    left = defaultdict(list)
    for row in rows:
        gain = row["start"] - best[row["instance"]]
        share = (row["mean_objective"] - best[row["instance"]]) / gain if gain > 0 else 0.0
        left[row["instance"], row["budget"], row["solver"]].append(share)
    return {key: mean(values) for key, values in left.items()}


def racers(rows: list[Row], question: str, instance: str, seconds: float) -> list[str]:
    """The solvers that are worth so many seconds, by what they left in a tenth of them."""
    everyone = RACERS if question == "made-from" else GRID
    if seconds not in RACES[question]:
        return list(everyone)
    more, most = RACES[question][seconds]
    rows = [row for row in rows if row["instance"] == instance and row["set"] == question]
    left = {s: v for (_, b, s), v in shares(rows).items() if math.isclose(b, seconds / 10)}
    ranked = sorted(left, key=lambda solver: left[solver])
    close = [s for s in ranked if left[s] <= left[ranked[0]] + more][:most]
    if question == "held-out":
        return ["auto", *(s for s in close if s != "auto")]
    # Of one alone, or none, nothing has to be measured.
    return close if len(close) > 1 and left[close[-1]] - left[close[0]] > ALIKE[seconds] else []


def write_table(rows: list[Row]) -> None:
    """`auto.json`, by the rule of `RULE`."""
    rows = [row for row in rows if row["set"] == "made-from" and row["solver"] in RACERS]
    kinds = {row["instance"]: tuple(row[k] for k in ("loss", "n", "m", "samples")) for row in rows}
    entries: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (instance, seconds, solver), share in shares(rows).items():
        entries[(*kinds[instance], seconds)][solver].append(share)
    means = {key: {s: mean(v) for s, v in values.items()} for key, values in entries.items()}

    def smoothed(key: tuple, solver: str) -> tuple[bool, float]:
        # Neighbours break ties and even out chance, no more: their weight falls fast.
        total = weight = 0.0
        for other, values in means.items():
            if (other[0], other[-1]) == (key[0], key[-1]) and solver in values:
                apart = sum(abs(math.log(a / b)) for a, b in zip(key[1:-1], other[1:-1], strict=True))
                nearness = math.exp(-2 * apart)
                total, weight = total + nearness * values[solver], weight + nearness
        if solver in means[key]:
            return False, total / weight
        shorter = next(k for k in sorted(means, reverse=True) if k[:-1] == key[:-1] and k < key and solver in means[k])
        return True, means[shorter][solver]

    listed = []
    for key in sorted(means):
        scores = {solver: smoothed(key, solver) for solver in RACERS}
        chosen = [min(each, key=lambda solver: scores[solver]) for each in CANDIDATES.values()]
        best, other = sorted(chosen, key=lambda solver: scores[solver])
        names = ("loss", "n", "m", "samples", "seconds")
        kind = {**dict(zip(names, key, strict=True)), "device": "cpu"}
        listed.append({**kind, "solver": best, "other": other, "left": means[key][best]})
    last = rows[-1]
    text = json.dumps(
        {
            "measured": RULE.format(seconds=", ".join(f"{s:g}" for s in SECONDS["made-from"])),
            "solvers": list(RACERS),
            "solves": len(rows),
            "device": last["machine"],
            "versions": {k: last[k] for k in ("tpsolve", "torch", "ortools", "scipy")},
            "rows": listed,
        },
        indent=1,
    )
    write_whole(TABLE, lambda stream: stream.write(text.encode() + b"\n"))


def main(questions: list[str]) -> None:
    """Measure what has no row yet, or write the table."""
    torch.set_num_threads(1)
    # Reports count processor time.
    _base.time = SimpleNamespace(perf_counter=time.process_time)  # pyright: ignore[reportAttributeAccessIssue]
    RESULTS.mkdir(exist_ok=True)
    log = Rows(ROWS, ("task",))
    for question in questions:
        if question == "table":
            write_table(log.read())
            continue
        rows = log.read()
        done = {row["task"] for row in rows}
        problems = list({"made-from": made_from, "held-out": held_out}[question]())
        for seconds in SECONDS[question]:
            for name, problem in problems:
                solvers = racers(rows, question, name, seconds)
                for seed, solver in itertools.product(range(SEEDS[seconds]), solvers):
                    task = f"{question}: {name}, {seconds:g} s, {solver}, seed {seed}"
                    if task not in done and not is_elsewhere(task) and applies(solver, problem, seconds):
                        row = measure(name, problem, seconds, solver, seed)
                        rows.append({"task": task, "set": question, **row, **where()})
                        log.append(rows[-1])
            print(f"{question}, {seconds:g} s: {len(rows)} rows", flush=True)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("questions", nargs="*", choices=("made-from", "held-out", "table", []), metavar="QUESTION")
    main(parser.parse_args().questions)
