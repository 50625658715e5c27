"""Submitit as an executor: each call is a job of SLURM, or a process of this machine where there is no SLURM."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tpsolve.compare.running._cluster_executor import ClusterExecutor, Ended, importing

TIMEOUT_MINUTES = 60
"""Of a job, unless SBATCH_TIMELIMIT says otherwise."""


class SubmititExecutor(ClusterExecutor):
    """Calls functions in jobs of their own. Settings of SLURM come from its variables, such as SBATCH_PARTITION.

    A job that runs out of time counts as dead.

    Args:
        folder: for the files and logs of the jobs, which all machines must see.

    Raises:
        MissingLibraryError: submitit is not installed.
    """

    def __init__(self, folder: Path) -> None:
        with importing("submitit", "submitit"):
            from submitit import AutoExecutor  # pyright: ignore[reportMissingImports]
            from submitit.core.utils import FailedJobError  # pyright: ignore[reportMissingImports]
        self.cores = os.cpu_count() or 1
        self._raised = FailedJobError
        self._executor = AutoExecutor(folder=folder)
        self._executor.update_parameters(timeout_min=TIMEOUT_MINUTES, cpus_per_task=1, name="tpsolve")
        self._jobs: set[Any] = set()

    def begin(self, fn: Callable[..., Any], args: Any, kwargs: Any, told: Callable[[Ended], None]) -> None:
        job = self._executor.submit(fn, *args, **kwargs)
        self._jobs.add(job)
        threading.Thread(target=self._wait, args=(job, told), daemon=True).start()

    def has_died(self, error: BaseException) -> bool:
        return not isinstance(error, self._raised)  # What the function raised, in words.

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all jobs that still run."""
        for job in list(self._jobs):
            job.cancel()

    def _wait(self, job: Any, told: Callable[[Ended], None]) -> None:
        told(job)  # Whose result takes until it has ended.
        self._jobs.discard(job)
