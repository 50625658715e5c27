"""A schedule of the thresholds' width over a training, as a learning rate has one."""

import math
from collections.abc import Callable

from torch import nn

from tpsolve._check_arguments import check_count
from tpsolve.errors import UnknownNameError
from tpsolve.thresholds._base import Threshold, check_width
from tpsolve.thresholds._convert import find_thresholds

SHAPES: dict[str, Callable[[float, float, float], float]] = {
    "linear": lambda start, end, done: start + (end - start) * done,
    "geometric": lambda start, end, done: start * (end / start) ** done,
    "cosine": lambda start, end, done: end + (start - end) * (1 + math.cos(math.pi * done)) / 2,
}
"""Name of a shape: (start, end, share of the steps done) -> width."""


class WidthSchedule:
    """Moves the width of all thresholds of a model from `start` to `end` within `steps` calls of `step`.

    It sets `start` at once and keeps `end` afterwards. Learned widths are set too. A deep copy has thresholds
    of its own: copy or pickle it together with the model.

    Args:
        shape: "linear", "geometric" or "cosine".

    Raises:
        NotAcceptedError, ArgumentError, UnknownNameError: no thresholds, or an argument makes no sense.
    """

    thresholds: list[Threshold]
    start: float
    end: float
    steps: int
    shape: str
    steps_done: int

    def __init__(self, model: nn.Module, start: float, end: float, steps: int, shape: str = "linear") -> None:
        if shape not in SHAPES:
            raise UnknownNameError("shape", str(shape), SHAPES)
        check_count("steps", steps, 1)
        self.thresholds = list(find_thresholds(model).values())
        self.start, self.end, self.steps, self.shape = check_width(start), check_width(end), steps, shape
        # A width of 1 is no buffer until it changes; copies of the model made from now on should have the same buffers.
        for threshold in self.thresholds:
            threshold.width = self.end
        self.load_state_dict({"step": 0})

    @property
    def width(self) -> float:
        """The width now."""
        return SHAPES[self.shape](self.start, self.end, min(1.0, self.steps_done / self.steps))

    def step(self) -> None:
        """Go on by one step."""
        self.load_state_dict({"step": self.steps_done + 1})

    def state_dict(self) -> dict[str, int]:
        """How many steps are done."""
        return {"step": self.steps_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from what `state_dict` returned, and set the widths."""
        self.steps_done = state["step"]
        for threshold in self.thresholds:
            threshold.width = self.width
