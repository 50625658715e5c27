"""The benchmark of training through programs: its peers estimate what they should, and the page shows its rows."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

# Behind all others, so that tpsolve is the installed one.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.program_methods import Exact, Indecater, Reinforce, Searched
from benchmarks.program_tasks import EVERY, ILL_FORMED, OPERATORS, TASKS
from docs import programs


def gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(own, labels), own)
    return found


def case() -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(1, 2, 10, generator=torch.Generator().manual_seed(0)), torch.tensor([9])


def probability(logits: Tensor, labels: Tensor) -> Tensor:
    p = torch.softmax(logits, 2)
    return sum((p[0, 0, a] * p[0, 1, 9 - a] for a in range(10)), torch.zeros(()))


def test_exact_inference_is_minus_the_log_of_the_sum_over_all_assignments():
    logits, labels = case()
    own = Exact(TASKS["sum of 2"], 64, 0)(logits, labels)
    assert own.item() == pytest.approx(-torch.log(probability(logits, labels)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "calls", "true"),
    [
        (Reinforce, 400, lambda z, y: -probability(z, y)),
        (Indecater, 2000, lambda z, y: -torch.log(probability(z, y))),
        (Searched, 60, lambda z, y: -torch.log(probability(z, y))),
    ],
    ids=["REINFORCE", "IndeCateR", "tpsolve"],
)
def test_the_mean_gradient_is_that_of_what_is_estimated(
    method: Any, calls: int, true: Callable[[Tensor, Tensor], Tensor]
):
    logits, labels = case()
    copies = logits.expand(300, -1, -1)
    settings = {"balance": 0, "confidence": 0} if method is Searched else {}
    loss_fn = method(TASKS["sum of 2"], calls, 0, **settings)
    found = gradient(loss_fn, copies, labels.expand(300)).sum(0)
    expected = gradient(true, logits, labels)[0]
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.98
    assert found.norm().item() == pytest.approx(expected.norm().item(), rel=0.15)
    assert 0 < loss_fn.calls <= 300 * calls


@pytest.mark.parametrize("name", EVERY)
def test_programs_give_one_whole_number_for_each_row(name: str):
    task = EVERY[name]
    digits = np.random.default_rng(0).integers(0, 10, (50, task.count))
    answers = task.program(digits)
    assert answers.shape == (50,)
    assert np.issubdtype(answers.dtype, np.integer)
    assert [int(task.program(row[None])[0]) for row in digits] == answers.tolist()


def test_formulas_are_those_of_python():
    task, generator = EVERY["formula of 5"], np.random.default_rng(0)
    for _ in range(50):
        symbols = generator.integers(0, 10, 5)
        symbols[1::2] = generator.integers(10, 13, 2)
        text = "".join(str(s) if s < 10 else OPERATORS[s - 10] for s in symbols)
        assert task.program(symbols[None])[0] == eval(text), text
    wrong = np.array([[1, 2, 3, 10, 4], [11, 10, 1, 10, 2]])
    assert (task.program(wrong) == ILL_FORMED).all()


def test_pages_show_the_saved_rows():
    rows = [json.loads(line) for line in programs.ROWS.read_text().splitlines()]
    page = programs.PAGE.read_text()
    assert programs.table(rows) in page
    assert programs.verdict(rows) in page
    assert programs.verdict(rows) in programs.SEARCH_PAGE.read_text()
    assert programs.moved_table(rows) in page
    assert programs.beside_peers(rows) in page
    assert programs.seconds_table(programs.read(programs.SECONDS)) in page
    assert programs.warm_table(programs.read(programs.WARM)) in page


def test_no_worse_than_a_peer_is_said_by_paired_differences():
    rows = [
        {"task": task, "method": method, "seed": seed, "accuracy": accuracy, "calls": 1 if method == "tpsolve" else 4}
        for task, method, seed, accuracy in [
            *(("even", "tpsolve", seed, 0.95) for seed in range(3)),
            *(("even", "ABLkit", seed, 0.955) for seed in range(3)),
            *(("wide", "tpsolve", seed, 0.5 + 0.2 * seed) for seed in range(3)),
            *(("wide", "ABLkit", seed, 0.69) for seed in range(3)),
            ("once", "tpsolve", 0, 0.9),
            ("once", "ABLkit", 0, 0.1),
        ]
    ]
    found = programs.differences(rows, "tpsolve", "ABLkit")
    assert found == {"even": pytest.approx([-0.5] * 3), "wide": pytest.approx([-19.0, 1.0, 21.0])}
    assert programs.lower_limit(found["even"]) == pytest.approx(-0.5)
    limits = scipy.stats.ttest_1samp(found["wide"], 0).confidence_interval(0.95)
    assert programs.lower_limit(found["wide"]) == pytest.approx(limits.low)
    assert "| ABLkit | 2 | +0.2 | 1 | wide (+1.0) | 2 |" in programs.beside_peers(rows)


def test_collapsed_runs_are_counted_by_accuracy_and_by_digits():
    assert programs.collapsed([95.0, 94.0, 50.0], [97.0, 97.0, 96.0], [10.0] * 3) == 1
    assert programs.collapsed([95.0, 94.0, 93.0], [97.0, 97.0, 10.0], [10.0] * 3) == 1
    assert programs.collapsed([95.0, 94.0, 93.0], [97.0, 97.0, 96.0], [10.0] * 3) == 0
