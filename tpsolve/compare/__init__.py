"""Solvers compared on suites of instances: rows on disk, then tables, plots and a report."""

from tpsolve.compare._comparison_run import ComparisonRun, run
from tpsolve.compare._file_suite import FileSuite
from tpsolve.compare._run_folder import Comparison, Shard
from tpsolve.compare._runner import run_comparison
from tpsolve.compare._suites import SUITES, suite
from tpsolve.compare._summary import Summary, summarise
from tpsolve.compare._table_suite import TableSuite
from tpsolve.compare._training_runs import STRATEGIES, Strategy, run_training
from tpsolve.compare.report._report import write_report

__all__ = [
    "STRATEGIES",
    "SUITES",
    "Comparison",
    "ComparisonRun",
    "FileSuite",
    "Shard",
    "Strategy",
    "Summary",
    "TableSuite",
    "run",
    "run_comparison",
    "run_training",
    "suite",
    "summarise",
    "write_report",
]
