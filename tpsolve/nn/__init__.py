"""Floor 4: hard-threshold modules for PyTorch models."""

from tpsolve.nn.threshold import HardThreshold

__all__ = ["HardThreshold"]
