"""Settings of the whole suite: threads, the examples that hypothesis draws, and a process group."""

import gc
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

# Before torch and numpy are loaded. The suite's tensors are small: a second thread makes them slower, and pytest-xdist
# gives each core a process of its own. Processes that a test starts inherit these.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "tpsolve",
    max_examples=50,
    # The same examples on every run.
    derandomize=True,
    deadline=None,
    database=None,
    # The problems of zoo.py are built in a few dozen draws each.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# New examples on every run, and more of them. A failure prints how to get the same example again.
settings.register_profile(
    "nightly", settings.get_profile("tpsolve"), max_examples=200, derandomize=False, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tpsolve"))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector looks for garbage among later objects alone, which is quicker."""
    gc.freeze()


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of comparisons have no pictures, which take longer than small comparisons."""
    monkeypatch.setattr("tpsolve.compare.report._report.draw_all", lambda rows: {})


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone. It is destroyed when nothing of the test holds it any more.

    A `DistributedDataParallel` that lives longer than the group would end it, with Python's lock held. The end waits
    for gloo's thread, and that thread may wait for the lock.
    """
    from torch import distributed

    # Its functions take the group of the moment of the import as a default, and keep it.
    import_module("torch.distributed.nn.functional")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    gc.collect()
    distributed.destroy_process_group()
