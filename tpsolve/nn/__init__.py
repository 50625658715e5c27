"""Floor 4: hard-threshold modules for PyTorch models."""

from tpsolve.nn.check_nan import check_nan
from tpsolve.nn.compact import compact
from tpsolve.nn.convert import convert, find_thresholds
from tpsolve.nn.diagnostics import Diagnosis, diagnose
from tpsolve.nn.rules import RULES
from tpsolve.nn.staircase import Staircase
from tpsolve.nn.surrogate import Threshold
from tpsolve.nn.target_backward import target_backward
from tpsolve.nn.target_report import TargetReport
from tpsolve.nn.threshold import HardThreshold
from tpsolve.nn.width_schedule import WidthSchedule

__all__ = [
    "RULES",
    "Diagnosis",
    "HardThreshold",
    "Staircase",
    "TargetReport",
    "Threshold",
    "WidthSchedule",
    "check_nan",
    "compact",
    "convert",
    "diagnose",
    "find_thresholds",
    "target_backward",
]
