"""Which stock models work with what? Those of `stock_models.py`, through each part of `tpsolve.nn`.

A row is a model and one part. What raises is a failure with its message, and so is what can't begin: since the library
can't be imported, or since the model could not be converted. Rows that are there already are kept, so that a run goes
on where it ended.
Run: `python -m benchmarks.support_matrix`; with words behind it, the rows of the models whose names have one of them
are made anew, and no others; with `--part NAME`, just the rows of this part.
`python docs/support_matrix.py` writes the page.
"""

import argparse
import contextlib
import copy
import functools
import gc
import json
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint

from benchmarks.record import RESULTS, where
from benchmarks.stock_models import MODELS, Stock
from tpsolve import Budget
from tpsolve.nn import binarize, compact, diagnose, fold, target_backward
from tpsolve.nn.passes._nests import arguments_of, call

SEARCHES = (
    "hill-climb", "curvature-flip", "tabu", "anneal", "beam", "guided-random", "cross-entropy-method", "random",
    "polish(beam, hill-climb)", "restarts(hill-climb, 2)", "auto",
)  # fmt: skip
LIMIT = 120
"""Seconds of processor time that a part may take."""
ROWS = RESULTS / "support_matrix.jsonl"

Part = Callable[[nn.Module, Stock], Any]


def gradients(model: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def of_rule(model: nn.Module, stock: Stock) -> list[Tensor]:
    """The gradients of a plain pass of a copy."""
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    stock.loss(call(other, stock.inputs), stock.labels).backward()
    return gradients(other)


def alike(model: nn.Module, expected: list[Tensor], exact: bool = False) -> None:
    """Raise unless the gradients of `model` are those, up to rounding."""
    found = gradients(model)
    size = max(float(g.abs().max()) for g in expected)
    assert size > 0, "no gradient at all"
    for one, other in zip(found, expected, strict=True):
        same = torch.equal(one, other) if exact else torch.allclose(one, other, rtol=1e-3, atol=1e-5 * size)
        assert same, f"gradients differ by {float((one - other).abs().max()) / size:.1e} of the largest"


def rule(model: nn.Module, stock: Stock) -> None:
    expected = of_rule(model, stock)
    torch.manual_seed(1)
    target_backward(model, stock.inputs, stock.labels, stock.loss)
    alike(model, expected, exact=True)


def search(place: Any, *solvers: str) -> Part:
    def run(model: nn.Module, stock: Stock) -> None:
        for solver in solvers:
            chosen: Any = solver if place is None else {place: solver}
            report = target_backward(
                model, stock.inputs, stock.labels, stock.loss, solver=chosen, budget=Budget(steps=1)
            )
            assert report.rows, f"{solver} searched nothing"
            left = {name: count for name, count in report.fallbacks.items() if count}
            assert not left, f"{solver} fell back in {left}"

    return run


def diagnosed(model: nn.Module, stock: Stock) -> None:
    assert diagnose(model, stock.inputs, stock.labels, stock.loss, flips=8)


def in_compact(model: nn.Module, stock: Stock) -> None:
    expected = of_rule(model, stock)
    torch.manual_seed(1)
    with compact(model):
        stock.loss(call(model, stock.inputs), stock.labels).backward()
    alike(model, expected, exact=True)


def in_autocast(model: nn.Module, stock: Stock) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        value = stock.loss(call(model, stock.inputs), stock.labels)
        target_backward(
            model, stock.inputs, stock.labels, stock.loss, solver={-1: "hill-climb"}, budget=Budget(steps=1)
        )
    value.backward()
    assert all(bool(g.isfinite().all()) for g in gradients(model)), "gradients are not finite"


def accumulated(model: nn.Module, stock: Stock) -> None:
    model.eval()
    expected, samples = of_rule(model, stock), len(stock.labels)
    for rows in (slice(0, samples // 2), slice(samples // 2, samples)):

        def picked(leaf: Any, rows: slice = rows) -> Any:
            return leaf[rows] if isinstance(leaf, Tensor) and leaf.shape[:1] == (samples,) else leaf

        x, y = tree_map(picked, stock.inputs), tree_map(picked, stock.labels)
        (stock.loss(call(model, x), y) * (len(y) / samples)).backward()
    alike(model, expected)


def checkpointed(model: nn.Module, stock: Stock) -> None:
    expected = of_rule(model, stock)
    arguments, keywords = arguments_of(stock.inputs)
    torch.manual_seed(1)
    output = checkpoint(lambda: model(*arguments, **keywords), use_reentrant=False)
    stock.loss(output, stock.labels).backward()
    alike(model, expected)


def compiled(model: nn.Module, stock: Stock) -> None:
    model.eval()
    expected = of_rule(model, stock)
    around: Any = torch.compile(model, backend="aot_eager")
    stock.loss(call(around, stock.inputs), stock.labels).backward()
    alike(model, expected)


def in_a_group(check: Callable[[nn.Module, Stock], None]) -> Callable[[nn.Module, Stock], None]:
    """The check, in a process group of this process alone.

    What the check made is gone before the group is destroyed. A `DistributedDataParallel` that outlives the group would
    end it with Python's lock held, and gloo's thread may wait for that lock.
    """

    @functools.wraps(check)
    def checked(model: nn.Module, stock: Stock) -> None:
        from torch import distributed

        with tempfile.TemporaryDirectory() as folder:
            distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
            try:
                check(model, stock)
            finally:
                gc.collect()
                distributed.destroy_process_group()

    return checked


@in_a_group
def distributed_data(model: nn.Module, stock: Stock) -> None:
    expected = of_rule(model, stock)
    around = nn.parallel.DistributedDataParallel(model)
    torch.manual_seed(1)
    stock.loss(call(around, stock.inputs), stock.labels).backward()
    alike(model, expected)
    search(-1, "hill-climb")(around, stock)


@in_a_group
def fully_sharded(model: nn.Module, stock: Stock) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    expected = of_rule(model, stock)
    sharded: Any = fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    torch.manual_seed(1)
    stock.loss(call(sharded, stock.inputs), stock.labels).backward()
    found = [p.grad.full_tensor() if p.grad is not None else None for p in sharded.parameters()]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(torch.zeros_like(other) if one is None else one, other, rtol=1e-3, atol=1e-6)
    search(-1, "hill-climb")(sharded, stock)


def exported(model: nn.Module, stock: Stock) -> None:
    model.eval()
    arguments, keywords = arguments_of(stock.inputs)
    program = torch.export.export(model, tuple(arguments), keywords)
    with torch.no_grad():
        found, expected = (stock.loss(call(m, stock.inputs), stock.labels) for m in (program.module(), model))
    assert torch.allclose(found, expected, rtol=1e-4), "outputs differ"


def draw_norms(model: nn.Module) -> None:
    """Statistics and lines of batch norms as after a training: those of a new one leave sums of 0, which are ties."""
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in model.modules() if isinstance(module, _BatchNorm)):
        for tensor, least, most in (
            (norm.running_mean, -0.5, 0.5),
            (norm.running_var, 0.5, 2.0),
            (norm.weight, -2.0, 2.0),
            (norm.bias, -0.5, 0.5),
        ):
            if tensor is not None:
                tensor.data.uniform_(least, most, generator=generator)


def sharing(model: nn.Module) -> list[str]:
    """The modules whose weight another one has too, such as an embedding."""
    counts = Counter(id(m.weight) for m in model.modules() if isinstance(getattr(m, "weight", None), Tensor))
    found = [(name, getattr(module, "weight", None)) for name, module in model.named_modules()]
    return [name for name, weight in found if counts[id(weight)] > 1]


def folded(model: nn.Module, stock: Stock) -> Any:
    draw_norms(model)
    made = fold(binarize(model, skip=sharing(model)).eval(), stock.inputs)
    assert made.others == 0, "outputs differ"
    return made


def packed(model: nn.Module, stock: Stock) -> None:
    made = folded(model, stock)
    found, expected = (tree_leaves(call(network, stock.inputs)) for network in (made.pack(), made))
    assert all(map(torch.equal, found, expected)), "outputs differ"


def in_onnx(model: nn.Module, stock: Stock) -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = folded(model, stock).export(Path(folder) / "net.onnx", stock.inputs)
        assert told.by == "onnxruntime", "onnxruntime is not installed"
        assert told.others == 0, f"real sums beside a threshold differ in {told.others} samples"


PARTS: dict[str, Part] = {
    "rule": rule,
    "search last": search(-1, *SEARCHES),
    "search all": search(None, "hill-climb", "curvature-flip"),
    "diagnose": diagnosed,
    "compact": in_compact,
    "autocast": in_autocast,
    "accumulation": accumulated,
    "checkpoint": checkpointed,
    "compile": compiled,
    "DDP": distributed_data,
    "FSDP2": fully_sharded,
    "torch.export": exported,
    "fold": folded,
    "pack": packed,
    "ONNX": in_onnx,
}


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TimeoutError after so much processor time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {LIMIT} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def tried(run: Callable[[], Any]) -> tuple[Any, str]:
    """What `run` returns, and why it failed or ''."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with limited():
                return run(), ""
        except Exception as error:  # Any failure is a row.
            first = next(iter(str(error).strip().splitlines()), "")
            return None, f"{type(error).__name__}: {first}"[:300]


def rows_of(name: str, parts: Collection[str] = PARTS) -> Iterator[dict[str, Any]]:
    def made() -> tuple[Stock, nn.Module]:
        torch.manual_seed(0)
        stock = MODELS[name]()
        return stock, stock.thresholds(stock.make())

    found, told = tried(made)
    print(f"{name}, convert: {told or 'yes'}", flush=True)
    yield {"model": name, "part": "convert", "why": told}
    for part, run in ((part, PARTS[part]) for part in parts):
        why = "not converted" if found is None else ""
        if found is not None:
            stock, model = found
            began = time.process_time()
            _, why = tried(lambda run=run, stock=stock, model=model: run(copy.deepcopy(model), stock))
            print(f"{name}, {part}: {why or 'yes'}, {time.process_time() - began:.1f} s", flush=True)
        yield {"model": name, "part": part, "why": why}


def main(words: list[str], part: str | None = None) -> None:
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    kept = [row for row in map(json.loads, lines) if row["model"] in MODELS]
    chosen = [name for name in MODELS if not words or any(word in name for word in words)]

    def stays(row: dict[str, Any], name: str) -> bool:
        return row["model"] != name or (part is not None and row["part"] not in (part, "convert"))

    if words and part is None:
        kept = [row for row in kept if row["model"] not in chosen]
    for name in chosen:
        own = {row["part"] for row in kept if row["model"] == name}
        if part is None and own == {"convert", *PARTS}:
            continue
        kept = [row for row in kept if stays(row, name)]
        kept += [{**row, **where()} for row in rows_of(name, PARTS if part is None else (part,))]
        models, parts = list(MODELS), ["convert", *PARTS]
        kept.sort(key=lambda row: (models.index(row["model"]), parts.index(row["part"])))
        ROWS.with_suffix(".part").write_text("".join(json.dumps(row) + "\n" for row in kept))
        ROWS.with_suffix(".part").replace(ROWS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of the names of models")
    parser.add_argument("--part", choices=list(PARTS), help="make the rows of this part alone anew")
    given = parser.parse_args()
    main(given.words, given.part)
