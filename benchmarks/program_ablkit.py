"""ABLkit, an abductive-learning library: its default reasoner with the network and the optimizer of the benchmark.

`pip install ablkit` beside tpsolve; the other methods do without it.
"""

import contextlib
import logging
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.program_tasks import Samples, Task

SEGMENT = 0.01
"""Share of the samples between two abductions, as in ABLkit's own example of MNIST addition."""


class TimeEndedError(Exception):
    """Ends a training of which nothing else can be told to stop."""


class Ablkit:
    """Training as ABLkit does it: the network labels images, the reasoner revises labels, the network learns them."""

    def __init__(self, task: Task):
        self.task, self.calls = task, 0

    def train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, samples: Samples, epochs: int, batch: int, ends: float
    ) -> None:
        """So many loops over all samples, or fewer if the processor's time `ends` comes first."""
        from ablkit.bridge import SimpleBridge  # pyright: ignore[reportMissingImports]
        from ablkit.data.evaluation import SymbolAccuracy  # pyright: ignore[reportMissingImports]
        from ablkit.learning import ABLModel, BasicNN  # pyright: ignore[reportMissingImports]
        from ablkit.reasoning import KBBase, Reasoner  # pyright: ignore[reportMissingImports]

        logging.disable(logging.INFO)
        outer = self

        class Knowledge(KBBase):  # pyright: ignore[reportUntypedBaseClass]
            """What the program makes of a list of digits."""

            def logic_forward(self, pseudo_label: list[int]) -> int:
                """Called by the reasoner."""
                outer.calls += 1
                if time.process_time() > ends:
                    raise TimeEndedError
                return int(outer.task.program(np.array([pseudo_label]))[0])

        learner = ABLModel(BasicNN(model, nn.CrossEntropyLoss(), optimizer, batch_size=batch, num_epochs=1))
        reasoner = Reasoner(Knowledge(pseudo_label_list=list(range(self.task.classes))))
        bridge = SimpleBridge(learner, reasoner, [SymbolAccuracy()])
        inputs = [list(samples.images[group]) for group in samples.groups]
        data: Any = (inputs, None, samples.labels.tolist())
        few = (inputs[:2], [[0] * self.task.count] * 2, samples.labels[:2].tolist())
        with contextlib.suppress(TimeEndedError):
            bridge.train(train_data=data, val_data=few, loops=epochs, segment_size=SEGMENT, eval_interval=epochs + 1)
