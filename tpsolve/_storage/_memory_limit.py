"""A limit of the memory that a piece of work may take, on Linux."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tpsolve.errors import ArgumentError

_FULL = ("allocate memory", "failed to map segment", "bad_alloc")
"""What libraries say that have no class of their own for it."""


def check_memory(option: str, memory: float) -> None:
    """Raise ArgumentError unless `memory` is a positive, finite number."""
    if isinstance(memory, bool) or not isinstance(memory, int | float) or not 0 < memory < math.inf:
        raise ArgumentError(option, memory, "a positive, finite number of GiB")


def taken() -> int:
    """Bytes of addresses that this process has; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    import resource

    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def memory_limit(memory: float, beyond: int | None = None) -> Iterator[None]:
    """What is inside gets at most `memory` GiB more than `beyond` bytes, by default those that are taken now.

    More than that ends in an error for which `is_full` holds, or in the end of the process, as some libraries have it.
    Systems but Linux know no such limit: there is none on them.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = (taken() if beyond is None else beyond) + int(memory * 2**30)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    known = isinstance(error, RuntimeError | ImportError | OSError) and any(words in str(error) for words in _FULL)
    return isinstance(error, MemoryError) or known
