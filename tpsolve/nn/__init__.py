"""Target propagation through PyTorch models, and the thresholds that it needs."""

from tpsolve.nn._diagnosis import Diagnosis, diagnose
from tpsolve.nn._target_backward import target_backward
from tpsolve.nn._target_report import TargetReport
from tpsolve.nn.deployment._binarize import binarize, plain_weights
from tpsolve.nn.deployment._fold_model import Folded, FoldedThreshold, fold
from tpsolve.nn.levers._channel_shift import ChannelShift
from tpsolve.nn.levers._distillation import DistillationLoss
from tpsolve.nn.levers._progressive_hardening import ProgressiveHardening
from tpsolve.nn.levers._real_shortcut import RealShortcut
from tpsolve.nn.passes._one_sample import one_sample
from tpsolve.nn.programs._program import Program
from tpsolve.nn.programs._program_diagnosis import ProgramDiagnosis, diagnose_program
from tpsolve.nn.programs._program_loss import ProgramLoss, ProgramReport
from tpsolve.thresholds import (
    RULES,
    Choice,
    HardThreshold,
    Staircase,
    Threshold,
    WidthSchedule,
    check_nan,
    compact,
    convert,
    find_thresholds,
)

__all__ = [
    "RULES",
    "ChannelShift",
    "Choice",
    "Diagnosis",
    "DistillationLoss",
    "Folded",
    "FoldedThreshold",
    "HardThreshold",
    "Program",
    "ProgramDiagnosis",
    "ProgramLoss",
    "ProgramReport",
    "ProgressiveHardening",
    "RealShortcut",
    "Staircase",
    "TargetReport",
    "Threshold",
    "WidthSchedule",
    "binarize",
    "check_nan",
    "compact",
    "convert",
    "diagnose",
    "diagnose_program",
    "find_thresholds",
    "fold",
    "one_sample",
    "plain_weights",
    "target_backward",
]
