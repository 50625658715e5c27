"""Proofs of exact answers as files: everything that is needed to check one, and nothing that needs trust."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from tpsolve._result import facts_table
from tpsolve._storage._archive import read_archive, read_kind, write_archive
from tpsolve._storage._documents import Count, FractionText, Label, Positive, SignedWhole, check_shape
from tpsolve.errors import FileFormatError, TooLargeError

KIND = "exact-proof"
MODEL_KIND = "model"
"""A network with names of columns and classes; its file holds a proof too, if it has one."""
Method = Literal["circuits", "labels", "sweep", "dichotomies", "parts", "packing", "weight-set"]
MAX_PARTS = 10_000
MAX_BITS = 4300
"""Of an exact weight: fewer than the digits that `FractionText` allows."""
_OF_PART = re.compile(r"(points|circuits)\d+")
_MORE_NAMES = ("method", "parts", "weight_set", "bias_set", "penalty", "monotone", "max_fan_in", "groups", "rationals")
_NAMES = ("data", "widths", "classes", "objective", "bound", "engine", "clauses", "about")


class _Header(TypedDict):
    data: str
    widths: Annotated[list[Positive], Meta(min_length=1)]
    classes: list[Label]
    objective: FractionText
    bound: FractionText
    engine: str
    clauses: str
    about: dict[str, str]
    digest: str
    method: NotRequired[Method]
    parts: NotRequired[list[tuple[FractionText, Method]]]
    weight_set: NotRequired[Annotated[list[SignedWhole], Meta(min_length=1)]]
    bias_set: NotRequired[Annotated[list[SignedWhole], Meta(min_length=1)]]
    penalty: NotRequired[FractionText]
    monotone: NotRequired[list[SignedWhole]]
    max_fan_in: NotRequired[Positive]
    groups: NotRequired[list[tuple[list[SignedWhole], SignedWhole]]]
    rationals: NotRequired[list[tuple[Count, list[FractionText]]]]


class _ModelHeader(TypedDict):
    proof: dict[str, Any] | None


_LAYERS = tuple(f"{kind}{layer}" for layer in range(8) for kind in ("weight", "bias"))


@dataclass(frozen=True)
class ProofPart:
    """The claim that no weights make fewer errors than `bound` on some of the points.

    Args:
        points: `(k,)` int32, numbers from 0 of distinct points, in the order of their first samples.
        bound: exact.
        method: what proved it: as that of a `Proof`, but not "parts".
        circuits: as those of a `Proof`, of these points.
    """

    points: Tensor
    bound: Fraction
    method: str
    circuits: Tensor


@dataclass(frozen=True)
class Proof:
    """The claim that a network makes `objective` errors on some data and no weights make fewer than `bound`.

    Args:
        data: `data_hash` of the samples.
        widths: units of the hidden layers.
        classes: labels in sorted order.
        objective, bound: exact.
        engine: what refuted fewer errors than `bound`.
        weights: `(weight (units, n), bias (units,))` float64 of each layer.
        circuits: `(C, p + 2)` int32: of each, the numbers from 1 of distinct points, in the order of their first
            samples, times the signs that no hyperplane gives them; filled up with 0.
        clauses: `clause_hash` of what the master had learned in the end: the clauses of all circuits, for each unit of
            the first hidden layer and both ways round. Variable 1 + units * i + j says that unit j outputs +1 at
            distinct point i, both from 0.
        about: where the data are: for a table the name of its column of classes.
        method: what proved the bound: "circuits"; "labels", which contradict each other; "sweep" and "dichotomies",
            which looked at all hyperplanes through points; "parts"; "packing", where circuits share the costs of their
            points; or "weight-set", where weights are of a set.
        parts: disjoint ones, whose bounds sum up to the bound.
        shares: of a packing, `(Q, C)` float64: what each circuit takes of the costs of each of its points, for each
            pair of classes that have weight, in the order of `itertools.combinations`.
        weight_set, bias_set: the whole numbers that weights and biases may be; None: all numbers.
        penalty: of each weight other than 0; part of `objective` and `bound`.
        monotone, max_fan_in, groups: rules that all weights keep to, as in `NetworkProblem`.
        rationals: exact weights, the bias last, of units of the first layer for which float64 holds none. They take the
            place of those in `weights`.
    """

    data: str
    widths: tuple[int, ...]
    classes: tuple[Any, ...]
    objective: Fraction
    bound: Fraction
    engine: str
    weights: list[tuple[Tensor, Tensor]]
    circuits: Tensor
    clauses: str
    about: dict[str, str] = field(default_factory=dict)
    method: str = "circuits"
    parts: tuple[ProofPart, ...] = ()
    weight_set: tuple[int, ...] | None = None
    bias_set: tuple[int, ...] | None = None
    penalty: Fraction = Fraction(0)
    shares: Tensor | None = None
    monotone: tuple[int, ...] = ()
    max_fan_in: int | None = None
    groups: tuple[tuple[tuple[int, ...], int], ...] = ()
    rationals: Mapping[int, tuple[Fraction, ...]] = field(default_factory=dict)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the proof to `path` (.npz, no pickle).

        Raises:
            FolderError: the folder does not exist or can't be written.
        """
        header, arrays = self.contents()
        write_archive(path, KIND, arrays, header)

    def _repr_html_(self) -> str:
        """For notebooks: what is claimed, and by what."""
        facts: dict[str, object] = {
            "cost" if self.penalty else "training errors": self.objective,
            "none makes fewer than": self.bound,
            "units of the hidden layers": self.widths,
            "classes": ", ".join(map(str, self.classes)),
            "bound proved by": f"{self.method}, {self.engine}" if self.engine else self.method,
            "circuits": len(self.circuits),
        }
        if self.weight_set is not None:
            facts["weights of"] = ", ".join(map(str, self.weight_set))
        return facts_table("Proof, to be checked with verify_proof", facts)

    @property
    def digest(self) -> str:
        """A hash of all the proof holds."""
        return _digest(self._header(), self._arrays())

    def contents(self) -> tuple[dict[str, Any], dict[str, Tensor | None]]:
        """What is saved: texts, numbers and lists, and arrays by name.

        Raises:
            TooLargeError: exact weights of more digits than a file may hold.
        """
        check_digits(self.rationals)
        return {**self._header(), "digest": self.digest}, self._arrays()

    def _header(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "widths": list(self.widths),
            "classes": list(self.classes),
            "objective": str(self.objective),
            "bound": str(self.bound),
            "engine": self.engine,
            "clauses": self.clauses,
            "about": self.about,
            # Proofs by circuits are what they were before there were others.
            **({} if self.method == "circuits" else {"method": self.method}),
            **({"parts": [[str(part.bound), part.method] for part in self.parts]} if self.parts else {}),
            **({} if self.weight_set is None else {"weight_set": list(self.weight_set)}),
            **({} if self.bias_set is None else {"bias_set": list(self.bias_set)}),
            **({"penalty": str(self.penalty)} if self.penalty else {}),
            **({"monotone": list(self.monotone)} if self.monotone else {}),
            **({} if self.max_fan_in is None else {"max_fan_in": self.max_fan_in}),
            **({"groups": [[list(group), most] for group, most in self.groups]} if self.groups else {}),
            **({"rationals": [[k, list(map(str, w))] for k, w in self.rationals.items()]} if self.rationals else {}),
        }

    def _arrays(self) -> dict[str, Tensor | None]:
        arrays: dict[str, Tensor | None] = {"circuits": self.circuits}
        for layer, (weight, bias) in enumerate(self.weights):
            arrays |= {f"weight{layer}": weight, f"bias{layer}": bias}
        for number, part in enumerate(self.parts):
            arrays |= {f"points{number}": part.points, f"circuits{number}": part.circuits}
        if self.shares is not None:
            arrays["shares"] = self.shares
        return arrays


def check_digits(rationals: Mapping[int, tuple[Fraction, ...]]) -> None:
    """Raise TooLargeError for exact weights of more digits than a file may hold."""
    bits = max(
        (max(v.numerator.bit_length(), v.denominator.bit_length()) for w in rationals.values() for v in w), default=0
    )
    if bits > MAX_BITS:
        mend = "Round the columns of the table to the digits that matter, or use fewer of them."
        raise TooLargeError("weights", f"fractions of {bits} bits", f"at most {MAX_BITS}, to be saved", mend)


def load_proof(path: str | PathLike[str]) -> Proof:
    """The proof saved at `path`, alone or with a model.

    Raises:
        FileFormatError: no proof of tpsolve, truncated, changed, or of another version.
    """
    if read_kind(path) != MODEL_KIND:
        arrays, header = read_archive(path, KIND, _Header, ("circuits",), (*_LAYERS, "shares", *part_names()))
        return proof_of(path, header, arrays)
    names = (*_LAYERS, *part_names(), "circuits", "shares", "low", "high", "parts", "signs")
    arrays, header = read_archive(path, MODEL_KIND, _ModelHeader, (), names)
    if header["proof"] is None:
        raise FileFormatError(f"{path}: a model without a proof. Train it with an exact solver, such as circuits.")
    return proof_of(path, header["proof"], arrays)


def proof_of(path: str | PathLike[str], header: Any, arrays: Mapping[str, Tensor]) -> Proof:
    """The proof that the file at `path` holds in these parts.

    Raises:
        FileFormatError: they have changed since they were written, or don't fit together.
    """
    check_shape(header, path, _Header)
    try:
        own = {
            name: array
            for name, array in arrays.items()
            if name in ("circuits", "shares", *_LAYERS) or _OF_PART.fullmatch(name)
        }
        names = (*_NAMES, *(name for name in _MORE_NAMES if name in header))
        if header["digest"] != _digest({name: header[name] for name in names}, own):
            raise FileFormatError(f"{path}: changed since it was written. Prove it again.")
        weights = [(arrays[f"weight{k}"], arrays[f"bias{k}"]) for k in range(len(header["widths"]) + 1)]
        _check_arrays(own)
        return Proof(
            header["data"],
            tuple(header["widths"]),
            tuple(header["classes"]),
            Fraction(header["objective"]),
            Fraction(header["bound"]),
            header["engine"],
            weights,
            arrays["circuits"],
            header["clauses"],
            header["about"],
            header.get("method", "circuits"),
            tuple(
                ProofPart(arrays[f"points{k}"], Fraction(bound), method, arrays[f"circuits{k}"])
                for k, (bound, method) in enumerate(header.get("parts", []))
            ),
            tuple(header["weight_set"]) if "weight_set" in header else None,
            tuple(header["bias_set"]) if "bias_set" in header else None,
            Fraction(header.get("penalty", 0)),
            arrays.get("shares"),
            tuple(header.get("monotone", ())),
            header.get("max_fan_in"),
            tuple((tuple(group), most) for group, most in header.get("groups", [])),
            {unit: tuple(map(Fraction, exact)) for unit, exact in header.get("rationals", [])},
        )
    except (KeyError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path}: the parts of the proof don't fit together ({error!r}).") from error


def _check_arrays(arrays: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless arrays have the types and axes that `Proof` says."""
    for name, array in arrays.items():
        axes = 1 if name.startswith(("bias", "points")) else 2
        kind = torch.float64 if name in (*_LAYERS, "shares") else torch.int32
        if array.dim() != axes or array.dtype != kind:
            raise ValueError(f"{name} of shape {tuple(array.shape)} and type {array.dtype}")


def part_names() -> tuple[str, ...]:
    """Those that the arrays of parts may have."""
    return tuple(f"{kind}{number}" for number in range(MAX_PARTS) for kind in ("points", "circuits"))


def data_hash(X: np.ndarray, y: list[Any], weight: Any = None) -> str:
    """A hash of samples `(N, p)`, their labels and weights."""
    digest = hashlib.sha256(json.dumps([list(X.shape), y]).encode())
    digest.update((np.ascontiguousarray(X, dtype="<f8") + 0.0).tobytes())
    digest.update(b"" if weight is None else np.ascontiguousarray(weight, dtype="<f8").tobytes())
    return digest.hexdigest()


def clause_hash(clauses: Iterable[list[int]]) -> str:
    """A hash of a set of clauses, whatever their order and that of their literals."""
    distinct = sorted({tuple(sorted(clause)) for clause in clauses})
    return hashlib.sha256(json.dumps(distinct).encode()).hexdigest()


def _digest(header: dict[str, Any], arrays: Mapping[str, Tensor | None]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(arrays.items()):
        assert tensor is not None
        array = tensor.contiguous().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()
