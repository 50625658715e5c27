"""Models that are nothing but `nn.Sequential`: their parts one after the other, without tracing."""

from torch import Tensor, nn

from tpsolve.nn.passes._nests import Nest


def chain_of(model: nn.Module, prefix: str = "") -> dict[str, nn.Module] | None:
    """The modules that `model` runs one after the other, by name; None where that is not all that it does.

    That is known of `nn.Sequential`, nested or not, without hooks of its own, of modules without parts,
    each used once.
    """
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return None
    found: dict[str, nn.Module] = {}
    for name, part in model._modules.items():
        assert part is not None
        inner = chain_of(part, f"{prefix}{name}.") if any(True for _ in part.children()) else {prefix + name: part}
        if inner is None:
            return None
        found |= inner
    return found if len({id(part) for part in found.values()}) == len(found) else None


class Slice(nn.Module):
    """Runs a part of a chain; `outputs`: how what comes out is packed, None for a tensor."""

    def __init__(self, steps: list[nn.Module], outputs: Nest | None) -> None:
        super().__init__()
        self.steps, self.outputs = nn.ModuleList(steps), outputs

    def forward(self, value: Tensor) -> tuple[Tensor]:
        for step in self.steps:
            value = step(value)
        return (value if self.outputs is None else self.outputs.pack(value),)
