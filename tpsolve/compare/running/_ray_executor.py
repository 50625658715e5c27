"""Ray as an executor, for comparisons on a cluster."""

from collections.abc import Callable
from typing import Any

from tpsolve.compare.running._cluster_executor import ClusterExecutor, Ended, importing


class RayExecutor(ClusterExecutor):
    """Calls functions on the cluster that Ray is connected to; one is started on this machine if there is none.

    A call has one core.

    Args:
        cores: of the cluster that is started here; None: as many as there are.

    Raises:
        MissingLibraryError: Ray is not installed.
    """

    def __init__(self, cores: int | None = None) -> None:
        with importing("Ray", "ray"):
            import ray  # pyright: ignore[reportMissingImports]
            from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]
        if not ray.is_initialized():
            ray.init(num_cpus=cores, log_to_driver=False)
        self.cores = int(ray.cluster_resources().get("CPU", 1))
        self._call = ray.remote(num_cpus=1, max_retries=0)(_call)
        self._errors, self._raised = RayError, RayTaskError

    def begin(self, fn: Callable[..., Any], args: Any, kwargs: Any, told: Callable[[Ended], None]) -> None:
        self._call.remote(fn, args, kwargs).future().add_done_callback(told)

    def has_died(self, error: BaseException) -> bool:
        return isinstance(error, self._errors) and not isinstance(error, self._raised)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
