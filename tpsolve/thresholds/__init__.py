"""Thresholds and choices as PyTorch modules, with the closed-form rules that stand in for their gradient."""

from tpsolve.thresholds._base import Threshold
from tpsolve.thresholds._check_nan import check_nan
from tpsolve.thresholds._choice import Choice
from tpsolve.thresholds._compact import compact
from tpsolve.thresholds._convert import convert, find_thresholds
from tpsolve.thresholds._hard_threshold import HardThreshold
from tpsolve.thresholds._rules import RULES
from tpsolve.thresholds._staircase import Staircase
from tpsolve.thresholds._width_schedule import WidthSchedule

__all__ = [
    "RULES",
    "Choice",
    "HardThreshold",
    "Staircase",
    "Threshold",
    "WidthSchedule",
    "check_nan",
    "compact",
    "convert",
    "find_thresholds",
]
