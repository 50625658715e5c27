"""How good a network is: losses and hits, summed on its device."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def counted(loss: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """Summed loss, hits, samples and a 0 of a batch: `(4,)` float64, without waiting for the device."""
    hits = (outputs.argmax(1) == labels).sum()
    samples = torch.full_like(loss, len(labels))
    return torch.stack([loss.double() * samples, hits.double(), samples.double(), torch.zeros_like(loss).double()])


@torch.no_grad()
def measured(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], arithmetic: Callable[[], AbstractContextManager]
) -> Tensor:
    """What `counted` gives, summed over `batches`; each forward pass runs in a context of `arithmetic`."""
    model.eval()
    total = torch.zeros(4, dtype=torch.float64, device=next(model.parameters()).device)
    for inputs, labels in batches:
        with arithmetic():
            outputs = model(inputs)
        total += counted(cross_entropy(outputs.float(), labels), outputs, labels)
    return total
