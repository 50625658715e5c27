"""Settings of the whole suite: threads, and the examples that hypothesis draws."""

import os

# Before torch and numpy are loaded. The suite's tensors are small: a second thread makes them slower, and pytest-xdist
# gives each core a process of its own. Processes that a test starts inherit these.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "tpsolve",
    # The same examples on every run.
    derandomize=True,
    deadline=None,
    database=None,
    # The problems of zoo.py are built in a few dozen draws each.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# New examples on every run. A failure prints how to get the same example again.
settings.register_profile("nightly", settings.get_profile("tpsolve"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tpsolve"))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of comparisons have no pictures, which take longer than small comparisons."""
    monkeypatch.setattr("tpsolve.compare.report._report.draw_all", lambda rows: {})
