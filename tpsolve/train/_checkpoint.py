"""Checkpoints: one file a run, written whole or not at all, from which it goes on bit for bit."""

import io
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tpsolve._plain import is_real
from tpsolve._storage._documents import Count, check_shape
from tpsolve._storage._limits import check_bytes, opened
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError, FileFormatError
from tpsolve.nn import ProgramLoss, plain_weights
from tpsolve.train._measure import FIGURES
from tpsolve.train._recipe import Recipe
from tpsolve.train.models._few_weights import has_few_weights, make_weights_few


class _Row(TypedDict):
    epoch: int
    rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    images_per_second: float


class _Diagnostics(TypedDict):
    epoch: int
    threshold: str
    changed: float | None
    flip_quality: float | None
    cosine: float | None
    saturated: float | None
    separable: float | None
    dead: float | None


class _Position(TypedDict):
    epoch: Count
    step: Count
    tally: Annotated[list[float], Meta(min_length=FIGURES, max_length=FIGURES)]
    seconds: Annotated[float, Meta(ge=0)]
    rows: list[_Row]
    diagnostics: list[_Diagnostics]


class _Optimizer(TypedDict):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, bool | int | float | list[int | float] | None]]


class _Process(TypedDict):
    tally: Annotated[list[float], Meta(min_length=FIGURES, max_length=FIGURES)]
    program: dict[str, Any] | None
    random: Any
    random_cuda: Any


class _Weights(TypedDict):
    model: dict[str, Any]
    averaged: NotRequired[dict[str, Any] | None]


class _Content(_Weights):
    recipe: dict[str, bool | int | float | str | list[int]]
    optimizer: _Optimizer
    position: _Position
    processes: Annotated[list[_Process], Meta(min_length=1)]


WIDTH = "_width"
"""What the state of a threshold calls its width."""
STATES = {
    "Adam": {"step": False, "exp_avg": True, "exp_avg_sq": True},
    "SGD": {"momentum_buffer": True},
}
"""What an optimizer keeps of each weight, and whether it has the weight's shape."""
FORMAT, VERSION = "tpsolve-checkpoint", 4
READABLE = (2, 3, 4)
"""Versions whose weights can be loaded; a run goes on only from its own."""
AVERAGED = "module."
"""What `AveragedModel` puts before the names of the network that it averages."""


@dataclass
class Position:
    """How far a run has come.

    Args:
        epoch: the one to go on in, from 0.
        step: batches of it that are done.
        tally: figures of `_measure`, summed over these.
        seconds: spent in it so far.
        rows: what `metrics.jsonl` holds, one row a finished epoch.
        diagnostics: what `diagnostics.jsonl` holds.
    """

    epoch: int = 0
    step: int = 0
    tally: list[float] = field(default_factory=lambda: [0.0] * FIGURES)
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    diagnostics: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    recipe: Recipe,
    model: nn.Module,
    averaged: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    position: Position,
    states: list[dict[str, Any]],
    inputs: dict[str, Any],
    keep: str | None = None,
) -> None:
    """Write everything that the run needs to go on, or nothing; `states` are the `process_state` of all processes.

    Args:
        inputs: shape, normalisation and classes, as plain values: what is needed to use the network.
        keep: the name that the checkpoint before is kept under; None: it is not.

    Raises:
        FolderError: it can't be written; the checkpoint before is still there.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "recipe": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(recipe).items()},
        "model": model.state_dict(),
        "averaged": averaged and averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "processes": states,
        "inputs": inputs,
    }
    write_whole(path, lambda stream: torch.save(content, stream), keep)


def process_state(device: torch.device, position: Position, program: ProgramLoss | None) -> dict[str, Any]:
    """What a process has of its own in mid-epoch: its tally, the generators that dropout draws from, and what its
    `program` remembers.
    """
    return {
        "tally": position.tally,
        "program": program and program.get_extra_state(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def load_checkpoint(
    path: Path,
    recipe: Recipe,
    model: nn.Module,
    averaged: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    rank: int,
    world: int,
    program: ProgramLoss | None = None,
) -> Position:
    """Put the run at `path` back into `model`, `averaged`, `optimizer`, `program` and torch's random generators.

    Where there were more or fewer processes before, the first one goes on with the tally of all.

    Raises:
        FileFormatError: no checkpoint, truncated, foreign, or of another version.
        ArgumentError: of another recipe; the message names the settings that differ.
    """
    device = next(model.parameters()).device
    content = _read(path, (VERSION,))
    check_shape(content, path, _Content)
    # What rows hold besides is written into files too.
    for name in ("rows", "diagnostics"):
        check_shape(content["position"][name], path, list[dict[str, int | float | str | None]])
    _check_recipe(content["recipe"], recipe)
    if has_few_weights(content["model"]) and recipe.weights != "real":
        make_weights_few(recipe, model)
        if averaged is not None:
            make_weights_few(recipe, averaged.module)
    _check_tensors(path, "network", content["model"], model.state_dict())
    _check_optimizer(path, content["optimizer"], optimizer)
    position = Position(**{one.name: content["position"][one.name] for one in fields(Position)})
    if len(position.rows) != position.epoch or position.epoch > recipe.epochs:
        raise FileFormatError(f"{path}: {len(position.rows)} rows after {position.epoch} epochs. Begin anew.")
    states = content["processes"]
    own = states[rank % len(states)]
    position.tally = own["tally"]
    try:
        model.load_state_dict(content["model"])
        if averaged is not None:
            _check_tensors(path, "average", content["averaged"] or {}, averaged.state_dict())
            averaged.load_state_dict(content["averaged"])
        optimizer.load_state_dict(content["optimizer"])
        if program is not None:
            program.set_extra_state(own["program"])
        if len(states) != world:
            total = [sum(parts, 0.0) for parts in zip(*(state["tally"] for state in states), strict=True)]
            position.tally = [0.0] * len(total) if rank else total
        torch.set_rng_state(own["random"])
        if own["random_cuda"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(own["random_cuda"], device)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FileFormatError(f"{path}: its network is not the recipe's. Begin anew.") from error
    return position


def _check_tensors(path: Path, what: str, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise FileFormatError unless the saved tensors have the names, shapes and types of the run's.

    A threshold has its width there only where it is not 1.
    """
    widths = {name for name in saved.keys() ^ own.keys() if str(name).rpartition(".")[2] == WIDTH}
    differ = sorted((saved.keys() ^ own.keys()) - widths)
    differ += [name for name in widths & saved.keys() if not _alike(saved[name], torch.Size(), torch.float64)]
    differ += [name for name in own.keys() & saved.keys() if not _alike(saved[name], own[name].shape, own[name].dtype)]
    if differ:
        names = ", ".join(map(str, differ[:3]))
        raise FileFormatError(f"{path}: its {what} is not the recipe's ({names}). Begin anew.")


def _alike(value: Any, shape: Any, dtype: torch.dtype) -> bool:
    """Whether a value is an ordinary tensor of this shape and type whose numbers are all there."""
    return (
        isinstance(value, Tensor)
        and (value.layout, value.device.type, value.dtype) == (torch.strided, "cpu", dtype)
        and value.shape == shape
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def _check_optimizer(path: Path, saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise FileFormatError unless the saved state is one that this optimizer can go on from."""
    own = optimizer.state_dict()["param_groups"]
    groups = saved["param_groups"]
    same = len(groups) == len(own) and all(
        # The rate is set anew in every epoch.
        is_real(group.get("lr")) and _without_rate(group) == _without_rate(mine)
        for group, mine in zip(groups, own, strict=True)
    )
    if not same:
        raise FileFormatError(f"{path}: the settings of its optimizer are not the recipe's. Begin anew.")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    kind = type(optimizer).__name__
    for number, state in saved["state"].items():
        if not (0 <= number < len(weights) and _is_state(state, STATES[kind], weights[number])):
            raise FileFormatError(f"{path}: the state of its optimizer is not one of {kind}. Begin anew.")


def _is_state(state: dict[str, Any], kept: dict[str, bool], weight: Tensor) -> bool:
    # Without momentum SGD keeps None of it.
    return state.keys() == kept.keys() and all(
        _alike(state[name], weight.shape if like_weight else (), torch.float32)
        or (name == "momentum_buffer" and state[name] is None)
        for name, like_weight in kept.items()
    )


def _without_rate(group: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in group.items() if name != "lr"}


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of the run at `path` into `model`, for use.

    They are the averaged ones if the recipe averages, with statistics of batch norm that were estimated for them.
    Binary and ternary weights are plain numbers in it. The network reads normalised inputs; one that reads raw pixels
    comes from `load_network`.

    Raises:
        FileFormatError: no checkpoint, or that of another network.
    """
    content = read_checkpoint(path)
    check_shape(content, path, _Weights)
    averaged = (content.get("averaged") or {}).items()
    average = {name.removeprefix(AVERAGED): value for name, value in averaged if name.startswith(AVERAGED)}
    state = average or content["model"]
    try:
        if has_few_weights(state):
            make_weights_few(recipe_of(content), model)
            model.load_state_dict(state)
            plain_weights(model)
        else:
            model.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{path}: the checkpoint of another network ({reason}).") from error


def recipe_of(content: dict[str, Any]) -> Recipe:
    """The recipe that a checkpoint holds; what it says of settings unknown here is left out.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it holds none, or values that make no sense.
    """
    given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in content["recipe"].items()}
    known = {one.name for one in fields(Recipe)}
    settings: dict[str, Any] = {name: value for name, value in given.items() if name in known}
    return Recipe(**settings)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that the checkpoint at `path` holds, for use.

    Raises:
        FileFormatError: no checkpoint.
    """
    return _read(path, READABLE)


def _read(path: Path, versions: tuple[int, ...]) -> dict[str, Any]:
    with opened(path) as stream:
        size = stream.seek(0, io.SEEK_END)
        try:
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:  # pyright: ignore[reportArgumentType]
                infos = archive.infolist()
        except (ValueError, OSError, NotImplementedError, zipfile.BadZipFile) as error:
            raise FileFormatError(f"{path}: not a checkpoint, or truncated. Begin the run anew.") from error
    check_bytes(path, sum(info.file_size for info in infos))
    # Torch packs nothing.
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size > size for info in infos):
        raise FileFormatError(f"{path}: not a checkpoint as torch writes it. Begin the run anew.")
    try:
        # On the CPU: random states live there, and everything else is copied to where it belongs.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds on foreign bytes.
        raise FileFormatError(f"{path}: not a checkpoint, or truncated. Begin the run anew.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileFormatError(f"{path}: not a checkpoint of tpsolve. Begin the run anew.")
    version = content.get("version")
    if not isinstance(version, int) or version not in versions:
        named = version if isinstance(version, int) else type(version).__name__
        raise FileFormatError(
            f"{path}: a checkpoint of version {named}, this tpsolve reads "
            f"{' and '.join(map(str, versions))} here. Begin the run anew."
        )
    return content


def _check_recipe(saved: dict[str, Any], recipe: Recipe) -> None:
    now = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(recipe).items()}
    # Epochs are free where nothing is spread over them.
    epochs = saved.get("epochs", 0)
    more = isinstance(epochs, int) and recipe.epochs > epochs
    longer = recipe.schedule == "steps" and not recipe.width_end and more
    changed = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    if changed and not (longer and changed == ["epochs"]):
        differ = ", ".join(f"{name} {saved.get(name)!r} there and {now.get(name)!r} here" for name in changed)
        raise ArgumentError(
            "recipe", f"another one than the checkpoint's ({differ})", "the same", "Give the run another name."
        )
