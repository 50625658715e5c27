"""Folded networks whose layers of few values are packed."""

import copy

import numpy as np
import torch
from torch import fx, nn

from tpsolve.errors import NotAcceptedError
from tpsolve.nn.deployment._packed_layer import Packed
from tpsolve.nn.deployment._way import Graph, whole_weights
from tpsolve.thresholds._base import first_input
from tpsolve.thresholds._channel_norm import numbers


def pack(network: fx.GraphModule) -> fx.GraphModule:
    """See `Folded.pack`."""
    network = copy.deepcopy(network)
    graph = Graph(network)
    found: dict[str, Packed] = {}
    for node in network.graph.nodes:
        layer = graph.module(node)
        plain = type(layer) is nn.Linear or (type(layer) in (nn.Conv1d, nn.Conv2d) and layer.padding_mode == "zeros")
        low = graph.low_of(first_input(node.args, node.kwargs)) if plain else None
        # Called several times, a layer may read other inputs each time.
        if low is None or graph.calls[str(node.target)] > 1:
            continue
        few = whole_weights(numbers(layer.weight))
        if few is None or np.abs(few[0]).max(initial=0.0) > 1:
            continue
        like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
        scale = None if (few[1] == 1).all() else torch.tensor(few[1], **like)
        found[str(node.target)] = Packed(layer, torch.tensor(few[0], **like), scale, low)
    if not found:
        expected = "at least one that reads hard thresholds, with weights -1, 0 and +1 times a scale"
        raise NotAcceptedError("network", "no layer of few values", expected, "tpsolve.nn.binarize makes them.")
    for name, layer in found.items():
        network.set_submodule(name, layer)
    return network.eval()
