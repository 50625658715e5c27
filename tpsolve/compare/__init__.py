"""Solvers compared on suites of instances: rows on disk, then tables, plots and a report."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpsolve.compare._comparison_run import ComparisonRun, run
    from tpsolve.compare._run_folder import Comparison, Shard
    from tpsolve.compare._runner import run_comparison
    from tpsolve.compare._summary import Summary, summarise
    from tpsolve.compare._training_runs import STRATEGIES, Strategy, run_training
    from tpsolve.compare.report._report import write_report
    from tpsolve.compare.running._conquer import conquer
    from tpsolve.compare.suites._file_suite import FileSuite
    from tpsolve.compare.suites._suites import SUITES, suite
    from tpsolve.compare.suites._table_suite import TableSuite
    from tpsolve.compare.suites._table_sweep import Sweep

__all__ = [
    "STRATEGIES",
    "SUITES",
    "Comparison",
    "ComparisonRun",
    "FileSuite",
    "Shard",
    "Strategy",
    "Summary",
    "Sweep",
    "TableSuite",
    "conquer",
    "run",
    "run_comparison",
    "run_training",
    "suite",
    "summarise",
    "write_report",
]

_HOMES = {
    "_comparison_run": ("ComparisonRun", "run"),
    "suites._file_suite": ("FileSuite",),
    "_run_folder": ("Comparison", "Shard"),
    "_runner": ("run_comparison",),
    "suites._suites": ("SUITES", "suite"),
    "suites._table_sweep": ("Sweep",),
    "_summary": ("Summary", "summarise"),
    "suites._table_suite": ("TableSuite",),
    "_training_runs": ("STRATEGIES", "Strategy", "run_training"),
    "report._report": ("write_report",),
    "running._conquer": ("conquer",),
}
"""The modules of the names that are theirs."""


def __getattr__(name: str) -> Any:
    """Names are loaded when they are first asked for: workers need few of them, and all take two seconds."""
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(f"tpsolve.compare.{module}"), name)
            return found
    raise AttributeError(f"module 'tpsolve.compare' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
