"""What stands below each threshold of a traced network: pooling, a batch norm, and the layer that makes the sums."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from tpsolve.nn.deployment._channel_threshold import ChannelThreshold
from tpsolve.thresholds import HardThreshold
from tpsolve.thresholds._base import first_input

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
SUMS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_POOL_FUNCTIONS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_MOVES = ("flatten", "view", "reshape")


@dataclass
class Way:
    """The nodes from a threshold down to what it reads.

    Args:
        name: of the threshold; of one that is called several times name#1, name#2, ...
        threshold: its node.
        norm: the node of the batch norm, or None.
        source: the node that makes the pre-activations: above it stand only pooling, batch norm and what does nothing.
        sums: the linear layer or convolution at `source`; None: it is something else, or its sums are read elsewhere.
        above, below: whether there is max pooling above the batch norm, and below it.
    """

    name: str
    threshold: fx.Node
    norm: fx.Node | None
    source: fx.Node
    sums: Any = None
    above: bool = False
    below: bool = False
    steps: list[fx.Node] = field(default_factory=list)
    """Between source and threshold, from below, without the batch norm."""


class Graph:
    """A traced network and its modules by node."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")

    def module(self, node: Any) -> Any:
        """The module that a node calls, or None."""
        called = isinstance(node, fx.Node) and node.op == "call_module"
        return self.traced.get_submodule(str(node.target)) if called else None

    def ways(self) -> list[Way]:
        """One for each call of a hard threshold."""
        turns: Counter[str] = Counter()
        found = []
        for node in self.traced.graph.nodes:
            if type(self.module(node)) is HardThreshold:
                name = str(node.target)
                turns[name] += 1
                found.append(self._way(node, f"{name}#{turns[name]}" if self.calls[name] > 1 else name))
        return found

    def _way(self, threshold: fx.Node, name: str) -> Way:
        way = Way(name, threshold, None, threshold)
        node: Any = first_input(threshold.args, threshold.kwargs)
        while True:
            module, alone = self.module(node), len(node.users) == 1
            if alone and way.norm is None and type(module) in NORMS and self.calls[str(node.target)] == 1:
                way.norm = node
            elif alone and self._pools(node):
                if way.norm is None:
                    way.above = True
                else:
                    way.below = True
                way.steps.insert(0, node)
            elif alone and does_nothing(module):
                way.steps.insert(0, node)
            else:
                break
            node = first_input(node.args, node.kwargs)
        way.source = node
        if way.norm is None:
            way.above, way.below = False, way.above
        if alone and type(module) in SUMS and self.calls[str(node.target)] == 1:
            way.sums = module
        return way

    def _pools(self, node: fx.Node) -> bool:
        module = self.module(node)
        if type(module) in _POOLS:
            return not module.return_indices
        return node.op == "call_function" and node.target in _POOL_FUNCTIONS

    def low_of(self, node: Any) -> int | None:
        """-1 or 0, if a node's values are outputs {low, 1} of hard thresholds, pooled or rearranged; else None."""
        while isinstance(node, fx.Node):
            module = self.module(node)
            if type(module) in (HardThreshold, ChannelThreshold):
                return module.low
            if node.op == "call_function" and node.target is torch.cat:
                parts: Any = node.args[0]
                found = {self.low_of(part) for part in parts}
                return found.pop() if len(found) == 1 else None
            moves = type(module) is nn.Flatten or does_nothing(module) or self._pools(node)
            if node.op in ("call_method", "call_function"):
                moves = moves or getattr(node.target, "__name__", node.target) in _MOVES
            if not moves:
                return None
            node = first_input(node.args, node.kwargs)
        return None

    def reads(self, node: fx.Node) -> str:
        """What a node is, for a message."""
        module = self.module(node)
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        return f"{what} at {node.target if module is not None else node.name}"


def does_nothing(module: Any) -> bool:
    """Whether a module hands on what it reads, in evaluation mode."""
    return type(module) in _NOTHING or (type(module) is nn.Sequential and not len(module))


def whole_weights(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Whole numbers `(channels, ...)` and positive scales `(channels,)` whose products are `weight`, or None.

    The numbers are -1, 0 and +1 where the weights of a channel have one absolute value besides 0.
    """
    sizes = np.abs(weight).reshape(len(weight), -1)
    scale = sizes.max(axis=1, initial=0.0)
    # A channel of zeros may have any scale.
    scale = np.where(scale == 0, 1.0, scale)
    if not ((sizes == 0) | (sizes == scale[:, None])).all():
        if not (weight == np.round(weight)).all():
            return None
        scale = np.ones_like(scale)
    return weight / scale.reshape(-1, *[1] * (weight.ndim - 1)), scale
