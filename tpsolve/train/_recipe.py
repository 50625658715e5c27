"""Recipes: every setting of a training run, read from small TOML files and changed on the command line."""

import ast
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tpsolve._check_arguments import check_count
from tpsolve._plain import make_plain
from tpsolve._storage._documents import read_toml
from tpsolve.errors import ArgumentError, FileFormatError, UnknownNameError

FOLDER = Path(__file__).parent / "recipes"
LEAST = {"epochs": 1, "batch": 1, "crop": 0, "count": 2, "calls": 1, "solver_steps": 1, "images": 0, "seed": 0}
"""Of settings that count."""
MOST = 2**31 - 1
"""Of the same, and of the units of a layer."""
WITH_SHORTCUTS = ("convnet4", "convnet8", "resnet18")
BY_ACTIVATION = "with"
"""The table of a recipe whose tables, named after activations, hold what differs for each."""


@dataclass(frozen=True)
class Recipe:
    """All settings of a run; equal recipes on one device make equal runs.

    Args:
        data: the data set.
        table, target: with "table", the file and its column of classes.
        reading: with "table", the JSON of `TableOptions.to_json`, which says how it is read; "": the defaults.
        test: with "table", share of its rows that are kept for testing, always the same ones.
        model: the network.
        activation: of its hidden units.
        rule, width, width_mode: what passes a gradient through a threshold; see `tpsolve.nn.HardThreshold`.
        width_end: the width moves to it from `width`, epoch by epoch on a geometric scale; 0: it stays.
        levels: values of a unit with the activation "staircase".
        widths: hidden layers of the model "mlp".
        batch_norm: whether that model has any.
        dropout: of convnet8, before its convolution 6.
        stem: of resnet18.
        shortcuts: whether real values pass by the convolutions of convnet4, convnet8 and resnet18; see
            `tpsolve.nn.RealShortcut`.
        weights: "binary" or "ternary": those of all layers but the first and the last become so, each channel with the
            mean of its absolute weights as scale; see `tpsolve.nn.binarize`.
        weights_from: share of the epochs with real weights before that; 0: none. A share such as 0.5 makes training in
            two stages, first with hard thresholds alone and then with such weights too.
        epochs: passes over the training set.
        batch: samples of a step, over all processes together; with a program, groups of images.
        optimizer: torch's.
        rate: its learning rate at the start.
        momentum: of "sgd".
        weight_decay: the L2 penalty, in the gradient.
        schedule: "steps": the rate is multiplied by `decay` at each of the epochs `milestones`;
            "cosine": it falls to 0 along half a cosine, epoch by epoch.
        smooth: share of each label's probability that goes to all classes alike, in the loss of training.
        average: the weights that are measured and loaded are an average of those of all steps. Two thirds of it are
            of the last share `average` of the steps so far; 0: none. It is made for a rate that does not fall.
        crop: random crops out of the images with so many pixels of border; 0: none.
        flip: mirror images left to right at random.
        program: what reads the classes of `count` images: "sum", "product" or "maximum". Its answer is all that is
            known of a group of images, and `tpsolve.nn.ProgramLoss` is the loss. "": no program; images have labels.
        count: images of a group.
        calls: with a program, assignments of a group that are asked for in a step; see `tpsolve.Budget`.
        solver: of the targets of every threshold, such as "hill-climb"; "": the closed-form rule. With a program: of
            its symbols; "": "weighted-draws".
        solver_layers: "all"; "last": the solver sets only those of the last threshold, the closed form the others.
        solver_steps: its budget for each threshold and batch.
        images: of the training set to use, drawn by the seed; 0: all.
        validation: share of the training set held out; the curves then show its accuracy too.
        seed: draws weights, batches, augmentation, dropout and what is held out.
        precision: "float32"; "tf32", for matrix products on a GPU; "bf16", by autocast.
        channels_last: memory format of images and convolutions.
        launch: "eager"; "graphs": CUDA graphs, for small batches on a GPU; "compile": torch.compile.
    """

    data: Literal["digits", "mnist", "fashion-mnist", "cifar10", "imagenet", "table"] = "digits"
    table: str = ""
    target: str = ""
    reading: str = ""
    test: float = 0.2
    model: Literal["mlp", "convnet4", "convnet8", "alexnet", "resnet18"] = "mlp"
    activation: Literal["sign", "staircase", "relu", "saturated-relu"] = "sign"
    rule: str = "soft-hinge"
    width: float = 1.0
    width_end: float = 0.0
    width_mode: Literal["fixed", "relative", "learned"] = "fixed"
    levels: int = 4
    widths: tuple[int, ...] = (128, 128)
    batch_norm: bool = True
    dropout: float = 0.5
    stem: Literal["imagenet", "cifar"] = "imagenet"
    shortcuts: bool = False
    weights: Literal["real", "binary", "ternary"] = "real"
    weights_from: float = 0.0
    epochs: int = 30
    batch: int = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    smooth: float = 0.0
    average: float = 0.0
    crop: int = 0
    flip: bool = False
    program: Literal["", "sum", "product", "maximum"] = ""
    count: int = 2
    calls: int = 64
    solver: str = ""
    solver_layers: Literal["all", "last"] = "all"
    solver_steps: int = 20
    images: int = 0
    validation: float = 0.0
    seed: int = 0
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    channels_last: bool = True
    launch: Literal["eager", "graphs", "compile"] = "eager"

    def __post_init__(self) -> None:
        make_plain(self)
        for name, kind in KINDS.items():
            _check_kind(name, getattr(self, name), kind)
        for name, least in LEAST.items():
            check_count(name, getattr(self, name), least)
            if getattr(self, name) > MOST:
                raise ArgumentError(name, getattr(self, name), f"at most {MOST}")
        for name in ("dropout", "validation", "smooth", "test", "weights_from"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "a share of at least 0 and less than 1")
        if not 0 <= self.average <= 1:
            raise ArgumentError("average", self.average, "a share from 0 to 1")
        for name in ("rate", "momentum", "weight_decay", "decay", "width_end"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ArgumentError(name, getattr(self, name), "a finite number of at least 0")
        if self.shortcuts and self.model not in WITH_SHORTCUTS:
            raise ArgumentError("shortcuts", f"true for {self.model}", f"one of {', '.join(WITH_SHORTCUTS)}")
        if self.weights_from and self.weights == "real":
            mend = "Set weights to binary or ternary too."
            raise ArgumentError("weights_from", self.weights_from, "0 where weights stay real", mend)
        if self.weights != "real" and not self.weights_are_few(self.epochs - 1):
            mend = "Take a smaller share, or more epochs."
            raise ArgumentError(
                "weights_from", self.weights_from, f"a share that leaves one of {self.epochs} epochs", mend
            )
        if self.weights != "real" and self.launch != "eager":
            mend = "Compiled code would go on with the weights of before."
            raise ArgumentError("launch", repr(self.launch), f"'eager' with {self.weights} weights", mend)
        if any(not 1 <= units <= MOST for units in self.widths):
            raise ArgumentError("widths", list(self.widths), f"numbers of units, each at least 1 and at most {MOST}")

    def rate_at(self, epoch: int) -> float:
        """The learning rate of epoch `epoch`, counted from 0."""
        if self.schedule == "cosine":
            return self.rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.rate * self.decay ** sum(epoch >= milestone for milestone in self.milestones)

    def weights_are_few(self, epoch: int) -> bool:
        """Whether epoch `epoch`, counted from 0, trains binary or ternary weights."""
        return self.weights != "real" and epoch >= self.weights_from * self.epochs

    def to_toml(self) -> str:
        """The recipe as a TOML file that `load_recipe` reads."""
        return "".join(f"{name} = {_toml(value)}\n" for name, value in dataclasses.asdict(self).items())


KINDS: dict[str, Any] = get_type_hints(Recipe)
ELSEWHERE: dict[str, str] = {
    "lr": "rate",
    "learning_rate": "rate",
    "batch_size": "batch",
    "wd": "weight_decay",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "lr_scheduler": "schedule",
    "scheduler": "schedule",
    "label_smoothing": "smooth",
    "optim": "optimizer",
    "hidden": "widths",
    "dataset": "data",
}
"""What other libraries call some settings."""
RECIPES: tuple[str, ...] = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
"""The recipes that come with tpsolve."""


def load_recipe(name: str | Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of this name, or in this .toml file, with `settings` in place of its own.

    Raises:
        UnknownNameError: no recipe, or no setting, has this name; the message offers the nearest.
        FileFormatError: the file is missing or is not TOML.
        ArgumentError: a value that makes no sense.
    """
    name = str(name)
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if path.parent == FOLDER and name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    try:
        read = read_toml(path)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: not a recipe that can be read ({error})") from error
    by_activation = read.pop(BY_ACTIVATION, {})
    if not (isinstance(by_activation, dict) and all(isinstance(table, dict) for table in by_activation.values())):
        raise FileFormatError(f"{path}: {BY_ACTIVATION!r} must hold tables, such as [{BY_ACTIVATION}.relu].")
    for activation in by_activation:
        _check_kind(BY_ACTIVATION, activation, KINDS["activation"])
    merged = {**read, **(settings or {})}
    chosen = by_activation.get(str(merged.get("activation", Recipe.activation)), {})
    merged = {**read, **chosen, **(settings or {})}
    for key in merged:
        if key not in KINDS:
            raise UnknownNameError("setting", key, KINDS, ELSEWHERE.get(key))
    return Recipe(**{key: _converted(KINDS[key], value) for key, value in merged.items()})


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Settings of texts such as "rate=0.01"; their values are checked by `load_recipe`.

    Raises:
        UnknownNameError: there is no such setting; the message offers the nearest.
        ArgumentError: no "=", or a value of the wrong kind.
    """
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ArgumentError("setting", repr(text), "NAME=VALUE", "For example rate=0.01.")
        if key not in KINDS:
            raise UnknownNameError("setting", key, KINDS, ELSEWHERE.get(key))
        settings[key] = _value(KINDS[key], value)
    return settings


def _value(kind: Any, text: str) -> Any:
    if kind is str or get_origin(kind) is Literal:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _converted(kind: Any, value: Any) -> Any:
    """Lists as tuples, and whole numbers where a real one is meant."""
    if get_origin(kind) is tuple:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    try:
        return float(value) if kind is float and type(value) is int else value
    except OverflowError:
        return value


def _check_kind(name: str, value: Any, kind: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            small = not isinstance(value, int) or abs(value) <= MOST
            raise UnknownNameError(name, str(value) if small else "a large number", get_args(kind))
    elif get_origin(kind) is tuple:
        if not (isinstance(value, tuple) and all(type(item) is int for item in value)):
            raise ArgumentError(name, value, "whole numbers, separated by commas")
    elif type(value) is not kind:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise ArgumentError(name, value if isinstance(value, int) else repr(value), words[kind])


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    # TOML has no pairs of surrogates, and no bare delete.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
