"""Threshold functions of a few binary inputs: what an output unit can make of its hidden units."""

import itertools
from functools import cache

import torch
from torch import Tensor

MAX_INPUTS = 5
_MAX_WEIGHT = (1, 1, 1, 2, 3, 5)
"""Whole weights that suffice for so many inputs (Muroga 1971)."""


@cache
def gates(inputs: int) -> Tensor:
    """Every threshold function of `inputs` <= 5 units: truth tables `(G, 2^inputs)` int8 in {-1, +1}.

    Column c holds the output where unit k outputs +1 if and only if bit k of c is 1. There are
    2, 4, 14, 104, 1882 and 94572 of them for 0 to 5 inputs. Don't change the tensor: it is shared.
    """
    if not 0 <= inputs <= MAX_INPUTS:
        raise ValueError(f"inputs: got {inputs}, expected 0 to {MAX_INPUTS}")
    codes = torch.arange(2**inputs)
    bits = (codes[:, None] >> torch.arange(inputs)) & 1
    # Functions of sorted positive weights; permuted and negated inputs give all the others.
    weights = range(_MAX_WEIGHT[inputs], -1, -1)
    sorted_weights = torch.tensor(list(itertools.combinations_with_replacement(weights, inputs)), dtype=torch.int64)
    sums = sorted_weights @ bits.T
    thresholds = torch.arange(int(sums.max()) + 2)
    tables = (sums[:, None] >= thresholds[:, None]).flatten(0, 1).unique(dim=0)
    numbers = (tables.long() << codes).sum(dim=1)
    variants = []
    for order in itertools.permutations(range(inputs)):
        permuted = bits[:, order] @ (1 << torch.arange(inputs))
        for flip in range(2**inputs):
            variants.append((((numbers[:, None] >> (permuted ^ flip)) & 1) << codes).sum(dim=1))
    every = torch.cat(variants).unique()
    return (((every[:, None] >> codes) & 1) * 2 - 1).to(torch.int8)
