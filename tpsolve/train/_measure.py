"""How good a network is: losses and hits, summed on its device.

What is summed over batches are six figures: loss times samples; hits; samples; samples without targets (of each
threshold whose search failed, or without consistent symbols); symbols read rightly below a program; its calls.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

FIGURES = 6
LossFunction = Callable[[Tensor, Tensor], Tensor]
Counter = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of loss, outputs and labels of a batch: `(6,)` float64."""


def counted(loss: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """The figures of a batch whose labels `(B,)` are classes, 0 where they have no meaning; without waiting."""
    hits = (outputs.argmax(1) == labels).sum()
    samples = torch.full_like(loss, len(labels))
    none = torch.zeros_like(loss).double()
    return torch.stack([loss.double() * samples, hits.double(), samples.double(), none, none, none])


@torch.no_grad()
def measured(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    arithmetic: Callable[[], AbstractContextManager],
    loss: LossFunction = cross_entropy,
    count: Counter = counted,
) -> Tensor:
    """What `count` gives, summed over `batches`; each forward pass runs in a context of `arithmetic`."""
    model.eval()
    total = torch.zeros(FIGURES, dtype=torch.float64, device=next(model.parameters()).device)
    for inputs, labels in batches:
        with arithmetic():
            outputs = model(inputs)
        total += count(loss(outputs.float(), labels), outputs, labels)
    return total
