"""Tasks whose only labels are what a program makes of the digits in several images."""

import ctypes
import math
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tpsolve.train.data._idx import load_mnist

SAMPLES = 5_000
"""Of each task, for training."""
VALIDATION = 10_000
"""The last images of the training set, from which the samples for tuning are made."""
Digits = np.ndarray
"""`(C, n)` int64."""
OPERATORS = "+-*"
"""Symbols 10, 11 and 12 of formulas."""
ILL_FORMED = -(10**9)
"""What a formula gives that has a digit where an operator should be, or an operator for a digit."""
STROKES = {
    "+": ((-1, 0, 1, 0), (0, -1, 0, 1)),
    "-": ((-1, 0, 1, 0),),
    "*": ((-0.7, -0.7, 0.7, 0.7), (-0.7, 0.7, 0.7, -0.7)),
}
"""Of each operator: x and y of both ends of its lines."""


@dataclass(frozen=True)
class Task:
    """What a program computes of the digits of n images.

    Args:
        count: n.
        program: answers `(C,)` int64 of digits `(C, n)`.
        read: what the labels can tell apart: a class `(C,)` for each digit `(C,)`.
        balanced: whether as many samples have the answer 1 as have the answer 0.
        reversible: whether d -> 9 - d changes no label.
        any_order: whether a permutation of the ten digits changes no label.
        formula: whether every second image is an operator: the symbols of the task are then ten digits and `OPERATORS`.
    """

    count: int
    program: Callable[[Digits], Digits]
    read: Callable[[Digits], Digits] = lambda digit: digit
    balanced: bool = False
    reversible: bool = False
    any_order: bool = False
    formula: bool = False

    @property
    def classes(self) -> int:
        """K, of every symbol."""
        return 10 + len(OPERATORS) if self.formula else 10


def _is_three_or_four(digit: Digits) -> Digits:
    return np.isin(digit, (3, 4)).astype(np.int64)


def _order(d: Digits) -> Digits:
    return 4 * (d[:, 0] <= d[:, 1]) + 2 * (d[:, 0] <= d[:, 2]) + (d[:, 1] <= d[:, 2])


def _number(d: Digits) -> Digits:
    return d @ 10 ** np.arange(d.shape[1])[::-1]


@cache
def _tree() -> Callable[[Digits], Digits]:
    """A decision tree trained to tell whether three digits could be the sides of a triangle."""
    from sklearn.tree import DecisionTreeClassifier

    every = np.stack(np.meshgrid(*[np.arange(10)] * 3, indexing="ij"), -1).reshape(-1, 3)
    longest = every.max(1)
    return DecisionTreeClassifier(max_depth=6, random_state=0).fit(every, 2 * longest < every.sum(1)).predict


@cache
def _compiled() -> Callable[[Digits], Digits]:
    """A C function: how often n = 10 a + b is halved or tripled until it is 1, by the rule of Collatz."""
    folder = Path(tempfile.mkdtemp())
    (folder / "steps.c").write_text(
        "int steps(int n) { int k = 0; while (n > 1) { n = n % 2 ? 3 * n + 1 : n / 2; k++; } return k; }"
    )
    library = folder / "steps.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, folder / "steps.c"], check=True)
    steps = ctypes.CDLL(str(library)).steps
    return lambda d: np.array([steps(int(n)) for n in _number(d)])


def _formula(d: Digits) -> Digits:
    """The value of a op b op c ..., where * binds first."""
    numbers, operators = d[:, ::2].astype(np.int64), d[:, 1::2] - 10
    total, sign, product = np.zeros(len(d), np.int64), np.ones(len(d), np.int64), numbers[:, 0].copy()
    for place in range(operators.shape[1]):
        times, following = operators[:, place] == OPERATORS.index("*"), numbers[:, place + 1]
        total = np.where(times, total, total + sign * product)
        sign = np.where(times, sign, np.where(operators[:, place] == OPERATORS.index("-"), -1, 1))
        product = np.where(times, product * following, following)
    well_formed = (numbers < 10).all(1) & (operators >= 0).all(1)
    return np.where(well_formed, total + sign * product, ILL_FORMED)


TASKS: dict[str, Task] = {
    "sum of 2": Task(2, lambda d: d.sum(1)),
    "sum of 3": Task(3, lambda d: d.sum(1)),
    "sum of 4": Task(4, lambda d: d.sum(1)),
    "2-digit sum": Task(4, lambda d: _number(d[:, :2]) + _number(d[:, 2:])),
    "a mod (b + 1)": Task(2, lambda d: d[:, 0] % (d[:, 1] + 1)),
    "a < b": Task(2, lambda d: (d[:, 0] < d[:, 1]).astype(np.int64)),
    "(a + b) mod 3": Task(2, lambda d: d.sum(1) % 3, read=lambda digit: digit % 3),
    "order of three": Task(3, _order),
    "a = b": Task(2, lambda d: (d[:, 0] == d[:, 1]).astype(np.int64), balanced=True, any_order=True),
    "a b": Task(2, lambda d: d.prod(1)),
    "a + b - c": Task(3, lambda d: d[:, 0] + d[:, 1] - d[:, 2]),
    "not 3 or 4": Task(1, lambda d: 1 - _is_three_or_four(d[:, 0]), read=_is_three_or_four),
    "how many 3 or 4 of 8": Task(8, lambda d: _is_three_or_four(d).sum(1), read=_is_three_or_four),
}
"""The tasks on which settings were chosen and those of other people's papers."""
UNSEEN: dict[str, Task] = {
    "largest of three": Task(3, lambda d: d.max(1)),
    "|a - b|": Task(2, lambda d: abs(d[:, 0] - d[:, 1]), reversible=True),
    "a b + c": Task(3, lambda d: d[:, 0] * d[:, 1] + d[:, 2]),
    "greatest common divisor": Task(2, lambda d: np.gcd(d[:, 0] + 1, d[:, 1] + 1)),
    "steps of Collatz, in C": Task(2, lambda d: _compiled()(d)),
    "triangle, by a tree": Task(3, lambda d: _tree()(d).astype(np.int64)),
    "formula of 3": Task(3, _formula, formula=True),
    "formula of 5": Task(5, _formula, formula=True),
}
"""Tasks that no setting was chosen on."""
EVERY = {**TASKS, **UNSEEN}


@dataclass(frozen=True)
class Samples:
    """Samples of a task.

    Args:
        images: `(M, 1, 28, 28)` float32, normalised. digits: `(M,)`, or symbols. groups: `(N, n)` places among
            the images. labels: `(N,)` int64.
    """

    images: Tensor
    digits: Tensor
    groups: Tensor
    labels: Tensor


@cache
def images_of(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """MNIST's images `(M, 1, 28, 28)`, normalised, and digits `(M,)`: "train", "validation" and "test"."""
    data = load_mnist(folder)

    def part(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x.float().reshape(-1, 1, 28, 28) - 33.3184) / 78.5675, y.long()

    x, y = part(data.inputs, data.labels)
    return {
        "train": (x[:-VALIDATION], y[:-VALIDATION]),
        "validation": (x[-VALIDATION:], y[-VALIDATION:]),
        "test": part(data.test_inputs, data.test_labels),
    }


def drawn_operators(symbols: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Images `(M, 1, 28, 28)` float32 of operators 10 to 12: turned, stretched, moved, thick or thin."""
    rows, columns = np.mgrid[:28, :28].astype(np.float32)
    images = np.zeros((len(symbols), 1, 28, 28), dtype=np.float32)
    for image, symbol in zip(images[:, 0], symbols, strict=True):
        angle, thickness = generator.normal(0, 0.15), generator.uniform(0.8, 2.0)
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        frame = turned @ np.diag(generator.uniform(5, 9, 2))
        middle = 13.5 + generator.normal(0, 1.5, 2)
        for line in STROKES[OPERATORS[symbol - 10]]:
            (x, y), (u, v) = (middle + frame @ np.array(end) for end in (line[:2], line[2:]))
            share = ((columns - x) * (u - x) + (rows - y) * (v - y)) / ((u - x) ** 2 + (v - y) ** 2)
            share = share.clip(0, 1)
            apart = np.hypot(columns - x - share * (u - x), rows - y - share * (v - y))
            np.maximum(image, 255 * (1.5 - apart / thickness).clip(0, 1), out=image)
    return (images - 33.3184) / 78.5675


def samples_of(task: Task, part: str, seed: int, folder: Path) -> Samples:
    """Groups of images drawn without replacement, anew where they run out: 5,000, or with "test" all images once."""
    images, digits = images_of(folder)[part]
    generator = np.random.default_rng([seed, len(part)])
    if task.formula:
        return _formulas(task, images, digits, SAMPLES, generator)
    count = len(digits) // task.count if part == "test" else SAMPLES
    rounds = math.ceil(count * task.count / len(digits))
    order = np.concatenate([generator.permutation(len(digits)) for _ in range(rounds)])
    groups, values = order[: count * task.count].reshape(count, task.count), digits.numpy()
    if task.balanced:
        # Half of the pairs get a second image of the first one's digit, the others one of another digit.
        of_digit = [np.flatnonzero(values == k) for k in range(10)]
        for row, (first, _) in enumerate(groups):
            others = of_digit[values[first]] if row % 2 else np.flatnonzero(values != values[first])
            groups[row, 1] = generator.choice(others)
    labels = task.program(values[groups]).astype(np.int64)
    return Samples(images, digits, torch.from_numpy(groups), torch.from_numpy(labels))


def _formulas(task: Task, images: Tensor, digits: Tensor, count: int, generator: np.random.Generator) -> Samples:
    """Images of digits beside drawn operators."""
    numbers = task.count // 2 + 1
    places = np.concatenate(
        [generator.permutation(len(digits)) for _ in range(math.ceil(count * numbers / len(digits)))]
    )
    symbols = 10 + generator.integers(len(OPERATORS), size=count * (numbers - 1))
    groups = np.empty((count, task.count), dtype=np.int64)
    groups[:, ::2] = places[: count * numbers].reshape(count, numbers)
    groups[:, 1::2] = len(digits) + np.arange(len(symbols)).reshape(count, numbers - 1)
    images = torch.cat([images, torch.from_numpy(drawn_operators(symbols, generator))])
    values = torch.cat([digits, torch.from_numpy(symbols)])
    labels = task.program(values.numpy()[groups]).astype(np.int64)
    return Samples(images, values, torch.from_numpy(groups), torch.from_numpy(labels))
