"""DeepProbLog, exact inference by logic programs: its exact engine with the network and the optimizer of the benchmark.

`pip install --no-deps deepproblog problog pysdd` beside tpsolve; the other methods do without it. The programs are
written again in Prolog, so only tasks of few images and of plain arithmetic are here.
"""

import time
from typing import Any

import torch
from torch import nn

from benchmarks.program_tasks import Samples, Task

RULES = {
    "sum of 2": ("Z is A + B",),
    "sum of 3": ("Z is A + B + C",),
    "a mod (b + 1)": ("Z is A mod (B + 1)",),
    "a < b": ("A < B, Z = 1", "A >= B, Z = 0"),
    "(a + b) mod 3": ("Z is (A + B) mod 3",),
    "a = b": ("A == B, Z = 1", r"A \== B, Z = 0"),
    "a b": ("Z is A * B",),
    "a + b - c": ("Z is A + B - C",),
    "not 3 or 4": ("(A == 3; A == 4), Z = 0", r"A \== 3, A \== 4, Z = 1"),
    "|a - b|": ("Z is abs(A - B)",),
    "a b + c": ("Z is A * B + C",),
}
"""Of each task the bodies of its clauses, after the digits A, B and C were read; Z is the answer."""


def logic_program(name: str, count: int) -> str:
    """The task `name` of `count` images in the language of DeepProbLog."""
    images, digits = [f"I{place}" for place in range(count)], "ABC"[:count]
    reads = ", ".join(f"digit({image}, {digit})" for image, digit in zip(images, digits, strict=True))
    head = f"answer({', '.join(images)}, Z)"
    values = ", ".join(map(str, range(10)))
    lines = [
        f"nn(reader, [X], Y, [{values}]) :: digit(X, Y).",
        *(f"{head} :- {reads}, {body}." for body in RULES[name]),
    ]
    return "\n".join(lines)


class DeepProbLog:
    """Training as DeepProbLog does it: each label is a query, whose proofs give its probability and the gradient."""

    def __init__(self, name: str, task: Task):
        self.name, self.task, self.calls = name, task, 0

    def train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, samples: Samples, epochs: int, batch: int, ends: float
    ) -> None:
        """So many loops over all samples, or fewer if the processor's time `ends` comes first."""
        from deepproblog.dataset import DataLoader, QueryDataset  # pyright: ignore[reportMissingImports]
        from deepproblog.engines import ExactEngine  # pyright: ignore[reportMissingImports]
        from deepproblog.model import Model  # pyright: ignore[reportMissingImports]
        from deepproblog.network import Network  # pyright: ignore[reportMissingImports]
        from deepproblog.query import Query  # pyright: ignore[reportMissingImports]
        from deepproblog.train import train_model  # pyright: ignore[reportMissingImports]
        from deepproblog.utils.stop_condition import EpochStop  # pyright: ignore[reportMissingImports]
        from problog.logic import Constant, Term  # pyright: ignore[reportMissingImports]

        reader = Network(nn.Sequential(model, nn.Softmax(1)), "reader", optimizer, batching=True)
        logic = Model(logic_program(self.name, self.task.count), [reader], load=False)
        logic.set_engine(ExactEngine(logic), cache=True)
        logic.add_tensor_source("train", {(Constant(place),): image for place, image in enumerate(samples.images)})
        places = [Term(f"p{place}") for place in range(self.task.count)]
        queries = [
            Query(
                Term("answer", *places, Constant(label)),
                {p: Term("tensor", Term("train", Constant(i))) for p, i in zip(places, group, strict=True)},
            )
            for group, label in zip(samples.groups.tolist(), samples.labels.tolist(), strict=True)
        ]

        class Stop(EpochStop):  # pyright: ignore[reportUntypedBaseClass]
            """Asked after each batch."""

            def is_stop(self, train_object: Any) -> bool:
                """Whether the epochs or the seconds have ended."""
                return time.process_time() > ends or super().is_stop(train_object)

        train_model(logic, DataLoader(QueryDataset(queries), batch, shuffle=True), Stop(epochs), log_iter=10**9)
