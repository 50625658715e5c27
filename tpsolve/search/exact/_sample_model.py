"""One sample of a layer problem as a mixed-integer linear model that lies certainly below it.

Written in real numbers; CP-SAT compiles it to integers, HiGHS takes it as it is. For each choice of
targets the model has a solution that costs no more than E, so its minimum is a lower bound on E.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from torch import Tensor

from tpsolve.losses import ClassLoss, Loss
from tpsolve.problems.layer._layer_energy import LayerEnergy
from tpsolve.search.exact._pieces import Piece, is_piecewise_linear, pieces

MIN_SLOPE = 2.0**-20
"""Probabilities below this are met by p >= 0 alone: an error of at most 1e-6."""


@dataclass(frozen=True)
class Row:
    """spins . t + sum of cost[v] v >= right, wherever the switch is on (None: always).

    Costs carry whole coefficients, so that an integer solver can scale the row by a power of two.
    `strict`: the left side must exceed `right`, where the solver can tell. `rounded`: the numbers were
    rounded when they were computed, so that they are not exact even where they look whole.
    """

    spins: np.ndarray
    cost: dict[int, int]
    right: float
    switch: int | None = None
    strict: bool = False
    rounded: bool = False


@dataclass
class SampleModel:
    """Minimise factor * (sum of objective[v] v + spins . t) + constant over t in {-1,+1}^n and costs v >= 0.

    Args:
        n: targets.
        upper: upper end of each cost variable; its index is its name.
        objective: the cost variables that are paid for, each once.
        spins: linear cost of the targets, `(n,)`.
        choices: groups of switches, exactly one of which is on.
        exact: whether every choice of targets has E itself as its minimum cost, but for rounding.
        flat: for each unit above its switches of pieces that cost the same everywhere, with the loss there.
    """

    n: int
    spins: np.ndarray
    constant: float = 0.0
    factor: float = 1.0
    exact: bool = True
    upper: list[float] = field(default_factory=list)
    objective: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    choices: list[list[int]] = field(default_factory=list)
    n_switches: int = 0
    flat: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def new_cost(self, upper: float) -> int:
        """Add a cost variable in [0, upper]."""
        self.upper.append(upper)
        return len(self.upper) - 1

    def new_switch(self) -> int:
        """Add a switch."""
        self.n_switches += 1
        return self.n_switches - 1


@dataclass
class Touch:
    """Where the lines of a smooth loss must touch it; grows until the model's answer is met exactly."""

    points: list[list[float]]
    """For each unit above: margins; for the cross-entropy: slopes of the exponential, in (0, 1]."""

    def add(self, energy: LayerEnergy, targets: Tensor) -> bool:
        """Touch the loss at `targets (1, n)`; False if all was touched there already."""
        z = energy.pre(targets)
        if isinstance(energy.loss, ClassLoss):
            values = z.softmax(-1)[0].clamp(min=MIN_SLOPE)
        else:
            values = (energy.targets * z)[0]
        fresh = False
        for known, value in zip(self.points, values.tolist(), strict=True):
            if value not in known:
                known.append(value)
                fresh = True
        return fresh


def first_touch(energy: LayerEnergy) -> Touch:
    """The minimum that a model starts with; `pieces` adds a spread of points of its own."""
    if isinstance(energy.loss, ClassLoss):
        slopes = [0.75, 0.375, 0.1875, *(2.0**-k for k in range(11))]
        return Touch([list(slopes) for _ in range(len(energy.weight))])
    return Touch([[] for _ in range(len(energy.weight))])


def sample_model(energy: LayerEnergy, touch: Touch) -> SampleModel:
    """The model of the one sample of `energy` (float64, B = 1)."""
    weight, bias = energy.weight.cpu().numpy(), energy.bias.cpu().numpy()
    c = energy.unit_weight[0].cpu().numpy()
    stay = np.zeros(weight.shape[1]) if energy.stay is None else energy.stay[0].cpu().numpy()
    model = SampleModel(n=weight.shape[1], spins=-0.5 * stay, constant=0.5 * float(np.abs(stay).sum()))
    if energy.stay_parts is not None:
        # `stay` is a rounded sum.
        model.constant -= 2.0**-52 * float(energy.stay_parts.sum())
    if isinstance(energy.loss, ClassLoss):
        if c[0] > 0:
            # The one cost variable is paid for once: what it counts for moves to the factor.
            model.factor, model.spins = float(c[0]), model.spins / c[0]
            _add_cross_entropy(model, weight, bias, int(energy.targets[0]), touch.points)
        return model
    s = energy.targets[0].cpu().numpy()
    model.exact = is_piecewise_linear(energy.loss)
    for k in np.flatnonzero(c > 0):
        flat = _add_unit(model, energy.loss, float(c[k]), s[k] * weight[k], s[k] * bias[k], s[k] > 0, touch.points[k])
        model.flat[int(k)] = flat
    return model


@dataclass(frozen=True)
class Exclusion:
    """What must change for anything to cost less than `targets (n,)`: a target of `flips`, or a switch goes off.

    Targets that change nothing of it need not cost the same; but they cost no less, in exact arithmetic.
    """

    targets: np.ndarray
    flips: list[int]
    switches: list[int]


def exclusions(model: SampleModel, energy: LayerEnergy, targets: Tensor) -> list[Exclusion]:
    """What excludes `targets (1, n)` from the model of the one sample of `energy`, and what can't cost less."""
    t = targets[0].cpu().numpy()
    everything = Exclusion(t, list(range(model.n)), [])
    if isinstance(energy.loss, ClassLoss) or not energy.loss.monotone:
        return [everything]
    z, blur = energy.pre(targets)[0], energy.blur()
    value = energy.loss.value(z, energy.targets[0]).cpu().numpy()
    unsure = (z.abs() <= blur).cpu().numpy()
    rows = (energy.targets[0][:, None] * energy.weight).cpu().numpy()
    flips = np.zeros(model.n, dtype=bool) if energy.stay is None else energy.stay[0].cpu().numpy() * t < 0
    switches = []
    for k in np.flatnonzero(energy.unit_weight[0].cpu().numpy() > 0):
        if value[k] == 0 and not unsure[k]:
            continue
        constant = [switch for switch, loss in model.flat[int(k)] if loss == value[k]]
        if constant and not unsure[k]:
            switches += constant
        else:
            # Its margin rises only where a target that lowers it is negated.
            flips |= rows[k] * t < 0
    found = Exclusion(t, np.flatnonzero(flips).tolist(), switches)
    # At a kink the same targets may cost as much with another switch on.
    return [found, everything] if switches else [found]


def _add_unit(
    model: SampleModel, loss: Loss, c: float, row: np.ndarray, shift: float, positive: bool, points: Sequence[float]
) -> list[tuple[int, float]]:
    """Add c phi(u) for the margin u = row . t + shift; the switches of flat pieces, with the loss there."""
    # A hair wider than the true range, against the rounding of its ends.
    radius = float(np.abs(row).sum()) * (1 + 1e-12)
    low, high = shift - radius - 1e-12, shift + radius + 1e-12
    parts = pieces(loss, low, high, bool(positive), points)
    top = max(slope * end + intercept for part in parts for slope, intercept in part.lines for end in (low, high))
    cost = model.new_cost(c * max(top, 0.0))
    model.objective.append(cost)
    shared = set.intersection(*(set(part.lines) for part in parts))
    for slope, intercept in sorted(shared):
        _add_line(model, cost, c, slope, intercept, row, shift, None)
    if len(parts) == 1:
        return []
    switches = [model.new_switch() for _ in parts]
    model.choices.append(switches)
    flat = []
    for switch, part in zip(switches, parts, strict=True):
        _add_range(model, part, row, shift, switch)
        own = [line for line in part.lines if line not in shared]
        for slope, intercept in own:
            _add_line(model, cost, c, slope, intercept, row, shift, switch)
        if own and all(slope == 0 for slope, _ in own):
            flat.append((switch, max(intercept for _, intercept in own)))
    return flat


def _add_line(
    model: SampleModel,
    cost: int,
    c: float,
    slope: float,
    intercept: float,
    row: np.ndarray,
    shift: float,
    switch: int | None,
) -> None:
    if (slope, intercept) != (0.0, 0.0):
        factor, right = c * slope, c * (slope * shift + intercept)
        exact_right = Fraction(c) * (Fraction(slope) * Fraction(shift) + Fraction(intercept))
        rounded = (
            exact_right != Fraction(right)
            or Fraction(factor) != Fraction(c) * Fraction(slope)
            or bool(_product_error(factor, row).any())
        )
        model.rows.append(Row(-factor * row, {cost: 1}, right, switch, rounded=rounded))


def _add_range(model: SampleModel, part: Piece, row: np.ndarray, shift: float, switch: int) -> None:
    if part.low > -math.inf:
        rounded = Fraction(part.low) - Fraction(shift) != Fraction(part.low - shift)
        model.rows.append(Row(row, {}, part.low - shift, switch, part.strict, rounded))
    if part.high < math.inf:
        model.rows.append(Row(-row, {}, shift - part.high, switch, rounded=True))


def _add_cross_entropy(
    model: SampleModel, weight: np.ndarray, bias: np.ndarray, label: int, slopes: list[list[float]]
) -> None:
    """Add theta = logsumexp_k(d_k) for the differences d_k = z_k - z_label.

    theta is the smallest number with sum_k exp(d_k - theta) <= 1. Each exponential is a variable p_k
    above tangents exp(x) >= a (1 + x - ln a), which are exact lines for any slope a > 0.
    """
    rows, shifts = weight - weight[label], bias - bias[label]
    radius = np.abs(rows).sum(1) * (1 + 1e-12) + 1e-12
    most = float(np.logaddexp.reduce(shifts + radius)) + 1e-9
    theta = model.new_cost(most)
    model.objective.append(theta)
    model.exact = False
    probabilities = {}
    for k in range(len(weight)):
        p = model.new_cost(1.0)
        probabilities[p] = -1
        for above, below in sorted({_fraction(slope) for slope in slopes[k]}):
            log = math.log(above / below)
            right = above * (1 - log + shifts[k])
            right -= 64 * 2.0**-53 * above * (2 + abs(log) + abs(shifts[k]))
            # above (x + 1 - ln a) <= below p, with x = d_k - theta and a = above / below.
            model.rows.append(Row(-above * rows[k], {p: below, theta: above}, right, rounded=True))
        if k != label:
            # theta is at least every difference.
            least = float(shifts[k] - 1e-12 * (1 + abs(shifts[k])))
            model.rows.append(Row(-rows[k], {theta: 1}, least, rounded=True))
    model.rows.append(Row(np.zeros(model.n), probabilities, -1.0))


def _fraction(slope: float) -> tuple[int, int]:
    """A fraction near `slope`, to one part in 1024, with a power of two below."""
    mantissa, exponent = math.frexp(slope)
    above, below = round(1024 * mantissa), 2 ** (10 - exponent)
    shared = math.gcd(above, below)
    return above // shared, below // shared


def _product_error(factor: float, row: np.ndarray) -> np.ndarray:
    """What rounding changed in `factor * row`, exactly: Dekker's product (Numerische Mathematik 18, 1971)."""

    def halves(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shifted = value * (2.0**27 + 1)
        high = shifted - (shifted - value)
        return high, value - high

    # Numbers near the largest float overflow to NaN, which counts as rounded.
    with np.errstate(over="ignore", invalid="ignore"):
        (a, b), (c, d) = halves(np.asarray(factor)), halves(row)
        return ((a * c - factor * row) + a * d + b * c) + b * d
