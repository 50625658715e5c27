"""Dask as an executor, for comparisons on a cluster."""

import os
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import Any

from tpsolve.compare.running._cluster_executor import ClusterExecutor, Ended, importing
from tpsolve.compare.running._start import METHOD, ONE_THREAD, load_ahead


class DaskExecutor(ClusterExecutor):
    """Calls functions on the Dask cluster whose scheduler DASK_SCHEDULER_ADDRESS names, or on one of this machine.

    A call has one thread of a worker. Dask begins one again whose worker dies, a few times, before it counts as dead.

    Args:
        cores: of the cluster that is started here; None: as many as there are.

    Raises:
        MissingLibraryError: Dask is not installed.
    """

    def __init__(self, cores: int | None = None) -> None:
        with importing("Dask", "dask"):
            import dask  # pyright: ignore[reportMissingImports]
            from distributed import Client, KilledWorker  # pyright: ignore[reportMissingImports]
        address = dask.config.get("scheduler-address", None)
        with ExitStack() as held:
            if address:
                self._client = Client(address)
            else:
                # Each worker, and each one in place of a dead one, would load libraries for many seconds.
                load_ahead()
                held.enter_context(dask.config.set({"distributed.worker.multiprocessing-method": METHOD}))
                # That process knows the variables that there were when it started.
                own = {"n_workers": cores, "threads_per_worker": 1, "dashboard_address": None}
                self._client = Client(**own, env={**os.environ, **ONE_THREAD})
            self._held = held.pop_all()
        self.cores = sum(self._client.nthreads().values())
        self._deaths = (KilledWorker, CancelledError)

    def begin(self, fn: Callable[..., Any], args: Any, kwargs: Any, told: Callable[[Ended], None]) -> None:
        self._client.submit(fn, *args, pure=False, **kwargs).add_done_callback(told)

    def has_died(self, error: BaseException) -> bool:
        return isinstance(error, self._deaths)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; one that was started here ends."""
        with self._held:
            self._client.close()
