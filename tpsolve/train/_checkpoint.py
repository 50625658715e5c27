"""Checkpoints: one file a run, written whole or not at all, from which it goes on bit for bit."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import ArgumentError, FileFormatError
from tpsolve.nn import ProgramLoss
from tpsolve.train._measure import FIGURES
from tpsolve.train._recipe import Recipe

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
) -> None:
    """Write everything that the run needs to go on, or nothing; `states` are the `process_state` of all processes.

    Args:
        inputs: shape, normalisation and classes, as plain values: what is needed to use the network.

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
    write_whole(path, lambda stream: torch.save(content, stream))


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
    _check_recipe(content["recipe"], recipe)
    try:
        model.load_state_dict(content["model"])
        if averaged is not None:
            averaged.load_state_dict(content["averaged"])
        optimizer.load_state_dict(content["optimizer"])
        position = Position(**content["position"])
        states = content["processes"]
        own = states[rank % len(states)]
        random, random_cuda, position.tally = own["random"], own["random_cuda"], own["tally"]
        if program is not None:
            program.set_extra_state(own["program"])
        if len(states) != world:
            total = [sum(parts, 0.0) for parts in zip(*(state["tally"] for state in states), strict=True)]
            position.tally = [0.0] * len(total) if rank else total
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path}: its network is not the recipe's. Begin anew.") from error
    torch.set_rng_state(random)
    if random_cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(random_cuda, device)
    return position


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of the run at `path` into `model`, for use.

    They are the averaged ones if the recipe averages, with statistics of batch norm that were estimated for them. The
    network reads normalised inputs; one that reads raw pixels comes from `load_network`.

    Raises:
        FileFormatError: no checkpoint, or that of another network.
    """
    content = read_checkpoint(path)
    averaged = (content.get("averaged") or {}).items()
    average = {name.removeprefix(AVERAGED): value for name, value in averaged if name.startswith(AVERAGED)}
    try:
        model.load_state_dict(average or content["model"])
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{path}: the checkpoint of another network ({reason}).") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that the checkpoint at `path` holds, for use.

    Raises:
        FileFormatError: no checkpoint.
    """
    return _read(path, READABLE)


def _read(path: Path, versions: tuple[int, ...]) -> dict[str, Any]:
    try:
        # On the CPU: random states live there, and everything else is copied to where it belongs.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: there is no such file.") from error
    except Exception as error:  # torch.load raises a dozen kinds on foreign bytes.
        raise FileFormatError(f"{path}: not a checkpoint, or truncated. Begin the run anew.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileFormatError(f"{path}: not a checkpoint of tpsolve. Begin the run anew.")
    if content.get("version") not in versions:
        raise FileFormatError(
            f"{path}: a checkpoint of version {content.get('version')}, this tpsolve reads "
            f"{' and '.join(map(str, versions))} here. Begin the run anew."
        )
    return content


def _check_recipe(saved: dict[str, Any], recipe: Recipe) -> None:
    now = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(recipe).items()}
    # Epochs are free where nothing is spread over them.
    longer = recipe.schedule == "steps" and not recipe.width_end and now["epochs"] > saved.get("epochs", 0)
    changed = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    if changed and not (longer and changed == ["epochs"]):
        differ = ", ".join(f"{name} {saved.get(name)!r} there and {now.get(name)!r} here" for name in changed)
        raise ArgumentError(
            "recipe", f"another one than the checkpoint's ({differ})", "the same", "Give the run another name."
        )
