"""Submitit as an executor: each call is a job of SLURM, or a process of this machine where there is no SLURM."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any

from tpsolve.errors import MissingLibraryError

POLL_SECONDS = 0.5
TIMEOUT_MINUTES = 60
"""Of a job, unless SBATCH_TIMELIMIT says otherwise."""


class SubmititExecutor(Executor):
    """Calls functions in jobs of their own. Settings of SLURM come from its variables, such as SBATCH_PARTITION.

    A call whose job is killed or runs out of time ends with `BrokenExecutor`, and others go on.

    Args:
        folder: for the files and logs of the jobs, which all machines must see.

    Raises:
        MissingLibraryError: submitit is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import submitit  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingLibraryError("--executor submitit", "submitit", "'tpsolve[submitit]'") from error
        self.cores = os.cpu_count() or 1
        self._failed = submitit.core.utils.FailedJobError
        self._executor = submitit.AutoExecutor(folder=folder)
        self._executor.update_parameters(timeout_min=TIMEOUT_MINUTES, cpus_per_task=1, name="tpsolve")
        self._running: list[tuple[Any, Future[Any]]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """`fn(*args, **kwargs)` in a job."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        job = self._executor.submit(fn, *args, **kwargs)
        with self._lock:
            self._running.append((job, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all jobs that still run."""
        with self._lock:
            for job, _ in self._running:
                job.cancel()

    def _watch(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            with self._lock:
                ended = [(job, future) for job, future in self._running if job.done()]
                self._running = [pair for pair in self._running if pair not in ended]
            for job, future in ended:
                try:
                    future.set_result(job.result())
                except self._failed as error:  # What the function raised, in words.
                    future.set_exception(error)
                except Exception as error:  # There is no outcome: the job was killed.
                    future.set_exception(BrokenExecutor(str(error).partition("\n")[0]))
