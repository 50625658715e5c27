"""Fully connected networks."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from tpsolve._storage._limits import check_bytes
from tpsolve.train.models._activations import NewActivation


def mlp(
    shape: Sequence[int], classes: int, activation: NewActivation, widths: Sequence[int], batch_norm: bool
) -> nn.Sequential:
    """Hidden layers of `widths` units, each a linear layer, batch norm if asked for, and the activation.

    Args:
        shape: of one input, such as (1, 28, 28); it is flattened.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = (math.prod(shape), *widths)
    # In float32, and as many gradients.
    check_bytes("of widths", 8 * sum(n * m for n, m in pairwise((*sizes, classes))))
    for n, m in pairwise(sizes):
        # Batch norm has a bias of its own.
        layers += [nn.Linear(n, m, bias=not batch_norm)]
        layers += [nn.BatchNorm1d(m)] if batch_norm else []
        layers += [activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
