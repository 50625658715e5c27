"""What the executors of clusters share: calls as futures of Python, and dead processes as broken executors."""

from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from typing import Any, Protocol

from tpsolve.errors import MissingLibraryError


class Ended(Protocol):
    """A call that has ended, in the words of its library."""

    def result(self) -> Any:
        """What the call returned; what it raised is raised."""
        ...


class ClusterExecutor(Executor):
    """Calls functions on a cluster. A call whose process dies ends with `BrokenExecutor`, and others go on.

    Attributes:
        cores: of the cluster.
    """

    cores: int

    def begin(self, fn: Callable[..., Any], args: Any, kwargs: Any, told: Callable[[Ended], None]) -> None:
        """Begin `fn(*args, **kwargs)`, and have `told` called once it has ended."""
        raise NotImplementedError

    def has_died(self, error: BaseException) -> bool:
        """Whether the error is none that the function raised."""
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """`fn(*args, **kwargs)` on the cluster."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def told(ended: Ended) -> None:
            try:
                result = ended.result()
            except BaseException as error:  # Libraries call what they have cancelled no Exception.
                died = BrokenExecutor(str(error).partition("\n")[0]) if self.has_died(error) else error
                future.set_exception(died)
            else:
                future.set_result(result)

        self.begin(fn, args, kwargs, told)
        return future


@contextmanager
def importing(name: str, extra: str) -> Iterator[None]:
    """Imports of the library of an executor.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingLibraryError(f"--executor {extra}", name, f"'tpsolve[{extra}]'") from error
