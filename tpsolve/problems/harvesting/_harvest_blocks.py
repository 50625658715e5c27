"""Block problems taken from a network: for each hard threshold, the part of the model that reads it."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tpsolve.errors import NotAcceptedError
from tpsolve.problems.block._block_problem import BlockProblem
from tpsolve.problems.block._cut import cut, dependents, trace
from tpsolve.problems.block._deep_copied import deep_copied
from tpsolve.thresholds import HardThreshold


def harvest_blocks(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    loss: str = "hinge",
    stay: float = 0.0,
    candidates: int = 32,
    max_bytes: int = 2**28,
) -> dict[str, BlockProblem]:
    """One problem for each hard threshold of `model`, by the threshold's name, lowest first.

    The block is what lies between the outputs of the threshold and the pre-activations of the thresholds
    that read them: convolutions, normalisation with frozen statistics, pooling, residual branches. Its
    targets are s = sign(-g) with importance weights |g|, where g is the gradient of the cross-entropy,
    summed over the samples, at the outputs of those thresholds (Friesen and Domingos (2018), section
    3.3). Where several thresholds read it, their pre-activations are put side by side. Where the
    model's output can be reached without passing another threshold, the block goes up to that output,
    through thresholds beside it, and the problem is the cross-entropy of the labels. Values that a
    block needs and that do not depend on its targets, such as what a residual branch brings from below,
    become its `context`.

    A copy of the model is read in evaluation mode. The model is left as it was. A threshold is a module
    without parts, or a function of torch, whose output is the sign of its input; or a `HardThreshold(low=0)`.

    Args:
        model: what `torch.fx` can trace: no branch in it depends on the data.
        inputs: `(B, ...)`, what the model takes; its only argument.
        labels: `(B,)` int64 class labels of its outputs `(B, classes)`.
        loss: the layer loss of all but the topmost problems.
        stay, candidates, max_bytes: of every problem.

    Raises:
        NotAcceptedError: the model can't be traced, has no threshold, or does not return `(B, classes)`.
        BlockError: what lies above a threshold is not a function of each sample by itself.
    """
    frozen = deep_copied(model).eval().requires_grad_(False)
    traced = _traced(frozen, inputs)
    run = _Recorder(traced)
    with torch.enable_grad():
        outputs = run.run(inputs)
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(labels):
        got = f"outputs {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise NotAcceptedError("model", got, f"({len(labels)}, classes)")
    tops = {node: _tops(node, run.thresholds) for node in run.thresholds}
    read = [node for node in run.thresholds if tops[node]]
    if not read:
        raise NotAcceptedError("model", "no hard threshold", "one whose outputs lead to the model's", "Add one.")
    total = functional.cross_entropy(outputs, labels, reduction="sum")
    gradients = dict(zip(read, torch.autograd.grad(total, [run.env[node] for node in read]), strict=True))

    found: dict[str, BlockProblem] = {}
    for node in read:
        ends = [top.all_input_nodes[0] for top in tops[node]]
        graph, besides = cut(traced, node, ends, dependents(node), run.env)
        context = [run.env[other].detach() for other in besides]
        if tops[node][0].op == "output":
            aim = {"targets": labels, "loss": "cross-entropy"}
        else:
            # Of spins in place of the outputs.
            above = [gradients[top] if run.low(top) else gradients[top] / 2 for top in tops[node]]
            g = above[0] if len(above) == 1 else torch.cat([part.flatten(1) for part in above], 1)
            aim = {"targets": -g.sign(), "loss": loss, "unit_weight": g.abs()}
        rest = {"stay": stay, "context": context, "candidates": candidates, "max_bytes": max_bytes}
        unit = HardThreshold(low=run.low(node))
        start = unit.to_spins(run.env[node].detach())
        found[_name(node, found)] = BlockProblem(_SideBySide(graph, unit), start=start, **aim, **rest)
    return found


def _traced(model: nn.Module, inputs: Tensor) -> fx.GraphModule:
    try:
        return trace(model, (inputs,))[0]
    except Exception as error:  # Tracing runs the model's own code, which may raise anything.
        raise NotAcceptedError(
            "model",
            f"{type(error).__name__} ({error}) when traced",
            "a model that torch.fx can trace",
            "Take branches on data out of its forward, or build BlockProblem from the part above by hand.",
        ) from error


class _Recorder(fx.Interpreter):
    """Runs a model and keeps the value of every node; gradients begin at the lowest thresholds."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.thresholds: list[fx.Node] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self._is_threshold(n, value):
            value = value if value.requires_grad else value.detach().requires_grad_()
            self.thresholds.append(n)
        return value

    def _is_threshold(self, node: fx.Node, value: Any) -> bool:
        if node.op not in ("call_module", "call_function", "call_method") or len(node.all_input_nodes) != 1:
            return False
        below = self.env[node.all_input_nodes[0]]
        return (
            isinstance(value, Tensor)
            and isinstance(below, Tensor)
            and value.dtype == below.dtype
            and torch.equal(value, HardThreshold(low=self.low(node)).activate(below))
            and not torch.equal(value, below)
        )

    def low(self, node: fx.Node) -> int:
        """The lower output of the threshold at a node: 0 of a `HardThreshold` that has it, else -1."""
        assert isinstance(self.module, nn.Module)
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        return module.low if isinstance(module, HardThreshold) else -1


class _SideBySide(nn.Module):
    """What several thresholds read, as one tensor; of one threshold as it is."""

    def __init__(self, graph: fx.GraphModule, below: HardThreshold) -> None:
        super().__init__()
        self.graph, self.from_spins = graph, below.from_spins

    def forward(self, targets: Tensor, *context: Tensor) -> Tensor:
        parts = self.graph(self.from_spins(targets), *context)
        return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], 1)


def _tops(node: fx.Node, thresholds: list[fx.Node]) -> list[fx.Node]:
    """Where the block above `node` ends: the model's output if it can be reached, else the next thresholds."""
    reached = dependents(node, thresholds)
    output = [user for user in reached if user.op == "output"]
    return output or [user for user in reached if user in thresholds]


def _name(node: fx.Node, taken: dict[str, BlockProblem]) -> str:
    """The module's name; a module that is called again gets a number."""
    name = str(node.target) if node.op == "call_module" else node.name
    again = sum(other == name or other.startswith(f"{name}:") for other in taken)
    return f"{name}:{again + 1}" if again else name
