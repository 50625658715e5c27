"""How fast are units learned, decided and verified, beside scikit-learn and scipy's linprog, in one run?

    python -m benchmarks.units_speed [--repeats 3] [--seconds 45]
    python -m benchmarks.units_speed draw

Adds rows to results/units_speed.jsonl as they are done; started again it goes on behind the last one (delete
the file to start anew). `draw` makes docs/images/units_speed.png from the rows alone. The peers fit unit by unit
on all cores through joblib, linprog too. A peer that would need longer than `--seconds` is measured on as many
units as fit, spread over all; its row says so (`measured`), and its seconds are scaled up. Objectives of
both sides come from `objective` below, in float64. MNIST's first 10,000 images are read from the folder
TPSOLVE_DATA (load.py); without it, scikit-learn's digits serve.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tpsolve.units import Hinge, Logistic, Separability, SquaredHinge

ROWS = Path(__file__).parent / "results" / "units_speed.jsonl"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
L2 = 1e-4
CORES = os.cpu_count() or 1
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# LinearSVC penalises its intercept; on a column of ones without intercept both sides minimise the same.
LEARNERS: dict[str, Any] = {
    "squared-hinge": SquaredHinge(l2=L2, bias=False),
    "logistic": Logistic(l2=L2),
    "hinge": Hinge(l2=L2, bias=False),
}
PEERS = {"squared-hinge": "LinearSVC", "logistic": "LogisticRegression", "hinge": "LinearSVC(loss='hinge')"}


def images() -> tuple[str, torch.Tensor]:
    root = os.environ.get("TPSOLVE_DATA")
    if root and (Path(root) / "load.py").is_file():
        sys.path.insert(0, root)
        from load import load_mnist  # pyright: ignore[reportMissingImports]

        return "mnist", torch.tensor(load_mnist()[0][:10000].reshape(10000, -1) / 255.0, dtype=torch.float32)
    return "digits", torch.tensor(load_digits(return_X_y=True)[0] / 16.0, dtype=torch.float32)


def teacher_targets(x: torch.Tensor, units: int, flips: float, seed: int = 0) -> torch.Tensor:
    """Random balanced dichotomies `(N, units)`, each target flipped with this probability."""
    g = torch.Generator().manual_seed(seed)
    z = (x - x.mean(0)) @ torch.randn(x.shape[1], units, generator=g, dtype=x.dtype)
    t = torch.where(z >= z.median(dim=0).values, 1.0, -1.0).to(x.dtype)
    return torch.where(torch.rand(t.shape, generator=g) < flips, -t, t)


def learner_inputs(name: str, raw: torch.Tensor) -> torch.Tensor:
    return raw if LEARNERS[name].bias else torch.cat([raw, raw.new_ones(len(raw), 1)], dim=1)


def objective(name: str, x: np.ndarray, t: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    margin = t * (x.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    shortfall = np.maximum(0, 1 - margin)
    loss = {"hinge": shortfall, "squared-hinge": shortfall**2, "logistic": np.logaddexp(0, -margin)}[name]
    return L2 / 2 * (weight.astype(np.float64) ** 2).sum(1) + loss.mean(0)


def fit_peer(name: str, x: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, float]:
    penalty = 1 / (L2 * len(x))
    if name == "logistic":
        found = LogisticRegression(C=penalty, max_iter=1000).fit(x, t)
        return found.coef_[0], float(found.intercept_[0])
    settings: Any = {"loss": name.replace("-", "_"), "dual": name == "hinge", "max_iter": 10000}
    return LinearSVC(C=penalty, fit_intercept=False, **settings).fit(x, t).coef_[0], 0.0


def elastic(points: np.ndarray, t: np.ndarray) -> int:
    rows, size = points.shape
    left = hstack([csr_array(-t[:, None] * points), -eye_array(rows)])
    bounds = [(None, None)] * size + [(0, None)] * rows
    answer = linprog(np.r_[np.zeros(size), np.ones(rows)], left, -np.ones(rows), bounds=bounds, method="highs")
    return 1 if answer.fun < 1e-6 else -1


def feasible(points: np.ndarray, t: np.ndarray) -> int:
    left, right = -t[:, None] * points, -np.ones(len(points))
    return 1 if linprog(np.zeros(points.shape[1]), left, right, bounds=(None, None), method="highs").status == 0 else -1


def one_by_one(solve: Callable, jobs: list[tuple], cores: int, seconds: float) -> tuple[list[Any], list[int], float]:
    """Answers of as many jobs as fit, their numbers, and the seconds that all would take."""
    pool = Parallel(n_jobs=cores)
    pool(delayed(abs)(1) for _ in range(cores))
    began = time.perf_counter()
    solve(*jobs[0])
    count = max(1, min(len(jobs), int(seconds * cores / (time.perf_counter() - began))))
    chosen = np.linspace(0, len(jobs) - 1, count).astype(int).tolist()
    began = time.perf_counter()
    answers: Any = pool(delayed(solve)(*jobs[k]) for k in chosen)
    return answers, chosen, (time.perf_counter() - began) * len(jobs) / count


def timed(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What it returns, and the median of its seconds; of several calls the first does not count."""
    seconds, answer = [], None
    for _ in range(repeats + (repeats > 1)):
        began = time.perf_counter()
        answer = call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return answer, median(seconds[1:] or seconds)


def extra_memory(work: Callable[..., Any], *arguments: Any) -> float | None:
    """MB by which the resident memory of a fresh process peaks above what it held before `work` (Linux)."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (work, arguments))


def _peak(work: Callable[..., Any], arguments: tuple) -> float:
    given = work(*arguments, prepare=True)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    work(*arguments, prepared=given)
    return (resident("VmHWM") - before) / 1024


def resident(figure: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(figure + ":"))


def learn(name: str, units: int, rows: int, prepare: bool = False, prepared: Any = None) -> Any:
    if prepare:
        raw = images()[1]
        return learner_inputs(name, raw)[:rows], teacher_targets(raw, units, 0.05)[:rows]
    return LEARNERS[name].fit(*prepared)


def product_rate(x: torch.Tensor, units: int) -> float:
    """Floating-point operations a second of inputs @ weights, what the learners are made of."""
    weight = torch.randn(x.shape[1], units, dtype=x.dtype, device=x.device)
    _, seconds = timed(lambda: x @ weight, 20)
    return 2 * x.numel() * units / seconds


def learner_cases(size: int) -> list[tuple[str, int, int]]:
    """(learner, units, samples): over the units with all samples, over the samples with 256 units."""
    cases = [(u, size) for u in (1, 4, 16, 64, 256, 1024)] + [(256, size // d) for d in (30, 10, 3)]
    return [(name, *case) for name in ("squared-hinge", "logistic") for case in cases] + [("hinge", 16, size)]


def measure_learner(name: str, units: int, rows: int, repeats: int, seconds: float) -> list[dict[str, Any]]:
    data, raw = images()
    x, t = learner_inputs(name, raw)[:rows].contiguous(), teacher_targets(raw, units, 0.05)[:rows]
    here = x.to(DEVICE), t.to(DEVICE)
    fit, ours = timed(lambda: LEARNERS[name].fit(*here), repeats if units <= 256 and name != "hinge" else 1)
    value = objective(name, x.numpy(), t.numpy(), fit.weight.cpu().numpy(), fit.bias.cpu().numpy())
    common = {"what": name, "data": data, "units": units, "rows": rows, "features": x.shape[1]}
    row = {**common, "who": "tpsolve", "seconds": ours, "measured": units, "converged": bool(fit.converged.all())}
    if units == 256 and rows == len(raw) and DEVICE == "cpu":
        row["extra_mb"] = extra_memory(learn, name, units, rows)
        row["samples_and_targets_mb"] = 4 * (x.numel() + t.numel()) / 2**20
    if DEVICE == "cuda":
        row["product_tflops"] = product_rate(here[0], units) / 1e12
    if units > 256:
        return [row]
    jobs = [(name, x.numpy(), t[:, k].numpy()) for k in range(units)]
    found, chosen, theirs = one_by_one(fit_peer, jobs, CORES, seconds)
    weight, bias = np.stack([w for w, _ in found]), np.array([b for _, b in found])
    ratio = value[chosen] / objective(name, x.numpy(), t[:, chosen].numpy(), weight, bias)
    peer = {
        **common, "who": PEERS[name], "seconds": theirs, "measured": len(chosen), "times_slower": theirs / ours,
        "objective_ratio_mean": float(ratio.mean()), "objective_ratio_max": float(ratio.max()),
    }  # fmt: skip
    return [row, peer]


def measure_separability(repeats: int, seconds: float) -> list[dict[str, Any]]:
    x = torch.tensor(load_digits(return_X_y=True)[0])
    t = torch.cat([teacher_targets(x, 500, 0.0, 1), teacher_targets(x, 500, 0.05, 2)], dim=1)
    here = x.to(DEVICE), t.to(DEVICE)
    certificate, ours = timed(lambda: Separability().fit(*here), repeats)
    verdict, check = timed(lambda: certificate.verify(x, t), repeats)
    status = certificate.status.cpu()
    proven = bool(((verdict.cpu() == status) & (status != 0)).all())
    common = {"data": "digits", "units": 1000, "rows": len(x), "features": 64}
    rows = [
        {**common, "what": "separability", "who": "tpsolve", "seconds": ours, "measured": 1000, "proven": proven,
         "separable": int((status == 1).sum()), "extra_mb": extra_memory(separate)},
        {**common, "what": "verify", "who": "tpsolve", "seconds": check, "measured": 1000, "proven": proven},
    ]  # fmt: skip
    points = np.concatenate([x.numpy(), np.ones((len(x), 1))], axis=1)
    # A plain feasibility program is quicker, but says no without a reason.
    for who, solve, cores in (
        ("linprog, elastic", elastic, 1), ("linprog, elastic", elastic, CORES), ("linprog, feasibility", feasible, 1),
    ):  # fmt: skip
        answers, chosen, theirs = one_by_one(solve, [(points, t[:, k].numpy()) for k in range(1000)], cores, seconds)
        agree = sum(int(status[k]) == v for k, v in zip(chosen, answers, strict=True))
        rows.append(
            {**common, "what": "separability", "who": who, "peer_cores": cores, "seconds": theirs,
             "measured": len(chosen), "agree": agree, "times_slower": theirs / ours}
        )  # fmt: skip
    return rows


def separate(prepare: bool = False, prepared: Any = None) -> Any:
    if prepare:
        x = torch.tensor(load_digits(return_X_y=True)[0])
        return x, torch.cat([teacher_targets(x, 500, 0.0, 1), teacher_targets(x, 500, 0.05, 2)], dim=1)
    return Separability().fit(*prepared)


def measure_wide() -> list[dict[str, Any]]:
    """Circuits of up to hundreds of samples: dichotomies of images with 1 target in 20 flipped."""
    data, raw = images()
    x = raw[:4000].double()
    t = torch.cat([teacher_targets(x, 4, 0.0, 3), teacher_targets(x, 4, 0.05, 3)], dim=1)
    certificate, seconds = timed(lambda: Separability().fit(x.to(DEVICE), t.to(DEVICE)), 1)
    verdict, check = timed(lambda: certificate.verify(x, t), 1)
    common = {"data": data, "units": 8, "rows": len(x), "features": x.shape[1], "who": "tpsolve", "measured": 8}
    proven = bool((verdict.cpu() == certificate.status.cpu()).all())
    longest = int((certificate.support >= 0).sum(dim=1).max())
    return [
        {**common, "what": "separability", "seconds": seconds, "proven": proven, "longest_circuit": longest,
         "separable": int((verdict == 1).sum())},
        {**common, "what": "verify", "seconds": check, "proven": proven},
    ]  # fmt: skip


def run(repeats: int, seconds: float) -> None:
    ROWS.parent.mkdir(exist_ok=True)
    size = len(images()[1])
    cases: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "separability": lambda: measure_separability(repeats, 3 * seconds),
        "wide": measure_wide,
    }
    for name, units, rows in learner_cases(size):
        # The rows that a bar is set on get the time; the curves need only the order of magnitude.
        most = seconds if (units, rows) == (256, size) or name == "hinge" else seconds / 6
        cases[f"{name} {units} {rows}"] = lambda n=name, u=units, r=rows, s=most: measure_learner(n, u, r, repeats, s)
    done = {row["case"] for row in read_rows()}
    where = {
        "machine": f"{platform.machine()}, {CORES} cores, {torch.get_num_threads()} threads",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("tpsolve", "torch", "scipy", "scikit-learn", "joblib")},
    }  # fmt: skip
    for case, measure in cases.items():
        if case in done:
            continue
        rows = [{"case": case, **row, "repeats": repeats, **where} for row in measure()]
        with ROWS.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items() if k not in where}
            print(shown, flush=True)


def read_rows() -> list[dict[str, Any]]:
    """The rows so far; a last line that was torn off is left out."""
    text = ROWS.read_text() if ROWS.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def draw() -> None:
    import matplotlib.pyplot as plt

    rows = [row for row in read_rows() if row["what"] in ("squared-hinge", "logistic")]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    most = max(row["rows"] for row in rows)
    data = next(row["data"] for row in rows if row["rows"] == most)
    rows = [row for row in rows if row["data"] == data]
    for who in ("tpsolve", "LinearSVC", "LogisticRegression"):
        for name, colour in (("squared-hinge", "C0"), ("logistic", "C1")):
            own = [row for row in rows if row["who"] == who and row["what"] == name]
            for axis, key, part in (
                (axes[0], "units", [row for row in own if row["rows"] == most]),
                (axes[1], "rows", [row for row in own if row["units"] == 256]),
            ):
                part = sorted(part, key=lambda row, key=key: row[key])
                if part:
                    axis.loglog([r[key] for r in part], [r["seconds"] for r in part],
                                "o-" if who == "tpsolve" else "s--", color=colour, label=f"{who}, {name}")  # fmt: skip
    axes[0].set(xlabel="units fitted", ylabel="seconds", title=f"{rows[-1]['data']}, {most:,} samples")
    axes[1].set(xlabel="samples", ylabel="seconds", title="256 units")
    axes[0].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / "units_speed.png", dpi=120)
    print(IMAGES / "units_speed.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["run", "draw"], default="run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=45.0, help="the longest that a peer may take")
    given = parser.parse_args()
    if given.command == "run":
        run(given.repeats, given.seconds)
    else:
        draw()
