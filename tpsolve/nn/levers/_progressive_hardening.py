"""Thresholds that are smooth at first and become hard one after the other, from the input to the output."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh

from tpsolve._check_arguments import check_count
from tpsolve.errors import NotAcceptedError
from tpsolve.thresholds._base import Threshold, find_width, first_input
from tpsolve.thresholds._convert import find_thresholds
from tpsolve.thresholds._hard_threshold import HardThreshold

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "soft-hinge": torch.tanh,
    "saturated-ste": hardtanh,
    "saturated-hinge": hardtanh,
}
"""By rule, the activation of u = z / width whose slope the rule is; tanh for every other one."""


class ProgressiveHardening:
    """Makes the `HardThreshold`s of a model smooth, and hard again one after the other within `steps` calls of `step`.

    The smooth one of u = z / width is tanh(u), or min(max(u, -1), 1) where the rule is the slope of that; with `low=0`
    half of it and 1/2 more. Of L thresholds the k-th from the input on is hard once more than (k - 1) / L of the steps
    are done, so after the last step all are.

    It works by hooks. Parameters and state dicts stay those of the model. A deep copy has thresholds of its own: copy
    or pickle it together with the model. Searches refuse thresholds that are smooth.

    Args:
        model: its thresholds count in the order of its modules.
        steps: at least 1.

    Raises:
        NotAcceptedError: no `HardThreshold`, or one that another `ProgressiveHardening` keeps smooth.
        ArgumentError: `steps` is no positive whole number.
    """

    thresholds: list[HardThreshold]
    steps: int
    steps_done: int

    def __init__(self, model: nn.Module, steps: int) -> None:
        check_count("steps", steps, 1)
        self.thresholds = [one for one in find_thresholds(model).values() if isinstance(one, HardThreshold)]
        if not self.thresholds:
            raise NotAcceptedError("model", "no HardThreshold", "at least one to harden")
        if any(_soften in one._forward_hooks.values() for one in self.thresholds):
            mend = "Go on with that one until all are hard."
            raise NotAcceptedError(
                "model", "thresholds that another ProgressiveHardening keeps smooth", "hard ones", mend
            )
        self.steps = steps
        self.load_state_dict({"step": 0})

    @property
    def hard(self) -> int:
        """How many thresholds are hard, from the input on."""
        done = min(self.steps_done, self.steps)
        # Whole numbers: a share of steps may not round.
        return -(-len(self.thresholds) * done // self.steps)

    def step(self) -> None:
        """Go on by one step."""
        self.load_state_dict({"step": self.steps_done + 1})

    def state_dict(self) -> dict[str, int]:
        """How many steps are done."""
        return {"step": self.steps_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from what `state_dict` returned."""
        self.steps_done = state["step"]
        for at, threshold in enumerate(self.thresholds):
            own = [key for key, hook in threshold._forward_hooks.items() if hook is _soften]
            if at >= self.hard and not own:
                threshold.register_forward_hook(_soften, with_kwargs=True)
            # Not by its handle, which a copy of the threshold would not have.
            for key in own if at < self.hard else ():
                del threshold._forward_hooks[key]
                threshold._forward_hooks_with_kwargs.pop(key, None)


def _soften(module: Threshold, arguments: tuple[Tensor, ...], keywords: dict[str, Any], output: Tensor) -> Tensor:
    """What stands for the output `output` of a threshold."""
    assert isinstance(module, HardThreshold)
    z = first_input(arguments, keywords)
    width, _, rule, mode, _ = module.settings()
    wide = find_width(z, width, mode)
    smooth = SMOOTH.get(rule, torch.tanh) if isinstance(rule, str) else torch.tanh
    h = smooth(z if wide is None else z / wide).to(output.dtype)
    return h if module.low else (h + 1) / 2
