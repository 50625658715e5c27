"""Settings of the whole suite: hypothesis draws the same examples on every run and keeps no database."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "tpsolve",
    derandomize=True,
    deadline=None,
    database=None,
    # The problems of zoo.py are built in a few dozen draws each.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tpsolve")
