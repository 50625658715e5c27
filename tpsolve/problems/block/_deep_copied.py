"""Deep copies of modules."""

import copy
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def deep_copied(module: Module, memo: dict[int, Any] | None = None) -> Module:
    """`copy.deepcopy` of a module.

    A copy of `nn.TransformerDecoderLayer` computes with ReLU where its activation is a module, which it only keeps.
    Here it computes with that module.

    Raises:
        Exception: of any kind, from what can't be copied.
    """
    made = copy.deepcopy(module, memo)
    for part in made.modules():
        if isinstance(part, nn.TransformerDecoderLayer) and "activation" in part._modules:
            vars(part).pop("activation", None)
    return made
