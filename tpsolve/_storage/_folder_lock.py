"""A lock on the folder of a run: whoever writes into it holds it, and it frees itself when that process ends."""

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, TypedDict

import msgspec

from tpsolve._storage._limits import read_part
from tpsolve._storage._write_whole import make_synced
from tpsolve.errors import FolderError, FolderInUseError

RUN = "run.lock"
"""The lock of whoever writes all of a folder."""
LOCKS = "*.lock"
_BYTES = 4096


@dataclass(frozen=True)
class Owner:
    """A process, wherever it runs.

    Args:
        host: its name.
        machine: what tells hosts of one name apart, and containers on them; "": unknown.
        boot: of the machine; process numbers begin anew with each; "": unknown.
        pid: its number, which another process gets once it has ended.
        started: its start in the words of its system; "": unknown.
        since: when it took the lock, UTC.
    """

    host: str
    machine: str
    boot: str
    pid: int
    started: str
    since: str


class _Shape(TypedDict):
    host: str
    machine: str
    boot: str
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    started: str
    since: str


@contextmanager
def locked(folder: Path, name: str = RUN) -> Iterator[None]:
    """Hold the lock `name` of `folder` while entered; the folder is made, and taken away again if nothing was added.

    The lock `RUN` goes with no other one of the folder. Other names go with each other. A lock is stale if its process
    has ended, on this host; a stale one is taken over.

    Raises:
        FolderInUseError: a process holds a lock that does not go with this one, or one on another host may.
        FolderError: the folder can't be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = folder / name
    try:
        make_synced(folder)
        _take(lock)
    except FolderInUseError:
        raise
    except OSError as error:
        _tidy(made)
        raise FolderError(
            f"{folder}: can't be written ({error.strerror or error}). Choose a folder you may write to."
        ) from error
    try:
        for other in sorted(folder.glob(LOCKS)):
            if other.name != name and RUN in (other.name, name):
                _check_free(other)
        yield
    finally:
        # Somebody may have deleted it, and another process taken it since.
        with contextlib.suppress(OSError), _guarded(lock) as stream:
            owner = _owner(stream)
            if owner is not None and _is_own(owner):
                stream.seek(0)
                stream.truncate()
                if sys.platform != "win32":  # Which deletes no open file; an empty one is nobody's lock.
                    lock.unlink()
        _tidy(made)


def is_empty(folder: Path) -> bool:
    """Whether there is no such folder, or nothing in it but locks."""
    return not folder.exists() or all(path.match(LOCKS) for path in folder.iterdir())


def _tidy(made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for path in made:
            path.rmdir()


def _take(lock: Path) -> None:
    with _guarded(lock, create=True) as stream:
        _refuse_live(lock, _owner(stream))
        own = Owner(**_identity(), pid=os.getpid(), started=_started(os.getpid()) or "", since=_now())
        stream.seek(0)
        stream.truncate()
        stream.write(msgspec.json.encode(asdict(own)))
        stream.flush()
        os.fsync(stream.fileno())


def _check_free(lock: Path) -> None:
    with contextlib.suppress(FileNotFoundError), _guarded(lock) as stream:
        _refuse_live(lock, _owner(stream))


def _refuse_live(lock: Path, owner: Owner | None) -> None:
    state = "dead" if owner is None else _state(owner)
    if owner is None or state == "dead":
        return
    words = f"{lock.parent}: in use by process {owner.pid} on {owner.host} since {owner.since}."
    if state == "live":
        raise FolderInUseError(f"{words} Wait until it has ended, or give this run another name.")
    raise FolderInUseError(
        f"{words} Whether it still runs can't be seen from here. If it does not, delete {lock} and try again."
    )


@contextmanager
def _guarded(lock: Path, create: bool = False) -> Iterator[IO[bytes]]:
    """The file of a lock, which no other process reads or writes meanwhile, where the system can see to that."""
    while True:
        # In the folder of a stranger it may be a link to a file of one's own, which would be emptied.
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | (os.O_CREAT if create else 0)
        descriptor = os.open(lock, flags, 0o666)
        with os.fdopen(descriptor, "r+b") as stream:
            if sys.platform != "win32":
                import fcntl

                # Some network file systems have none.
                with contextlib.suppress(OSError):
                    fcntl.flock(stream, fcntl.LOCK_EX)
                # It may have been deleted while this process waited.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(stream.fileno()), os.stat(lock)):
                        yield stream
                        return
            else:
                yield stream
                return


def _owner(stream: IO[bytes]) -> Owner | None:
    """Whose lock it is; None: nobody's, since its writer did not come to the end."""
    stream.seek(0)
    try:
        return Owner(**msgspec.json.decode(bytes(read_part(stream, _BYTES)), type=_Shape))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _state(owner: Owner) -> str:
    """Whether the process of a lock is "live" or "dead"; "unknown" where it can't be seen from here."""
    here = _identity()
    if (owner.host, owner.machine.partition(" ")[0]) != (here["host"], here["machine"].partition(" ")[0]):
        return "unknown"
    if owner.boot != here["boot"]:
        return "dead"
    if owner.machine != here["machine"] or sys.platform == "win32":
        return "live" if _is_own(owner) else "unknown"
    started = _started(owner.pid)
    return "dead" if started is None or (started and owner.started and started != owner.started) else "live"


def _is_own(owner: Owner) -> bool:
    here = {**_identity(), "pid": os.getpid(), "started": _started(os.getpid()) or ""}
    return all(getattr(owner, name) == value for name, value in here.items())


def _identity() -> dict[str, str]:
    machine = " ".join((_line("/etc/machine-id") or "-", _link("/proc/self/ns/pid") or "-"))
    return {"host": platform.node(), "machine": machine, "boot": _line("/proc/sys/kernel/random/boot_id")}


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process of this system started, in its words; "": unknown; None: there is no such process."""
    if sys.platform == "win32":
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    if sys.platform == "linux":
        # A name may hold spaces and brackets. What follows begins with the state; the start is the 22nd field.
        fields = _line(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if fields[:1] == ["Z"]:
            return None
        return fields[19] if len(fields) > 19 else ""
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
