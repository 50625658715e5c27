"""Lines of a picture: where they are, whatever the units of the axes and the length of the weights."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D
from torch import nn

from tpsolve import NetworkProblem
from tpsolve.models import Model
from tpsolve.models._grid import grid_of
from tpsolve.models._layers import read_layers
from tpsolve.pictures import draw_model, draw_network


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


@pytest.mark.slow
def test_a_model_of_two_features_shows_its_regions_and_the_line_of_each_unit():
    X = np.array([[0.0, 0], [4, 2]])
    layers = read_layers([([[1.0, 0], [0, 1], [0, 0]], [-2.0, -1, 1]), ([[1.0, 1, 0]], [-1.0])])
    axes = draw_model(Model(layers, ("x", "$y$"), True, ("$a", "b$"), grid_of(X))).axes[0]
    assert sorted(len(set(np.asarray(line.get_xdata()).tolist())) for line in axes.lines) == [1, 2]
    legend: Any = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["$a", "b$"]


def test_a_model_of_more_features_has_a_panel_a_unit_and_a_bar_a_weight():
    X = np.array([[0.0, 0, 0], [1, 100, 1]])
    layers = read_layers([([[50.0, -1, 0], [0, 0, 0]], [-2.0, 1]), ([[1.0, 0]], [0.0])])
    figure = draw_model(Model(layers, ("a", "b", "c" * 99), True, ("no", "yes"), grid_of(X)))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["unit 1", "for yes"]
    # A bar is a weight times the span of its feature, compared with the largest.
    bars: list[Any] = list(panels["unit 1"].patches)
    widths = [round(bar.get_width(), 3) for bar in bars]
    assert sorted(widths) == [-1.0, 0.5]
    assert len(draw_model(Model(layers, ("a", "b", "c"), True, ("n", "y"), grid_of(np.zeros((1, 3))))).axes) == 2
