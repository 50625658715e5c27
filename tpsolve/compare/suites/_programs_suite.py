"""The programs suite: small programs that read the digits which a half-trained network sees in real scans."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tpsolve.compare.suites._digits_suites import load_digits
from tpsolve.problems import Instance, ProgramCalls, ProgramProblem

WRONG = 20.0
"""What a wrong answer costs where nothing says how wrong it is."""
BITS = 4
"""Sign units that read a digit."""


def total(*digits: int) -> int:
    """Their sum."""
    return sum(digits)


def product_mod_7(a: int, b: int) -> int:
    """What their product leaves of sevens."""
    return a * b % 7


def is_less(a: int, b: int) -> bool:
    """Whether a < b."""
    return a < b


def order(*digits: int) -> tuple[int, ...]:
    """The places of the digits from the least to the greatest; equal ones as they stand."""
    return tuple(sorted(range(len(digits)), key=lambda place: digits[place]))


def total_of_bits(*bits: int) -> int:
    """The sum of two numbers of `BITS` spins each, the lowest first."""
    return sum(2 ** (place % BITS) for place, bit in enumerate(bits) if bit > 0)


@dataclass(frozen=True)
class LookUp:
    """What a table has at two digits; a class, so that processes can be given it."""

    table: list[list[int]]

    def __call__(self, a: int, b: int) -> int:
        """`table[a][b]`."""
        return self.table[a][b]


def distance(answer: float, label: float) -> float:
    """How far apart two numbers are, twice."""
    return 2.0 * abs(answer - label)


def wrong_places(answer: Any, label: Any) -> float:
    """How many places of two orders differ, twice."""
    return 2.0 * sum(a != b for a, b in zip(answer, label, strict=True))


def is_wrong(answer: Any, label: Any) -> float:
    """`WRONG` unless the answers are equal."""
    return 0.0 if answer == label else WRONG


def programs(samples: int, seed: int) -> list[Instance[ProgramProblem]]:
    """Eight programs of `samples` samples each; all losses are finite, so that objectives have a mean.

    A linear layer has read six batches of scans, and reads a little over half of the digits right. Labels are the
    programs' answers for the true digits. `seed` draws its weights, the batches, the samples and the table.
    """
    inputs, digits = load_digits()
    generator = torch.Generator().manual_seed(seed)
    bits = digits[:, None] >> torch.arange(BITS) & 1
    as_class = _trained(inputs, digits, 10, nn.functional.cross_entropy, seed)
    as_bits = _trained(inputs, bits.float(), BITS, nn.functional.binary_cross_entropy_with_logits, seed)
    table = torch.randint(0, 5, (10, 10), generator=generator).tolist()

    def made(
        name: str, program: Callable[..., Any], loss: Callable[[Any, Any], float], count: int, varies: bool = False
    ) -> Instance[ProgramProblem]:
        picked = torch.randint(len(digits), (samples, count), generator=generator)
        length = torch.randint(2, count + 1, (samples, 1), generator=generator) if varies else torch.tensor([[count]])
        mask = (torch.arange(count) < length).expand(samples, -1)
        labels = [program(*row[kept].tolist()) for row, kept in zip(digits[picked], mask, strict=True)]
        calls = ProgramCalls(program, max_remembered=0)
        problem = ProgramProblem(calls, labels, as_class[picked], symbols=10, loss=loss, mask=mask if varies else None)
        return Instance(f"programs/{name}", problem)

    pairs = torch.randint(len(digits), (samples, 2), generator=generator)
    by_bits = ProgramProblem(
        ProgramCalls(total_of_bits, max_remembered=0),
        digits[pairs].sum(1),
        as_bits[pairs].flatten(1),
        symbols="sign",
        loss=distance,
    )
    return [
        made("sum-2", total, distance, 2),
        made("sum-4", total, distance, 4),
        made("sum-2-to-5", total, distance, 5, varies=True),
        made("product-mod-7", product_mod_7, is_wrong, 2),
        made("less", is_less, is_wrong, 2),
        made("order-3", order, wrong_places, 3),
        made("table", LookUp(table), is_wrong, 2),
        Instance("programs/sum-of-bits", by_bits),
    ]


def _trained(
    inputs: Tensor, labels: Tensor, outputs: int, loss: Callable[[Tensor, Tensor], Tensor], seed: int
) -> Tensor:
    """Logits `(N, outputs)` of a linear layer after six steps of Adam at 0.01, on 64 scans each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(inputs.shape[1], outputs)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    for batch in order[: 6 * 64].split(64):
        optimizer.zero_grad()
        loss(layer(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    return layer(inputs).detach()
