"""The network target problem: targets of every layer of a small network, its weights free."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from os import PathLike
from typing import Any, NotRequired, Self, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from tpsolve._check_arguments import check_count, check_device, check_shape, check_size, check_tensor, check_values, own
from tpsolve._gap import common_measure
from tpsolve._plain import is_real, plain_array
from tpsolve._storage._archive import digest, read_archive, write_archive
from tpsolve._storage._documents import FractionText, Positive
from tpsolve._storage._documents import Label as PlainLabel
from tpsolve._storage._limits import check_bytes
from tpsolve.errors import (
    ArgumentError,
    NotAcceptedError,
    NotFiniteError,
    ShapeError,
    TooLargeError,
    ValueSetError,
)
from tpsolve.problems._base import Problem
from tpsolve.problems.network._labels import Label, code, decode, merge_samples, read_labels
from tpsolve.problems.network._weight_rules import WeightRules, read_prices, read_rules
from tpsolve.problems.network._whole_numbers import (
    Weights,
    check_members,
    check_sums,
    exact_outputs,
    read_weights,
    read_whole_set,
)
from tpsolve.spins import sign
from tpsolve.thresholds import HardThreshold
from tpsolve.units import Certificate, Separability
from tpsolve.units._data import read_numbers
from tpsolve.units.checking._unrounded import ExactRows
from tpsolve.units.separability._separability import separate_unrounded

KIND = "network-problem"
MAX_PENALTY = 1e9
"""Of a weight, or of a step of a margin, in errors."""
MARGIN_PRICE = 0.25
"""Of a step of a margin, in errors, by default."""
MAX_MARGIN = 2**20


class NetworkProblem(Problem):
    """Find targets of all units of a hard-threshold network that real weights can give, with the fewest errors.

    The variables are what every unit outputs at every distinct input, the output units included:

        minimise    sum_i sum_c counts[i, c] [the outputs at point i don't name class c]
        such that   every unit's outputs are linearly separable over what it reads

    The convex oracle, `Separability`, decides which weights do it. Its verdicts are proved in exact
    arithmetic. Equal inputs are merged into one point. Labels that contradict each other there count as
    errors that no network can avoid.

    Two classes have one output unit, +1 for the second class in sorted order. More classes have one unit
    each, one-versus-rest: a point is right where its own unit outputs +1 and all others output -1.

    With a `weight_set` the weights must be whole numbers of that set. Whether some give the targets is then shown, not
    decided: `objective` takes the weights, checks that they are of the set, and computes what they give without
    rounding. Targets alone have the objective +inf. `penalty` adds a price for each weight that is not 0,
    `prices` one for those of single features, and `margin_price` one for each step by which the sum of an output unit
    lacks the `margin`.

    Source: Friesen and Domingos (2018), section 3, with the outputs as variables too.

    Args:
        X: `(N, p)` real and finite. Kept in float64, which holds whole numbers up to 2^53 exactly.
        y: N class labels: numbers or words.
        widths: units of each hidden layer, the lowest first.
        weight: `(N,)` >= 0, what an error at each sample counts; by default 1.
        weight_set: the whole numbers that the weights of every unit may be: "ternary" (-1, 0, +1), "binary" (-1, +1), a
            range or a sequence; None: all real numbers.
        bias_set: the whole numbers that biases may be; None: all. A unit that reads inputs that are not whole may then
            have any bias that float64 holds.
        penalty: >= 0, what each weight other than 0 counts, in errors; biases are free.
        prices: of each feature, or a dict of some: >= 0, what a weight of it other than 0 in the first layer counts
            besides the penalty, in errors, once for each unit that reads it. Only with a `weight_set`. `integer-search`
            and `weight-box` know them.
        margin: >= 0, how far sums of output units should be beyond their thresholds: at least `margin` where a sample
            wants +1, and at most -1 - `margin` where it wants -1. What they lack is the `shortfall`. None: sums don't
            matter. Only with a `weight_set`.
        margin_price: > 0, what each step of shortfall counts, in errors, times the weight of the sample; by default
            `MARGIN_PRICE`. Only with a `margin`.
        monotone: of each feature -1, 0 or +1, or a dict of some of them: the output may only fall, or only rise, from
            the first class to the second, as the feature rises. Signs of weights see to it: those of the feature in the
            first layer have this sign or are 0, and all weights above are at least 0. Other networks that happen to be
            monotone are left out. Only with a `weight_set` and two classes.
        max_fan_in: weights other than 0 of each unit, at most; only with a `weight_set` that holds 0.
        groups: pairs of features and a number: so many of their weights may be other than 0 in a unit of the first
            layer. For example `[([0, 1, 2], 1)]`. Only with a `weight_set` that holds 0.
        shared_bias: whether all units of a hidden layer have the same bias, as where a circuit has one threshold for a
            layer; output units have their own. Only with a `weight_set`. `integer-search` and `weight-box` keep to it.
        exact: N rows of p exact numbers that `X` rounds to float64, such as `LabelledTable.exact_rows()`; None: `X` is
            exact. Objectives and bounds are then those of these numbers. `circuits` and local searches take such
            problems, and with a `weight_set` `integer-search`.

    Attributes:
        inputs: `(M, p)` float64, the distinct points, in the order of their first samples.
        counts: `(M, classes)` float64, the weight of the samples of each class at each point.
        group: `(N,)` int64, each sample's point.
        wanted: `(M, outputs)` float64 in {-1, +1}, the outputs with the fewest errors.
        classes: the labels in sorted order.
        layers: units of each layer, the output units last.
        rules: `monotone`, `max_fan_in`, `groups` and `shared_bias`, as they were read.
        exact: the M distinct points before rounding; None: nothing was rounded.

    Raises:
        ShapeError, NotFiniteError, ValueSetError, ArgumentError, TooLargeError, DeviceError: an argument makes
            no sense; the message names it and the cure.
    """

    samples: Tensor
    weight: Tensor | None
    inputs: Tensor
    counts: Tensor
    group: Tensor
    index: Tensor
    wanted: Tensor
    classes: tuple[Label, ...]
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    weight_set: tuple[int, ...] | None = None
    bias_set: tuple[int, ...] | None = None
    penalty: float = 0.0
    prices: tuple[float, ...] = ()
    margin: int | None = None
    margin_price: float = 0.0
    rules: WeightRules = WeightRules()
    exact: ExactRows | None = None
    n_vars: int
    batch_shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype = torch.float64

    def __init__(
        self,
        X: Any,
        y: Any,
        widths: Sequence[int] = (3,),
        weight: Any = None,
        *,
        weight_set: str | Sequence[int] | None = None,
        bias_set: str | Sequence[int] | None = None,
        penalty: float = 0.0,
        prices: Sequence[float] | Mapping[int, float] | None = None,
        margin: int | None = None,
        margin_price: float | None = None,
        monotone: Sequence[int] | Mapping[int, int] | None = None,
        max_fan_in: int | None = None,
        groups: Sequence[tuple[Sequence[int], int]] | None = None,
        shared_bias: bool | None = None,
        exact: Sequence[Sequence[Fraction]] | None = None,
    ) -> None:
        X, weight = own(plain_array("X", X)), own(weight)
        x = read_numbers("X", X, torch.float64)
        if x.dim() != 2 or 0 in x.shape:
            raise ShapeError("X", f"shape {tuple(x.shape)}", "(N, p): at least one sample and one feature")
        self.samples, self.device = x.double(), x.device
        labels = read_labels("y", y, len(x))
        self.classes, self.index = labels.classes, labels.index.to(self.device)
        self.widths = _check_widths(widths)
        self.layers = (*self.widths, labels.outputs)
        self.weight = None if weight is None else self._check_weight(weight)
        each = torch.ones_like(self.samples[:, 0]) if self.weight is None else self.weight
        if exact is not None:
            self._check_exact(exact)
        self.inputs, self.counts, self.group = merge_samples(
            self.samples, self.index, each, max(2, len(self.classes)), exact
        )
        if exact is not None:
            firsts = dict(zip(reversed(self.group.tolist()), reversed(exact), strict=True))
            self.exact = ExactRows([firsts[point] for point in range(len(self.inputs))])
        self.wanted = code(self.counts.argmax(1), labels.outputs)
        self._read_sets(weight_set, bias_set, penalty)
        self._read_margin(margin, margin_price)
        if prices is not None:
            if self.weight_set is None:
                mend = 'Give weight_set too, such as weight_set="ternary".'
                raise ArgumentError("prices", "a value without a weight_set", "it beside a weight_set", mend)
            self.prices = read_prices(prices, self.samples.shape[1], MAX_PENALTY)
        given = {"monotone": monotone, "max_fan_in": max_fan_in, "groups": groups, "shared_bias": shared_bias}
        if self.weight_set is not None:
            self.rules = read_rules(**given, features=len(x[0]), values=self.weight_set, classes=len(self.classes))
        elif any(value is not None for value in given.values()):
            argument = next(name for name, value in given.items() if value is not None)
            mend = 'Give weight_set too, such as weight_set="ternary".'
            raise ArgumentError(argument, "a value without a weight_set", "it beside a weight_set", mend)
        self.batch_shape = ()
        self.n_vars = len(self.inputs) * sum(self.layers)
        # Targets that were looked at last, and whether they are separable: it takes a second where points are many.
        self._looked_at: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def start(self) -> Tensor:
        """The trivial network: all hidden targets +1, the outputs of the one class that serves best.

        With a `bias_set` it is what `start_weights` give, as near to that as the set allows.
        """
        if self.start_weights is not None:
            return self.from_weights(self.start_weights).expand(*self.batch_shape, -1)
        best = code(self.counts.sum(0).argmax()[None], self.layers[-1]).expand(len(self.inputs), -1)
        hidden = [torch.ones_like(self.inputs[:, :1]).expand(-1, n) for n in self.widths]
        return self.pack(*hidden, best).expand(*self.batch_shape, -1)

    @property
    def start_weights(self) -> list[tuple[Tensor, Tensor]] | None:
        """Weights of the set, `(weight (units, n), bias (units,))` float64 of each layer, that give `start`.

        None: there is no `weight_set`.
        """
        if self.weight_set is None:
            return None
        values = torch.tensor(self.weight_set).to(self.samples)
        wanted = code(self.counts.sum(0).argmax()[None], self.layers[-1])[0]
        found, reach = [], math.ceil(float(self.inputs.abs().sum(1).max()))
        for units, n in self._shapes:
            signs = torch.ones_like(self.inputs[:1, :1]).expand(1, units)[0]
            if len(found) == len(self.widths):
                signs = wanted
            # The smallest values that are allowed, of two equally small ones the positive one.
            price = (values.abs() - 0.25 * (values > 0)).expand(n, -1)
            allowed = self.rules.allowed(len(found), n, values)
            chosen = values[(price if allowed is None else torch.where(allowed, price, math.inf)).argmin(1)]
            size = int(chosen.abs().max()) * reach + (reach > 0)
            low, high = (-size - 1, size) if self.bias_set is None else (self.bias_set[0], self.bias_set[-1])
            weight = chosen.expand(units, -1).clone()
            found.append((weight, torch.where(signs > 0, float(high), float(low))))
            reach = units
        return found

    def pack(self, *columns: Tensor) -> Tensor:
        """Flat targets `(..., n_vars)` from those of each layer, `(..., M, units)`, the outputs last.

        Raises:
            ShapeError: another number of layers, points or units.
        """
        expected = [(len(self.inputs), n) for n in self.layers]
        if [tuple(c.shape[-2:]) for c in columns] != expected:
            got = ", ".join(str(tuple(c.shape)) for c in columns)
            raise ShapeError("columns", got, f"{expected}: (points, units) of each layer, the outputs last")
        return torch.cat([c.to(self.samples).mT.flatten(-2) for c in columns], dim=-1)

    def columns(self, targets: Tensor) -> list[Tensor]:
        """The targets of each layer, `(..., M, units)`, from flat ones `(..., n_vars)`; the outputs last."""
        points = len(self.inputs)
        parts = targets.split([points * n for n in self.layers], dim=-1)
        return [part.unflatten(-1, (n, points)).mT for part, n in zip(parts, self.layers, strict=True)]

    def errors(self, outputs: Tensor) -> Tensor:
        """Weight of the samples whose label `outputs (..., M, outputs)` don't name: `(...,)` float64."""
        named = decode(outputs)
        right = self.counts.expand(*named.shape, -1).gather(-1, named.clamp(min=0)[..., None])[..., 0]
        return (self.counts.sum(1) - torch.where(named >= 0, right, 0.0)).sum(-1)

    def objective(self, targets: Tensor, weights: Weights | None = None) -> Tensor:
        """`errors` of `targets (..., *batch, n_vars)`, `(..., *batch)`; +inf where some unit is not separable.

        With a `weight_set`, `errors`, the penalty of `weights` and the price of their `shortfall`; +inf where these
        don't give just these targets, and without weights. They are taken as exact numbers.

        Args:
            weights: of a network of the `weight_set`, such as a result's `stats["weights"]`.

        Raises:
            ShapeError, ValueSetError, DeviceError: the targets don't fit the problem, or weights are not of the set.
            ArgumentError: weights for a problem without a `weight_set`, which needs none.
        """
        self._check_targets(targets)
        flat = targets.reshape(-1, self.n_vars).double()
        value = self.errors(self.columns(flat)[-1])
        if self.weight_set is None:
            if weights is not None:
                raise ArgumentError("weights", "weights", "None: this problem has no weight_set")
            good = self.separable(flat)
        elif weights is None:
            good = torch.zeros_like(value, dtype=torch.bool)
        else:
            shown = self.check_weights(weights)
            good = (flat == self.from_weights(shown)).all(1)
            value = value + self.paid(shown)
            if self.margin is not None:
                value = value + self.margin_price * self.shortfall(shown)
        return torch.where(good, value, math.inf).reshape(targets.shape[:-1])

    def check_weights(self, weights: Weights) -> list[tuple[Tensor, Tensor]]:
        """`weights` as float64 tensors `(weight (units, n), bias (units,))` of each layer, of the `weight_set`.

        Raises:
            ShapeError: another number of layers, units or inputs.
            ArgumentError: no numbers, or the problem has no `weight_set`.
        """
        if self.weight_set is None:
            raise ArgumentError("weights", "weights", "None: this problem has no weight_set")
        found = read_weights(weights, self._shapes, self.samples)
        check_members(found, self.weight_set, self.bias_set, free_first=not self.has_whole_inputs)
        self.rules.check(found)
        return found

    @staticmethod
    def nonzero(weights: Sequence[tuple[Tensor, Tensor]]) -> int:
        """How many weights of all layers are not 0; biases don't count."""
        return sum(int((weight != 0).sum()) for weight, _ in weights)

    @property
    def layer_prices(self) -> list[Tensor]:
        """What a weight other than 0 of each input of a unit of each layer counts: `(n,)` float64; `penalty` and
        `prices`.
        """
        found = [self.samples.new_full((n,), self.penalty) for _, n in self._shapes]
        if self.prices:
            found[0] = found[0] + torch.tensor(self.prices).to(found[0])
        return found

    def paid(self, weights: Sequence[tuple[Tensor, Tensor]]) -> float:
        """What `weights` of the set count that are not 0: the penalty of each, and the price of its feature."""
        counts = [(weight != 0).double().sum(0) for weight, _ in weights]
        return sum(float((n * price).sum()) for n, price in zip(counts, self.layer_prices, strict=True))

    @property
    def most_paid(self) -> float:
        """What all weights count together where none is 0."""
        if not self.penalty and not self.prices:
            return 0.0
        return sum(units * float(price.sum()) for units, price in zip(self.layers, self.layer_prices, strict=True))

    def shortfall(self, weights: Sequence[tuple[Tensor, Tensor]]) -> float:
        """By how many steps in all, times the weights of samples, the sums of output units lack the `margin`.

        Of weights that `check_weights` gives. The sums are whole numbers, and exact.

        Raises:
            ArgumentError: the problem has no `margin`.
        """
        if self.margin is None:
            raise ArgumentError("margin", None, "a problem with a margin")
        below = self.columns(self.from_weights(weights))[-2]
        weight, bias = weights[-1]
        return float(self.lacking(below @ weight.T + bias).sum())

    def lacking(self, sums: Tensor) -> Tensor:
        """What `sums (..., M, outputs)` of output units lack of the `margin`, times weights of samples; same shape."""
        assert self.margin is not None
        up, down = (w.to(sums) for w in self.wanting)
        return up * (self.margin - sums).clamp(min=0) + down * (self.margin + 1 + sums).clamp(min=0)

    @cached_property
    def wanting(self) -> tuple[Tensor, Tensor]:
        """Weight of the samples at each point that want +1 of each output unit, and of those that want -1.

        Each `(M, outputs)` float64.
        """
        up = self.counts[:, 1:] if self.layers[-1] == 1 else self.counts
        return up, self.counts.sum(1, keepdim=True) - up

    def errors_bound(self, bound: float) -> float:
        """What errors are at least, where the objective is at least `bound`: any network may have all weights."""
        if self.margin is not None:
            # The network with the fewest errors may lack any margin.
            return self.lower_bound().min().item()
        most = self.most_paid
        return bound if not most else max(self.lower_bound().min().item(), bound - most)

    @cached_property
    def has_whole_inputs(self) -> bool:
        """Whether all inputs are whole numbers, which float64 holds."""
        return self.exact is None and bool((self.inputs == self.inputs.round()).all())

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        return list(zip(self.layers, (self.samples.shape[1], *self.widths), strict=True))

    def separable(self, targets: Tensor) -> Tensor:
        """Whether real weights give every unit its targets, `(K,)` bool of `targets (K, n_vars)`; proved."""
        if len(targets) > 1:
            return self._separable_anew(targets)
        known = self._looked_at.get("last")
        if known is None or not torch.equal(known[0], targets.double()):
            known = targets.to(torch.float64, copy=True), self._separable_anew(targets)
            self._looked_at["last"] = known
        return known[1].clone()

    def _separable_anew(self, targets: Tensor) -> Tensor:
        layers = self.columns(targets.double())
        first = layers[0].movedim(-2, 0).reshape(len(self.inputs), -1)
        distinct, place = torch.unique(first, dim=1, return_inverse=True)
        good = _separable(self.inputs, distinct, self.exact)[place].reshape(-1, self.layers[0]).all(1)
        for below, above in itertools.pairwise(layers):
            for k in good.nonzero()[:, 0].tolist():
                good[k] = bool(_separable(below[k], above[k]).all())
        return good

    def certificates(self, targets: Tensor) -> list[Certificate]:
        """For each layer what its units can learn of `targets (n_vars,)`: weights, or circuits that forbid them."""
        self._check_targets(targets)
        layers = self.columns(targets.reshape(self.n_vars).double())
        first = fit_separators(self.inputs, layers[0], self.exact)
        return [first, *(Separability().fit(below, above) for below, above in itertools.pairwise(layers))]

    def from_weights(self, weights: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype = torch.float64) -> Tensor:
        """Targets `(n_vars,)` that a network with these `(weight (units, n), bias (units,))` of each layer gives.

        Computed in `dtype`, with output +1 where z >= 0. With a `weight_set` and float64 nothing is rounded.

        Raises:
            ShapeError: another number of layers or units.
        """
        shapes = self._shapes
        if [tuple(weight.shape) for weight, _ in weights] != shapes:
            raise ShapeError("weights", str([tuple(w.shape) for w, _ in weights]), f"{shapes}, one for each layer")
        h, columns = self.inputs.to(dtype), []
        for weight, bias in weights:
            if self.weight_set is not None and dtype == torch.float64:
                h = exact_outputs(h, weight.to(h), bias.to(h), None if columns else self.exact)
                columns.append(h)
                continue
            h = sign(torch.addmm(bias.to(h), h, weight.to(h).T))
            columns.append(h)
        return self.pack(*columns)

    def from_network(self, network: nn.Module) -> Tensor:
        """Targets `(n_vars,)` of a network whose linear layers, in order, are this problem's; see `from_weights`."""
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        biases = [m.weight.new_zeros(len(m.weight)) if m.bias is None else m.bias.detach() for m in linear]
        return self.from_weights([(m.weight.detach(), bias) for m, bias in zip(linear, biases, strict=True)])

    def network(
        self,
        targets: Tensor,
        weights: Sequence[tuple[Tensor, Tensor]] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> nn.Sequential:
        """Linear layers and `HardThreshold`s that give exactly `targets (n_vars,)`, and so their errors.

        Its outputs are in {-1, +1}; `predict` reads labels from them. They are compared with the targets, computed in
        `dtype` from inputs rounded to it.

        Args:
            weights: `(weight (units, n), bias (units,))` of each layer, such as a result's `stats["weights"]`; by
                default those of the oracle, which separate in exact arithmetic. Needed with a `weight_set`.
            dtype: of the network, float64 or float32.

        Raises:
            ArgumentError: a unit is not separable, or the weights give other targets, since `dtype` rounds those of
                the oracle or the sums that they make; `exact_weights` has fractions that give them. Or another dtype.
            ShapeError: `weights` of another number of layers or units.
        """
        self._check_targets(targets)
        if dtype not in (torch.float64, torch.float32):
            raise ArgumentError("dtype", dtype, "torch.float64 or torch.float32")
        if self.weight_set is not None:
            weights = self.check_weights(self._needed(weights))
        used = self._separating(targets) if weights is None else weights
        wanted = targets.reshape(self.n_vars).double()
        if not torch.equal(self.from_weights(used, dtype), wanted):
            if dtype == torch.float32 and torch.equal(self.from_weights(used), wanted):
                got = "margins so narrow that float32 gives other targets"
                raise ArgumentError("dtype", got, "torch.float64, which gives `targets`")
            if weights is not None:
                raise ArgumentError("weights", "weights that give other targets", "weights that give `targets`")
            raise ArgumentError(
                "targets",
                "margins so narrow that the oracle's weights give other targets in float64",
                "targets with wider margins",
                "exact_weights(targets) has fractions that give them.",
            )
        modules: list[nn.Module] = []
        for weight, bias in used:
            units, features = weight.shape
            linear = nn.Linear(features, units, device=self.device, dtype=dtype)
            linear.load_state_dict({"weight": weight, "bias": bias})
            modules += [linear, HardThreshold()]
        return nn.Sequential(*modules)

    def weights(self, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The oracle's `(weight (units, n), bias (units,))` float64 of each layer, which give `targets (n_vars,)`.

        In exact arithmetic: where margins are narrow, float64 may round the sums that they make to other outputs.

        Raises:
            ArgumentError: a unit is not separable, or the oracle has no weights for it that float64 holds. Or the
                problem has a `weight_set`, of which the oracle knows nothing.
        """
        self._check_targets(targets)
        self._needed(None)
        found = self._separating(targets)
        for number, certificate in enumerate(self.certificates(targets)):
            for unit in certificate.rationals:
                got = f"unit {unit} of layer {number}, for which the oracle has no float64 weights"
                raise ArgumentError("targets", got, "targets with wider margins")
        return found

    def exact_weights(self, targets: Tensor) -> list[list[tuple[list[Fraction], Fraction]]]:
        """Of each unit of each layer weights and a bias, fractions that give `targets (n_vars,)` in exact arithmetic.

        Every network whose units are separable has them, also where no float64 weights give its targets.

        Raises:
            ArgumentError: a unit is not separable, or the problem has a `weight_set`.
        """
        self._check_targets(targets)
        self._needed(None)
        found = []
        for number, certificate in enumerate(self.certificates(targets)):
            _require_separable(certificate, number)
            units = []
            for unit, (weight, bias) in enumerate(
                zip(certificate.weight.tolist(), certificate.bias.tolist(), strict=True)
            ):
                exact = certificate.rationals.get(unit) or tuple(map(Fraction, (*weight, bias)))
                units.append((list(exact[:-1]), exact[-1]))
            found.append(units)
        return found

    def nearest_weights(self, targets: Tensor) -> tuple[list[tuple[Tensor, Tensor]], dict[int, tuple[Fraction, ...]]]:
        """As `weights`, but rounded to float64 where that gives other targets; and there the fractions that do.

        Returns:
            Weights and biases of each layer, and by unit of the first layer exact weights, the bias last. Layers above
            read -1 and +1, where float64 always holds some.

        Raises:
            ArgumentError: a unit is not separable, or the problem has a `weight_set`.
        """
        self._check_targets(targets)
        self._needed(None)
        first, *above = self.certificates(targets)
        for number, certificate in enumerate((first, *above)):
            _require_separable(certificate, number)
        return [(c.weight, c.bias) for c in (first, *above)], dict(first.rationals)

    def _needed(self, weights: Weights | None) -> Weights:
        """`weights`; an error if a problem with a `weight_set` is not given any."""
        if weights is None and self.weight_set is not None:
            mend = 'Pass stats["weights"] of the result to network() or objective().'
            raise ArgumentError("weights", "None", "weights of the weight_set, which targets alone don't tell", mend)
        return weights or []

    def _separating(self, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        layers = []
        for number, certificate in enumerate(self.certificates(targets)):
            _require_separable(certificate, number)
            layers.append((certificate.weight, certificate.bias))
        return layers

    def predict(self, outputs: Tensor) -> list[Any]:
        """Labels of `outputs (K, outputs)` in {-1, +1}; None where they name no class."""
        named = decode(outputs).tolist()
        return [self.classes[k] if 0 <= k < len(self.classes) else None for k in named]

    def lower_bound(self) -> Tensor:
        """Errors that contradictory labels cost any network, less `rounding`: `(*batch,)` float64."""
        least = (self.counts.sum(1) - self.counts.amax(1)).sum()
        return (least.expand(self.batch_shape) - self.rounding()).clamp(min=0)

    def rounding(self) -> Tensor:
        """How far sums of the weights may be from exact arithmetic: `(*batch,)` float64; 0 for whole weights."""
        total = self.counts.sum() + self.most_paid + self.margin_price * self.most_shortfall
        whole = bool((self.counts == self.counts.round()).all()) and self.penalty == round(self.penalty)
        whole = whole and all(price == round(price) for price in self.prices)
        whole = whole and self.margin_price == round(self.margin_price)
        slack = 0.0 if whole and float(total) < 2**53 else float(total) * 2.0**-52 * len(self.samples)
        return self.counts.new_full(self.batch_shape, slack)

    def least_difference(self) -> Tensor:
        """The largest number of which all errors, and penalties, are whole multiples: `(*batch,)` float64."""
        return self.counts.new_full(self.batch_shape, self._measure)

    @property
    def most_shortfall(self) -> float:
        """The largest shortfall of networks whose biases are no larger than sums of weights; 0 without a `margin`."""
        if self.margin is None or self.weight_set is None:
            return 0.0
        sums = max(map(abs, self.weight_set)) * self.widths[-1]
        bias = sums + 1 if self.bias_set is None else max(map(abs, self.bias_set))
        return float(self.counts.sum()) * self.layers[-1] * (self.margin + 1 + sums + bias)

    @cached_property
    def _measure(self) -> float:
        # An odd number of at most 53 bits times a power of two: a float is exact.
        weights = np.ones(1) if self.weight is None else self.weight.cpu().numpy()
        measure = common_measure(np.concatenate([weights, [self.penalty, *self.prices]]))
        step = Fraction(self.margin_price) * common_measure(weights)
        # Of fractions the largest number that both are whole multiples of.
        common = math.gcd(measure.numerator * step.denominator, step.numerator * measure.denominator)
        return float(Fraction(common, measure.denominator * step.denominator))

    def exact_rows(self) -> list[tuple[Fraction, ...]]:
        """The N samples as exact numbers: those that `exact` gave, or else what float64 holds."""
        if self.exact is None:
            return [tuple(map(Fraction, row)) for row in self.samples.tolist()]
        points = self.exact.points()
        return [points[point] for point in self.group.tolist()]

    def rounded(self) -> "NetworkProblem":
        """The problem of the numbers as float64 rounds them; with equal ones there are fewer points.

        Raises:
            NotAcceptedError: a problem with a `weight_set`.
        """
        if self.weight_set is not None:
            raise NotAcceptedError("problem", "a weight_set", "real weights for rounded()")
        labels = [self.classes[k] for k in self.index.tolist()]
        return NetworkProblem(self.samples, labels, self.widths, self.weight)

    def flatten(self) -> Self:
        return self._rebatch((math.prod(self.batch_shape),))

    def select(self, keep: Tensor) -> Self:
        return self._rebatch((int(keep.sum()) if keep.dtype == torch.bool else len(keep),))

    def to(self, device: torch.device | str) -> Self:
        moved = copy.copy(self)
        for name in ("samples", "index", "weight", "inputs", "counts", "group", "wanted"):
            value = getattr(self, name)
            setattr(moved, name, None if value is None else value.to(device))
        moved.device, moved._looked_at = moved.samples.device, {}
        return moved

    def save(self, path: str | PathLike[str]) -> None:
        """Write the problem to `path` (.npz, no pickle).

        Raises:
            FolderError: the folder does not exist or can't be written.
        """
        header = {"widths": self.widths, "classes": self.classes, **self._sets()}
        if self.exact is not None:
            header["exact"] = self._rounded_columns()
        write_archive(path, KIND, self._tensors(), header)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that defines the problem, the same on every device."""
        sets = self._sets()
        exact = [] if self.exact is None else [[self.exact.scales, self.exact.whole]]
        return digest([self.widths, self.classes, *([sets] if sets else []), *exact], self._tensors())

    def __repr__(self) -> str:
        samples, features = self.samples.shape
        return (
            f"NetworkProblem(samples={samples}, points={len(self.inputs)}, features={features}, "
            f"classes={len(self.classes)}, widths={self.widths}, {self._set_text()}device={str(self.device)!r})"
        )

    def _facts(self) -> dict[str, object]:
        samples, features = self.samples.shape
        facts = {"samples": samples, "different points": len(self.inputs), "features": features}
        facts |= {"classes": ", ".join(map(str, self.classes)), "units of the hidden layers": self.widths}
        facts["weights"] = self._set_text().rstrip(", ").removeprefix("weight_set=") or "any real numbers"
        return {**facts, "device": self.device}

    def _set_text(self) -> str:
        if self.weight_set is None:
            return ""
        shown = (
            ", ".join(map(str, self.weight_set))
            if len(self.weight_set) <= 7
            else (f"{self.weight_set[0]}, ..., {self.weight_set[-1]}")
        )
        rules = "".join(f"{name}={value}, " for name, value in self.rules.sets().items())
        margin = "" if self.margin is None else f"margin={self.margin}, margin_price={self.margin_price:g}, "
        prices = f"prices={self.prices}, " if self.prices else ""
        return f"weight_set=({shown}), {prices}{margin}{rules}"

    def _sets(self) -> dict[str, Any]:
        """What a `weight_set` adds to a file; nothing without one, so that fingerprints stay what they were."""
        if self.weight_set is None:
            return {}
        own = {"weight_set": self.weight_set, "bias_set": self.bias_set, "penalty": self.penalty}
        margin = {} if self.margin is None else {"margin": self.margin, "margin_price": self.margin_price}
        prices = {"prices": self.prices} if self.prices else {}
        return {**own, **prices, **margin, **self.rules.sets()}

    def _rounded_columns(self) -> dict[str, list[str]]:
        """Of each column that float64 rounds, by its place, the numbers of all samples before rounding."""
        columns = zip(zip(*self.exact_rows(), strict=True), self.samples.T.tolist(), strict=True)
        return {
            str(place): list(map(str, exact))
            for place, (exact, rounded) in enumerate(columns)
            if list(exact) != list(map(Fraction, rounded))
        }

    def _tensors(self) -> dict[str, Tensor | None]:
        return {"X": self.samples, "y": self.index, "weight": self.weight}

    def _rebatch(self, batch_shape: tuple[int, ...]) -> Self:
        # All samples of a batch are this one problem: solvers and reports want the axis.
        other = copy.copy(self)
        other.batch_shape = batch_shape
        return other

    def _read_sets(self, weight_set: Any, bias_set: Any, penalty: Any) -> None:
        if is_real(penalty) and (penalty != penalty or abs(penalty) == math.inf):
            raise NotFiniteError("penalty", penalty, "a number of at least 0")
        if not is_real(penalty) or not 0 <= penalty <= MAX_PENALTY:
            raise ArgumentError("penalty", repr(penalty), f"a number from 0 to {MAX_PENALTY:g}")
        if weight_set is None:
            if bias_set is not None or penalty:
                argument = "penalty" if bias_set is None else "bias_set"
                mend = 'Give weight_set too, such as weight_set="ternary".'
                raise ArgumentError(argument, "a value without a weight_set", "it beside a weight_set", mend)
            return
        self.weight_set = read_whole_set("weight_set", weight_set)
        self.bias_set = None if bias_set is None else read_whole_set("bias_set", bias_set)
        self.penalty = float(penalty)
        check_sums(self.inputs, self.widths, self.weight_set, self.bias_set, whole=self.has_whole_inputs)

    def _read_margin(self, margin: Any, price: Any) -> None:
        if margin is None:
            if price is not None:
                raise ArgumentError("margin_price", repr(price), "None, without a margin", "Give margin too: margin=1.")
            return
        if self.weight_set is None:
            mend = 'Give weight_set too, such as weight_set="ternary".'
            raise ArgumentError("margin", "a value without a weight_set", "it beside a weight_set", mend)
        check_count("margin", margin, 0)
        if margin > MAX_MARGIN:
            raise TooLargeError("margin", f"{margin}", f"at most {MAX_MARGIN}")
        price = MARGIN_PRICE if price is None else price
        if is_real(price) and (price != price or abs(price) == math.inf):
            raise NotFiniteError("margin_price", price, "a number above 0")
        if not is_real(price) or not 0 < price <= MAX_PENALTY:
            raise ArgumentError("margin_price", repr(price), f"a number above 0, up to {MAX_PENALTY:g}")
        self.margin, self.margin_price = int(margin), float(price)

    def _check_exact(self, exact: Sequence[Sequence[Fraction]]) -> None:
        if [[float(v) for v in row] for row in exact] != (self.samples + 0.0).tolist():
            raise ArgumentError("exact", "other rows than X", "numbers that X rounds to the nearest float64")

    def _check_weight(self, weight: Any) -> Tensor:
        tensor = check_tensor("weight", weight, self.device, torch.float64)
        check_shape("weight", tensor, (len(self.samples),), "(N,)")
        check_size("weight", tensor)
        if bool((tensor < 0).any()):
            raise ValueSetError("weight", f"{tensor.min().item():g}", "no negative weights")
        return tensor

    def _check_targets(self, targets: Tensor) -> None:
        tail = (*self.batch_shape, self.n_vars)
        if tuple(targets.shape[targets.dim() - len(tail) :]) != tail:
            raise ShapeError("targets", f"shape {tuple(targets.shape)}", f"(..., {', '.join(map(str, tail))})")
        check_device("targets", targets, self.device)
        check_values("targets", targets, (-1, 1), given=targets)


def _require_separable(certificate: Certificate, layer: int) -> None:
    if not bool((certificate.status > 0).all()):
        unit = int((certificate.status <= 0).nonzero()[0, 0])
        raise ArgumentError("targets", f"unit {unit} of layer {layer} not separable", "targets of finite objective")


def _separable(inputs: Tensor, columns: Tensor, exact: ExactRows | None = None) -> Tensor:
    """Whether a hyperplane gives each of `columns (M, U)` to `inputs (M, n)`, `(U,)`; a bias gives constants."""
    good = (columns == columns[0]).all(0)
    if not bool(good.all()):
        good[~good] = fit_separators(inputs, columns[:, ~good], exact).status > 0
    return good


def fit_separators(inputs: Tensor, columns: Tensor, exact: ExactRows | None) -> Certificate:
    """Which of `columns (M, U)` a hyperplane gives to the points: `exact` ones, or else `inputs (M, n)`."""
    return Separability().fit(inputs, columns) if exact is None else separate_unrounded(inputs, columns, exact)


class _Header(TypedDict):
    widths: list[Positive]
    classes: list[PlainLabel]
    weight_set: NotRequired[list[int]]
    bias_set: NotRequired[list[int] | None]
    penalty: NotRequired[float]
    prices: NotRequired[list[float]]
    margin: NotRequired[int]
    margin_price: NotRequired[float]
    monotone: NotRequired[list[int]]
    max_fan_in: NotRequired[Positive]
    groups: NotRequired[list[tuple[list[int], int]]]
    shared_bias: NotRequired[bool]
    exact: NotRequired[dict[str, list[FractionText]]]


def read_network_problem(path: str | PathLike[str]) -> NetworkProblem:
    """The network problem saved at `path`, on the CPU.

    Raises:
        FileFormatError: no network problem of tpsolve, truncated, or of another version.
        ArgumentError: the file's contents make no sense together.
    """
    arrays, header = read_archive(path, KIND, _Header, ("X", "y"), ("weight",))
    index, classes, exact = arrays["y"].tolist(), header["classes"], header.get("exact")
    # As float64, and copies of it while equal points are merged.
    check_bytes(path, 32 * arrays["X"].numel())
    # Judging makes several copies of the targets of all units at all points.
    check_bytes(path, 64 * len(arrays["X"]) * (sum(header["widths"]) + len(classes)) if arrays["X"].dim() else 0)
    if not isinstance(index, list) or not all(type(k) is int and 0 <= k < len(classes) for k in index):
        raise ValueSetError("y", "a class outside the list of classes", f"indices from 0 to {len(classes) - 1}")
    if exact is not None:
        check_bytes(path, 400 * arrays["X"].numel())
    return NetworkProblem(
        arrays["X"],
        [classes[k] for k in index],
        header["widths"],
        arrays.get("weight"),
        weight_set=header.get("weight_set"),
        bias_set=header.get("bias_set"),
        penalty=header.get("penalty", 0.0),
        prices=header.get("prices"),
        margin=header.get("margin"),
        margin_price=header.get("margin_price"),
        monotone=header.get("monotone"),
        max_fan_in=header.get("max_fan_in"),
        groups=header.get("groups"),
        shared_bias=header.get("shared_bias"),
        exact=None if exact is None else _exact_rows(arrays["X"], exact),
    )


def _exact_rows(samples: Tensor, rounded: Mapping[str, Sequence[str]]) -> list[tuple[Fraction, ...]]:
    """The rows of `samples (N, p)` with the numbers before rounding, of columns by their places, in them.

    Raises:
        ValueSetError: no such columns.
    """
    places = {str(k): k for k in range(samples.shape[1] if samples.dim() == 2 else 0)}
    unknown = [name for name in rounded if name not in places]
    if unknown or any(len(column) != len(samples) for column in rounded.values()):
        got = f"column {unknown[0]!r}" if unknown else "columns of other lengths than X"
        raise ValueSetError("exact", got, f"columns of {len(samples)} numbers, from 0 to {len(places) - 1}")
    columns: list[list[Fraction]] = [list(map(Fraction, column)) for column in samples.double().T.tolist()]
    for name, texts in rounded.items():
        columns[places[name]] = list(map(Fraction, texts))
    return list(zip(*columns, strict=True))


def _check_widths(widths: Any) -> tuple[int, ...]:
    if isinstance(widths, np.ndarray) and widths.ndim == 1:
        widths = widths.tolist()
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise ArgumentError("widths", repr(widths), "units of each hidden layer", "For example widths=[3].")
    for width in widths:
        check_count("widths", width, 1)
    return tuple(int(width) for width in widths)
