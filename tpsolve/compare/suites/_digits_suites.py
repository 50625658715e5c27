"""The digits suite: layer problems harvested from a hard-threshold network while it learns real scans."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from tpsolve.nn import HardThreshold
from tpsolve.problems import Instance, LayerProblem, harvest
from tpsolve.train.data._digits import scans

WIDTHS = (64, 32, 32, 10)
MOMENTS = (0, 2, 10)
"""Epochs after which problems are taken."""
LOSSES = ("hinge", "saturated-hinge", "soft-hinge")
"""Layer losses of the hidden layer's problems."""


def load_digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits: inputs `(1797, 64)` float32 in [-1, 1], labels `(1797,)` int64."""
    pixels, labels = scans()
    return pixels.float() / 8 - 1, labels.clone()


def new_network(widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """Linear layers of `widths`, each but the last followed by a hard threshold; torch's own initialisation."""
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m), HardThreshold("soft-hinge")]
    return nn.Sequential(*layers[:-1])


def digits(samples: int, seed: int) -> list[Instance[LayerProblem]]:
    """Problems of `samples` digits each, from the two upper layers, at each of `MOMENTS`.

    The network learns by the closed-form rule: Adam at 0.01, batches of 64. `seed` draws its weights,
    the batches and the samples.
    """
    inputs, labels = load_digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = new_network()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    instances = []
    for epoch in range(max(MOMENTS) + 1):
        if epoch in MOMENTS:
            picked = torch.randperm(len(labels), generator=generator)[:samples]
            for found in harvest(model, inputs[picked], labels[picked], losses=LOSSES):
                name = f"digits/epoch-{epoch}/layer-{found.name}"
                instances.append(Instance(name, found.problem))
        for batch in torch.randperm(len(labels), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    return instances


WIDE = ((64, 1024, 256, 10), (64, 1024, 10), (64, 256, 256, 10))
"""Networks whose layers have 256 to 1024 targets below 10 to 256 units."""


def wide(samples: int, seed: int) -> list[Instance]:
    """Problems of `samples` digits each, from the upper layers of wider networks after one epoch.

    The networks learn as those of `digits`. Layer losses: hinge and squared, and the cross-entropy on top.
    """
    inputs, labels = load_digits()
    instances = []
    for widths in WIDE:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = new_network(widths)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for batch in torch.randperm(len(labels), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
        picked = torch.randperm(len(labels), generator=generator)[:samples]
        for found in harvest(model, inputs[picked], labels[picked], losses=("hinge", "squared")):
            instances.append(Instance(f"wide/{'-'.join(map(str, widths))}/layer-{found.name}", found.problem))
    return instances
