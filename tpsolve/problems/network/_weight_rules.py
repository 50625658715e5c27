"""Rules that weights of a set keep to besides: signs of features, and how many weights of a unit are not 0."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tpsolve._check_arguments import check_count
from tpsolve._plain import is_real, plain_number
from tpsolve.errors import ArgumentError, NotFiniteError, ShapeError, ValueSetError

Group = tuple[tuple[int, ...], int]
"""Features, and how many of their weights may be other than 0 in each unit."""


@dataclass(frozen=True)
class WeightRules:
    """What the weights of a network keep to, besides a set.

    Args:
        monotone: of each input -1, 0 or +1; empty: no rule. Weights of the first layer have that sign or are 0, where
            it is one, and weights of all layers above are at least 0.
        max_fan_in: weights other than 0 of each unit of every layer; None: any number.
        groups: of inputs, for each unit of the first layer.
        shared_bias: whether all units of a hidden layer have the same bias; output units have their own.
    """

    monotone: tuple[int, ...] = ()
    max_fan_in: int | None = None
    groups: tuple[Group, ...] = ()
    shared_bias: bool = False

    def __bool__(self) -> bool:
        return bool(self.monotone or self.max_fan_in is not None or self.groups or self.shared_bias)

    def sets(self) -> dict[str, Any]:
        """The arguments of a problem with these rules."""
        found: dict[str, Any] = {"monotone": self.monotone, "max_fan_in": self.max_fan_in, "groups": self.groups}
        found["shared_bias"] = self.shared_bias or None
        return {name: value for name, value in found.items() if value is not None and value != ()}

    def allowed(self, layer: int, n: int, values: Tensor) -> Tensor | None:
        """Whether each of `n` weights of a unit of `layer` may have each of `values (V,)`: `(n, V)`; None: all may."""
        if not self.monotone:
            return None
        signs = torch.tensor(self.monotone if layer == 0 else [1] * n).to(values)
        return signs[:, None] * values >= 0

    def limits(self, layer: int, n: int) -> list[Group]:
        """Which of `n` weights of a unit of `layer`, and how many of them may be other than 0."""
        groups = list(self.groups) if layer == 0 else []
        if self.max_fan_in is not None and self.max_fan_in < n:
            groups.append((tuple(range(n)), self.max_fan_in))
        return groups

    def check(self, weights: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Raise ValueSetError unless the weights of all layers keep to the rules."""
        for number, (weight, bias) in enumerate(weights):
            if self.shared_bias and number < len(weights) - 1 and bool((bias != bias[0]).any()):
                unit = int((bias != bias[0]).nonzero()[0, 0])
                what = f"biases {bias[0].item():g} and {bias[unit].item():g} of units 0 and {unit} of layer {number}"
                raise ValueSetError("weights", what, "one bias for all units of a hidden layer: `shared_bias`")
            if self.monotone:
                signs = torch.tensor(self.monotone if number == 0 else [1] * weight.shape[1]).to(weight)
                bad = (signs * weight < 0).nonzero()
                if len(bad):
                    unit, place = bad[0].tolist()
                    what = f"weight {weight[unit, place].item():g} of input {place} of unit {unit} of layer {number}"
                    raise ValueSetError("weights", what, f"a sign that the rule `monotone` allows: {self.monotone}")
            for inputs, most in self.limits(number, weight.shape[1]):
                count = (weight[:, list(inputs)] != 0).sum(1)
                if bool((count > most).any()):
                    unit = int((count > most).nonzero()[0, 0])
                    what = f"{int(count[unit])} weights other than 0 of unit {unit} of layer {number}"
                    raise ValueSetError("weights", what, f"at most {most} of the inputs {_shown(inputs)}")


def read_rules(
    monotone: Any,
    max_fan_in: Any,
    groups: Any,
    shared_bias: Any,
    features: int,
    values: Sequence[int],
    classes: int,
) -> WeightRules:
    """The rules of a problem of so many `features` and `classes`, whose weights are of `values`.

    Raises:
        ShapeError, ValueSetError, ArgumentError: a rule makes no sense, or no weights of the set keep to it.
    """
    if shared_bias is not None and not isinstance(shared_bias, bool):
        raise ArgumentError("shared_bias", repr(shared_bias), "True or False")
    signs, listed = _read_monotone(monotone, features, values, classes), _read_groups(groups, features)
    rules = WeightRules(signs, max_fan_in, listed, bool(shared_bias))
    if max_fan_in is not None:
        check_count("max_fan_in", max_fan_in, 1)
    if 0 not in values and (max_fan_in is not None or rules.groups):
        name = "groups" if max_fan_in is None else "max_fan_in"
        raise ArgumentError(name, "a limit on weights other than 0", "a weight_set with 0 beside it")
    return rules


def _read_monotone(given: Any, features: int, values: Sequence[int], classes: int) -> tuple[int, ...]:
    if given is None:
        return ()
    example = "For example {0: 1, 3: -1}: the output may only rise with feature 0, and only fall with 3."
    found = []
    for sign in _of_features("monotone", given, features, "sign", example):
        if not is_real(sign) or sign not in (-1, 0, 1):
            raise ValueSetError("monotone", f"{sign!r}", "-1, 0 or +1")
        found.append(int(sign))
    if not any(found):
        return ()
    if classes > 2:
        raise ArgumentError("monotone", f"{classes} classes", "two classes", "Ask for one class against the others.")
    missing = next((s for s in {1, *found} if s and not any(s * v >= 0 for v in values)), 0)
    if missing:
        word = "positive" if missing > 0 else "negative"
        raise ArgumentError("monotone", f"a weight_set without 0 or a {word} number", "one that has some")
    return tuple(found)


def read_prices(given: Any, features: int, most: float) -> tuple[float, ...]:
    """The price of a weight of each of so many `features`, each from 0 to `most`; empty: all are 0.

    Raises:
        ShapeError, NotFiniteError, ArgumentError: they make no sense.
    """
    example = "For example {3: 0.5}: half an error for each weight of feature 3 that is not 0."
    prices = _of_features("prices", given, features, "price", example)
    for price in prices:
        if is_real(price) and (price != price or abs(price) == math.inf):
            raise NotFiniteError("prices", price, "numbers of at least 0")
        if not is_real(price) or not 0 <= price <= most:
            raise ArgumentError("prices", repr(price), f"numbers from 0 to {most:g}")
    return tuple(map(float, prices)) if any(prices) else ()


def _of_features(argument: str, given: Any, features: int, word: str, example: str) -> list[Any]:
    """What is `given` of each feature, as plain numbers: of all in turn, or a dict of some, the others having 0."""
    if isinstance(given, Mapping):
        found: list[Any] = [0] * features
        for key, value in given.items():
            found[_feature(argument, key, features)] = value
    else:
        listed = getattr(given, "tolist", None)
        found = given if listed is None else listed()
        if isinstance(found, str) or not isinstance(found, Sequence):
            raise ArgumentError(argument, repr(given), f"a {word} of each feature", example)
        if len(found) != features:
            raise ShapeError(argument, f"{len(found)} {word}s", f"{features}: one of each feature")
    return [plain_number(value) for value in found]


def _read_groups(given: Any, features: int) -> tuple[Group, ...]:
    if given is None:
        return ()
    mend = "For example groups=[([0, 1, 2], 1)]: at most one of the features 0, 1 and 2 in each unit."
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ArgumentError("groups", repr(given), "pairs of features and a number", mend)
    found = []
    for pair in given:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ArgumentError("groups", repr(pair), "a pair of features and a number", mend)
        listed = getattr(pair[0], "tolist", None)
        inputs = pair[0] if listed is None else listed()
        if isinstance(inputs, str) or not isinstance(inputs, Sequence) or not inputs:
            raise ArgumentError("groups", repr(pair[0]), "some features", mend)
        numbers = [_feature("groups", key, features) for key in inputs]
        if len(set(numbers)) < len(numbers):
            raise ArgumentError("groups", f"{list(numbers)}", "each feature once in a group")
        check_count("groups", pair[1], 0)
        found.append((tuple(sorted(numbers)), min(int(pair[1]), len(numbers))))
    return tuple(found)


def _feature(argument: str, key: Any, features: int) -> int:
    key = plain_number(key)
    if not is_real(key) or isinstance(key, bool) or key != int(key) or not 0 <= key < features:
        raise ValueSetError(argument, f"feature {key!r}", f"numbers of features from 0 to {features - 1}")
    return int(key)


def _shown(inputs: Sequence[int]) -> str:
    return ", ".join(map(str, inputs[:10])) + (", ..." if len(inputs) > 10 else "")
