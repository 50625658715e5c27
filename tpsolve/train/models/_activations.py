"""The activations of the networks, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tpsolve.errors import UnknownNameError
from tpsolve.nn import HardThreshold, Staircase

ACTIVATIONS = ("sign", "staircase", "relu", "saturated-relu")

NewActivation = Callable[[], nn.Module]
"""What the networks are given: called once for each place of an activation."""


@dataclass(frozen=True)
class Activation:
    """Makes the activation of each place in a network.

    Args:
        name: "sign" (`HardThreshold`), "staircase" (`Staircase`), "relu", or "saturated-relu", min(max(z, 0), 1).
        rule, width, width_mode: of the first two; see `HardThreshold`.
        levels: of the staircase.

    Raises:
        UnknownNameError: there is no activation, or no rule, of this name.
        ArgumentError: a width or number of levels makes no sense.
    """

    name: str = "sign"
    rule: str = "soft-hinge"
    levels: int = 4
    width: float = 1.0
    width_mode: str = "fixed"

    def __post_init__(self) -> None:
        if self.name not in ACTIVATIONS:
            raise UnknownNameError("activation", str(self.name), ACTIVATIONS)
        self()

    def __call__(self) -> nn.Module:
        """A new module of this activation."""
        if self.name == "sign":
            return HardThreshold(self.rule, width=self.width, width_mode=self.width_mode)
        if self.name == "staircase":
            return Staircase(self.levels, self.rule, width=self.width, width_mode=self.width_mode)
        return nn.ReLU() if self.name == "relu" else nn.Hardtanh(0.0, 1.0)
