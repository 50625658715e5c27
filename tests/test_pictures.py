"""Lines of a picture: where they are, whatever the units of the axes and the length of the weights."""

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D
from torch import nn

from tpsolve import NetworkProblem
from tpsolve.pictures import draw_network


def lines_of(points: list[list[float]], weight: list[float], bias: float) -> list[Line2D]:
    """Those of a network of one unit that has these weights."""
    problem = NetworkProblem(points, ["a", "b"], [1])
    network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)).double()
    network[0].weight.data = torch.tensor([weight], dtype=torch.float64)
    network[0].bias.data = torch.tensor([bias], dtype=torch.float64)
    return list(draw_network(problem, network, ("x", "y")).axes[0].lines)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_line_of_a_unit_crosses_the_whole_picture_where_the_unit_is_zero(scale: float):
    shift = 1.7e12
    (line,) = lines_of([[shift, 0], [shift + 4, 1]], [scale, -4 * scale], -scale * (shift + 1))
    x, y = map(np.asarray, line.get_data())
    # x - shift - 1 = 4 y, to the 2e-4 that numbers of this size are apart.
    assert x - shift - 1 == pytest.approx(4 * y, abs=1e-3)
    assert y.min() < -0.06
    assert y.max() > 0.81


@pytest.mark.parametrize(("weight", "bias"), [([0.0, 0.0], 1.0), ([1e-16, 2e-16], 1.0), ([1.0, 0.0], 9.0)])
def test_unit_that_is_constant_in_the_picture_has_no_line(weight: list[float], bias: float):
    assert lines_of([[0, 0], [1, 1]], weight, bias) == []
