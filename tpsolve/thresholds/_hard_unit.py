"""What thresholds and choices share: an output with few values, and a closed-form rule in place of a gradient."""

from abc import abstractmethod

from torch import Tensor, nn

from tpsolve.errors import NotAcceptedError


class HardUnit(nn.Module):
    """A module whose output jumps between few values, so that `target_backward` searches targets for it."""

    @abstractmethod
    def activate(self, z: Tensor) -> Tensor:
        """The output for pre-activations `z`, without a gradient; a new tensor of the same strides."""

    def to_spins(self, h: Tensor) -> Tensor:
        """The spins that a search sets, in {-1, +1}, where the output is `h (B, ...)`: `(B, ...)`, h itself."""
        return h

    def from_spins(self, spins: Tensor) -> Tensor:
        """The output `(B, ...)` of any `spins`, as `to_spins` has them."""
        return spins


def refuse_second_derivative(what: str) -> NotAcceptedError:
    """The error for a second derivative of `what`."""
    return NotAcceptedError(
        what,
        "a second derivative",
        "first derivatives alone",
        "The rule that it passes back is the slope of a layer loss, not the derivative of its output.",
    )
