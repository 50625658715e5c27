"""Models of `fully_shard` for the time of a copy: plain modules again, with whole parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def is_sharded(model: nn.Module) -> bool:
    """Whether `fully_shard` was applied to the model or a part of it."""
    # By its name: to import what shards takes a second, and who uses it has done so.
    return any(kind.__name__ == "FSDPModule" for module in model.modules() for kind in type(module).__mro__)


@contextmanager
def gathered(model: nn.Module) -> Iterator[dict[int, Any]]:
    """Inside, a deep copy with this memo is one of the model before `fully_shard`, with whole parameters.

    All processes of the group must enter it, in the same order.
    """
    from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
    from torch.distributed._composable_state import _State

    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        whole = getattr(parameter, "full_tensor", None)
        if whole is not None:
            memo[id(parameter)] = nn.Parameter(whole().detach(), parameter.requires_grad)
    before = [(module, type(module), dict(vars(module))) for module in model.modules()]
    try:
        for module, kind, own in before:
            for key in (STATE_KEY, REGISTRY_KEY):
                vars(module).pop(key, None)
            for name in ("_forward_pre_hooks", "_forward_hooks"):
                left = {n: h for n, h in own[name].items() if not isinstance(getattr(h, "__self__", None), _State)}
                vars(module)[name] = type(own[name])(left)
            if "FSDPModule" in (base.__name__ for base in kind.__bases__):
                module.__class__ = next(base for base in kind.__bases__ if base.__name__ != "FSDPModule")
        yield memo
    finally:
        for module, kind, own in before:
            module.__class__ = kind
            vars(module).clear()
            vars(module).update(own)
