"""The instances of a comparison in its folder: kept all or none, known by hashes, and loaded when they are needed."""

import hashlib
import json
import math
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import indent
from typing import IO, Any, NotRequired, TypedDict, overload

import msgspec
import torch

from tpsolve._storage._documents import Whole, check_values, parse_json
from tpsolve._storage._limits import FilePart, read_bytes
from tpsolve._storage._write_whole import in_memory, sync_folder, synced_together, write_whole
from tpsolve.errors import FileFormatError
from tpsolve.problems import Instance, Problem, ProgramProblem, load_problem

INDEX = "index.json"
MEND = "Choose another --name, or --fresh to begin anew."
MAX_FILES = 500
"""More instances are kept in files of so many each: a system takes long to make a file."""
PACK = "pack-{}.bin"
_LOADED = 16
"""Instances that are kept in memory; tasks come instance by instance."""


class _Entry(TypedDict):
    """What the index says of an instance; `sha256` is of its file, or of its part of a file of many."""

    name: str
    fingerprint: str
    samples: Whole
    sha256: str
    pack: NotRequired[Whole]
    offset: NotRequired[Whole]
    size: NotRequired[Whole]


@dataclass(frozen=True, slots=True)
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


class KeptInstances(Sequence[KeptInstance]):
    """The instances in the folder of a comparison, each made when it is asked for: a few hundred bytes for one.

    Args:
        folder: that of the instances. device: where they will lie.

    Attributes:
        names: of all instances.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self.names: list[str] = []
        self._fingerprints, self._ends = bytearray(), array("q", [0])
        # Without a pack -1; without samples in it 0.
        self._packs, self._offsets, self._sizes, self._samples = (array("q") for _ in range(4))

    def append(self, entry: _Entry) -> None:
        """Take what the index says of the next one."""
        self.names.append(entry["name"])
        self._fingerprints += entry["fingerprint"].encode()
        self._ends.append(len(self._fingerprints))
        self._packs.append(entry.get("pack", -1))
        self._offsets.append(entry.get("offset", 0))
        self._sizes.append(entry.get("size", 0))
        self._samples.append(entry["samples"])

    @overload
    def __getitem__(self, index: int) -> KeptInstance: ...
    @overload
    def __getitem__(self, index: slice) -> list[KeptInstance]: ...
    def __getitem__(self, index: int | slice) -> KeptInstance | list[KeptInstance]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        fingerprint = self._fingerprints[self._ends[number] : self._ends[number + 1]].decode()
        return KeptInstance(self._path(number), self._device, self.names[number], fingerprint, self._samples[number])

    def _path(self, number: int) -> Path | FilePart:
        if self._packs[number] < 0:
            return self._folder / f"{number:02d}.npz"
        place = self._folder / PACK.format(self._packs[number])
        return FilePart(place, self._offsets[number], self._sizes[number])

    def __len__(self) -> int:
        return len(self.names)


@lru_cache(maxsize=_LOADED)
def _loaded(path: Path | FilePart, fingerprint: str, device: str) -> Problem:
    problem = load_problem(path)
    if problem.fingerprint != fingerprint:
        raise FileFormatError(f"{path}: another problem than when it was written. {MEND}")
    return problem.to(device)


def save_instances(
    folder: Path, instances: Sequence[MadeInstance], device: torch.device | str
) -> Sequence[AnyInstance]:
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


def _write_instances(folder: Path, instances: Sequence[MadeInstance]) -> None:
    index = bytearray()

    def note(instance: MadeInstance, **more: Any) -> None:
        entry = {"name": instance.name, "fingerprint": instance.fingerprint, "samples": instance.samples, **more}
        index.extend((b",\n" if index else b"[\n") + indent(json.dumps(entry, indent=1), " ").encode())

    if len(instances) > MAX_FILES:
        for pack, start in enumerate(range(0, len(instances), MAX_FILES)):
            _write_pack(folder, pack, instances[start : start + MAX_FILES], note)
    else:
        for number, instance in enumerate(instances):
            path = folder / f"{number:02d}.npz"
            instance.problem.save(path)
            note(instance, sha256=_hash(path))
    index.extend(b"\n]" if index else b"[]")
    write_whole(folder / INDEX, lambda stream: stream.write(index))


def _write_pack(folder: Path, pack: int, instances: Sequence[MadeInstance], note: Callable[..., None]) -> None:
    """Write instances one behind the other into one file, and note of each where."""
    path = folder / PACK.format(pack)

    def write(stream: IO[bytes]) -> None:
        for instance in instances:
            with in_memory() as written:
                instance.problem.save(path)
            (content,) = written
            hashed = hashlib.sha256(content).hexdigest()
            note(instance, pack=pack, offset=stream.tell(), size=len(content), sha256=hashed)
            stream.write(content)

    write_whole(path, write)


def saved_instances(folder: Path, device: torch.device | str) -> Sequence[AnyInstance] | None:
    """The instances that the folder of a comparison keeps; None: there are none yet.

    Raises:
        FileFormatError: they are damaged, or two have one name.
    """
    folder = folder / "instances"
    index = folder / INDEX
    if not index.exists():
        return None
    found, names = KeptInstances(folder, str(device)), list[str]()
    for entry in _entries(index):
        if isinstance(entry, str):  # Indices of earlier versions have only names.
            names.append(entry)
            continue
        if "pack" in entry and not {"offset", "size"} <= entry.keys():
            raise FileFormatError(f"{index}: damaged: an instance without its place. {MEND}")
        found.append(entry)
        path = found[-1].path
        if _hash(path) != entry["sha256"]:
            load_problem(path)
            raise FileFormatError(f"{path}: has changed since it was written. {MEND}")
    if names and len(found):
        raise FileFormatError(f"{index}: damaged: an instance without its hash. {MEND}")
    if len({*found.names, *names}) < len(found) + len(names):
        raise FileFormatError(f"{index}: damaged: two instances of one name. {MEND}")
    if not names:
        return found
    problems = (load_problem(folder / f"{number:02d}.npz").to(device) for number in range(len(names)))
    return [MadeInstance.of(Instance(name, problem)) for name, problem in zip(names, problems, strict=True)]


def _entries(index: Path) -> Iterator[str | _Entry]:
    """What an index says of each instance, one after the other: all at once would take ten times its text."""
    try:
        text = read_bytes(index)
        check_values(text, index)
        for entry in msgspec.json.decode(text, type=list[msgspec.Raw]):
            yield parse_json(bytes(entry), index, str | _Entry)
    except (FileFormatError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise FileFormatError(f"{index}: damaged. {MEND} ({error})") from error


def _hash(path: Path | FilePart) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
