"""What every learner of units promises, one function a promise; each takes the learner's settings."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tpsolve._result import Budget, Progress
from tpsolve.testing._laws import require
from tpsolve.units import Certificate, UnitFit, UnitLearner, Units

DTYPES = (torch.float32, torch.float64)


def check_learner_class(learner: UnitLearner[Any]) -> None:
    """Settings are a frozen dataclass with defaults, equal, hashable, picklable; the class says what it is."""
    kind = type(learner)
    require("__dataclass_params__" in vars(kind), f"{kind.__name__} is no dataclass of its own: add @dataclass")
    require(getattr(kind, "name", None), f"{kind.__name__} has no name")
    settings = {field.name for field in dataclasses.fields(kind)}
    stray = settings & {"name", "convex", "stochastic"}
    require(not stray, f"{sorted(stray)} became settings: annotate them as ClassVar, or not at all")
    require((kind.__doc__ or "").strip() and not (kind.__doc__ or "").startswith(f"{kind.__name__}("), "no docstring")
    try:
        setattr(learner, "bias", learner.bias)  # noqa: B010
    except dataclasses.FrozenInstanceError:
        pass
    else:
        raise AssertionError("settings can be changed: @dataclass(frozen=True)")
    require(kind() == kind(), "two objects with the default settings differ")
    for twin in (copy.deepcopy(learner), dataclasses.replace(learner), pickle.loads(pickle.dumps(learner))):
        require(twin == learner and hash(twin) == hash(learner), "a copy differs from the original")


def check_fit(learner: UnitLearner[Any]) -> None:
    """Weights are finite, in shape, dtype and on the device; errors and margins are those of the samples given."""
    for dtype in DTYPES:
        x, t = _samples(dtype)
        fit = learner.fit(x, t)
        _require_units(fit, x, t)
        if isinstance(fit, UnitFit):
            _require_figures(fit, x, t)
        else:
            require(isinstance(fit, Certificate), f"a {type(fit).__name__}, expected a UnitFit or a Certificate")


def check_bias(learner: UnitLearner[Any]) -> None:
    """With `bias=False` all biases are 0."""
    x, t = _samples()
    fit = dataclasses.replace(learner, bias=False).fit(x, t)
    require((fit.bias == 0).all(), f"bias=False, but a bias of {fit.bias.abs().max().item()}")


def check_dont_cares(learner: UnitLearner[Any]) -> None:
    """A target of 0 and a weight of 0 count for nothing: zero weights where all are, and no errors there."""
    x, t = _samples()
    weight = torch.ones_like(t)
    t[:, 0], weight[:, 1] = 0, 0
    fit = learner.fit(x, t, weight)
    require((fit.weight[:2] == 0).all(), "weights that are not 0 for a unit that cares for no sample")
    elsewhere = x.clone()
    t[:10, 2:] = 0
    elsewhere[:10] = elsewhere[:10].flip(0)
    moved, kept = learner.fit(elsewhere, t), learner.fit(x, t)
    require(torch.isfinite(moved.weight).all(), "weights that are not finite")
    if isinstance(kept, UnitFit) and isinstance(moved, UnitFit) and not learner.stochastic:
        close = torch.allclose(moved.objective[2:], kept.objective[2:], rtol=1e-3, atol=1e-6)
        require(close or not learner.convex, "samples with a target of 0 changed the objective")


def check_lopsided_units(learner: UnitLearner[Any]) -> None:
    """Units whose targets are all equal, a single sample, and equal inputs are learned; the first two with a bias."""
    for dtype in DTYPES:
        x, t = _samples(dtype)
        t[:, 0], t[:, 1] = 1, -1
        fit = learner.fit(x, t)
        single = learner.fit(x[:1], t[:1])
        if learner.bias:
            require((fit.predict(x)[:, :2] == t[:, :2]).all(), "errors of a unit whose targets are all equal")
            require((single.predict(x[:1]) == t[:1]).all(), "an error on the only sample")
        equal = learner.fit(torch.ones(6, 2, dtype=dtype), torch.ones(6, 1, dtype=dtype))
        require((equal.predict(torch.ones(6, 2, dtype=dtype)) == 1).all(), "errors on equal samples of one target")


def check_seeds(learner: UnitLearner[Any]) -> None:
    """Equal generators give equal weights, none stands for seed 0, and without `stochastic` none matters."""
    x, t = _samples()
    first = learner.fit(x, t)
    for seed in (0, 0) if learner.stochastic else (0, 1, 2):
        again = learner.fit(x, t, generator=torch.Generator().manual_seed(seed))
        same = torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)
        require(same, f"weights differ under seed {seed}")


def check_samples_are_left_alone(learner: UnitLearner[Any]) -> None:
    """Inputs, targets, weights, the start, the settings and torch's global random state are as before."""
    x, t = _samples()
    start = learner.fit(x, t)
    given = {"inputs": x, "targets": t, "weight": torch.ones_like(t), "start": start.weight, "start's bias": start.bias}
    before = {name: tensor.clone() for name, tensor in given.items()}
    settings, state = copy.deepcopy(learner), torch.get_rng_state()
    learner.fit(x, t, given["weight"], start=Units(start.weight, start.bias))
    for name, tensor in given.items():
        require(torch.equal(tensor, before[name]), f"{name} was changed in place")
    require(learner == settings, "the settings changed")
    require(torch.equal(torch.get_rng_state(), state), "torch's global random state changed. Draw from task.generator")


def check_budgets(learner: UnitLearner[Any]) -> None:
    """A budget of one step or next to no time is a result, and at most one step is counted."""
    x, t = _samples()
    for budget in (Budget(steps=1), Budget(seconds=1e-6)):
        fit = learner.fit(x, t, budget=budget)
        _require_units(fit, x, t)
        if isinstance(fit, UnitFit) and budget.steps is not None:
            require(int(fit.steps.max()) <= 1, f"a budget of one step, but {int(fit.steps.max())} were counted")


def check_callback(learner: UnitLearner[Any]) -> None:
    """The callback hears `Progress`; if it returns True, the fit ends; one that returns nothing changes nothing."""
    x, t = _samples()
    heard: list[Progress] = []

    def stop(progress: Progress) -> bool:
        heard.append(progress)
        return True

    stopped = learner.fit(x, t, callback=stop)
    _require_units(stopped, x, t)
    require(len(heard) <= 2, f"the callback that asks to stop was called {len(heard)} times. Heed meter.step()")
    require(all(isinstance(one, Progress) for one in heard), "the callback was not given a Progress")
    told, silent = learner.fit(x, t, callback=lambda _: None), learner.fit(x, t)
    require(torch.equal(told.weight, silent.weight), "a callback that returns nothing changed the weights")


def check_warm_start(learner: UnitLearner[Any]) -> None:
    """A fit goes on from an earlier one; if what is minimised is convex, to no higher objective."""
    x, t = _samples()
    first = learner.fit(x, t)
    again = learner.fit(x, t, start=first)
    _require_units(again, x, t)
    if learner.convex and isinstance(first, UnitFit) and isinstance(again, UnitFit):
        higher = again.objective > first.objective * (1 + 1e-3) + 1e-9
        require(not higher.any(), f"objective {again.objective.tolist()} from a start of {first.objective.tolist()}")


LEARNER_CHECKS: tuple[Callable[[UnitLearner[Any]], None], ...] = (
    check_learner_class,
    check_fit,
    check_bias,
    check_dont_cares,
    check_lopsided_units,
    check_seeds,
    check_samples_are_left_alone,
    check_budgets,
    check_callback,
    check_warm_start,
)
"""What `check_learner` runs, in this order; the docstring of each says what it asserts."""


def _samples(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Sixty samples of four features, for five units; two units have targets that no weights give."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=g, dtype=torch.float64)
    t = torch.where(x @ torch.randn(4, 5, generator=g, dtype=torch.float64) > 0.2, 1.0, -1.0)
    t[:20, 3:] *= torch.where(torch.rand(20, 2, generator=g) < 0.5, -1.0, 1.0)
    return x.to(dtype), t.to(dtype)


def _require_units(fit: Units, x: Tensor, t: Tensor) -> None:
    units, features = t.shape[1], x.shape[1]
    require(tuple(fit.weight.shape) == (units, features), f"weights of shape {tuple(fit.weight.shape)}")
    require(tuple(fit.bias.shape) == (units,), f"biases of shape {tuple(fit.bias.shape)}")
    for name, tensor in (("weight", fit.weight), ("bias", fit.bias)):
        require(torch.isfinite(tensor).all(), f"{name}: values that are not finite")
        require(tensor.device == x.device, f"{name} on {tensor.device}, expected {x.device}")
        if not isinstance(fit, Certificate):
            require(tensor.dtype == x.dtype, f"{name} of {tensor.dtype}, expected {x.dtype}")


def _require_figures(fit: UnitFit, x: Tensor, t: Tensor) -> None:
    z: Any = fit.decision(x)
    wrong = ((fit.predict(x) != t) & (t != 0)).sum(0)
    require(torch.equal(fit.errors, wrong), f"errors {fit.errors.tolist()}, counted {wrong.tolist()}")
    margin = torch.where(t != 0, t * z, torch.inf).amin(0)
    close = torch.allclose(fit.margin.double(), margin.double(), rtol=1e-4, atol=1e-5)
    require(close, f"margins {fit.margin.tolist()}, counted {margin.tolist()}")
    for name in ("objective", "gap", "converged", "steps"):
        require(tuple(getattr(fit, name).shape) == (t.shape[1],), f"{name} is not one number a unit")
    require(not torch.isnan(fit.objective).any(), "an objective is NaN")
