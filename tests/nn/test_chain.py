"""A model of `nn.Sequential` alone is cut without tracing; the problems are those of the traced one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve.nn import HardThreshold, Staircase, target_backward
from tpsolve.nn._target_report import TargetReport
from tpsolve.nn.passes._chain import chain_of
from tpsolve.nn.passes._segments import Segments
from tpsolve.problems import BlockProblem, LayerProblem


class Traced(nn.Sequential):
    """Not `nn.Sequential` itself, so torch.fx traces it."""


def parts() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), HardThreshold()),
        nn.Conv2d(3, 4, 2, bias=False),
        nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Sequential(HardThreshold("saturated-hinge"))),
        nn.Flatten(),
        nn.Linear(16, 6),
        Staircase(3),
        nn.Dropout(0.2),
        nn.Linear(6, 7),
        nn.BatchNorm1d(7),
        HardThreshold(width=0.5),
        nn.Linear(7, 5, bias=False),
        nn.BatchNorm1d(5),
        HardThreshold(),
        nn.Linear(5, 3),
    ]


def passed(model: nn.Module, x: Tensor, y: Tensor) -> TargetReport:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return target_backward(model, x, y, cross_entropy)


@pytest.mark.parametrize("training", [True, False])
def test_problems_are_those_of_the_traced_model(training: bool):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps = parts()
        x, y = torch.randn(9, 1, 8, 8, dtype=torch.float64), torch.randint(3, (9,))
    for module in nn.Sequential(*steps).train(training).modules():
        if isinstance(module, nn.Dropout):
            # With random draws, nothing is cut as a chain.
            module.eval()
    chain = nn.Sequential(*steps).double()
    traced = Traced(*copy.deepcopy(steps)).double()
    one, other = passed(chain, x, y), passed(traced, x, y)
    assert _segments(one).chain is not None
    assert _segments(other).traced is not None
    assert list(one) == list(other)
    kinds = set()
    for name in one:
        if isinstance(chain.get_submodule(name), Staircase):
            continue
        first, second = one.problem(name), other.problem(name)
        assert type(first) is type(second)
        assert isinstance(first, LayerProblem | BlockProblem)
        assert isinstance(second, LayerProblem | BlockProblem)
        assert first.start is not None
        kinds.add(type(first))
        for targets in (first.start, -first.start):
            torch.testing.assert_close(first.objective(targets), second.objective(targets), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(first.gradient(), second.gradient(), rtol=1e-10, atol=1e-14)
    assert kinds == {LayerProblem, BlockProblem}


def _segments(report: TargetReport) -> Segments:
    return report._pass._segments


def test_the_parts_come_in_the_order_in_which_they_run():
    inner = nn.Sequential(nn.Tanh(), nn.Sequential(nn.ReLU()))
    model = nn.Sequential(nn.Linear(2, 2), inner, nn.Flatten())
    found = chain_of(model)
    assert found is not None
    assert list(found) == ["0", "1.0", "1.1.0", "2"]
    assert list(found.values()) == [model[0], inner[0], inner[1][0], model[2]]  # pyright: ignore[reportIndexIssue]


def test_what_does_more_than_run_its_parts_is_no_chain():
    hooked, twice = nn.Sequential(nn.Linear(2, 2)), nn.Tanh()
    hooked.register_forward_hook(lambda module, inputs, output: -output)
    before = nn.Sequential(nn.Linear(2, 2))
    before.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    for model in (
        nn.Linear(2, 2),
        Traced(nn.Linear(2, 2)),
        hooked,
        nn.Sequential(before, nn.Tanh()),
        nn.Sequential(nn.Sequential(twice), twice),
        nn.Sequential(nn.TransformerEncoderLayer(4, 2), nn.Tanh()),
    ):
        assert chain_of(model) is None
