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
    """

    count: int
    program: Callable[[Digits], Digits]
    read: Callable[[Digits], Digits] = lambda digit: digit
    balanced: bool = False
    reversible: bool = False
    any_order: bool = False


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
}
"""Tasks that no setting was chosen on."""
EVERY = {**TASKS, **UNSEEN}


@dataclass(frozen=True)
class Samples:
    """Samples of a task.

    Args:
        images: `(M, 1, 28, 28)` float32, normalised. digits: `(M,)`. groups: `(N, n)` places among the images. labels:
            `(N,)` int64.
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


def samples_of(task: Task, part: str, seed: int, folder: Path) -> Samples:
    """Groups of images drawn without replacement, anew where they run out: 5,000, or with "test" all images once."""
    images, digits = images_of(folder)[part]
    generator = np.random.default_rng([seed, len(part)])
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
