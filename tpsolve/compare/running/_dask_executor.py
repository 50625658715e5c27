"""Dask as an executor, for comparisons on a cluster."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from tpsolve.errors import MissingLibraryError


class DaskExecutor(Executor):
    """Calls functions on the Dask cluster whose scheduler DASK_SCHEDULER_ADDRESS names, or on one of this machine.

    A call has one thread of a worker. Dask begins one again whose worker dies, a few times; then it ends with
    `BrokenExecutor`.

    Args:
        cores: of the cluster that is started here; None: as many as there are.

    Raises:
        MissingLibraryError: Dask is not installed.
    """

    def __init__(self, cores: int | None = None) -> None:
        try:
            import dask  # pyright: ignore[reportMissingImports]
            from distributed import Client, KilledWorker  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingLibraryError("--executor dask", "Dask", "'tpsolve[dask]'") from error
        address = dask.config.get("scheduler-address", None)
        own = {"n_workers": cores, "threads_per_worker": 1, "dashboard_address": None}
        self._client = Client(address) if address else Client(**own)
        self.cores = sum(self._client.nthreads().values())
        self._died = KilledWorker

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """`fn(*args, **kwargs)` on the cluster."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def end(done: Any) -> None:
            error = done.exception() if done.status == "error" else None
            if done.status == "finished":
                future.set_result(done.result())
            elif error is None or isinstance(error, self._died):
                future.set_exception(BrokenExecutor(str(error or f"the cluster has {done.status} it")))
            else:
                future.set_exception(error)

        self._client.submit(fn, *args, pure=False, **kwargs).add_done_callback(end)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; one that was started here ends."""
        self._client.close()
