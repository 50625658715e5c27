"""Activations that a model calls as functions, so that `convert` finds no module to replace."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from torch import fx, nn

from tpsolve.errors import NotAcceptedError

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


def replace_calls(
    model: nn.Module, activation: type[nn.Module], threshold: Callable[[], nn.Module]
) -> tuple[nn.Module, int]:
    """`model` with a `threshold()` in place of each call of the activation's function, and how many.

    Each module whose own code calls it becomes one that `torch.fx` writes, with the same parts under the same names.

    Raises:
        NotAcceptedError: torch.fx can't follow the code of such a module, or the code depends on the module's mode.
    """
    function = next((name for kind, name in FUNCTIONS.items() if issubclass(activation, kind)), None)
    count = 0
    # What is inside comes first.
    for path, module in reversed(list(model.named_modules())):
        if function is None or type(module).__module__.startswith("torch.nn") or not _calls(type(module), function):
            continue
        made, own = _written(module, function, threshold, f"model.{path}".rstrip("."))
        count += own
        if module is model:
            model = made
        for parent in list(model.modules()):
            for name, child in parent._modules.items():
                if child is module:
                    parent._modules[name] = made
    return model, count


class _Tracer(fx.Tracer):
    """Takes all parts of a module as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _written(module: nn.Module, function: str, threshold: Callable[[], nn.Module], where: str) -> tuple[nn.Module, int]:
    """The module with thresholds in place of the calls in its own code, and how many."""
    graphs, mode = [], module.training
    try:
        for training in (not mode, mode):
            module.training = training
            graphs.append(_Tracer().trace(module))
    except Exception as error:  # Tracing runs the user's code on proxies, and may raise anything.
        first = (str(error) or type(error).__name__).partition("\n")[0]
        raise _refused(where, module, f"code that torch.fx can't follow ({first})") from error
    finally:
        module.training = mode
    if str(graphs[0]) != str(graphs[1]):
        raise _refused(where, module, "code that is another in training")
    graph, made, names = graphs[1], dict(module._modules), _names(function)
    nodes = [
        node
        for node in graph.nodes
        if (node.op == "call_function" and getattr(node.target, "__name__", "") in names)
        or (node.op == "call_method" and node.target in names)
    ]
    for node in nodes:
        number = 1
        while hasattr(module, name := f"{function}_{number}") or name in made:
            number += 1
        made[name] = threshold().train(mode)
        node.op, node.target = "call_module", name
        node.args, node.kwargs = (node.args[0] if node.args else node.kwargs["input"],), {}
    # The parts go in by themselves, so that those that the code doesn't call stay too.
    written = fx.GraphModule({**made, **_tensors(graph, module)}, graph, type(module).__name__)
    written._modules.update(made)
    written._parameters.update(module._parameters)
    written._buffers.update(module._buffers)
    written._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    written.training = mode
    return written, len(nodes)


def _tensors(graph: fx.Graph, module: nn.Module) -> dict[str, Any]:
    """What the graph reads of the module by name."""
    targets = [str(node.target) for node in graph.nodes if node.op in ("get_attr", "call_module")]
    found: dict[str, Any] = {}
    for target in targets:
        value: Any = module
        for part in target.split("."):
            value = getattr(value, part, None)
        if value is not None:
            found[target] = value
    return found


def _refused(where: str, module: nn.Module, got: str) -> NotAcceptedError:
    kind = type(module).__name__
    return NotAcceptedError(where, f"a {kind} of {got}", "calls that can be replaced", "Write modules in their place.")


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
