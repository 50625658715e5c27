"""Uses solver, learner and suite of the plug-in from Python; test_plugins.py runs it where the plug-in is installed."""

import warnings

import pytest
import torch
from torch import nn

import tpsolve
from tpsolve import Budget, NetworkProblem, solve
from tpsolve.compare import SUITES
from tpsolve.errors import PluginWarning, UnknownNameError
from tpsolve.nn import HardThreshold, target_backward
from tpsolve.search import Keep, find_solver
from tpsolve.testing import check_learner, check_solver
from tpsolve.units import LEARNERS, UnitClassifier

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 5), HardThreshold(), nn.Linear(5, 3))
x, y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    problem = tpsolve.problems.make_instance("random", n=5, m=4, samples=3).problem
    solve(problem, "polish(keep, tabu)", budget=Budget(steps=9))
    assert not told, "no plug-in is loaded where none is asked for"
    with pytest.raises(UnknownNameError, match="Did you mean 'twice'"):
        find_solver("twize")
    assert [one.category for one in told] == [PluginWarning] * 3
    assert "absent" not in tpsolve.SOLVERS
    assert tpsolve.SOLVERS["keep"] is Keep

    solve(problem, "polish(twice, tabu)", budget=Budget(steps=9))
    (result,) = target_backward(model, x, y, nn.CrossEntropyLoss(), solver="twice", budget=Budget(steps=3)).values()
    assert result.stats["solver"] == "twice"
    network = NetworkProblem([[-1, -1], [1, 1], [-1, 1]], [0, 0, 1], widths=(1,))
    solve(network, "ftprop:learner=means", budget=Budget(steps=2))
    assert UnitClassifier("means").fit(x.numpy(), y.numpy()).coef_.shape == (3, 6)
    assert len(SUITES["tiny"](2, 0)) == 1
    assert sum(one.category is PluginWarning for one in told) == 3, "each broken plug-in is named once"

check_solver(tpsolve.SOLVERS["twice"]())
check_learner(LEARNERS["means"]())
print("all done")
