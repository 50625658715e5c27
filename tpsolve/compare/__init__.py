"""Floor 5: solvers compared on suites of instances: rows on disk, then tables, plots and a report."""

from tpsolve.compare.report import write_report
from tpsolve.compare.runner import Comparison, run_comparison
from tpsolve.compare.suites import SUITES
from tpsolve.compare.summary import Summary, summarise
from tpsolve.compare.training import STRATEGIES, Strategy, run_training

__all__ = [
    "STRATEGIES",
    "SUITES",
    "Comparison",
    "Strategy",
    "Summary",
    "run_comparison",
    "run_training",
    "summarise",
    "write_report",
]
