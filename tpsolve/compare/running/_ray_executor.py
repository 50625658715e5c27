"""Ray as an executor, for comparisons on a cluster."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from tpsolve.errors import MissingLibraryError


class RayExecutor(Executor):
    """Calls functions on the cluster that Ray is connected to; one is started on this machine if there is none.

    A call has one core. One whose process or machine dies ends with `BrokenExecutor`, and others go on.

    Args:
        cores: of the cluster that is started here; None: as many as there are.

    Raises:
        MissingLibraryError: Ray is not installed.
    """

    def __init__(self, cores: int | None = None) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
            from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingLibraryError("--executor ray", "Ray", "'tpsolve[ray]'") from error
        if not ray.is_initialized():
            ray.init(num_cpus=cores, log_to_driver=False)
        self.cores = int(ray.cluster_resources().get("CPU", 1))
        self._call = ray.remote(num_cpus=1, max_retries=0)(_call)
        self._died, self._raised = RayError, RayTaskError

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """`fn(*args, **kwargs)` on the cluster."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def end(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            elif isinstance(error, self._died) and not isinstance(error, self._raised):
                future.set_exception(BrokenExecutor(str(error).partition("\n")[0]))
            else:
                future.set_exception(error)

        self._call.remote(fn, args, kwargs).future().add_done_callback(end)
        return future


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
