"""What moves in a run besides targets: the weights, and the widths of the thresholds."""

import torch
from torch import nn

from tpsolve.nn import WidthSchedule
from tpsolve.train._recipe import Recipe


def new_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's."""
    # Fused: one kernel for all weights, which on convnet4 takes a twelfth of the time of the default.
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        model.parameters(), lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def width_schedule(recipe: Recipe, model: nn.Module) -> WidthSchedule | None:
    """The recipe's, with a step an epoch; None: widths stay."""
    if not recipe.width_end:
        return None
    return WidthSchedule(model, recipe.width, recipe.width_end, max(1, recipe.epochs - 1), shape="geometric")
