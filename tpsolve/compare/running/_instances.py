"""The instances of a comparison in its folder: kept all or none, known by hashes, and loaded when they are needed."""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Annotated, Any, NotRequired, TypedDict

import msgspec
import torch

from tpsolve._storage._documents import Count, read_json
from tpsolve._storage._limits import FilePart, read_bytes
from tpsolve._storage._write_whole import in_memory, sync_folder, synced_together, write_whole
from tpsolve.errors import FileFormatError
from tpsolve.problems import Instance, Problem, ProgramProblem, load_problem

INDEX = "index.json"
MEND = "Choose another --name, or --fresh to begin anew."
MAX_FILES = 500
"""More instances are kept in files of so many each: a system takes long to make a file."""
PACK = "pack-{}.bin"
_Place = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_LOADED = 16
"""Instances that are kept in memory; tasks come instance by instance."""


class _Entry(TypedDict):
    """What the index says of an instance; `sha256` is of its file, or of its part of a file of many."""

    name: str
    fingerprint: str
    samples: Count
    sha256: str
    pack: NotRequired[_Place]
    offset: NotRequired[_Place]
    size: NotRequired[_Place]


@dataclass(frozen=True)
class MadeInstance:
    """An instance in memory, and what is asked of it most.

    Args:
        fingerprint: of the problem. samples: in its batch.
    """

    name: str
    problem: Problem
    fingerprint: str
    samples: int

    @classmethod
    def of(cls, instance: Instance[Problem]) -> "MadeInstance":
        """One of a suite."""
        problem = instance.problem
        return cls(instance.name, problem, problem.fingerprint, math.prod(problem.batch_shape))


@dataclass(frozen=True)
class KeptInstance:
    """An instance in the folder of a comparison, whose problem is loaded when it is asked for.

    Args:
        path: of the problem. device: where it will lie.
        name, fingerprint, samples: as those of a `MadeInstance`, by the index of the folder.
    """

    path: Path | FilePart
    device: str
    name: str
    fingerprint: str
    samples: int

    @property
    def problem(self) -> Problem:
        """The problem.

        Raises:
            FileFormatError: the file is damaged, or holds another one than it did.
        """
        return _loaded(self.path, self.fingerprint, self.device)

    def __reduce__(self) -> tuple[Any, ...]:
        # Where the copy goes there may be no such folder.
        return MadeInstance, (self.name, self.problem, self.fingerprint, self.samples)


AnyInstance = MadeInstance | KeptInstance


@lru_cache(maxsize=_LOADED)
def _loaded(path: Path | FilePart, fingerprint: str, device: str) -> Problem:
    problem = load_problem(path)
    if problem.fingerprint != fingerprint:
        raise FileFormatError(f"{path}: another problem than when it was written. {MEND}")
    return problem.to(device)


def save_instances(folder: Path, instances: list[MadeInstance], device: torch.device | str) -> Sequence[AnyInstance]:
    """Keep the instances in the folder, so that a resumed run has the same; programs are made again instead.

    Returns the instances that the folder holds then: those of another shard that was faster, if there is one.
    """
    if any(isinstance(instance.problem, ProgramProblem) for instance in instances):
        return instances
    saved = saved_instances(folder, device)
    if saved is not None:
        return saved
    home = folder / "instances"
    # All or none: other shards may make theirs at the same time.
    made = home if home.exists() else Path(tempfile.mkdtemp(dir=folder, prefix=".instances."))
    if made == home:
        _write_instances(home, instances)
        return instances
    try:
        # Nobody else knows of a new folder.
        with synced_together():
            _write_instances(made, instances)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    made.chmod(folder.stat().st_mode & 0o777)
    try:
        made.rename(home)
    except OSError:
        shutil.rmtree(made)
        saved = saved_instances(folder, device)
        if saved is None:
            raise
        return saved
    sync_folder(folder)
    return instances


def _write_instances(folder: Path, instances: list[MadeInstance]) -> None:
    entries: list[dict[str, Any]] = [
        {"name": instance.name, "fingerprint": instance.fingerprint, "samples": instance.samples}
        for instance in instances
    ]
    if len(instances) > MAX_FILES:
        for pack, start in enumerate(range(0, len(instances), MAX_FILES)):
            _write_pack(folder, pack, instances[start : start + MAX_FILES], entries[start : start + MAX_FILES])
    else:
        for number, (instance, entry) in enumerate(zip(instances, entries, strict=True)):
            path = folder / f"{number:02d}.npz"
            instance.problem.save(path)
            entry["sha256"] = _hash(path)
    index = json.dumps(entries, indent=1).encode()
    write_whole(folder / INDEX, lambda stream: stream.write(index))


def _write_pack(folder: Path, pack: int, instances: list[MadeInstance], entries: list[dict[str, Any]]) -> None:
    """Write instances one behind the other into one file, and note in their entries where."""
    path = folder / PACK.format(pack)

    def write(stream: IO[bytes]) -> None:
        for instance, entry in zip(instances, entries, strict=True):
            with in_memory() as written:
                instance.problem.save(path)
            (content,) = written
            entry |= {"pack": pack, "offset": stream.tell(), "size": len(content)}
            entry["sha256"] = hashlib.sha256(content).hexdigest()
            stream.write(content)

    write_whole(path, write)


def saved_instances(folder: Path, device: torch.device | str) -> Sequence[AnyInstance] | None:
    """The instances that the folder of a comparison keeps; None: there are none yet.

    Raises:
        FileFormatError: they are damaged.
    """
    folder = folder / "instances"
    if not (folder / INDEX).exists():
        return None
    try:
        entries = read_json(folder / INDEX, list[str | _Entry])
    except FileFormatError as error:
        raise FileFormatError(f"{folder / INDEX}: damaged. {MEND} ({error})") from error
    return [_saved(_place(folder, number, entry), entry, device) for number, entry in enumerate(entries)]


def _place(folder: Path, number: int, entry: Any) -> Path | FilePart:
    if isinstance(entry, str) or "pack" not in entry:
        return folder / f"{number:02d}.npz"
    if not {"offset", "size"} <= entry.keys():
        raise FileFormatError(f"{folder / INDEX}: damaged: an instance without its place. {MEND}")
    return FilePart(folder / PACK.format(entry["pack"]), entry["offset"], entry["size"])


def _saved(path: Path | FilePart, entry: Any, device: torch.device | str) -> AnyInstance:
    if isinstance(entry, str):  # Indices of earlier versions have only names.
        return MadeInstance.of(Instance(entry, load_problem(path).to(device)))
    if _hash(path) != entry["sha256"]:
        load_problem(path)
        raise FileFormatError(f"{path}: has changed since it was written. {MEND}")
    return KeptInstance(path, str(device), entry["name"], entry["fingerprint"], entry["samples"])


def _hash(path: Path | FilePart) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
