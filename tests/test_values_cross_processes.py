"""Public objects survive pickle, copy, deepcopy and cloudpickle, so that they can cross processes."""

import copy
import dataclasses
import inspect
import math
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np
import polars
import pytest
import torch
from support.public_names import exported
from torch import Tensor, nn

import tpsolve
from tpsolve import (
    SOLVERS,
    BlockProblem,
    Budget,
    LayerProblem,
    NetworkProblem,
    ProgramProblem,
    Progress,
    Result,
    Status,
    TargetSet,
    compare,
    errors,
    estimators,
    losses,
    models,
    problems,
    search,
    solve,
    tables,
    train,
    units,
)
from tpsolve import nn as tnn

MODULES = (*(v for n in tpsolve.__all__ if isinstance(v := getattr(tpsolve, n), ModuleType)), tpsolve, train, compare)

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "cloudpickle": lambda value: pickle.loads(cloudpickle.dumps(value)),
}


def public() -> Iterator[tuple[str, Any]]:
    """All public objects by their full names."""
    for module in MODULES:
        for name in sorted(exported(module.__name__)):
            value = getattr(module, name)
            if not isinstance(value, ModuleType):
                yield f"{module.__name__}.{name}", value


CLASSES: set[type] = {value for _, value in public() if isinstance(value, type)}


# --- one or more samples of every public class ------------------------------------------------------------------------


def layer_problem(loss: str, *, used: bool = True, batch: tuple[int, ...] = (3,)) -> LayerProblem:
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(-1, 2, (*batch, 4), generator=g)
    if loss == "cross-entropy":
        targets = torch.randint(4, batch, generator=g)
    start = torch.randint(2, (*batch, 6), generator=g) * 2 - 1
    problem = LayerProblem(
        torch.randn(4, 6, generator=g), targets, loss=loss, start=start, stay=0.5, stay_weight=2.0, pull=torch.ones(6)
    )
    if used:
        solve(problem, "hill-climb", budget=Budget(steps=3))
        assert problem.start is not None
        problem.gradient()
        problem.flip_delta(problem.start)
        assert "energy" in vars(problem)
    return problem


def sum_of_squares(output: Tensor, targets: Tensor) -> Tensor:
    return (output - targets).square().sum(1)


def block_problem(loss: Any = "cross-entropy", *, used: bool = True) -> BlockProblem:
    g = torch.Generator().manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4)).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, generator=g)
    targets = torch.tensor([0, 1, 3]) if loss == "cross-entropy" else torch.tensor([[1.0, -1, 1, 1]] * 3)
    problem = BlockProblem(block, targets, torch.ones(3, 6), loss, stay=0.5)
    if used:
        problem.flip_delta(problem.start)
        problem.rounding()
        problem.objective(problem.start)
        assert {"passes", "judge"} <= set(vars(problem))
    return problem


def network_problem(*, used: bool = True) -> NetworkProblem:
    problem = NetworkProblem([[0.0, 0], [0, 1], [1, 0], [1, 1]], ["odd", "even", "even", "odd"], widths=[2])
    if used:
        solve(problem, "column-search", budget=Budget(steps=3))
    return problem


def model() -> nn.Sequential:
    g = torch.Generator().manual_seed(0)
    made = nn.Sequential(nn.Linear(5, 6), tnn.HardThreshold(), nn.Linear(6, 4), tnn.Staircase(3), nn.Linear(4, 3))
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=g)
    return made


def folded() -> tnn.Folded:
    network = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), tnn.HardThreshold(), nn.Linear(6, 3)).eval()
    return tnn.fold(network, torch.ones(2, 5))


def target_report(network: nn.Sequential, solver: Any = "sign-gradient") -> tnn.TargetReport:
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 5, generator=g), torch.randint(3, (8,), generator=g)
    return tnn.target_backward(network, x, y, nn.functional.cross_entropy, solver=solver, budget=Budget(steps=3))


def report_of_choices() -> tnn.TargetReport:
    choices = [nn.Unflatten(1, (2, 2)), tnn.Choice(2), tnn.Program(total, symbols=2), nn.Linear(1, 3)]
    return target_report(nn.Sequential(*list(model())[:3], *choices), {-1: "enumerate"})


def read(report: tnn.TargetReport) -> tnn.TargetReport:
    assert len(list(report.values())) == 2
    return report


def xor_classifier() -> estimators.ThresholdNetworkClassifier:
    solver = search.Circuits(engine="cp-sat", workers=1, local_seconds=0, max_drawn=9)
    estimator = estimators.ThresholdNetworkClassifier(2, solver=solver, seconds=None, steps=100)
    return estimator.fit([[0, 0], [0, 1], [1, 0], [1, 1]], ["same", "other", "other", "same"])


def search_report(callback: search.Callback | None = None) -> search.Report:
    report = search.Report(layer_problem("hinge"), Budget(seconds=1e6, steps=10), callback)
    report.offer(torch.ones(3, 6))
    report.step()
    return report


def is_at_most(state: int, label: int) -> bool:
    return state <= label


def total(*symbols: int) -> int:
    return sum(symbols)


def sum_is(model: Any, symbols: list[Any], label: int) -> None:
    model.add(sum(symbols) == label)


def program_problem(*, used: bool = True, constraints: Any = None) -> ProgramProblem:
    logits = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    problem = ProgramProblem(total, [1, 3, 9], logits, symbols=4, constraints=constraints)
    if used:
        solve(problem, "marginal", budget=Budget(calls=16))
    return problem


def program_loss(*, used: bool) -> tnn.ProgramLoss:
    loss = tnn.ProgramLoss(total, symbols=4)
    if used:
        loss(torch.zeros(2, 2, 4), [3, 4])
    return loss


def program_calls(*, used: bool) -> problems.ProgramCalls:
    calls = problems.ProgramCalls(total, max_remembered=8)
    if used:
        calls.answers([(1, 2), (3, 4)])
    return calls


POINTS = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
SIGNS = torch.tensor([[1.0, -1, -1, 1], [1, 1, 1, -1]]).T


def fit(learner: type[units.UnitLearner[Any]]) -> units.Units:
    return learner().fit(POINTS, SIGNS)


def table() -> tables.LabelledTable:
    frame = polars.DataFrame({"x": [0.1, 2.5, None], "c": ["u", "v", "u"], "k": ["a", "b", "a"]})
    return tables.read_table(frame, "k", tables.TableOptions(missing="indicator"))


TOLD = ("targets", "3 numbers", "4", "Add one.")

SAMPLES: dict[type, Callable[[], list[Any]]] = {
    # errors
    errors.TpsolveError: lambda: [errors.TpsolveError("a message")],
    errors.PluginWarning: lambda: [errors.PluginWarning("a message")],
    errors.PartialConversionWarning: lambda: [errors.PartialConversionWarning("a message")],
    errors.FileFormatError: lambda: [errors.FileFormatError("a message")],
    errors.FolderError: lambda: [errors.FolderError("a message")],
    errors.FolderInUseError: lambda: [errors.FolderInUseError("a message")],
    errors.WorkerError: lambda: [errors.WorkerError("a message")],
    errors.ContradictionError: lambda: [errors.ContradictionError("a message")],
    errors.UnknownNameError: lambda: [errors.UnknownNameError("solver", "tabus", ("tabu", "anneal"))],
    errors.MissingLibraryError: lambda: [errors.MissingLibraryError("the solver x", "library", "package")],
    **{
        kind: (lambda kind=kind: [kind(*TOLD), kind(*TOLD[:3])])
        for kind in CLASSES
        if issubclass(kind, errors.ArgumentError) and kind is not errors.UnknownNameError
    },
    # problems
    LayerProblem: lambda: [
        *(
            layer_problem(loss, used=used, batch=batch)
            for loss in losses.LOSSES
            for used, batch in [(False, (3,)), (True, (3,)), (True, ())]
        ),
        layer_problem("hinge").select(torch.tensor([2, 0])),
        LayerProblem([[1.0, 2.0]], [[1.0]]),
    ],
    BlockProblem: lambda: [
        block_problem(used=False),
        block_problem(),
        block_problem("squared"),
        block_problem(sum_of_squares),
        *problems.harvest_blocks(model(), torch.ones(2, 5), torch.tensor([0, 2])).values(),
    ],
    NetworkProblem: lambda: [
        network_problem(used=False),
        network_problem(),
        network_problem().flatten(),
        NetworkProblem([[0.0], [1.0]], [0, 1], [1], weight_set="ternary", bias_set=range(3), penalty=0.5),
    ],
    ProgramProblem: lambda: [
        program_problem(used=False),
        program_problem(),
        program_problem(constraints=sum_is),
        program_problem().select(torch.tensor([2, 0])),
    ],
    problems.ProgramCalls: lambda: [program_calls(used=False), program_calls(used=True)],
    problems.Fold: lambda: [
        problems.Fold(total),
        problems.Fold(total, 1, finish=abs, possible=is_at_most, max_states=7),
    ],
    problems.CallCounts: lambda: [problems.CallCounts(3, 2, 1, "ValueError: no digit")],
    problems.DeclaredConstraints: lambda: [problems.DeclaredConstraints(sum_is)],
    tnn.ProgramLoss: lambda: [program_loss(used=False), program_loss(used=True)],
    tnn.Program: lambda: [tnn.Program(program_calls(used=True)), tnn.Program(total, symbols=[4, "sign"])],
    tnn.ProgramDiagnosis: lambda: [
        tnn.diagnose_program(program_loss(used=True), torch.zeros(2, 2, 4), [3, 4]),
    ],
    tnn.ProgramReport: lambda: [program_loss(used=True).report],
    search.FrontierPoint: lambda: [
        search.FrontierPoint(4, 3, 2.0, 1.0, [(torch.ones(1, 2), torch.zeros(1))], proved=False)
    ],
    search.SmallestNetwork: lambda: [
        search.SmallestNetwork("units", 2, 1, 3.0, 1.0, (2,), (-1, 0, 1), [(torch.ones(1, 2), torch.zeros(1))])
    ],
    problems.FlipProblem: lambda: [layer_problem("hinge")],
    problems.Problem: lambda: [layer_problem("hinge")],
    problems.Instance: lambda: [problems.make_instance(name, n=5, m=4) for name in problems.GENERATORS],
    problems.State: lambda: [
        *(layer_problem(loss).state(torch.ones(3, 6)) for loss in losses.LOSSES),
        block_problem().state(torch.ones(3, 6)),
    ],
    losses.Loss: lambda: [
        *(loss for loss in losses.LOSSES.values() if isinstance(loss, losses.Loss)),
        losses.Loss("hinge", torch.add, torch.mul, convex=False),
    ],
    losses.ClassLoss: lambda: [
        losses.LOSSES["cross-entropy"],
        losses.ClassLoss("cross-entropy", torch.add, torch.mul, convex=False),
    ],
    # tables
    tables.TableOptions: lambda: [tables.TableOptions(missing="drop", columns=("x",))],
    tables.Column: lambda: list(table().schema.columns),
    tables.TableSchema: lambda: [table().schema],
    tables.LabelledTable: lambda: [table()],
    train.TablePreprocessing: lambda: [train.TablePreprocessing(table().schema, (1.0, 2.0), (0.5, 1.0), "hash")],
    # searches
    Budget: lambda: [Budget(seconds=0.5), Budget(steps=3), Budget(calls=5)],
    TargetSet: lambda: [
        TargetSet(torch.ones(2, 3, 4), torch.rand(2, 3)),
        TargetSet(torch.ones(2, 1, 4), torch.rand(2, 1), torch.rand(2, 4, 2), torch.rand(2)),
    ],
    Progress: lambda: [Progress(3, 0.5, math.inf, -math.inf)],
    Status: lambda: list(Status),
    Result: lambda: [
        solve(layer_problem("hinge"), "enumerate", budget=Budget(steps=99)),
        solve(network_problem(), search.Circuits(workers=1, prefer="margin"), budget=Budget(steps=500)),
    ],
    **{kind: (lambda kind=kind: [kind()]) for kind in SOLVERS.values()},
    search.Solver: lambda: [search.find_solver("polish(restarts(tabu:tenure=5, 3), warm-start(anneal, cp-sat))")],
    search.LocalSolver: lambda: [search.Anneal(restarts=3)],
    search.Report: lambda: [search_report(), search_report(print)],
    search.CpSampleModel: list,
    search.Proof: lambda: [
        search.make_proof(network_problem(), solve(network_problem(), search.Circuits(), budget=Budget(steps=500)))
    ],
    # units
    units.UnitLearner: lambda: [units.Hinge(bias=False)],
    **{kind: (lambda kind=kind: [kind()]) for kind in units.LEARNERS.values()},
    units.Units: lambda: [units.Units(torch.ones(2, 3), torch.zeros(2))],
    units.UnitFit: lambda: [fit(kind) for name, kind in units.LEARNERS.items() if name != "separability"],
    units.Certificate: lambda: [
        fit(units.Separability),
        units.Certificate(
            weight=torch.zeros(1, 1),
            bias=torch.zeros(1),
            status=torch.ones(1, dtype=torch.int8),
            support=torch.full((1, 1), -1),
            rationals={0: (Fraction(1, 3), Fraction(2, 3))},
        ),
    ],
    units.Circuit: lambda: units.circuits(POINTS, SIGNS[:, 0], 1),
    units.UnitClassifier: lambda: [units.UnitClassifier(l2=0.5), units.UnitClassifier().fit(POINTS, SIGNS[:, 1])],
    # models
    models.Model: lambda: [xor_classifier().model_],
    models.Export: lambda: [models.Export((Path("net.c"),), 100, "cc")],
    estimators.ThresholdNetworkClassifier: lambda: [
        estimators.ThresholdNetworkClassifier((3, 2), seconds=5),
        xor_classifier(),
    ],
    # modules
    tnn.Threshold: lambda: [tnn.Threshold("ste")],
    tnn.HardThreshold: lambda: [
        tnn.HardThreshold(),
        tnn.HardThreshold(low=0),
        tnn.HardThreshold("ramp", width=0.5, width_mode="relative", importance=torch.tensor([1.0, 2.0, 0.5])),
        tnn.HardThreshold(torch.mul, width=0.5, width_mode="learned"),
    ],
    tnn.Staircase: lambda: [tnn.Staircase(), tnn.Staircase(5, "hinge", steps="each", width=0.5)],
    tnn.Choice: lambda: [tnn.Choice(3), tnn.Choice(3, loss="hinge")],
    tnn.WidthSchedule: lambda: [tnn.WidthSchedule(model(), 1.0, 0.25, 10, shape) for shape in ("linear", "cosine")],
    tnn.ChannelShift: lambda: [tnn.ChannelShift(3)],
    tnn.DistillationLoss: lambda: [tnn.DistillationLoss(2.0, 0.5)],
    tnn.RealShortcut: lambda: [tnn.RealShortcut(tnn.HardThreshold(), 2, 3, nn.AvgPool2d(2))],
    tnn.ProgressiveHardening: lambda: [tnn.ProgressiveHardening(model(), 3)],
    tnn.TargetReport: lambda: [
        target_report(model()),
        read(target_report(model())),
        target_report(model(), {-1: "hill-climb"}),
        report_of_choices(),
    ],
    tnn.Diagnosis: lambda: [tnn.Diagnosis(0.5, math.nan, 0.25, 0.0, math.nan, 1.0)],
    tnn.Folded: lambda: [folded()],
    tnn.FoldedThreshold: lambda: list(folded().thresholds.values()),
    # runs
    train.Recipe: lambda: [train.Recipe(), *map(train.load_recipe, train.RECIPES)],
    train.Moment: lambda: [train.Moment(1, 2, 3, 0.5, 0.25, 0.125)],
    compare.Comparison: lambda: [compare.Comparison(Path("runs"), solvers=("tabu:tenure=5",))],
    compare.Shard: lambda: [compare.Shard(3, 16)],
    compare.ComparisonRun: lambda: [compare.ComparisonRun(compare.Comparison(Path("runs")), [])],
    compare.FileSuite: lambda: [compare.FileSuite([Path("a.npz"), Path("b.csv")], "class", (3, 2))],
    compare.TableSuite: lambda: [compare.TableSuite(Path("tables"), "class", (3, 2))],
    compare.Sweep: lambda: [compare.Sweep(Path("tables"), "class", ((3, 2), (4,)))],
    compare.Strategy: lambda: list(compare.STRATEGIES.values()),
    compare.Summary: lambda: [
        compare.Summary("tabu", False, 0.5, math.nan, 0.7, True, 0.5, 0.5, math.nan, 0.1, 2, 4, 0)
    ],
}

REFUSED: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "block problem with a lambda": (lambda: block_problem(lambda output, targets: output.sum(1)), ["pickle"]),
    "threshold with a lambda": (lambda: tnn.HardThreshold(lambda u, t: -t * (t * u < 1)), ["pickle"]),
    "report with a lambda": (lambda: search_report(lambda progress: False), ["pickle"]),
    "CP-SAT model": (lambda: search.to_cp_model(layer_problem("hinge")), ["pickle", "cloudpickle"]),
}
"""What does not cross, as its docstring says, and the ways that refuse it."""


# --- what it means that two objects are equal -------------------------------------------------------------------------


ANSWERING = (
    problems.Problem,
    problems.State,
    problems.ProgramCalls,
    problems.DeclaredConstraints,
    problems.Fold,
    nn.Module,
    search.Report,
    search.CpSampleModel,
)
"""Classes whose objects are compared by what they answer."""


def same(one: Any, other: Any) -> bool:
    """Whether both are of one type and have the same contents; problems, states and modules: the same answers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and one.tolist() == other.tolist()
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tolist() == other.tolist()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, tnn.TargetReport):
        names = ("loss", "output", "fallbacks", "rows")
        parts = [[(getattr(r, n)) for n in names] + [(n, r[n], r.problem(n)) for n in r] for r in (one, other)]
        return same(*parts)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, ANSWERING):
        return same(answers(one), answers(other))
    if isinstance(one, Exception):
        return same((str(one), one.args, vars(one)), (str(other), other.args, vars(other)))
    if isinstance(one, partial):
        return same((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        return same(*({f.name: getattr(v, f.name) for f in dataclasses.fields(v)} for v in (one, other)))
    if isinstance(
        one, tnn.WidthSchedule | tnn.ProgressiveHardening | units.UnitClassifier | estimators.ThresholdNetworkClassifier
    ):
        return same(vars(one), vars(other))
    # A function that cloudpickle has carried is another one with the same code.
    return one == other or (isinstance(one, FunctionType) and one.__code__ == other.__code__)


def answers(value: Any) -> list[Any]:
    if isinstance(value, problems.Problem):
        shape = (*value.batch_shape, *value.target_shape)
        targets = torch.ones(shape, dtype=value.dtype) if value.start is None else value.start
        flips = [value.flip_delta(targets)] if isinstance(value, problems.FlipProblem) else []
        bounds = [value.objective(targets), value.lower_bound(), value.rounding()]
        loss = getattr(value, "loss", None)
        return [value.fingerprint, value.start, loss, value.batch_shape, *bounds, *flips]
    if isinstance(value, problems.State):
        return [value.targets, value.objective, value.flip_delta().clone(), value.gradient()]
    if isinstance(value, search.Report):
        names = (
            "start",
            "targets",
            "objective",
            "bound",
            "found_at",
            "proved_at",
            "steps",
            "stopped",
            "trace",
            "stats",
        )
        return [value.problem, value.budget, *(getattr(value, name) for name in names)]
    if isinstance(value, problems.ProgramCalls):
        return [value.function, value.batched, value.max_remembered, value.state(), value.counts]
    if isinstance(value, problems.Fold):
        return [value(1, 2), value.start, value.finish, value.possible, value.max_states]
    if isinstance(value, problems.DeclaredConstraints):
        return [value.declare, value.holds((1, 2), (4, 4), 3), value.holds((1, 2), (4, 4), 4)]
    if isinstance(value, tnn.Program):
        return [value.symbols, *answers(value.program)]
    if isinstance(value, tnn.ProgramLoss):
        extra = value.get_extra_state()
        return [answers(value.program), value.solver, value.budget, extra["answers"], extra["generator"], value.report]
    if isinstance(value, search.CpSampleModel):
        return [str(value.model.proto), [bit.index for bit in value.bits], value.bound(12345.0)]
    if isinstance(value, nn.Sequential | tnn.ChannelShift | tnn.DistillationLoss | tnn.RealShortcut):
        return [value.state_dict(), repr(value)]
    if isinstance(value, tnn.Choice):
        z = torch.linspace(-2, 2, 12).sin().reshape(4, 3).requires_grad_()
        out = value(z)
        passed = torch.autograd.grad(out, z, z.detach().roll(1, 1))
        return [value.training, repr(value), value.state_dict(), out.detach(), *passed]
    if isinstance(value, tnn.Folded):
        return [value(torch.linspace(-2, 2, 20).reshape(4, 5)), str(value), value.state_dict(), value.thresholds]
    assert isinstance(value, tnn.Threshold)
    z = torch.linspace(-2, 2, 12).reshape(4, 3).requires_grad_()
    passed = []
    if type(value) is not tnn.Threshold:
        out = value(z)
        passed = [out.detach(), *torch.autograd.grad(out.sum(), [z, *value.parameters()])]
    return [value.training, repr(value), value.rule, value.parts(), value.state_dict(), value.settings()[:2], *passed]


# --- the tests --------------------------------------------------------------------------------------------------------


def test_every_public_class_has_a_sample():
    assert len(CLASSES) > 80
    assert {kind.__name__ for kind in CLASSES ^ set(SAMPLES)} == set()
    refused = {type(make()) for make, _ in REFUSED.values()}
    for kind, make in SAMPLES.items():
        samples, abstract = make(), inspect.isabstract(kind)
        assert samples or kind in refused, kind
        assert all(isinstance(sample, kind) if abstract else type(sample) is kind for sample in samples), kind


def type_name(kind: type) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", sorted(SAMPLES, key=type_name), ids=type_name)
def test_a_copy_is_equal(kind: type):
    for sample in SAMPLES[kind]():
        # All at once, since answers are kept in a sample.
        for way, again in {way: cross(sample) for way, cross in WAYS.items()}.items():
            assert same(sample, again), (way, sample)


@pytest.mark.parametrize("way", WAYS)
def test_tables_and_functions_are_equal_too(way: str):
    for name, value in public():
        assert same(value, WAYS[way](value)), name


DIFFERENT: dict[str, Callable[[], tuple[Any, Any]]] = {
    "messages": lambda: (errors.ShapeError(*TOLD), errors.ShapeError(*TOLD[:3])),
    "classes": lambda: (errors.ShapeError(*TOLD), errors.ArgumentError(*TOLD)),
    "problems": lambda: (layer_problem("hinge"), layer_problem("logistic")),
    "states": lambda: (SAMPLES[problems.State]()[0], SAMPLES[problems.State]()[1]),
    "widths": lambda: (tnn.HardThreshold(width=0.5), tnn.HardThreshold(width=0.25)),
    "rules": lambda: (tnn.HardThreshold(torch.mul), tnn.HardThreshold(torch.add)),
    "lambdas": lambda: (lambda progress: True, lambda progress: False),
    "pass reports": lambda: (target_report(model()), target_report(model(), "keep")),
    "partial functions": lambda: (partial(max, 1), partial(max, 2)),
    "fits": lambda: (fit(units.Hinge), fit(units.Logistic)),
}


@pytest.mark.parametrize("make", DIFFERENT.values(), ids=DIFFERENT)
def test_what_is_not_equal_is_told_apart(make: Callable[[], tuple[Any, Any]]):
    one, other = make()
    assert same(one, one)
    assert not same(one, other)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_cross_is_refused(name: str):
    make, refusing = REFUSED[name]
    for way, cross in WAYS.items():
        value = make()
        if way in refusing:
            with pytest.raises((pickle.PicklingError, AttributeError, TypeError), match=r"pickle.*(lambda|'CpModel')"):
                cross(value)
        else:
            assert same(value, cross(value)), way


def test_a_deep_copy_of_a_cp_sat_model_has_a_model_of_its_own():
    from ortools.sat.python.cp_model import CpSolver

    model = search.to_cp_model(layer_problem("hinge"))
    before, other = str(model.model.proto), copy.deepcopy(model)
    other.model.add(sum(other.bits) == 2)
    solver = CpSolver()
    solver.parameters.cp_model_presolve = False
    solver.solve(other.model)
    assert other.targets(solver).tolist().count(1.0) == 2
    assert str(model.model.proto) == before


def test_a_subclass_of_an_error_crosses_by_its_message():
    error = FewerArgumentsError(3)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert same(again, error)
    assert (again.argument, again.__notes__) == ("units", ["a note"])


class FewerArgumentsError(errors.ShapeError):
    def __init__(self, units: int):
        super().__init__("units", units, "4")


def test_a_missing_library_is_still_an_import_error_with_its_message():
    again = pickle.loads(pickle.dumps(errors.MissingLibraryError("x", "library", "package")))
    assert isinstance(again, ImportError)
    assert again.msg == str(again) == "x needs library, which is not installed. Run: pip install package"


def test_a_loss_of_the_table_stays_itself():
    for loss in losses.LOSSES.values():
        assert pickle.loads(pickle.dumps(loss)) is copy.deepcopy(loss) is loss


def test_what_a_problem_computes_from_itself_does_not_travel():
    for fresh, used in (
        (layer_problem("squared", used=False), layer_problem("squared")),
        (block_problem(used=False), block_problem()),
    ):
        assert set(vars(pickle.loads(pickle.dumps(used)))) == set(vars(fresh)) < set(vars(used))


def test_the_clock_of_a_report_goes_on_in_another_process(monkeypatch: pytest.MonkeyPatch):
    report, clock = search_report(), time.perf_counter
    spent, stored = report.seconds, pickle.dumps(report)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 1e5)
    assert spent <= pickle.loads(stored).seconds < 1e5


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "cloudpickle"])
def test_a_copied_report_knows_whether_the_weights_have_changed(way: str):
    # Copies of a weight count their changes from 0, as a weight that is fresh does.
    fresh, stepped = model(), model()
    with torch.no_grad():
        for parameter in stepped.parameters():
            parameter.mul_(0.5)
    report = target_report(stepped)
    assert same(report, WAYS[way](report))

    report = target_report(fresh)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.mul_(0.5)
    other = WAYS[way](report)
    for one in (report, other):
        with pytest.raises(errors.NotAcceptedError, match="weights that have changed"):
            one["1"]


@pytest.mark.slow
def test_errors_and_results_of_a_worker_reach_the_parent():
    problem = layer_problem("hinge")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        wrong = pool.apply_async(Budget, kwds={"seconds": -1})
        right = pool.apply_async(solve, (problem, "hill-climb"), {"budget": Budget(steps=20)})
        unknown = pool.apply_async(solve, (problem, "hill-clim"), {"budget": Budget(steps=20)})
        with pytest.raises(errors.BudgetError, match=r"^budget.seconds: got -1, expected a positive, finite number"):
            wrong.get(timeout=120)
        found = right.get(timeout=120)
        with pytest.raises(errors.UnknownNameError, match=r"Did you mean 'hill-climb'"):
            unknown.get(timeout=120)
    here = solve(problem, "hill-climb", budget=Budget(steps=20))
    assert same([found.targets, found.objective, found.bound], [here.targets, here.objective, here.bound])
