"""Networks whose batch norms have become thresholds: of whole numbers where weights and inputs have few values."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from tpsolve._check_arguments import check_finite
from tpsolve.errors import ArgumentError, ContradictionError, NotAcceptedError
from tpsolve.nn.deployment._binarize import remove
from tpsolve.nn.deployment._channel_threshold import ChannelThreshold
from tpsolve.nn.deployment._export_network import NetworkExport, export
from tpsolve.nn.deployment._pack_network import pack
from tpsolve.nn.deployment._way import NORMS, Graph, Way, whole_weights
from tpsolve.nn.passes._nests import arguments_of
from tpsolve.nn.passes._recording import unwrap
from tpsolve.problems.block._cut import trace
from tpsolve.problems.block._deep_copied import deep_copied
from tpsolve.thresholds import HardThreshold, find_thresholds
from tpsolve.thresholds._base import first_input
from tpsolve.thresholds._channel_norm import ChannelNorm, first, numbers
from tpsolve.thresholds._hard_unit import HardUnit

_EXACT = {torch.float32: 2**24, torch.float64: 2**53}
"""Up to which whole numbers a dtype holds all."""
_OF_SAMPLES = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _InstanceNorm)
"""Norms that can't be part of a threshold, which would be another one for each sample."""
_ROUNDINGS = 8
"""By how many roundings of its terms batch norm may err, besides those of the sum."""


@dataclass(frozen=True)
class FoldedThreshold:
    """One threshold of a folded network.

    Args:
        norm: the name of the batch norm that became part of it; "": there was none.
        channels: how many thresholds it has.
        whole: whether they are whole numbers, compared with whole sums of weights that are whole numbers.
        negative, constant: how many channels had a negative scale, or give one output whatever they read.
        units: on how many outputs it was compared with the network, on the data.
        others: on how many of them the network's own rounding gives the other output.
        ties: of the two values next to the boundary of each channel, at how many it does.
    """

    norm: str
    channels: int
    whole: bool
    negative: int
    constant: int
    units: int
    others: int
    ties: int


class Folded(nn.Module):
    """A network after `fold`: for evaluation only, without gradients.

    Args:
        network: the graph.
        thresholds: of each call of a hard threshold that was folded, by its name.
        left: what stays as it was, by its name, and why.
        samples: on how many samples it was compared with the network.
        others: of how many of them the outputs differ.
    """

    network: fx.GraphModule
    thresholds: dict[str, FoldedThreshold]
    left: dict[str, str]
    samples: int
    others: int

    def __init__(
        self,
        network: fx.GraphModule,
        thresholds: dict[str, FoldedThreshold],
        left: dict[str, str],
        samples: int,
        others: int,
    ) -> None:
        super().__init__()
        self.network, self.thresholds, self.left = network.eval().requires_grad_(False), thresholds, left
        self.samples, self.others = samples, others
        super().train(False)

    def train(self, mode: bool = True) -> "Folded":
        """Itself, in evaluation mode: its batch norms are gone."""
        return super().train(False)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the network outputs for `inputs` in evaluation mode; by place or by name, as the model takes them."""
        with torch.no_grad():
            return self.network(*inputs, **named)

    def pack(self) -> fx.GraphModule:
        """A copy whose layers of few values compute with 64 bits a word: a reference for hardware, not a fast one.

        A linear layer or a convolution over one or two axes is packed if it reads outputs of hard thresholds and its
        weights are -1, 0 and +1, times a scale for each channel. Its weights take one bit, two if some are 0. Exclusive
        or and population count then give the same sums without rounding; a bias is added. Other layers stay.

        Raises:
            NotAcceptedError: there is no such layer.
        """
        return pack(self.network)

    def export(self, path: str | PathLike[str], inputs: Any, *, qonnx: bool = False) -> NetworkExport:
        """Write the network as an ONNX graph in float32, and compare it with this one on `inputs`.

        Thresholds are `Sign` of what is never 0, so that a tie gives +1 as here. With `qonnx` they are `BipolarQuant`
        of QONNX, and weights of few values are `BipolarQuant` and `Quant`. onnxruntime runs the graph, or the executor
        of qonnx does, if they are installed. Sums of few values are exact. Others are rounded, in an order that is up
        to the tool: where such a sum is nearer to its threshold than rounding is, the sample is not compared further,
        and counted. Any other difference raises, and no file is written.

        Args:
            inputs: `(N, ...)`, or several in a tuple, or in a mapping by name. The graph takes any number of samples,
                with `qonnx` just N.

        Raises:
            ArgumentError: inputs that the network does not take.
            ExportError: a module or function that this exporter does not know, named; or another output.
            MissingLibraryError: the library onnx is not installed.
            FolderError: the folder does not exist or can't be written.
        """
        given, named = arguments_of(inputs)
        if named:
            names = [str(node.target) for node in self.network.graph.nodes if node.op == "placeholder"]
            if set(names) != set(named):
                raise ArgumentError("inputs", f"a mapping of {', '.join(named)}", f"one of {', '.join(names)}")
            given = tuple(named[name] for name in names)
        return export(self.network, path, given, qonnx)

    def __str__(self) -> str:
        lines = []
        for name, one in self.thresholds.items():
            words = f"{name}: {one.channels} {'whole' if one.whole else 'real'} thresholds"
            words += f", with {one.norm}" if one.norm else ""
            words += f", {one.negative} turned" if one.negative else ""
            words += f", {one.constant} constant" if one.constant else ""
            lines.append(f"{words}; {one.units - one.others:,} of {one.units:,} outputs equal")
        lines += [f"{name}: left, {why}" for name, why in self.left.items()]
        return "\n".join([*lines, f"outputs equal on {self.samples - self.others:,} of {self.samples:,} samples"])


def fold(model: nn.Module, inputs: Tensor | tuple[Any, ...] | Mapping[str, Any]) -> Folded:
    """A copy of `model` in which batch norms are part of the thresholds above them; for evaluation.

    A threshold above a batch norm fires where weight (z - mean) / sqrt(var + eps) + bias >= 0. So it fires from some
    value of z on, up to some value if the weight is negative, or always or never if the weight is 0. Max pooling may
    stand anywhere between. That value is found in exact arithmetic. What is kept is the number of the dtype that gives
    the same answer for every z of this dtype.

    The layer below may read spins, or outputs in {0, 1}, and have weights of one absolute value besides 0 in each
    channel, as `binarize` makes them. Then its sums are whole. Its weights become -1, 0 and +1, and the thresholds
    whole numbers, which take up its scale and bias.

    The model may have branches. It is traced by `torch.fx`. What is folded is compared with it in two ways: on
    `inputs`, each threshold from the model's own inputs of the layer below it, and at the two neighbouring values next
    to the boundary of each channel. The answer of the folded network is that of exact arithmetic, so the model's own
    rounding may give another one right at a boundary. Such outputs are counted. Any other difference raises.

    Args:
        inputs: of the model, `(N, ...)`; several in a tuple, or in a mapping by name.

    Returns:
        The network, what was folded, and by name what was left and why: batch norms below something else than a hard
        threshold, layer norms below one, staircases, choices.

    Raises:
        NotAcceptedError: no thresholds, or a model that can't be traced.
        NotFiniteError: weights, statistics or inputs that are not finite.
        ArgumentError: another dtype than float32 or float64, or no samples.
        ContradictionError: the folded network differs from the model by more than rounding.
    """
    find_thresholds(model)
    arguments, keywords = arguments_of(inputs)
    alone = isinstance(inputs, Tensor)
    for name, one in (*enumerate(arguments), *keywords.items()):
        if isinstance(one, Tensor) and one.is_floating_point():
            check_finite("inputs" if alone else f"inputs[{name!r}]", one)
    leading = next(iter((*arguments, *keywords.values())), None)
    if not isinstance(leading, Tensor) or not leading.dim() or not len(leading):
        got = type(inputs).__name__ + (" without samples" if isinstance(inputs, Tensor | tuple | Mapping) else "")
        expected = "a tensor (N, ...) of at least one sample, or several in a tuple or a mapping"
        raise ArgumentError("inputs", got, expected)
    samples = len(leading)
    model = deep_copied(unwrap(model)).eval()
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # pyright: ignore[reportArgumentType]
                remove(module, name)
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if not dtypes <= _EXACT.keys() or len(dtypes) > 1:
        got = " and ".join(sorted(map(str, dtypes)))
        raise ArgumentError("model", f"parameters of {got}", "float32 or float64 alone", "Convert it with .float().")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            check_finite(name, tensor)
    try:
        traced, given = _trace(model, arguments, keywords)
        graph = Graph(traced)
        ways = graph.ways()
        values = _Values(traced, ways)
        with torch.no_grad():
            output = values.run(*given)
    except Exception as error:  # The forward pass is the user's own, and may raise anything, also without words.
        first = str(error).strip().partition("\n")[0]
        what = f"a model that torch.fx can't run ({type(error).__name__}: {first})"
        raise NotAcceptedError("model", what, "one whose forward pass can be traced, and its inputs") from error
    found: dict[str, FoldedThreshold] = {}
    changes: list[Callable[[], None]] = []
    for way in ways:
        made = _Folding.of(graph, way, values.kept)
        if made is not None:
            found[way.name] = made.compared()
            changes.append(made.put_in)
    for change in changes:
        change()
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    folded = Folded(traced, found, _left(graph), samples, 0)
    folded.others = _others(output, folded(*given), samples)
    return folded


def _trace(model: nn.Module, given: Sequence[Any], named: Mapping[str, Any]) -> tuple[fx.GraphModule, list[Any]]:
    """The graph and its inputs in order, with thresholds inside torch's own modules too where these can be traced."""
    try:
        return trace(model, given, named, apart=HardUnit)
    except Exception:  # Tracing runs code of any origin; torch's own modules are nodes then.
        return trace(model, given, named)


class _Values(fx.Interpreter):
    """Runs a network and keeps copies of what stands around its thresholds."""

    def __init__(self, traced: fx.GraphModule, ways: list[Way]) -> None:
        super().__init__(traced)
        self.wanted: set[Any] = set()
        for way in ways:
            for node in (way.threshold, way.source):
                self.wanted |= {node, first_input(node.args, node.kwargs)} if node.args or node.kwargs else {node}
        self.kept: dict[Any, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted:
            # Another node may change it in place.
            self.kept[n] = value.clone() if isinstance(value, Tensor) else value
        return value


class _Folding:
    """How one threshold is folded.

    Args:
        threshold: what takes its place.
        weight, bias: of the layer below; None: as they are.
        scale: `(channels,)`, by what whole sums are multiplied and
        shift: `(channels,)`, what is then added, to give the pre-activations.
    """

    def __init__(self, graph: Graph, way: Way, values: dict[fx.Node, Any], norm: ChannelNorm) -> None:
        self.graph, self.way, self.values, self.norm = graph, way, values, norm
        channels = len(norm.mean)
        self.scale, self.shift = np.ones(channels), np.zeros(channels)
        self.weight: np.ndarray | None = None
        self.threshold: Any = None

    @classmethod
    def of(cls, graph: Graph, way: Way, values: dict[fx.Node, Any]) -> "_Folding | None":
        """None where there is nothing to fold, or it can't be done."""
        z, norm = values[way.source], graph.module(way.norm)
        if norm is None and way.sums is None:
            return None
        if norm is not None and (norm.running_mean is None or norm.training):
            return None
        if norm is not None and isinstance(way.sums, nn.Linear) and z.dim() != 2:
            # Batch norm is over another axis than the units.
            way.sums = None
        axis = 1
        if norm is None:
            axis = -1 if isinstance(way.sums, nn.Linear) else -way.sums.weight.dim() + 1
        lines = ChannelNorm.none(z.shape[axis]) if norm is None else ChannelNorm.of("model", str(way.norm), norm)
        made = cls(graph, way, values, lines)
        whole = made.find_whole()
        turned = np.sign(lines.weight) * np.sign(made.scale) < 0
        in_weights = way.sums is not None and not way.below
        if turned.any() and way.above and not in_weights:
            return None
        made.make(z, axis, whole, turned, in_weights)
        return made

    def find_whole(self) -> bool:
        """Whether the sums are whole numbers times a scale; these and the whole weights are kept."""
        layer: Any = self.way.sums
        below = first_input(self.way.source.args, self.way.source.kwargs)
        if layer is None or self.graph.low_of(below) is None:
            return False
        found = whole_weights(numbers(layer.weight))
        if found is None:
            return False
        weight, size = found
        if np.abs(weight).reshape(len(weight), -1).sum(axis=1).max(initial=0.0) >= _EXACT[layer.weight.dtype]:
            return False
        self.weight, self.scale = weight, size
        self.shift = np.zeros_like(size) if layer.bias is None else numbers(layer.bias)
        return True

    def make(self, z: Tensor, axis: int, whole: bool, turned: np.ndarray, in_weights: bool) -> None:
        """Find the thresholds and what becomes of the layer below."""
        layer: Any = self.way.sums
        way = self.way
        least = [
            (self._whole_number if whole else self._real_number)(channel, bool(turned[channel]), z.dtype)
            for channel in range(len(turned))
        ]
        found = torch.tensor(least, dtype=z.dtype, device=z.device)
        flags = torch.tensor(turned, device=z.device)
        if not in_weights:
            found = torch.where(flags, -found, found)
        elif turned.any():
            self.weight = numbers(layer.weight) if self.weight is None else self.weight
            self.weight = np.where(turned.reshape(-1, *[1] * (self.weight.ndim - 1)), -self.weight, self.weight)
        self.turned, self.whole = turned, whole
        low = self.graph.module(way.threshold).low
        self.threshold = ChannelThreshold(found, flags & (not in_weights), axis, low, whole)

    def _whole_number(self, channel: int, turned: bool, dtype: torch.dtype) -> float:
        """The least whole sum, or minus it, from which the channel fires."""
        assert self.weight is not None
        fires, side = self.norm.fires(channel), -1 if turned else 1
        scale, shift = Fraction(float(self.scale[channel])), Fraction(float(self.shift[channel]))
        reach = int(np.abs(self.weight[channel]).sum())
        return first(lambda s: fires(scale * side * s + shift), -reach, reach)

    def _real_number(self, channel: int, turned: bool, dtype: torch.dtype) -> float:
        """The least number of the dtype, or minus it, from which the channel fires; infinite where it is constant."""
        fires, side = self.norm.fires(channel), -1 if turned else 1
        order = _Order(dtype)
        place = first(lambda k: fires(side * Fraction(order.number(k))), -order.last, order.last)
        return -np.inf if place == -order.last else order.number(place) if place <= order.last else np.inf

    def compared(self) -> FoldedThreshold:
        """The result after it was compared with the network, on the data and at the boundaries.

        Raises:
            ContradictionError: it differs by more than rounding.
        """
        way, values = self.way, self.values
        norm, layer, z = self.graph.module(way.norm), way.sums, values[way.source]
        new = z
        if self.weight is not None:
            new = _with(layer, self._tensors(layer))(values[first_input(way.source.args, way.source.kwargs)])
        with torch.no_grad():
            for step in way.steps:
                new = self._step(step, new)
            others = self._differences(values[way.threshold], self.threshold(new), values[self._reads()], z)
            # Two neighbours at each boundary, as sums and as pre-activations.
            edge = self.threshold.threshold
            flip = -1 if bool(self.threshold.turned.any()) else 1
            side = torch.where(self.threshold.turned, -1.0, 1.0).to(edge.dtype) if flip < 0 else torch.ones_like(edge)
            before = edge - side if self.whole else torch.nextafter(edge, -side * torch.inf)
            limit = torch.full_like(edge, torch.finfo(z.dtype).max)
            if self.whole:
                assert self.weight is not None
                reach = np.abs(self.weight).reshape(len(self.weight), -1).sum(axis=1)
                limit = torch.tensor(reach, dtype=z.dtype, device=z.device)
            sums = torch.stack([edge, before]).clamp(-limit, limit)
            scale = torch.tensor(self.scale, dtype=z.dtype, device=z.device)
            if not way.below and layer is not None:
                scale = torch.where(torch.tensor(self.turned, device=z.device), -scale, scale)
            points = sums * scale + torch.tensor(self.shift, dtype=z.dtype, device=z.device)
            shape = [2, -1, *[1] * (z.dim() - 2)]
            axis = self.threshold.axis
            if axis != 1:
                shape = [2, *[1] * (z.dim() - 1)]
                shape[axis] = -1
            sums, points = sums.reshape(shape), points.reshape(shape)
            y = points if norm is None else norm(points)
            ties = self._differences(self.graph.module(way.threshold)(y), self.threshold(sums), y, points)
        # Beyond what sums can reach, or infinite.
        constant = torch.isinf(edge) if not self.whole else (side * edge <= -limit) | (side * edge > limit)
        return FoldedThreshold(
            norm="" if way.norm is None else str(way.norm.target),
            channels=len(edge),
            whole=self.whole,
            negative=int(self.turned.sum()),
            constant=int(constant.sum()),
            units=values[way.threshold].numel(),
            others=others,
            ties=ties,
        )

    def _reads(self) -> fx.Node:
        threshold: Any = self.way.threshold
        return first_input(threshold.args, threshold.kwargs)

    def _step(self, node: fx.Node, new: Tensor) -> Tensor:
        module = self.graph.module(node)
        if module is not None:
            return module(new)
        function: Any = node.target
        return function(new, *node.args[1:], **node.kwargs)

    def _differences(self, h: Tensor, found: Tensor, y: Tensor, z: Tensor) -> int:
        """How many outputs differ; y is what the network compared with 0, and z of what size its sums were."""
        wrong = (h != found) & ~(h.isnan() & found.isnan())
        if not bool(wrong.any()):
            return 0
        scale, _ = self.norm.line()
        reach, terms = np.zeros_like(scale), _ROUNDINGS
        if self.weight is not None and self.whole:
            each = np.abs(self.weight).reshape(len(self.weight), -1)
            reach, terms = self.scale * each.sum(axis=1) + np.abs(self.shift), terms + each.shape[1]
        shape = [1] * y.dim()
        shape[self.threshold.axis] = -1

        def each_channel(values: np.ndarray) -> Tensor:
            return torch.tensor(values, device=y.device).reshape(shape)

        # Where pooling stands between, any of the sums may be the one.
        largest = z.abs().double() if z.shape == y.shape else z.abs().max().double()
        terms_of_sum = each_channel(np.abs(scale)) * (each_channel(reach + np.abs(self.norm.mean)) + largest)
        room = terms * torch.finfo(z.dtype).eps * (terms_of_sum + each_channel(np.abs(self.norm.bias)))
        if bool((wrong & (y.abs() > room)).any()):
            raise ContradictionError(
                f"the threshold {self.way.name} differs after folding by more than rounding. Please report this."
            )
        return int(wrong.sum())

    def _tensors(self, layer: Any) -> tuple[Tensor, Tensor | None]:
        assert self.weight is not None
        weight = torch.tensor(self.weight, dtype=layer.weight.dtype, device=layer.weight.device)
        if self.whole or layer.bias is None:
            return weight, None
        turned = torch.tensor(self.turned, device=weight.device)
        return weight, torch.where(turned, -layer.bias, layer.bias).detach()

    def put_in(self) -> None:
        """Change the graph."""
        traced, way = self.graph.traced, self.way
        if self.weight is not None:
            traced.set_submodule(str(way.source.target), _with(way.sums, self._tensors(way.sums)))
        name = str(way.threshold.target)
        if "#" in way.name:
            name = f"{name}_{way.name.rpartition('#')[2]}"
            while name in dict(traced.named_modules()):
                name += "_"
            traced.add_submodule(name, self.threshold)
        else:
            traced.set_submodule(name, self.threshold)
        way.threshold.target = name
        if way.norm is not None:
            below: Any = first_input(way.norm.args, way.norm.kwargs)
            way.norm.replace_all_uses_with(below)
            traced.graph.erase_node(way.norm)


class _Order:
    """The finite numbers of a dtype by their places: 0 is at 0, the largest one at `last`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.ints, self.floats = (np.int32, np.float32) if dtype == torch.float32 else (np.int64, np.float64)
        self.last = int(np.array(np.finfo(self.floats).max).view(self.ints))

    def number(self, place: int) -> float:
        return float(np.array(abs(place), dtype=self.ints).view(self.floats)) * (-1 if place < 0 else 1)


def _with(layer: Any, tensors: tuple[Tensor, Tensor | None]) -> Any:
    """A copy of a layer with this weight and bias."""
    made = copy.copy(layer)
    made._parameters = dict(layer._parameters)
    made.weight = nn.Parameter(tensors[0], requires_grad=False)
    made.bias = None if tensors[1] is None else nn.Parameter(tensors[1], requires_grad=False)
    return made


def _left(graph: Graph) -> dict[str, str]:
    """The batch norms and thresholds that stay, and why."""
    left: dict[str, str] = {}
    for way in graph.ways():
        if way.norm is not None:
            norm = graph.module(way.norm)
            if norm.running_mean is None:
                left[str(way.norm.target)] = "it takes the statistics of each batch"
            elif way.above:
                left[str(way.norm.target)] = "max pooling above it, and negative scales that no layer below can take"
        elif isinstance(graph.module(way.source), _OF_SAMPLES):
            left[str(way.source.target)] = "it takes the statistics of each sample, so no threshold has its place"
    for node in graph.traced.graph.nodes:
        module = graph.module(node)
        if type(module) in NORMS and str(node.target) not in left:
            if graph.calls[str(node.target)] > 1:
                left[str(node.target)] = "it is called several times"
            elif len(node.users) > 1:
                left[str(node.target)] = "several others read it"
            else:
                user = next(iter(node.users))
                left[str(node.target)] = f"{graph.reads(user)} reads it" if user.op != "output" else "it is the output"
        elif module is not None and not isinstance(module, HardUnit):
            inside = [name for name, part in module.named_modules() if isinstance(part, HardUnit)]
            why = f"inside a {type(module).__name__} that torch.fx does not look into"
            left |= {f"{node.target}.{name}": why for name in inside}
        elif isinstance(module, HardUnit) and type(module) is not HardThreshold:
            left[str(node.target)] = f"a {type(module).__name__}, not a HardThreshold"
    return left


def _others(expected: Any, found: Any, samples: int) -> int:
    """Of how many samples the outputs differ."""
    if isinstance(expected, Tensor):
        expected, found = [expected], [found]
    if isinstance(expected, dict):
        expected, found = expected.values(), found.values()
    differ = torch.zeros(samples, dtype=torch.bool)
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, Tensor) and one.dim() and len(one) == samples:
            wrong = (one != other) & ~(one.isnan() & other.isnan())
            differ |= wrong.reshape(samples, -1).any(1).cpu()
    return int(differ.sum())
