"""Small problems of every kind, and the objective of each of their targets."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve.errors import NotAcceptedError, TooLargeError
from tpsolve.losses import LOSSES
from tpsolve.problems import (
    BlockProblem,
    DeclaredConstraints,
    Fold,
    LayerProblem,
    NetworkProblem,
    Problem,
    ProgramProblem,
)
from tpsolve.search import Solver


@dataclass(frozen=True)
class Case:
    """A problem that a solver gets, and the objectives of all its targets, from a twin that no solver gets.

    Args:
        name: for messages.
        make: makes the problem; every call makes an equal one.
    """

    name: str
    make: Callable[[], Problem]

    @cached_property
    def problem(self) -> Problem:
        """The one to solve."""
        return self.make()

    @property
    def objectives(self) -> Tensor:
        """`(B, K)` float64: of each sample of the flat batch, in the order of `place`."""
        return _objectives(self)

    @property
    def optimum(self) -> Tensor:
        """`(B,)` float64."""
        return self.objectives.amin(1)

    @property
    def rounding(self) -> Tensor:
        """`(B,)`: how far an objective in float64 may be off."""
        return _twin(self).rounding()

    @property
    def tolerance(self) -> Tensor:
        """`(B,)`: gaps of at most this are closed."""
        return _twin(self).tolerance()

    def value(self, targets: Tensor) -> Tensor:
        """The objective `(B,)` of `targets (*batch, *target_shape)`, whose values are in their sets."""
        place = torch.zeros(len(self.objectives), dtype=torch.int64)
        for column, values in zip(targets.reshape(len(place), -1).T, domains(_twin(self)), strict=True):
            place = len(values) * place + torch.searchsorted(torch.tensor(values), column.cpu().long().contiguous())
        return self.objectives.gather(1, place[:, None])[:, 0]


@cache
def _twin(case: Case) -> Problem:
    """One that no solver gets, with a flat batch; equal cases share it."""
    return case.make().flatten()


@cache
def _objectives(case: Case) -> Tensor:
    twin = _twin(case)
    every = torch.tensor(list(itertools.product(*domains(twin))), dtype=twin.dtype)
    if isinstance(twin, NetworkProblem) and twin.weight_set is not None:
        return _whole_objectives(twin, every)
    return twin.objective(every[:, None].expand(-1, *twin.batch_shape, -1)).T


def _whole_objectives(problem: NetworkProblem, every: Tensor) -> Tensor:
    """Of flat targets `every (K, n)` the least objective that weights and biases of the sets reach, by trying all."""
    assert problem.weight_set is not None
    assert problem.bias_set is not None
    units = []
    for size, n in zip(problem.layers, (problem.samples.shape[1], *problem.widths), strict=True):
        one = list(itertools.product(*[problem.weight_set] * n, problem.bias_set))
        units.append([torch.tensor(layer) for layer in itertools.product(one, repeat=size)])
    least = dict.fromkeys(map(tuple, every.long().tolist()), torch.inf)
    for layers in itertools.product(*units):
        h, columns = problem.inputs.long(), []
        for layer in layers:
            sums = h @ layer[:, :-1].T + layer[:, -1]
            h = torch.where(sums >= 0, 1, -1)
            columns.append(h)
        key = tuple(problem.pack(*columns).long().tolist())
        price = problem.penalty * sum(int((layer[:, :-1] != 0).sum()) for layer in layers)
        for feature, own in enumerate(problem.prices):
            price += own * int((layers[0][:, feature] != 0).sum())
        if problem.margin is not None:
            price += problem.margin_price * _short(problem, sums)
        least[key] = min(least[key], float(problem.errors(columns[-1].double())) + price)
    return torch.tensor(list(least.values()), dtype=torch.float64)[None]


def _short(problem: NetworkProblem, sums: Tensor) -> float:
    """What `sums (M, 1)` of the output unit of two classes lack of the margin."""
    assert problem.margin is not None
    has = torch.cat([-1 - sums, sums], dim=1)
    return float((problem.counts * (problem.margin - has).clamp(min=0)).sum())


def domains(problem: Problem) -> list[tuple[int, ...]]:
    """The values of each target, rising: -1 and +1, or the classes of a symbol."""
    if not isinstance(problem, ProgramProblem):
        return [(-1, 1)] * problem.n_vars
    units = zip(problem.sizes.tolist(), problem.is_spin.tolist(), strict=True)
    return [(-1, 1) if spin else tuple(range(size)) for size, spin in units]


def random_layer_problem(
    seed: int,
    n: int,
    m: int,
    loss: str = "hinge",
    batch: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float64,
    *,
    started: bool = True,
    weighted: bool = False,
    stay: float = 0.0,
    whole: bool = False,
) -> LayerProblem:
    """A random problem with a don't-care here and there; `whole`: small whole weights, so that sums are exact."""
    g = torch.Generator().manual_seed(seed)

    def whole_numbers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=g).to(dtype)

    def reals(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=dtype)

    weight = whole_numbers(-3, 3, m, n) if whole else reals(m, n)
    bias = whole_numbers(-2, 2, m) if whole else reals(m)
    start = 2 * whole_numbers(0, 1, *batch, n) - 1
    kappa = whole_numbers(0, 2, *batch, n) / 2
    if loss == "cross-entropy":
        targets = torch.randint(m, batch, generator=g)
        c = whole_numbers(0, 3, *batch)
    else:
        targets = (2 * whole_numbers(0, 1, *batch, m) - 1) * (whole_numbers(0, 7, *batch, m) > 0)
        c = whole_numbers(0, 3, *batch, m)
    return LayerProblem(
        weight,
        targets,
        bias,
        loss,
        unit_weight=c if weighted else None,
        start=start if started or stay else None,
        stay=stay,
        stay_weight=kappa if stay else None,
    )


def random_block_problem(n: int, samples: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> BlockProblem:
    """Three classes above a network of two layers."""
    g = torch.Generator().manual_seed(seed)
    start, labels = 2.0 * torch.randint(2, (samples, n), generator=g) - 1, torch.randint(3, (samples,), generator=g)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = nn.Sequential(nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, 3))
    return BlockProblem(block.to(dtype).eval(), labels, start.to(dtype))


def random_network_problem(
    points: int, seed: int = 0, units: int | None = None, weight_set: str | None = None
) -> NetworkProblem:
    """Points of the plane with labels by coin flips, and `units` hidden ones; None: one or two, by the points."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randint(-9, 10, (points, 2), generator=g), torch.randint(2, (points,), generator=g)
    return NetworkProblem(x.double(), y, widths=(units or (1 if points < 6 else 2),), weight_set=weight_set)


def random_program_problem(
    classes: int, samples: int, *, constrained: bool = False, folded: bool = False, units: int = 3, seed: int = 0
) -> ProgramProblem:
    """A sum of a spin and of choices that must be the label; one label is out of reach."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, units, classes, generator=g)
    labels = torch.randint(0, (units - 1) * (classes - 1), (samples,), generator=g).tolist()
    labels[-1] = units * classes
    symbols: list[int | str] = ["sign", *[classes] * (units - 1)]
    program = Fold(_add) if folded else _total
    return ProgramProblem(
        program, labels, logits, symbols=symbols, stay=0.5, constraints=_TOTAL_IS if constrained else None
    )


def _add(total: int, symbol: int) -> int:
    return total + symbol


def _total(*symbols: int) -> int:
    return sum(symbols)


def _total_is(model: Any, symbols: list[Any], label: Any) -> None:
    model.add(sum(symbols) == label)


_TOTAL_IS = DeclaredConstraints(_total_is)
"""One for all problems, which share what it remembers."""


@cache
def layer_cases(loss: str) -> tuple[Case, ...]:
    """Random problems under one loss: both precisions, batches of every shape, weights, a stay penalty."""
    seed = sorted(LOSSES).index(loss)

    def case(name: str, batch: tuple[int, ...], dtype: torch.dtype, stay: float = 0.0) -> Case:
        return Case(
            f"{loss}, {name}",
            lambda: random_layer_problem(seed, n=5, m=4, loss=loss, batch=batch, dtype=dtype, stay=stay, weighted=True),
        )

    return (
        case("no batch axis", (), torch.float64),
        case("one sample", (1,), torch.float32),
        case("three axes", (2, 1, 2), torch.float32, 0.25),
    )


@cache
def degenerate_cases(loss: str) -> tuple[Case, ...]:
    """A single target, ties, weights of 0, nothing wanted."""
    by_class = loss == "cross-entropy"
    wanted = [0, 1] if by_class else [[1, -1], [0, -1]]

    def layer(weight: list[list[float]], targets: object = wanted, **rest: object) -> Callable[[], Problem]:
        n = len(weight[0])
        start = [[1.0, *[-1.0] * (n - 1)]] * 2
        return lambda: LayerProblem(torch.tensor(weight), targets, loss=loss, start=start, **rest)  # type: ignore[arg-type]

    nothing = {"unit_weight": [0.0, 0.0]} if by_class else {"targets": [[0, 0], [0, 0]]}
    return (
        Case(f"{loss}, one target", layer([[2.0], [-1.0]])),
        Case(f"{loss}, ties", layer([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])),
        Case(f"{loss}, weights of 0", layer([[0.0, 0.0], [0.0, 0.0]])),
        Case(f"{loss}, nothing wanted", layer([[1.0, -2.0, 0.5], [0.25, 1.0, 1.0]], **nothing, stay=0.5)),
        Case(f"{loss}, don't-cares", layer([[1.0, -2.0, 0.5], [0.25, 1.0, 1.0]], stay=0.5)),
    )


@cache
def block_cases() -> tuple[Case, ...]:
    """Blocks in both precisions."""
    return (
        Case("block, one sample", lambda: random_block_problem(4, 1, torch.float32)),
        Case("block, three samples", lambda: random_block_problem(5, 3)),
    )


@cache
def network_cases() -> tuple[Case, ...]:
    """Labels that one hidden unit can learn, and labels that it can't."""
    crossed = [[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]
    return (
        Case("network, crossed labels", lambda: NetworkProblem(crossed, [0, 0, 1, 1], widths=(1,))),
        Case("network, equal labels", lambda: NetworkProblem(crossed[:3], [1, 1, 1], widths=(1,))),
    )


@cache
def whole_cases() -> tuple[Case, ...]:
    """Networks whose weights are of a set, with and without a price of weights or of a margin that is lacking."""
    points, labels = [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]], [0, 1, 0]

    def made(**sets: Any) -> Callable[[], Problem]:
        return lambda: NetworkProblem(points, labels, widths=(1,), **sets)

    return (
        Case("network, ternary weights", made(weight_set="ternary", bias_set=range(-2, 3))),
        Case("network, priced weights", made(weight_set=[-2, 0, 1], bias_set=[-1, 0, 1], penalty=0.25)),
        Case("network, priced features", made(weight_set="ternary", bias_set=[-1, 0, 1], prices={0: 0.5})),
        Case("network, a margin", made(weight_set="ternary", bias_set=[-1, 0, 1], margin=1, margin_price=0.25)),
    )


@cache
def program_cases() -> tuple[Case, ...]:
    """Programs that can be called, and what they demand declared too."""
    return (
        Case("program", lambda: random_program_problem(3, 3)),
        Case("program, a fold", lambda: random_program_problem(3, 3, folded=True, seed=2)),
        Case("program, declared", lambda: random_program_problem(3, 2, constrained=True, seed=1)),
    )


def losses_of(solver: Solver) -> tuple[str, ...]:
    """The losses of layer problems that it takes; none if it takes no layer problems."""
    taken = tuple(LOSSES) if solver.losses is None else solver.losses
    return taken if issubclass(LayerProblem, solver.accepts) else ()


def cases_of(solver: Solver, *, degenerate: bool = False) -> Iterator[Case]:
    """Those that the solver takes; at least one, or an AssertionError."""
    make = degenerate_cases if degenerate else layer_cases
    every = [case for loss in losses_of(solver) for case in make(loss)]
    if not degenerate:
        every += block_cases() if issubclass(BlockProblem, solver.accepts) else ()
        every += (*network_cases(), *whole_cases()) if issubclass(NetworkProblem, solver.accepts) else ()
        every += program_cases() if issubclass(ProgramProblem, solver.accepts) else ()
    # Anew, as an object keeps the problem that a solver got.
    fresh = (Case(case.name, case.make) for case in every)
    yield from (case for case in fresh if takes(solver, case.problem))


def busy_problems(solver: Solver) -> list[Problem]:
    """Of each kind that the solver takes one that keeps it busy for a while, made anew."""
    losses, found = losses_of(solver), []
    if losses:
        loss = "hinge" if "hinge" in losses else losses[0]
        found.append(random_layer_problem(2, n=11, m=10, loss=loss, batch=(2,), weighted=True))
    if issubclass(BlockProblem, solver.accepts):
        found.append(random_block_problem(12, 4))
    if issubclass(NetworkProblem, solver.accepts):
        # Some take one unit only.
        two, whole = random_network_problem(12), random_network_problem(12, weight_set="ternary")
        found.append(two if takes(solver, two) else random_network_problem(40, units=1))
        found.append(whole)
    if issubclass(ProgramProblem, solver.accepts):
        declared = random_program_problem(4, 4, units=5, constrained=True)
        found.append(declared if takes(solver, declared) else random_program_problem(4, 4, units=5, folded=True))
    return [problem for problem in found if takes(solver, problem)]


def takes(solver: Solver, problem: Problem) -> bool:
    """Whether it accepts this very problem."""
    try:
        solver.check(problem)
    except (NotAcceptedError, TooLargeError):
        return False
    return True
