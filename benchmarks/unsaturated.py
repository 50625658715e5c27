"""Tables of small networks on which exact solvers are not done: generators, a runner of rows, and a page of gaps.

`python -m benchmarks.exact_scaling unsaturated` runs it. Rows are appended to benchmarks/results/unsaturated.jsonl one
by one; what is there is not run again. Tables whose names begin with data/ are read from the folder that `--data-root`
names, in files NAME.csv with a header of `feature:n` for numbers and `feature:c` for words, and a column `target`.
Without it they are left out. `python -m benchmarks.exact_scaling gaps` writes docs/gaps.md, and `export --out DIR`
writes the tables as CSV files for other solvers.
"""

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, Rows, each, is_elsewhere
from tpsolve import Budget, NetworkProblem, solve
from tpsolve._storage._row_log import RowLog
from tpsolve.errors import TpsolveError
from tpsolve.search import find_solver

ROWS = RESULTS / "unsaturated.jsonl"
NEIGHBOURS = RESULTS / "exact_neighbours.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "gaps.md"
Table = tuple[np.ndarray, np.ndarray]


def uniform(p: int, n: int, seed: int) -> Table:
    """N points on a grid of 0.01 in [-1, 1]^p, labels by coin flips."""
    rng = np.random.default_rng(1000 * p + n + 77777 * seed)
    return rng.integers(-100, 101, (n, p)) / 100, rng.integers(0, 2, n)


def spirals(n: int, noise: float = 0.02) -> Table:
    """Two arms of a spiral."""
    rng = np.random.default_rng(0)
    t = np.linspace(0.3, 1, n // 2) * 2 * np.pi * 1.25
    arm = np.c_[t * np.cos(t), t * np.sin(t)] / 8
    return (np.r_[arm, -arm] + rng.normal(size=(2 * (n // 2), 2)) * noise).round(3), np.arange(2).repeat(n // 2)


def moons(n: int, noise: float) -> Table:
    """Two half circles of scikit-learn."""
    from sklearn.datasets import make_moons

    inputs, labels = make_moons(n, noise=noise, random_state=0)
    return np.round(inputs, 3), np.asarray(labels)


def circles(n: int, noise: float) -> Table:
    """A circle around another, of scikit-learn."""
    from sklearn.datasets import make_circles

    inputs, labels = make_circles(n, noise=noise, factor=0.5, random_state=0)
    return np.round(inputs, 3), np.asarray(labels)


def xor(n: int, p: int, flipped: float) -> Table:
    """XOR of the signs of the first two of p features, a share of the labels flipped."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (n, p)).round(3)
    labels = ((inputs[:, 0] > 0) ^ (inputs[:, 1] > 0)).astype(int)
    return inputs, np.where(rng.random(n) < flipped, 1 - labels, labels)


def gauss(p: int, n: int, apart: float) -> Table:
    """Two normal clouds."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    inputs = rng.normal(size=(n, p))
    inputs[:, 0] += apart * labels
    return inputs.round(3), labels


def blobs(n: int, classes: int, p: int, spread: float) -> Table:
    """Several normal clouds around random centres."""
    rng = np.random.default_rng(1)
    labels = np.arange(n) % classes
    return (rng.uniform(-1, 1, (classes, p))[labels] + spread * rng.normal(size=(n, p))).round(3), labels


def penguins(seed: int = 0) -> Table:
    """Three classes by bill and flipper, like the penguins of Palmer station."""
    rng = np.random.default_rng(seed)
    clouds = ((38.8, 190.0, 146), (48.8, 196.0, 68), (47.5, 217.0, 119))
    inputs = np.concatenate([rng.normal(mean, (2.8, 6.6), (count, 2)) for *mean, count in clouds])
    return inputs.round(1), np.arange(3).repeat([count for *_, count in clouds])


def bundled(name: str) -> Table:
    """A table that comes with scikit-learn."""
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def read(root: Path, name: str, count: int | None = None, *, train: bool = False) -> Table:
    """Rows of a table of the data folder without missing values, or of its training part; `count` random ones."""
    with (root / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    heads = [head for head in rows[0] if head not in ("target", "split")]
    columns: list[list[float]] = []
    for head in heads:
        values = [row[head] for row in rows]
        if head.endswith(":n"):
            columns.append([float("nan") if v in ("", "?") else float(v) for v in values])
        else:
            columns += [[float(v == level) for v in values] for level in sorted(set(values))]
    classes = sorted({row["target"] for row in rows})
    inputs, labels = np.array(columns).T, np.array([classes.index(row["target"]) for row in rows])
    kept = np.isfinite(inputs).all(1)
    if train:
        kept &= np.array([row.get("split") != "test" for row in rows])
    inputs, labels = inputs[kept], labels[kept]
    chosen = np.random.default_rng(0).permutation(len(inputs))[:count] if count else np.arange(len(inputs))
    return inputs[chosen], labels[chosen]


MAKERS: dict[str, Callable[..., Table]] = {
    "uniform": uniform,
    "spirals": spirals,
    "moons": moons,
    "circles": circles,
    "xor": xor,
    "gauss": gauss,
    "blobs": blobs,
    "penguins": penguins,
}
"""By the first word of a table's name; its numbers, the seed with an s before it, are the arguments."""
SUITE: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("uniform-2-100-s7", (2,)), ("uniform-2-100-s7", (3,)), ("uniform-3-60-s3", (2,)), ("uniform-3-60-s3", (3,)),
    ("uniform-5-50-s1", (1,)), ("uniform-5-50-s1", (2,)), ("spirals-60", (3,)), ("spirals-60", (4,)),
    ("spirals-60", (5,)), ("moons-200-0.3", (2,)), ("moons-200-0.3", (3,)), ("circles-100-0.1", (3,)),
    ("circles-100-0.15", (3,)), ("xor-100-6-0.05", (2,)), ("data/haberman", (1,)), ("data/haberman", (2,)),
    ("data/monks1-train", (2,)), ("data/monks1-train", (3,)), ("data/balance", (1,)), ("data/balance", (2,)),
    ("uniform-2-40-s7", (2, 2)), ("uniform-2-40-s7", (3, 3)), ("uniform-2-500-s7", (1,)), ("uniform-3-200-s3", (1,)),
    ("uniform-5-100-s1", (1,)), ("uniform-10-60-s1", (1,)), ("uniform-10-100-s1", (1,)), ("gauss-2-500-2.0", (1,)),
    ("gauss-5-500-3.0", (1,)), ("gauss-10-500-4.0", (1,)), ("data/pima-300", (1,)), ("data/banknote", (1,)),
    ("data/heart", (1,)), ("data/monks3-train", (1,)), ("data/votes", (1,)),
    # Chosen later, before anything was tuned on them.
    ("uniform-2-60-s11", (2,)), ("uniform-2-60-s11", (3,)), ("uniform-2-200-s1", (1,)), ("uniform-3-80-s5", (1,)),
    ("uniform-3-80-s5", (2,)), ("uniform-4-60-s2", (1,)), ("uniform-4-60-s2", (2,)), ("uniform-6-60-s4", (1,)),
    ("uniform-2-50-s9", (2, 2)), ("moons-100-0.2", (2,)), ("moons-100-0.2", (3,)), ("moons-300-0.25", (1,)),
    ("moons-300-0.25", (2,)), ("circles-80-0.12", (2,)), ("circles-80-0.12", (3,)), ("circles-200-0.1", (3,)),
    ("spirals-100", (4,)), ("blobs-150-3-2-0.5", (1,)), ("blobs-150-3-2-0.5", (2,)), ("blobs-150-3-2-0.5", (3,)),
    ("blobs-120-4-3-0.4", (2,)), ("penguins", (1,)), ("penguins", (2,)), ("iris", (1,)), ("iris", (2,)), ("wine", (1,)),
    ("breast_cancer", (1,)), ("xor-120-3-0.1", (2,)), ("xor-60-2-0.1", (2, 2)), ("xor-60-2-0.1", (3, 2)),
    ("data/cleveland", (1,)), ("data/ionosphere", (1,)), ("data/tictactoe", (2,)), ("data/spect", (1,)),
    ("data/monks2-train", (2,)),
)  # fmt: skip
"""(table, units of each hidden layer)."""


def table(name: str, root: Path | None) -> Table | None:
    """The table of this name; None: it is in the data folder, which is not given."""
    if not name.startswith("data/"):
        kind, *numbers = name.split("-")
        arguments = [float(v) if "." in v else int(v.removeprefix("s")) for v in numbers]
        return MAKERS[kind](*arguments) if kind in MAKERS else bundled(name)
    if root is None:
        return None
    name, _, part = name.removeprefix("data/").partition("-")
    return read(root, name, int(part) if part.isdigit() else None, train=part == "train")


def rows() -> list[dict[str, Any]]:
    """The rows so far; a torn last line is left out."""
    return Rows(ROWS).read()


def run(solvers: tuple[str, ...], seconds: float, only: list[str], root: Path | None, workers: int = 1) -> None:
    """Every solver on every table, or those of a shard, but for rows that are there."""
    done = {(r["table"], tuple(r["widths"]), r["solver"], r["limit"]) for r in rows()}
    every = [
        (name, widths, solver, seconds, root)
        for name, widths in SUITE
        for solver in solvers
        if (root is not None or not name.startswith("data/")) and any(word in name for word in only)
    ]
    tasks = [task for task in every if task[:-1] not in done and not is_elsewhere(task[:-1])]
    for row in each(measure, tasks, workers):
        Rows(ROWS).append(row)
        print(json.dumps(row), flush=True)


def measure(name: str, widths: tuple[int, ...], solver: str, seconds: float, root: Path | None) -> dict[str, Any]:
    """One row: objective, bound and seconds, or why there are none."""
    data = table(name, root)
    assert data is not None
    row: dict[str, Any] = {"table": name, "widths": list(widths), "solver": solver, "limit": seconds, "seed": 0}
    row |= {"points": len(data[0]), "features": data[0].shape[1], "classes": len(np.unique(data[1]))}
    started = time.perf_counter()
    try:
        result = solve(NetworkProblem(*data, widths), find_solver(solver), budget=Budget(seconds=seconds))
    except TpsolveError as error:
        row["failure"] = str(error)
    else:
        row |= {"objective": result.objective.item(), "bound": result.bound.item()}
        row |= {"status": result.status.value, "proved_by": result.stats.get("proved_by", solver)}
        row["found_at"] = result.stats["found_at"].item()
        row["trace"] = [[round(p.seconds, 3), p.objective, p.bound] for p in result.trace]
    return {**row, "seconds": time.perf_counter() - started}


def export(folder: Path, root: Path | None) -> None:
    """Write each table to a CSV file, every number as float64 has it, and what is known of it to instances.json."""
    folder.mkdir(parents=True, exist_ok=True)
    found, known = [row for row in rows() if "objective" in row], []
    for name, widths in SUITE:
        data = table(name, root)
        if data is None:
            continue
        file, own = (
            name.replace("/", "-") + ".csv",
            [r for r in found if (r["table"], tuple(r["widths"])) == (name, widths)],
        )
        inputs, labels = data
        with (folder / file).open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow([*(f"x{j}" for j in range(inputs.shape[1])), "target"])
            writer.writerows([*map(repr, row.tolist()), label] for row, label in zip(inputs, labels, strict=True))
        entry: dict[str, Any] = {"file": file, "widths": list(widths)}
        if own:
            entry |= {"errors": min(row["objective"] for row in own), "bound": max(row["bound"] for row in own)}
        known.append(entry)
    (folder / "instances.json").write_text(json.dumps(known, indent=1) + "\n")
    print(f"{len(known)} instances: {folder}")


def page() -> None:
    """Write docs/gaps.md from the rows."""
    text = "\n".join(_lines([row for row in rows() if "objective" in row])) + "\n"
    PAGE.write_text(text)
    print(text)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    keys = [key for key in SUITE if any((row["table"], tuple(row["widths"])) == key for row in found)]
    best, bound = {}, {}
    for key in keys:
        own = [row for row in found if (row["table"], tuple(row["widths"])) == key]
        best[key] = min(own, key=lambda row: (row["objective"], row["limit"], row["seconds"]))
        bound[key] = min(own, key=lambda row: (-row["bound"], row["limit"], row["seconds"]))
    proved = [key for key in keys if best[key]["objective"] == bound[key]["bound"]]
    yield "# Gaps\n"
    yield "These tables are hard for exact solvers of small networks. The page lists the minimum number of errors known"
    yield "for any real weights, and the proved lower bound. Where the two differ the answer is open."
    yield ""
    yield "`python -m benchmarks.exact_scaling gaps` writes this page from `benchmarks/results/unsaturated.jsonl`."
    yield "`benchmarks/unsaturated.py` makes the tables from seeds. Tables whose names begin with `data/` are public"
    yield "ones of the UCI repository, read from a folder. *Limit* is the seconds that the solver had, with two cores."
    yield ""
    yield "`python -m benchmarks.exact_scaling export --out DIR` writes the tables as CSV files for other solvers, and"
    yield "the values of this page as JSON. A comparison is fair if both sides count errors of the same rows, by"
    yield "networks of the same form: a bias at each unit, outputs of +1 from 0 on, and for more than two classes one"
    yield "output unit a class that is +1 for its own class only. Say the seconds, the threads, and who checked the"
    yield "proof. Neighbours such as optimal trees have other models: the last table shows some beside ours, and"
    yield "[Models](models.md) compares test accuracy and size."
    yield ""
    yield f"{len(proved)} of {len(keys)} optima are proved."
    for title, chosen in (("Open", [k for k in keys if k not in proved]), ("Proved", proved)):
        yield f"\n## {title}\n"
        heads = "table points features classes widths errors found-by bound proved-by limit seconds"
        yield f"| {' | '.join(heads.split())} |".replace("-", " ")
        yield "|---|---:|---:|---:|---|---:|---|---:|---|---:|---:|"
        for key in chosen:
            b, p = best[key], bound[key]
            yield (
                f"| `{key[0]}` | {b['points']} | {b['features']} | {b['classes']} | {', '.join(map(str, key[1]))} "
                f"| {b['objective']:g} | `{b['solver'].partition(':')[0]}` | {p['bound']:g} | {p['proved_by']} "
                f"| {p['limit']:g} | {p['seconds']:.2g} |"
            )
    yield from _neighbours(best, bound)


def _neighbours(best: dict[Any, dict[str, Any]], bound: dict[Any, dict[str, Any]]) -> Iterator[str]:
    """Optimal trees beside the networks."""
    trees: dict[str, dict[int, dict[str, Any]]] = {}
    for row in RowLog(NEIGHBOURS).read():
        trees.setdefault(row["table"], {})[row["depth"]] = row
    if not trees:
        return
    yield "\n## Optimal trees on the same tables\n"
    yield "ConTree finds the tree of a depth that makes the fewest training errors. Each test compares one feature with"
    yield "a number. Depth 2 has up to 3 tests, and depth 3 up to 7. The columns of networks have the errors known"
    yield "for one, two and three units of one hidden layer, with the bound in brackets where it is lower. A unit may"
    yield "read all features, so the sizes of these models are not equal. *Seconds* are those of the tree, on a busy"
    yield "machine; a tree that had no time left need not be optimal, and has a star."
    yield "`python -m benchmarks.exact_neighbours` makes the rows."
    yield ""
    yield "| table | 1 unit | 2 units | 3 units | tree of depth 2 | seconds | tree of depth 3 | seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, own in trees.items():
        cells = []
        for units in ((1,), (2,), (3,)):
            errors, least = best.get((name, units)), bound.get((name, units))
            cells.append("" if errors is None or least is None else f"{errors['objective']:g}")
            if errors and least and least["bound"] < errors["objective"]:
                cells[-1] += f" ({least['bound']:g})"
        for depth in (2, 3):
            row = own.get(depth)
            star = "" if row is None or row["optimal"] else "*"
            cells += ["", ""] if row is None else [f"{row['errors']}{star}", f"{row['seconds']:.2g}"]
        yield f"| `{name}` | {' | '.join(cells)} |"
    yield ""
    yield "Others were looked at. STreeD 1.4.0 does not start beside NumPy 2, since it imports a library that needs"
    yield "an older one. GOSDT 1.0.4 fails when it predicts beside scikit-learn 1.9, and before that it found"
    yield "no optimum in 20 s for 100 points of three features at depth 3. No packages of Deep-ICE, ICE, HODT"
    yield "and BDNN were found on PyPI."
