"""Models that can't be cut are run as a whole, but for the calls that come before the threshold."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve import Budget
from tpsolve.nn import HardThreshold, convert, target_backward

WEIGHED = nn.CrossEntropyLoss(torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64), ignore_index=0)


class Counted(nn.Linear):
    """Counts the samples that it sees."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).seen += len(x)
        return super().forward(x)


class Branching(nn.Module):
    """What torch.fx can't trace; `way` says what it does with its parts."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.below, self.act, self.above = way, Counted(4, 6), HardThreshold(), nn.Linear(6, 6)
        self.drop, self.drop2, self.second, self.top = nn.Dropout(), nn.Dropout(), HardThreshold(), nn.Linear(6, 3)
        self.kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().sum()) > 1e9:
            return x
        z = self.below(x)
        if self.way == "draws":
            z = self.drop(z)
        self.kept = z
        h = self.act(z)
        if self.way == "twice":
            h = h + self.act(self.below(x[:, [1, 0, 3, 2]]))
        if self.way == "keeps":
            h = h + self.kept
        z = self.above(h)
        if self.way == "draws":
            z = self.drop2(z)
        return self.top(self.second(z))


def seeded(way: str) -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Branching(way).double(), torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3


def recorded(way: str, name: str) -> tuple[Any, Any, nn.Module, Tensor, Tensor]:
    model, x, y = seeded(way)
    torch.manual_seed(1)
    report = target_backward(model, x, y, cross_entropy, solver={name: "keep"}, budget=Budget(steps=1))
    return report, report._pass.segment(name), model, x, y


@pytest.mark.parametrize("way", ["plain", "draws", "keeps"])
def test_what_comes_before_is_not_run_again_and_the_rest_is_as_it_was(way: str):
    report, segment, _, _, _ = recorded(way, "act")
    # In "keeps" the sum takes what the module keeps, which the model sets anew from what is known.
    assert [one.path for one in segment.block.known] == (["below", "drop"] if way == "draws" else ["below"])
    calls = report._pass.recording.calls
    Counted.seen = 0
    found = segment.block(calls["act"].h, *segment.context)
    assert Counted.seen == 0
    torch.testing.assert_close(found[0], calls["second"].z.detach())
    torch.testing.assert_close(found[1], report.output)


def test_draws_that_are_left_are_those_above():
    model, x, y = seeded("draws")
    torch.manual_seed(1)
    again = target_backward(model, x, y, cross_entropy, solver={"act": "hill-climb"}, budget=Budget(steps=3))
    problem: Any = again.problem("act")
    assert again.fallbacks == {"act": 0}
    assert (again["act"].objective <= problem.objective(problem.start) + 1e-9).all()


def test_a_module_that_is_called_again_later_is_run():
    report, segment, _, _, _ = recorded("twice", "act#1")
    assert segment.block.known == []
    torch.testing.assert_close(
        segment.block(report._pass.recording.calls["act#1"].h, *segment.context)[-1], report.output
    )


def test_what_a_module_leaves_behind_for_later_is_not_left_out():
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.side: Any = None
            self.inner = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            self.side = x.flip(1)[:, :3]
            return self.inner(x)

    class Reader(Branching):
        def __init__(self) -> None:
            super().__init__("plain")
            self.below = Side()  # pyright: ignore[reportAttributeAccessIssue]

        def forward(self, x: Tensor) -> Tensor:
            below: Any = self.below
            return super().forward(x) + below.side

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x, y = Reader().double(), torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    report = target_backward(model, x, y, cross_entropy, solver={"act": "hill-climb"}, budget=Budget(steps=3))
    segment = report._pass.segment("act")
    assert segment.block.known == []
    assert report.fallbacks == {"act": 0}
    rows = torch.tensor([4, 1])
    h = report._pass.recording.calls["act"].h
    found = segment.block(h[rows], *(part[rows] for part in segment.context))
    torch.testing.assert_close(found[-1], report.output[rows])


class Encoder(nn.Module):
    """torch's encoder of three layers; `causal`: with a mask."""

    def __init__(self, causal: bool = False, norm_first: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 6, dropout, HardThreshold(), batch_first=True, norm_first=norm_first)
        self.encoder, self.top = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Linear(8, 3)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        return self.top(self.encoder(x, mask=mask).mean(1))


ACTS = ["encoder.layers.0.activation", "encoder.layers.1.activation", "encoder.layers.2.activation"]


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"dropout": 0.3}, {"causal": True}])
def test_a_stock_transformer_runs_what_stands_above_alone(settings: dict[str, Any]):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x, y = Encoder(**settings).double(), torch.randn(3, 4, 8, dtype=torch.float64), torch.arange(3)
        report = target_backward(model, x, y, cross_entropy, solver="curvature-flip", budget=Budget(steps=1))
    assert not any(report.fallbacks.values())
    block: Any = report._pass.segment(ACTS[2]).block
    inside = {name.removeprefix("encoder.layers.").rpartition(".")[0] for name, _ in block.graph.named_parameters()}
    assert inside == ({"2.linear2", "top"} if "norm_first" in settings else {"2.linear2", "2.norm2", "top"})


class Translator(nn.Module):
    """torch's encoder and decoder, in one module or in two, with masks of places and of samples."""

    def __init__(self, whole: bool, norm_first: bool = False) -> None:
        super().__init__()
        self.both = nn.Transformer(8, 2, 1, 1, 6, 0.0, nn.ReLU(), batch_first=True, norm_first=norm_first)
        self.whole, self.top = whole, nn.Linear(8, 3)

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        later = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
        if self.whole:
            masks = {"src_key_padding_mask": pad, "tgt_key_padding_mask": pad, "memory_key_padding_mask": pad}
            found = self.both(x, x.flip(1), tgt_mask=later, **masks)
        else:
            memory = self.both.encoder(x, later, pad)
            found = self.both.decoder(x.flip(1), memory, later, None, pad, pad, tgt_is_causal=True)
        return self.top(found.mean(1))


def holding(model: nn.Module, held: dict[str, Tensor], *inputs: Tensor) -> dict[str, Tensor]:
    """What thresholds read in a pass in which they give what is `held`, and the output, by ""."""
    read: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(at).register_forward_hook(lambda _, a, out, at=at: read.update({at: a[0]}) or held[at])
        for at in held
    ]
    with torch.no_grad():
        read[""] = model(*inputs)
    for hook in hooks:
        hook.remove()
    return read


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("settings", [{"whole": True}, {"whole": False, "norm_first": True}])
def test_a_stock_decoder_with_masks_is_cut_and_does_what_it_does(settings: dict[str, Any]):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = convert(Translator(**settings), nn.ReLU).double()
        x, y = torch.randn(5, 4, 8, dtype=torch.float64), torch.arange(5) % 3
        # Places that are left out, other ones in each sample.
        pad = torch.arange(4) > torch.tensor([3, 1, 2, 3, 0])[:, None]
        report = target_backward(model, (x, pad), y, cross_entropy, solver="hill-climb", budget=Budget(steps=1))
    assert not any(report.fallbacks.values())
    calls, rows = report._pass.recording.calls, torch.tensor([4, 1])
    assert list(calls) == ["both.encoder.layers.0.activation", "both.decoder.layers.0.activation"]
    for number, name in enumerate(calls):
        segment = report._pass.segment(name)
        assert hasattr(segment.block, "graph")
        held = {other: calls[other].h for other in calls} | {name: -calls[name].h}
        read = holding(model, held, x, pad)
        assert segment.sinks == (*list(calls)[number + 1 :], "")
        found = segment.block(held[name][rows], *(part[rows] for part in segment.context))
        for sink, value in zip(segment.sinks, found, strict=True):
            torch.testing.assert_close(value, read[sink][rows])


@pytest.mark.parametrize("loss", [cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.2), WEIGHED, nn.MSELoss()])
def test_flips_of_a_stock_transformer_are_those_of_brute_force(loss: Any):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Encoder().double(), torch.randn(3, 2, 8, dtype=torch.float64)
        y = torch.randn(3, 3).double() if isinstance(loss, nn.MSELoss) else torch.tensor([2, 0, 1])
    report = target_backward(model, x, y, loss, solver="hill-climb", budget=Budget(steps=1))
    name, unit = ACTS[1], 5
    problem: Any = report.problem(name)
    g = report._pass.gradients[ACTS[2]]
    flipped = problem.start.clone()
    flipped.view(3, -1)[:, unit] *= -1
    read: dict[str, Tensor] = {}

    def objective(h: Tensor) -> Tensor:
        """Soft hinges of the targets above, weighed by |g|, and the loss, with one threshold's output given."""
        held = {ACTS[1]: h, ACTS[2]: report._pass.recording.calls[ACTS[2]].h}
        hooks = [
            model.get_submodule(at).register_forward_hook(lambda _, a, out, at=at: read.update({at: a[0]}) or held[at])
            for at in held
        ]
        with torch.no_grad():
            total = loss(model(x), y)
        for hook in hooks:
            hook.remove()
        return total + (g.abs() * 2 * torch.sigmoid(2 * g.sign() * read[ACTS[2]])).sum()

    expected = objective(flipped) - objective(problem.start)
    found = (problem.objective(flipped) - problem.objective(problem.start)).sum()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(problem.flip_delta(problem.start).reshape(3, -1)[:, unit].sum(), expected)
