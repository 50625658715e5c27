"""Forward passes of a block: the objective of each sample, a chunk at a time, with failures kept apart."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tpsolve.losses import ClassLoss, Loss

BlockLoss = Callable[[Tensor, Tensor], Tensor]
"""(output of the block, targets of the units above) -> loss of each sample `(b,)`."""

PROBES = 8
"""Random directions from which a curvature is estimated."""


@dataclass(frozen=True)
class Passes:
    """The objective of B samples, by forward passes in one dtype.

    Args:
        block: the layer above, its parameters without gradient.
        loss: of the block's output.
        shape: of one sample's activation, n numbers in all.
        dtype: of the passes: that of the block's parameters.
        targets: what the loss compares with, `(B, ...)`.
        unit_weight: `(B, ...)`, or None: all 1.
        context: further inputs of the block, `(B, ...)` each.
        stay: stay kappa a `(B, n)`, or None without penalty; the penalty is (|stay| - stay t) / 2, summed.
        chunk: the maximum number of samples of one forward pass.
        smoothing: share of a class label that goes to all classes alike.
    """

    block: nn.Module
    loss: Loss | ClassLoss | BlockLoss
    shape: tuple[int, ...]
    dtype: torch.dtype
    targets: Tensor
    unit_weight: Tensor | None
    context: tuple[Tensor, ...]
    stay: Tensor | None
    chunk: int = 1
    smoothing: float = 0.0

    @property
    def n_samples(self) -> int:
        """B."""
        return len(self.targets)

    def output(self, h: Tensor, rows: Tensor) -> Tensor:
        """What the block returns for the activations `h (b, n)` of the samples `rows (b,)`, in one pass."""
        # A copy, for the block may work in place.
        return self._through(h.clone(), rows)

    def value(self, h: Tensor, rows: Tensor) -> Tensor:
        """The objective `(b,)` of `h (b, n)` for the samples `rows (b,)`, in one pass, which may write over `h`."""
        penalty = self._stay_penalty(h, rows)
        return self._loss(self._through(h, rows), rows) + penalty

    def objective(self, targets: Tensor) -> Tensor:
        """The objective `(R,)` of `targets (R, n)`, where row i is of sample i mod B; +inf where a pass fails."""
        return self._judge(len(targets), lambda i: (targets[i], i % self.n_samples))

    def flipped(self, targets: Tensor, rows: Tensor, units: Tensor) -> Tensor:
        """The objective `(P,)` of each sample `rows[p]` of `targets (B, n)` with its target `units[p]` negated."""

        def negate(i: Tensor) -> tuple[Tensor, Tensor]:
            h, place = targets[rows[i]], units[i, None]
            return h.scatter_(1, place, -h.gather(1, place)), rows[i]

        return self._judge(len(units), negate)

    def gradient(self, h: Tensor) -> Tensor:
        """Gradient of the objective at the real activations `h (B, n)`; 0 where a pass fails or there is none."""
        return self.with_gradient(h)[1]

    def with_gradient(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The objective `(B,)` at the real activations `h (B, n)`, and its gradient as `gradient` has it."""
        found = torch.zeros_like(h)
        value = h.new_full((len(h),), torch.inf)

        def differentiate(i: Tensor) -> Tensor:
            with torch.enable_grad():
                at = h[i].detach().requires_grad_()
                output = self.output(at, i)
                known = isinstance(self.loss, Loss | ClassLoss)
                losses = self._loss(output.detach() if known else output, i)
                value[i] = losses.detach() + self._stay_penalty(h[i], i)
                top, slope = (output, self._slope(output, i)) if known else (losses.sum(), None)
                # Steps such as a bare sign have no gradient at all.
                if not top.requires_grad:
                    return torch.zeros_like(at)
                return torch.autograd.grad(top, at, slope, allow_unused=True, materialize_grads=True)[0]

        # Backward keeps what forward frees, and as much again.
        _collect(differentiate, len(h), max(1, self.chunk // 3), found)
        found = found.nan_to_num(0.0, 0.0, 0.0)
        value = torch.where(torch.isfinite(value), value, torch.inf)
        return value, found if self.stay is None else found - 0.5 * self.stay

    @property
    def curvature_passes(self) -> int:
        """Passes of `predicted_change`: forward and backward, and one or two of each random direction."""
        convex = isinstance(self.loss, Loss | ClassLoss) and self.loss.convex
        return 2 + (PROBES if convex else 2 * PROBES)

    def curvature(self, h: Tensor) -> Tensor:
        """Diagonal of J' H J at `h (B, n)`, J the block's derivative and H the loss's Hessian; 0 where a pass fails.

        With H = L L' - M M', where M is 0 for a convex loss, the mean of (J' L v)^2 - (J' M v)^2 over `PROBES`
        vectors v of random signs, the same for all samples. A loss of the user's own is differentiated twice for
        H v: the mean of (J' v) (J' H v), whose expectation is the same.
        """
        return self._derivatives(h)[1]

    def _derivatives(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """`gradient` and `curvature` at `h (B, n)`, from one forward pass."""
        found = h.new_zeros(len(h), 2, h.shape[1])

        def differentiate(i: Tensor) -> Tensor:
            known = isinstance(self.loss, Loss | ClassLoss)
            with torch.enable_grad():
                at = h[i].detach().requires_grad_()
                output = self.output(at, i)
                top, slope = (output, self._slope(output, i)) if known else (self._loss(output, i).sum(), None)
            both = torch.zeros_like(at[:, None].expand(-1, 2, -1))
            if not top.requires_grad:
                return both

            def derivative(u: Tensor | None, value: Tensor = output) -> Tensor:
                return torch.autograd.grad(value, at, u, True, allow_unused=True, materialize_grads=True)[0]

            both[:, 0] = derivative(slope, top)
            if not output.requires_grad:
                return both
            generator = torch.Generator().manual_seed(0)
            roots = self._roots(output.detach(), i) if known else []
            curve = None if known else self._hessian(output.detach(), i)
            for _ in range(PROBES):
                v = 2 * torch.randint(2, output.shape[1:], generator=generator).to(output) - 1
                for root, sign in roots:
                    both[:, 1] += sign * derivative(root(v)) ** 2 / PROBES
                if curve is not None:
                    v = v.expand_as(output)
                    both[:, 1] += derivative(v) * derivative(curve(v)) / PROBES
            return both

        _collect(differentiate, len(h), max(1, self.chunk // 3), found)
        gradient, curvature = found.nan_to_num(0.0, 0.0, 0.0).unbind(1)
        return gradient if self.stay is None else gradient - 0.5 * self.stay, curvature

    def why_no_curvature(self, h: Tensor) -> str:
        """What differentiating the user's loss twice raises, at the first of `h (B, n)` that passes; "": nothing."""
        for row in range(len(h)):
            rows = torch.tensor([row], device=h.device)
            try:
                with torch.no_grad():
                    output = self.output(h[rows], rows)
            except Exception:  # A block may raise anything; such a sample says nothing of the loss.
                continue
            try:
                curve = self._hessian(output, rows)
                if curve is not None:
                    curve(torch.ones_like(output))
            except Exception as error:  # The user's own function may raise anything.
                return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            break
        return ""

    def predicted_change(self, h: Tensor) -> Tensor:
        """Change of the objective if one activation of `h (B, n)` were negated, to second order, `(B, n)`."""
        gradient, curvature = self._derivatives(h)
        return 2 * (curvature - h * gradient)

    def failure(self, targets: Tensor, row: int) -> str:
        """Why the sample `row` has no objective at `targets (n,)`."""
        try:
            with torch.no_grad():
                value = self.value(targets[None].clone(), torch.tensor([row], device=targets.device))
        except Exception as error:  # Whatever the block raises is the answer.
            return f"the block's forward pass raised {type(error).__name__}: {error}"
        return f"the block's forward pass gives the objective {value.item():g}"

    def select(self, keep: Tensor) -> "Passes":
        """The samples that `keep` (bool or indices) picks."""
        return replace(
            self,
            targets=self.targets[keep],
            unit_weight=None if self.unit_weight is None else self.unit_weight[keep],
            context=tuple(part[keep] for part in self.context),
            stay=None if self.stay is None else self.stay[keep],
        )

    def bytes_needed(self, h: Tensor, row: int) -> tuple[int, int]:
        """Bytes of a pass of the sample `row` at `h (n,)`: for each sample, and besides.

        Every tensor that the pass creates is counted as though none were freed; what a library takes
        inside one operation is not seen.
        """
        sizes = []
        for copies in (1, 2):
            with _Counter() as counter:
                self.value(h.repeat(copies, 1), torch.full((copies,), row, device=h.device))
            sizes.append(counter.bytes)
        each = max(1, sizes[1] - sizes[0])
        return each, max(0, sizes[0] - each)

    def _through(self, h: Tensor, rows: Tensor) -> Tensor:
        """What the block returns for `h (b, n)`, in which it may work."""
        return self.block(h.reshape(-1, *self.shape), *(part[rows] for part in self.context))

    def _stay_penalty(self, h: Tensor, rows: Tensor) -> Tensor | float:
        """The stay part of the objective, `(b,)`."""
        return 0.0 if self.stay is None else 0.5 * (self.stay[rows].abs() - self.stay[rows] * h).sum(1)

    def _loss(self, output: Tensor, rows: Tensor) -> Tensor:
        """The loss part of the objective, `(b,)`."""
        targets, c = self.targets[rows], self._weight(rows)
        if isinstance(self.loss, ClassLoss):
            value = self.loss.value(output, targets)
            if self.smoothing:
                # Linear in the output, so that the curvature is that of the loss itself.
                value = value + self.smoothing * (output.gather(1, targets[:, None])[:, 0] - output.mean(1))
            return c * value
        if isinstance(self.loss, Loss):
            losses = c * self.loss.value(output, torch.where(targets == 0, 1.0, targets))
            return torch.where(targets == 0, 0.0, losses).reshape(len(rows), -1).sum(1)
        value = self.loss(output, targets)
        if value.shape != (len(rows),):
            raise ValueError(f"the loss of {len(rows)} samples has the shape {tuple(value.shape)}")
        return value

    def _slope(self, output: Tensor, rows: Tensor) -> Tensor:
        """Derivative of the loss part in the output, for a loss that knows its slope."""
        targets, c, output = self.targets[rows], self._weight(rows), output.detach()
        if isinstance(self.loss, ClassLoss):
            slope = self.loss.slope(output, targets)
            if self.smoothing:
                one_hot = functional.one_hot(targets, output.shape[1]).to(output.dtype)
                slope = slope + self.smoothing * (one_hot - 1 / output.shape[1])
            return (c[:, None] if isinstance(c, Tensor) else c) * slope
        assert isinstance(self.loss, Loss)
        return torch.where(targets == 0, 0.0, c * self.loss.slope(output, torch.where(targets == 0, 1.0, targets)))

    def _roots(self, output: Tensor, rows: Tensor) -> list[tuple[Callable[[Tensor], Tensor], int]]:
        """Products with L, and with M where there is one, and their signs: see `curvature`."""
        targets, c = self.targets[rows], self._weight(rows)
        if isinstance(self.loss, ClassLoss):
            p, size = output.softmax(1), c[:, None].sqrt() if isinstance(c, Tensor) else 1.0
            return [(lambda v: size * (p.sqrt() * v - p * (p.sqrt() * v).sum(1, keepdim=True)), 1)]
        assert isinstance(self.loss, Loss)
        curve = torch.where(targets == 0, 0.0, c * self.loss.curve(output, torch.where(targets == 0, 1.0, targets)))
        up, down = curve.clamp(min=0).sqrt(), (-curve).clamp(min=0).sqrt()
        roots: list[tuple[Callable[[Tensor], Tensor], int]] = [(lambda v: up * v, 1)]
        return roots if self.loss.convex else [*roots, (lambda v: down * v, -1)]

    def _hessian(self, output: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Products of vectors with the Hessian of the user's loss in the output; None: it is 0 everywhere near."""
        with torch.enable_grad():
            output = output.requires_grad_()
            value = self._loss(output, rows).sum()
            if not value.requires_grad:
                return None
            slope = open_slope(value, output)
        return lambda v: torch.autograd.grad(
            slope, output, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]

    def _weight(self, rows: Tensor) -> Tensor | float:
        return 1.0 if self.unit_weight is None else self.unit_weight[rows]

    def _judge(self, count: int, pick: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value = torch.full((count,), torch.inf, device=self.targets.device, dtype=self.dtype)
        with torch.no_grad():
            _collect(lambda i: self.value(*pick(i)), count, self.chunk, value)
        return torch.where(torch.isfinite(value), value, torch.inf)


def open_slope(value: Tensor, output: Tensor) -> Tensor:
    """The derivative of a number in `output`, to be differentiated once more.

    Raises:
        RuntimeError: a function in between can be differentiated only once; it would seem to have no curvature.
    """
    # With a gradient of its own, the derivative has a graph even where it is constant.
    one = torch.ones_like(value, requires_grad=True)
    slope = torch.autograd.grad(value, output, one, create_graph=True, materialize_grads=True, allow_unused=True)[0]
    waiting, seen = [slope.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [below for below, _ in node.next_functions]
            if "Error" in node.name():
                raise RuntimeError("a function that is once_differentiable")
    if slope.grad_fn is None and bool(slope.any()):
        raise RuntimeError("a function whose derivative has no derivative")
    return slope


def _collect(work: Callable[[Tensor], Tensor], count: int, chunk: int, into: Tensor) -> None:
    """Write `work(indices)` into `into[indices]`, `chunk` at a time; left as it is where `work` raises."""
    for indices in torch.arange(count, device=into.device).split(chunk):
        _collect_apart(work, indices, into)


def _collect_apart(work: Callable[[Tensor], Tensor], indices: Tensor, into: Tensor) -> None:
    try:
        into[indices] = work(indices)
    except Exception:  # A block may raise anything; halving finds the samples that are to blame.
        if len(indices) > 1:
            for half in indices.tensor_split(2):
                _collect_apart(work, half, into)


class _Counter(TorchDispatchMode):
    """Counts the bytes of all tensors that operations create, views of their arguments aside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {_storage(part) for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)}
        for part in tree_leaves(result):
            if isinstance(part, Tensor) and _storage(part) not in known:
                self.bytes += part.numel() * part.element_size()
        return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
