"""Inputs, outputs and labels that are no single tensor: tuples, mappings, and what else `torch.utils._pytree` knows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

LEFT_OUT = ...
"""Stands in a template for what is None in its nests: outputs of transformers have no place for None."""


@dataclass(frozen=True)
class Nest:
    """How the tensors of the samples stand in a nest, and what stands beside them.

    Args:
        template: the nest with empty tensors in their places. torch's description of a nest can't be pickled without
            a warning.
        places: of these tensors among its leaves.
        shapes, dtypes: of one sample in each.
    """

    template: Any
    places: tuple[int, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]

    @staticmethod
    def of(value: Any, belongs: Callable[[Tensor], bool], keep: bool = True) -> "Nest":
        """That of `value`, whose tensors are of the samples where `belongs`; `keep`: whether the rest stays in it."""
        leaves, spec = tree_flatten(value)
        places = tuple(at for at, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and belongs(leaf))
        tensors = [leaves[at] for at in places]
        rest = [leaf if keep else LEFT_OUT for leaf in leaves]
        for at in places:
            rest[at] = torch.empty(0)
        template = tree_unflatten(rest, spec)
        return Nest(template, places, tuple(t.shape[1:] for t in tensors), tuple(t.dtype for t in tensors))

    @property
    def leaves(self) -> list[Any]:
        """Those of the template."""
        return tree_leaves(self.template)

    def split(self, value: Any) -> tuple[Tensor, ...]:
        """The tensors of the samples in a `value` of this form."""
        leaves = tree_leaves(value)
        return tuple(leaves[at] for at in self.places)

    def join(self, tensors: Sequence[Tensor], rest: Sequence[Any] | None = None) -> Any:
        """The nest with these `tensors`; `rest`: leaves, of which those beside them count."""
        leaves, spec = tree_flatten(self.template)
        leaves = [None if leaf is LEFT_OUT else leaf for leaf in (leaves if rest is None else rest)]
        for at, tensor in zip(self.places, tensors, strict=True):
            leaves[at] = tensor
        return tree_unflatten(leaves, spec)

    def pack(self, value: Any, dtype: torch.dtype | None = None) -> Tensor:
        """The tensors of a `value` of this form in one: a single one as it is, several side by side, `(b, k)`."""
        tensors = [tensor if dtype is None else tensor.to(dtype) for tensor in self.split(value)]
        if len(tensors) == 1:
            return tensors[0]
        return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], 1)

    def unpack(self, packed: Tensor) -> Any:
        """The nest of which `packed (b, ...)` has the numbers; whole numbers and bools are such again."""
        parts = [packed]
        if len(self.places) > 1:
            sizes = [math.prod(shape) for shape in self.shapes]
            split = zip(packed.split(sizes, 1), self.shapes, strict=True)
            parts = [part.reshape(-1, *shape) for part, shape in split]
        whole = zip(parts, self.dtypes, strict=True)
        return self.join([part if dtype.is_floating_point else part.to(dtype) for part, dtype in whole])


def arguments_of(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a model is called with: a tuple holds arguments by place, a mapping by name; all else is the only one."""
    if isinstance(x, Mapping):
        return (), dict(x)
    return (x if isinstance(x, tuple) else (x,)), {}


@dataclass(frozen=True)
class Inputs:
    """What a model was called with.

    Args:
        tensors: those of the samples, `(B, ...)` each.
        nest: of (arguments by place, arguments by name), in which they stand.
        alone: whether one tensor is all.
    """

    tensors: tuple[Tensor, ...]
    nest: Nest
    alone: bool

    @staticmethod
    def of(x: Any, samples: int) -> "Inputs":
        """Of a batch of so many samples; a single tensor is of the samples whatever its length."""
        alone = isinstance(x, Tensor)
        given = arguments_of(x)
        nest = Nest.of(given, lambda leaf: alone or (leaf.dim() > 0 and len(leaf) == samples))
        return Inputs(nest.split(given), nest, alone)

    def pick(self, rows: Any) -> tuple[Tensor, ...]:
        """The tensors of some samples."""
        return tuple(tensor[rows] for tensor in self.tensors)


def call(model: nn.Module, x: Any) -> Any:
    """The output for `x`, see `arguments_of`."""
    arguments, keywords = arguments_of(x)
    return model(*arguments, **keywords)


def samples_of(nest: Any) -> int | None:
    """The length of the first axis of all tensors in a nest; None where there is none, or they differ."""
    sizes = {len(leaf) if leaf.dim() else None for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)}
    return sizes.pop() if len(sizes) == 1 else None


@dataclass(frozen=True)
class NestedLoss:
    """A loss of nests, as one of what they are packed to."""

    loss_fn: Callable[[Any, Any], Tensor]
    outputs: Nest
    labels: Nest | None

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        """The same loss."""
        return self.loss_fn(self.outputs.unpack(output), labels if self.labels is None else self.labels.unpack(labels))


def fits(whole: Tensor, dtype: torch.dtype) -> bool:
    """Whether a floating-point `dtype` holds whole numbers as they are."""
    return torch.equal(whole.to(dtype).to(whole.dtype), whole)
