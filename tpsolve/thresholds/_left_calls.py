"""Activations that a model calls as functions, so that `convert` finds no module to replace."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import nn

FUNCTIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.CELU: "celu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Hardtanh: "hardtanh",
    nn.Hardswish: "hardswish",
    nn.Softplus: "softplus",
}
"""The name of the function of each activation, in torch or torch.nn.functional, or as a method of tensors."""


def left_calls(model: nn.Module, activation: type[nn.Module]) -> list[str]:
    """Where the code of `model` calls the function of `activation`: "relu in Net (model.block)", each class once.

    It reads the source of the classes of the model's modules, those of torch aside, and their attributes. What has no
    source, or is called under another name, it does not find.
    """
    function = next((name for kind, name in FUNCTIONS.items() if issubclass(activation, kind)), None)
    if function is None:
        return []
    found: dict[type, str] = {}
    for path, module in model.named_modules():
        kind, where = type(module), f"model.{path}".rstrip(".")
        held = [name for name, value in vars(module).items() if getattr(value, "__name__", "") in _names(function)]
        if held:
            found.setdefault(kind, f"{function} as {where}.{held[0]}")
        elif not kind.__module__.startswith("torch.nn") and _calls(kind, function):
            found.setdefault(kind, f"{function} in {kind.__name__} ({where})")
    return list(found.values())


def _names(function: str) -> tuple[str, str]:
    return function, f"{function}_"


@cache
def _calls(kind: type, function: str) -> bool:
    """Whether the source of a class calls the function."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return False
    return any(_is_call(node, function) for node in _calls_in(tree))


def _calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _is_call(node: ast.Call, function: str) -> bool:
    called: Any = node.func
    if isinstance(called, ast.Name):
        return called.id in _names(function)
    # A module of this name is called as self.relu(x) or block.relu(x): then it is no function of a tensor.
    if not isinstance(called, ast.Attribute) or called.attr not in _names(function):
        return False
    owner = ast.unparse(called.value)
    return owner in ("F", "torch") or owner.endswith("functional") or (not node.args and "self" not in owner)
