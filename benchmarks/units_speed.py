"""How fast are units learned, decided and verified, beside scikit-learn and scipy's linprog, in one run?

    python benchmarks/units_speed.py run [--peer-units 256] [--peer-columns 1000]
    python benchmarks/units_speed.py draw

`run` appends rows to results/units_speed.jsonl; `draw` reads the rows of the last run alone. Peers fit
unit by unit on all cores through joblib. A peer measured on fewer units than asked says so in its row
(`measured`), and its seconds are scaled up. Objectives come from `objective` below for both sides. MNIST's
first 10,000 images are read from the folder TPSOLVE_DATA (load.py); without it, scikit-learn's digits serve.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np
import scipy
import sklearn
import torch
from joblib import Parallel, delayed
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tpsolve.units import Logistic, Separability, SquaredHinge

ROWS = Path(__file__).parent / "results" / "units_speed.jsonl"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
L2 = 1e-4
CORES = os.cpu_count() or 1


def images() -> tuple[str, torch.Tensor]:
    root = os.environ.get("TPSOLVE_DATA")
    if root and (Path(root) / "load.py").is_file():
        sys.path.insert(0, root)
        from load import load_mnist  # pyright: ignore[reportMissingImports]

        return "mnist", torch.tensor(load_mnist()[0][:10000].reshape(10000, -1) / 255.0, dtype=torch.float32)
    return "digits", torch.tensor(load_digits(return_X_y=True)[0] / 16.0, dtype=torch.float32)


def teacher_targets(x: torch.Tensor, units: int, flips: float, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    z = (x - x.mean(0)) @ torch.randn(x.shape[1], units, generator=g, dtype=x.dtype)
    t = torch.where(z >= z.median(dim=0).values, 1.0, -1.0).to(x.dtype)
    return torch.where(torch.rand(t.shape, generator=g) < flips, -t, t)


def objective(name: str, x: np.ndarray, t: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    margin = t * (x.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    loss = np.maximum(0, 1 - margin) ** 2 if name == "squared-hinge" else np.logaddexp(0, -margin)
    return L2 / 2 * (weight.astype(np.float64) ** 2).sum(1) + loss.mean(0)


def fit_peer(name: str, x: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, float]:
    penalty = 1 / (L2 * len(x))
    if name == "squared-hinge":
        # LinearSVC penalises its intercept; on a column of ones without intercept both sides minimise the same.
        settings: Any = {"dual": False}
        found = LinearSVC(C=penalty, fit_intercept=False, **settings).fit(x, t)
        return found.coef_[0], 0.0
    found = LogisticRegression(C=penalty, max_iter=1000).fit(x, t)
    return found.coef_[0], float(found.intercept_[0])


def learner(name: str) -> SquaredHinge | Logistic:
    return SquaredHinge(l2=L2, bias=False) if name == "squared-hinge" else Logistic(l2=L2)


def measure_learners(save, peer_units: int, repeats: int) -> None:
    data, raw = images()
    for name in ("squared-hinge", "logistic"):
        x = torch.cat([raw, torch.ones(len(raw), 1)], dim=1) if name == "squared-hinge" else raw
        for units, rows in [(u, len(x)) for u in (1, 4, 16, 64, 256, 1024)] + [(256, len(x) // d) for d in (10, 3)]:
            t = teacher_targets(raw, units, 0.05)[:rows]
            times = []
            for _ in range(repeats if units <= 256 else 1):
                began = time.perf_counter()
                fit = learner(name).fit(x[:rows], t)
                times.append(time.perf_counter() - began)
            value = objective(name, x[:rows].numpy(), t.numpy(), fit.weight.numpy(), fit.bias.numpy())
            common = {"what": name, "data": data, "units": units, "rows": rows, "features": x.shape[1]}
            save(
                **common, who="tpsolve", seconds=median(times), objective=value.tolist(),
                converged=bool(fit.converged.all()), measured=units,
            )  # fmt: skip
            count = min(units, peer_units if units == 256 else min(peer_units, 2 * CORES))
            if units > 256:
                continue
            began = time.perf_counter()
            jobs: Any = [delayed(fit_peer)(name, x[:rows].numpy(), t[:, k].numpy()) for k in range(count)]
            found: Any = Parallel(n_jobs=CORES)(jobs)
            seconds = (time.perf_counter() - began) * units / count
            weight, bias = np.stack([w for w, _ in found]), np.array([b for _, b in found])
            peer = objective(name, x[:rows].numpy(), t[:, :count].numpy(), weight, bias)
            save(
                **common, who="scikit-learn", seconds=seconds, objective=peer.tolist(), converged=True, measured=count,
                ours_over_peer_objective=float((value[:count] / peer).max()),
            )  # fmt: skip


def elastic(points: np.ndarray, t: np.ndarray) -> int:
    rows, size = points.shape
    left = scipy.sparse.hstack([scipy.sparse.csr_array(-t[:, None] * points), -scipy.sparse.eye_array(rows)])
    bounds = [(None, None)] * size + [(0, None)] * rows
    answer = linprog(np.r_[np.zeros(size), np.ones(rows)], left, -np.ones(rows), bounds=bounds, method="highs")
    return 1 if answer.fun < 1e-6 else -1


def feasible(points: np.ndarray, t: np.ndarray) -> int:
    left, right = -t[:, None] * points, -np.ones(len(points))
    return 1 if linprog(np.zeros(points.shape[1]), left, right, bounds=(None, None), method="highs").status == 0 else -1


def measure_separability(save, peer_columns: int, repeats: int) -> None:
    x = torch.tensor(load_digits(return_X_y=True)[0])
    t = torch.cat([teacher_targets(x, 500, 0.0, 1), teacher_targets(x, 500, 0.05, 2)], dim=1)
    times, checks, cpu = [], [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        certificate = Separability().fit(x, t)
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
        began = time.perf_counter()
        verdict = certificate.verify(x, t)
        checks.append(time.perf_counter() - began)
    status, proven = certificate.status, bool(((verdict == certificate.status) & (verdict != 0)).all())
    common = {"what": "separability", "data": "digits", "units": 1000, "rows": len(x), "features": 64}
    save(
        **common, who="tpsolve", seconds=median(times), cpu_seconds=median(cpu), measured=1000,
        separable=int((status == 1).sum()), proven=proven,
    )  # fmt: skip
    save(**{**common, "what": "verify"}, who="tpsolve", seconds=median(checks), measured=1000, proven=proven)
    points = np.concatenate([x.numpy(), np.ones((len(x), 1))], axis=1)
    chosen = np.linspace(0, 999, min(peer_columns, 1000)).astype(int)
    for who, solve in (("linprog, feasibility", feasible), ("linprog, elastic", elastic)):
        began, began_cpu = time.perf_counter(), time.process_time()
        verdicts = [solve(points, t[:, k].numpy()) for k in chosen]
        seconds = (time.perf_counter() - began) * 1000 / len(chosen)
        # On a busy machine the processor's time is the fairer measure.
        used = (time.process_time() - began_cpu) * 1000 / len(chosen)
        agree = int(sum(int(status[k]) == v for k, v in zip(chosen, verdicts, strict=True)))
        save(**common, who=who, seconds=seconds, cpu_seconds=used, measured=len(chosen), agree=agree)


def run(peer_units: int, peer_columns: int, repeats: int) -> None:
    ROWS.parent.mkdir(exist_ok=True)
    stamp = {
        "run": time.strftime("%Y-%m-%dT%H:%M:%S"), "cores": CORES, "threads": torch.get_num_threads(),
        "machine": platform.machine(), "device": "cpu", "python": platform.python_version(),
        "torch": torch.__version__, "sklearn": sklearn.__version__, "scipy": scipy.__version__,
        "joblib": joblib.__version__, "seed": 0,
    }  # fmt: skip

    def save(**row) -> None:
        # How busy the machine was: figures of a loaded machine are worth less.
        row = {**stamp, "load": os.getloadavg()[0], **row}
        with ROWS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = (
            "what",
            "who",
            "units",
            "rows",
            "seconds",
            "cpu_seconds",
            "measured",
            "ours_over_peer_objective",
            "proven",
            "agree",
        )
        print({k: row[k] for k in shown if k in row}, flush=True)

    measure_separability(save, peer_columns, repeats)
    measure_learners(save, peer_units, repeats)


def draw() -> None:
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    rows = [row for row in rows if row["run"] == rows[-1]["run"]]
    names = ("squared-hinge", "logistic")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for who, style in (("tpsolve", "o-"), ("scikit-learn", "s--")):
        for name, colour in zip(names, ("C0", "C1"), strict=True):
            own = [row for row in rows if row["who"] == who and row["what"] == name]
            most = max(row["rows"] for row in own)
            for axis, key, part in (
                (axes[0], "units", [row for row in own if row["rows"] == most]),
                (axes[1], "rows", [row for row in own if row["units"] == 256]),
            ):
                part = sorted(part, key=lambda row, key=key: row[key])
                axis.loglog([r[key] for r in part], [r["seconds"] for r in part], style, color=colour,
                            label=f"{who}, {name}")  # fmt: skip
    axes[0].set(xlabel="units fitted", ylabel="seconds", title=f"{rows[-1]['data']}, all samples")
    axes[1].set(xlabel="samples", ylabel="seconds", title="256 units")
    axes[0].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / "units_speed.png", dpi=120)
    print(IMAGES / "units_speed.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "draw"])
    parser.add_argument("--peer-units", type=int, default=256)
    parser.add_argument("--peer-columns", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.command == "run":
        run(given.peer_units, given.peer_columns, given.repeats)
    else:
        draw()
