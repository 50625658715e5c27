"""A trained network to take away: its weights, the names that they belong to, and what is proved of it."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import torch
from msgspec import Meta

from tpsolve._result import Result, Status
from tpsolve._storage._archive import digest, read_archive, read_kind, write_archive
from tpsolve._storage._documents import Count, FractionText, Label
from tpsolve.errors import ArgumentError, ExportError, FileFormatError, NotAcceptedError, ShapeError
from tpsolve.models._grid import Grid, grid_of
from tpsolve.models._layers import Layers, read_layers
from tpsolve.models._new_rows import read_features, read_images
from tpsolve.models._tidy import tidy
from tpsolve.models._words import rules, scorecard
from tpsolve.models.export._write import EXACT_LANGUAGES, export
from tpsolve.problems import NetworkProblem
from tpsolve.search import Proof, make_proof
from tpsolve.search.network.circuits._prove import has_proof
from tpsolve.search.proofs._proof import KIND as PROOF_KIND
from tpsolve.search.proofs._proof import MODEL_KIND, check_digits, part_names, proof_of
from tpsolve.tables import TableSchema
from tpsolve.thresholds import HardThreshold
from tpsolve.units.checking._unrounded import ExactRows

_MAX_LAYERS = 64


class _Header(TypedDict):
    features: list[str]
    named: bool
    classes: list[Label]
    target: str
    objective: float
    bound: float
    count: Count
    schema: dict[str, Any] | None
    proof: dict[str, Any] | None
    layers: Annotated[int, Meta(ge=1, le=_MAX_LAYERS)]
    digest: str
    shape: NotRequired[list[int]]
    counts: NotRequired[dict[str, Count]]
    rationals: NotRequired[list[tuple[Count, list[FractionText]]]]
    rounded: NotRequired[Count]


_FIELDS = ("features", "named", "classes", "target", "objective", "bound", "count", "schema", "proof")
_MORE_FIELDS = ("shape", "counts", "rationals", "rounded")
"""Fields that models saved earlier lack."""
MAX_READABLE = 1000
"""Weights in all, above which nobody reads the rules."""


@dataclass(frozen=True)
class Export:
    """Files that were written.

    Args:
        files: their paths.
        rows: on how many rows they were compared with the model; all classes were equal.
        by: what ran them; "": nothing here can, so they were not compared.
        others: with weights of fewer bits, on how many rows they give another class than the model, and of how many.
    """

    files: tuple[Path, ...]
    rows: int
    by: str
    others: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        names = ", ".join(map(str, self.files))
        words = f"{names}: not compared with the model, for want of a tool that runs it"
        if self.by:
            words = f"{names}: the classes of {self.rows:,} rows are equal, by {self.by}"
        if self.others[1]:
            words += f"; the weights of fewer bits give {self.others[0]:,} of {self.others[1]:,} rows another class"
        return words


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network of threshold units with all that is needed to use it on new rows.

    Its outputs are those of exact arithmetic, on every machine. Where several output units or none say +1, the class
    is the one whose unit has the largest sum. So it makes at most `objective` errors on the rows that it was made from.

    Args:
        layers: the weights.
        features: names of the numbers that the network reads, in its order.
        named: whether the training rows had these names; new rows must have them then.
        classes: labels in the order of their numbers.
        grid: where the values of the training rows lie.
        target: name of the column of classes; "": it had none.
        objective, bound: errors on the training rows, and how many any network of these widths makes at least.
        count: of training rows.
        schema: how rows of a table become features; None: they are numbers already.
        proof: of the bound; None: there is none.
        rows: distinct training rows `(M, n)`, for checks and pictures. A saved model leaves them out.
        shape: (C, H, W) of the images that it reads, as pixels before normalisation; (): it reads rows of a table.
        counts: of a network that torch has trained, on how many training and test `rows` it was compared with the
            model, on how many of them `others` the classes differ, and how many of the `test` rows are `right`. If
            float32 has made inputs of training equal that differ in the table, `merged` is the number of their rows.
        rounded: how many training rows get another class once float64 has rounded them. `predict` reads all digits of a
            table; most languages of exports do not.
    """

    layers: Layers
    features: tuple[str, ...]
    named: bool
    classes: tuple[Any, ...]
    grid: Grid
    target: str = ""
    objective: float = 0.0
    bound: float = 0.0
    count: int = 0
    schema: TableSchema | None = None
    proof: Proof | None = None
    rows: np.ndarray | None = None
    shape: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    rounded: int = 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(len(bias) for _, bias in self.layers.weights[:-1])

    @property
    def status(self) -> Status:
        """What is known: optimal where the errors meet the bound."""
        one = torch.tensor(self.objective), torch.tensor(self.bound)
        return Result(torch.empty(0), *one).status

    @property
    def size(self) -> int:
        """How many weights are not 0."""
        return sum(int(np.count_nonzero(weight)) for weight, _ in self.layers.weights)

    @property
    def is_readable(self) -> bool:
        """Whether the rules are few enough to be read; other models are shown and exported without them."""
        return self.size <= MAX_READABLE

    @cached_property
    def rules(self) -> list[str]:
        """One line a unit, in words; see the page docs/models.md."""
        return rules(self.layers, self.features, self.classes, self.scaling)

    def scorecard(self) -> tuple[list[tuple[str, int]], str]:
        """Points of each feature and the sentence that says which score gives which class; of a single unit.

        Raises:
            NotAcceptedError: the network has more than one unit, or more than two classes.
        """
        table, words = scorecard(self.layers, self.features, self.classes, self.scaling)
        if not words:
            raise NotAcceptedError("model", f"widths {self.widths}", "one hidden unit that both classes depend on")
        return table, words

    def read(self, X: Any, *, columns: Sequence[str] | None = None) -> np.ndarray:
        """`X` as the numbers that the network reads, `(N, n)` float64; see `predict`."""
        if self.schema is not None:
            if columns is not None:
                raise ArgumentError("columns", "names", "none, for a model made from a table", "Give a DataFrame.")
            return self.schema.apply(X, labels=False).inputs.numpy()
        if self.shape:
            if columns is not None:
                raise ArgumentError("columns", "names", "none, for a model of images")
            return read_images("X", self.shape, float(self.grid.high.max()), X)
        return read_features(self.features, self.named, self.target, X, columns)

    def predict(self, X: Any, *, columns: Sequence[str] | None = None) -> np.ndarray:
        """Labels `(N,)` of new rows.

        Args:
            X: a DataFrame, whose columns may stand in any order. A model made from a table takes the path of one too;
                another one takes a dict of columns. A model made from numbers without names takes arrays `(N, n)`, one
                of images arrays `(N, C, H, W)`, `(N, H, W)` or `(N, C * H * W)` of pixels before normalisation.
            columns: the names of the columns of an array.

        Raises:
            ArgumentError, UnknownNameError, ValueSetError, NotFiniteError, ShapeError: the rows don't fit the
                model: a column is missing or unknown, a word was not seen in training, a value is no finite number.
        """
        if self.schema is not None and columns is None:
            table = self.schema.apply(X, labels=False)
            return self.labels(self.layers.classes(table.inputs.numpy(), table.exact_rows()))
        return self.labels(self.layers.classes(self.read(X, columns=columns)))

    def labels(self, index: np.ndarray) -> np.ndarray:
        """The labels of class numbers `(N,)`."""
        return np.array(self.classes)[index]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Refused: thresholds say which class, and nothing of how sure that is.

        Raises:
            NotAcceptedError: always.
        """
        raise NotAcceptedError(
            "predict_proba",
            "a network of thresholds",
            "a model that estimates probabilities",
            "sklearn.calibration.CalibratedClassifierCV(ThresholdNetworkClassifier()) estimates some from held-out "
            "rows.",
        )

    def network(self) -> torch.nn.Sequential:
        """The layers as a torch module in float64: `Linear` and `HardThreshold`, outputs in {-1, +1}.

        Sums are rounded there. Where weights and rows are whole numbers of less than 2^53 in all, nothing is.
        """
        modules: list[torch.nn.Module] = []
        for weight, bias in self.layers.weights:
            linear = torch.nn.Linear(weight.shape[1], len(bias), dtype=torch.float64)
            linear.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
            modules += [linear, HardThreshold()]
        return torch.nn.Sequential(*modules)

    def export(
        self,
        path: str | PathLike[str],
        table: Any = None,
        *,
        bits: int | None = None,
        qonnx: bool = False,
        float32: bool = False,
    ) -> "Export":
        """Write the model as a program or a file of another tool; the suffix says which.

        .py is a Python function, .json holds exact fractions. .c comes with a header and a program of test vectors; it
        computes in whole numbers only. .v is Verilog with a testbench, for whole inputs. .onnx needs the library onnx.

        What was written is compared with the model on the training rows, on random rows, and on pairs of rows as near
        to each other as possible on both sides of each unit's boundary. No file is written if any class differs.

        Args:
            table: the training rows, as for `predict`; None: those that the model was made from, if it was not loaded.
            bits: round the weights to so many bits with their signs, 2 to 32; None: as they are. The program is then
                compared with the rounded network, and `others` says how often that one's class is another one.
            qonnx: of .onnx, a graph in float32 with the nodes `Quant` and `BipolarQuant` of QONNX.
            float32: of .onnx, a graph in float32 in place of float64. Of whole inputs it is as exact.

        Returns:
            The files, and on how many rows what has compared them.

        Raises:
            ExportError: the language can't hold the model, or gives another class at some row, which is shown.
            ArgumentError: no language has this suffix.
            MissingLibraryError: .onnx without the library onnx.
            FolderError: the folder does not exist or can't be written.
        """
        rows, rounded = self.rows, self.rounded
        if table is not None and self.schema is not None:
            read = self.schema.apply(table, labels=False)
            rows, exact = read.inputs.numpy(), read.exact_rows()
            if exact is not None:
                rounded = int((self.layers.classes(rows, exact) != self.layers.classes(rows)).sum())
        elif table is not None:
            rows = self.read(table)
        if rounded and Path(path).suffix not in EXACT_LANGUAGES:
            got = f"{rounded} rows whose class is another one once float64 has rounded them"
            mend = "Write .py or .json, or round the columns in the table to the digits that matter."
            raise ExportError("table", got, "numbers that programs of this language hold", mend)
        return Export(*export(self, path, rows, bits, qonnx, float32))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to `path` (.npz, no pickle), without the training rows.

        Raises:
            FolderError: the folder does not exist or can't be written.
            TooLargeError: exact weights of more digits than a file may hold.
        """
        tensors: dict[str, torch.Tensor | None] = {
            name: torch.tensor(getattr(self.grid, name)) for name in ("low", "high", "parts", "signs")
        }
        for number, (weight, bias) in enumerate(self.layers.weights):
            tensors |= {f"weight{number}": torch.tensor(weight), f"bias{number}": torch.tensor(bias)}
        header = {name: getattr(self, name) for name in (*_FIELDS, "shape", "counts")}
        if self.rounded:
            header["rounded"] = self.rounded
        if self.layers.rationals:
            check_digits(self.layers.rationals)
            header["rationals"] = [[unit, list(map(str, exact))] for unit, exact in self.layers.rationals.items()]
        header["schema"] = None if self.schema is None else self.schema.to_json()
        header["proof"] = None
        if self.proof is not None:
            header["proof"], arrays = self.proof.contents()
            tensors |= arrays
        header["layers"] = len(self.layers.weights)
        write_archive(path, MODEL_KIND, tensors, header | {"digest": _digest(header, tensors)})

    def __repr__(self) -> str:
        return (
            f"Model(widths={self.widths}, features={len(self.features)}, classes={self.classes}, "
            f"errors={self.objective:g} of {self.count}, bound={self.bound:g})"
        )

    @property
    def scaling(self) -> tuple[tuple[Fraction, Fraction], ...] | None:
        """Offset and scale of each feature: the network reads `(v - offset) * scale` of a number v of the table."""
        return None if self.schema is None else self.schema.scaling


def make_model(
    problem: NetworkProblem,
    result: Result,
    *,
    features: Sequence[str] | None = None,
    target: str = "",
    schema: TableSchema | None = None,
    about: dict[str, str] | None = None,
    readable: bool = True,
) -> Model:
    """The model of a result of a network problem; with its proof, where `make_proof` gives one.

    Args:
        features: names of the columns of `problem`; None: they have none, and are called x0, x1, ...
        target: name of the column of classes.
        schema: how rows of a table become features.
        about: where the data of the proof are.
        readable: whether real weights are replaced by small whole ones that give every unit the same outputs on the
            rows of the problem, at half the margin at least. With a `weight_set` they stay as they are.

    Raises:
        ArgumentError: no targets were found, or those of no network.
        ShapeError: another number of names than of columns.
    """
    columns = problem.samples.shape[1]
    named = features is not None
    names = tuple(features) if features is not None else tuple(f"x{k}" for k in range(columns))
    if len(names) != columns or len(set(names)) < columns:
        raise ShapeError("features", f"{len(names)} names", f"{columns} different ones, one for each column of X")
    given, rationals = result.stats.get("weights"), {}
    if not given:
        given, rationals = problem.nearest_weights(result.targets)
    rows = problem.inputs.cpu().numpy()
    layers = read_layers([(w.cpu(), b.cpu()) for w, b in given], rationals)
    if readable and not layers.is_whole and problem.weight_set is None:
        layers = tidy(layers, rows, problem.exact)
    proof = None
    if has_proof(problem, result.stats.get("solver")):
        tensors = [(torch.tensor(weight), torch.tensor(bias)) for weight, bias in layers.weights]
        told = replace(result, stats={**result.stats, "weights": tensors, "rationals": layers.rationals})
        proof = make_proof(problem, told, about)
    return Model(
        layers=layers,
        features=names,
        named=named,
        classes=problem.classes,
        grid=grid_of(rows),
        target=target,
        objective=problem.errors(problem.columns(result.targets)[-1]).item(),
        bound=problem.errors_bound(result.bound.item()),
        count=len(problem.samples),
        schema=schema,
        proof=proof,
        rows=rows,
        rounded=0 if problem.exact is None else _differing(layers, rows, problem.exact),
    )


def _differing(layers: Layers, rows: np.ndarray, exact: ExactRows) -> int:
    """How many of `rows` get another class than the exact ones that they round."""
    fractions = [[Fraction(v, scale) for v, scale in zip(row, exact.scales, strict=False)] for row in exact.whole]
    return int((layers.classes(rows) != layers.classes(rows, fractions)).sum())


def load_model(path: str | PathLike[str]) -> Model:
    """The model saved at `path`, or `model.npz` in the folder of a training run.

    Raises:
        FileFormatError: no model of tpsolve, truncated, changed, or of another version; or a proof without the names
            of its columns, as earlier versions saved.
    """
    path = Path(path)
    if os.path.isdir(path):  # False too for names that no system has
        path = path / "model.npz"
        if not path.exists():
            words = "no model, as for all networks but dense ones of hard thresholds"
            raise FileFormatError(f"{path.parent}: {words}. tpsolve.train.load_network reads the networks of runs.")
    if path.suffix == ".pt":
        raise FileFormatError(f"{path}: a checkpoint. tpsolve.train.load_network reads it; a run's model is model.npz.")
    if read_kind(path) == PROOF_KIND:
        raise FileFormatError(
            f"{path}: a proof without the names of its columns. Save the model with tpsolve exact --save once more."
        )
    layers = [f"{kind}{layer}" for layer in range(_MAX_LAYERS) for kind in ("weight", "bias")]
    of_proof = ("circuits", "shares", *part_names())
    arrays, header = read_archive(path, MODEL_KIND, _Header, ("low", "high", "parts"), ("signs", *layers, *of_proof))
    own = {name: header[name] for name in (*_FIELDS, "layers", *_MORE_FIELDS) if name in header}
    if header["digest"] != _digest(own, arrays):
        raise FileFormatError(f"{path}: changed since it was written. Save the model again.")
    try:
        # Older files don't say.
        signs = arrays["signs"].numpy() if "signs" in arrays else np.zeros(len(header["features"]), dtype=bool)
        exact = {unit: tuple(map(Fraction, given)) for unit, given in header.get("rationals", [])}
        found = read_layers([(arrays[f"weight{k}"], arrays[f"bias{k}"]) for k in range(header["layers"])], exact)
        model = Model(
            layers=found,
            features=tuple(header["features"]),
            named=bool(header["named"]),
            classes=tuple(header["classes"]),
            grid=Grid(arrays["low"].numpy(), arrays["high"].numpy(), arrays["parts"].numpy(), signs),
            target=header["target"],
            objective=float(header["objective"]),
            bound=float(header["bound"]),
            count=header["count"],
            schema=None if header["schema"] is None else TableSchema.from_json(header["schema"]),
            proof=None if header["proof"] is None else proof_of(path, header["proof"], arrays),
            shape=tuple(map(int, header.get("shape", ()))),
            counts={str(name): int(count) for name, count in header.get("counts", {}).items()},
            rounded=header.get("rounded", 0),
        )
        outputs = len(found.weights[-1][1])
        sizes = (len(model.features), *model.widths, outputs)
        shapes = [(w.shape, b.shape) for w, b in found.weights]
        if shapes != [((n, m), (n,)) for m, n in pairwise(sizes)]:
            raise ValueError(f"weights of {shapes}")
        misfits = [k for k, w in exact.items() if k >= sizes[1] or len(w) != sizes[0] + 1]
        if misfits or (exact and len(found.weights) == 1):
            raise ValueError(f"exact weights of the units {', '.join(map(str, exact))}")
        if outputs != len(model.classes) and not (outputs == 1 and len(model.classes) <= 2):
            raise ValueError(f"{outputs} outputs for {len(model.classes)} classes")
        if model.shape and (len(model.shape) != 3 or math.prod(model.shape) != len(model.features)):
            raise ValueError(f"images of {model.shape}")
        if not all(np.isfinite(array).all() for pair in found.weights for array in pair):
            raise ValueError("weights that are no finite numbers")
        places = [arrays[name] for name in ("low", "high", "parts")]
        if any(a.shape != (len(model.features),) or a.dtype != torch.float64 for a in places):
            raise ValueError("places of the values that are not one for each feature")
        weight, bias = found.weights[-1]
        if not model.classes or (len(model.classes) == 1 and (weight.any() or bias[0] >= 0)):
            raise ValueError("weights that name another class than there are")
        if model.schema is not None and model.schema.features != model.features:
            raise ValueError("features that are not those of the schema")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise FileFormatError(f"{path}: the parts of the model don't fit together ({error!r}).") from error
    return model


def _digest(header: Mapping[str, Any], arrays: Mapping[str, torch.Tensor | None]) -> str:
    return digest([json.dumps(header, sort_keys=True)], dict(sorted(arrays.items())))
