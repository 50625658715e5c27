"""Networks as ONNX and QONNX: run by onnxruntime and qonnx, and here node by node from their definitions."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from support.deployed import draw_norms, network
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve.errors import ArgumentError, ExportError, FolderError
from tpsolve.nn import HardThreshold, binarize, fold
from tpsolve.nn.deployment._channel_threshold import ChannelThreshold

onnx = pytest.importorskip("onnx")


def run(path: Path, x: Tensor) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def interpreted(path: Path, x: Tensor) -> np.ndarray:
    """The output of a graph of QONNX by the definitions of its nodes; the standard ones by the reference of onnx."""
    reference = pytest.importorskip("onnx.reference")
    made = onnx.load(path)
    values = {one.name: onnx.numpy_helper.to_array(one) for one in made.graph.initializer}
    values[made.graph.input[0].name] = x.numpy()
    for node in made.graph.node:
        given = [values[name] for name in node.input]
        if node.op_type == "BipolarQuant":
            found = np.where(given[0] >= 0, 1, -1).astype(np.float32) * given[1]
        elif node.op_type == "Quant":
            a, scale, zero, bits = given
            found = (np.round(np.clip(a / scale + zero, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)) - zero) * scale
        else:
            told = [onnx.helper.make_tensor_value_info(name, 1, None) for name in (*node.input, *node.output)]
            one = onnx.helper.make_graph([node], "one", told[:-1], told[-1:])
            opset = [onnx.helper.make_opsetid("", 17)]
            evaluator = reference.ReferenceEvaluator(onnx.helper.make_model(one, opset_imports=opset, ir_version=8))
            found = evaluator.run(None, dict(zip(node.input, given, strict=True)))[0]
        values[node.output[0]] = np.asarray(found, dtype=np.float32)
    return values[made.graph.output[0].name]


@pytest.mark.parametrize("seed", range(12))
def test_onnxruntime_gives_the_outputs_of_drawn_networks(seed: int, tmp_path: Path):
    model, x = network(seed)
    done = fold(model, x)
    told = done.export(tmp_path / "net.onnx", x)
    assert (told.samples, told.by, told.others) == (12, "onnxruntime", 0)
    assert np.allclose(run(tmp_path / "net.onnx", x), done(x).numpy(), rtol=1e-4, atol=1e-5)
    # Any number of samples.
    assert run(tmp_path / "net.onnx", x[:5]).shape == (5, 3)
    kinds = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert "Sign" in kinds
    assert ("BatchNormalization" in kinds) == any(isinstance(one, nn.BatchNorm2d) for one in done.modules())


@pytest.mark.parametrize("seed", [0, 3, 7])
@pytest.mark.slow
def test_graphs_of_qonnx_have_their_nodes_and_the_same_outputs(seed: int, tmp_path: Path):
    model, x = network(seed)
    done = fold(model, x)
    told = done.export(tmp_path / "net.onnx", x, qonnx=True)
    assert told.by == ("qonnx" if importlib.util.find_spec("qonnx") else "")
    assert ("not compared" in str(told)) != bool(told.by)
    assert np.allclose(interpreted(tmp_path / "net.onnx", x), done(x).numpy(), rtol=1e-4, atol=1e-5)
    nodes = onnx.load(tmp_path / "net.onnx").graph.node
    thresholds = [m for m in done.network.modules() if isinstance(m, (ChannelThreshold, HardThreshold))]
    few = [node for node in nodes if node.domain == "qonnx.custom_op.general"]
    assert len(few) >= len(thresholds) + any(one.whole for one in done.thresholds.values())
    assert not any(node.op_type == "Sign" for node in nodes)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("qonnx", [True, False])
def test_a_tie_gives_plus_one_in_the_file_too(whole: bool, qonnx: bool, tmp_path: Path):
    model: Any = nn.Sequential(HardThreshold(), nn.Linear(2, 2, bias=False), HardThreshold())
    if not whole:
        model = model[1:]
    with torch.no_grad():
        next(iter(model.parameters())).copy_(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
    x = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [-0.0, 0.0]])
    done = fold(model, x)
    assert done.thresholds["2"].whole == whole
    done.export(tmp_path / "net.onnx", x, qonnx=qonnx)
    found = (interpreted if qonnx else run)(tmp_path / "net.onnx", x)
    last = [1, 1]
    assert found.tolist() == [[1, -1], [1, 1], [-1, 1], last] == done(x).tolist()


@pytest.mark.slow
def test_a_network_of_digits_is_folded_packed_and_exported_alike(tmp_path: Path):
    torch.manual_seed(0)
    data: Any = load_digits()
    x, y = torch.tensor(data.images[:, None] / 8 - 1, dtype=torch.float32), torch.tensor(data.target)
    block = [nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), HardThreshold()]
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), HardThreshold(), *block)
    model = binarize(nn.Sequential(*model, nn.Flatten(), nn.Linear(512, 10)), skip=["0", "8"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(60):
        rows = torch.arange(step * 64, (step + 1) * 64) % 1500
        optimizer.zero_grad()
        cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    model.eval()
    assert (model(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.8
    done = fold(model, x)
    assert (done.others, done.left) == (0, {})
    assert [one.whole for one in done.thresholds.values()] == [False, True]
    assert torch.equal(done(x), model(x))
    assert torch.equal(done.pack()(x), done(x))
    told = done.export(tmp_path / "digits.onnx", x)
    assert (told.samples, told.others) == (1797, 0)
    assert np.array_equal(run(tmp_path / "digits.onnx", x).argmax(1), done(x).argmax(1).numpy())


def test_what_can_not_be_exported_is_named_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(4, 6)
    done = fold(nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(2, 4), HardThreshold()).eval(), x)
    with pytest.raises(ExportError, match="network: got GroupNorm at 1"):
        done.export(tmp_path / "net.onnx", x)
    good = fold(draw_norms(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), HardThreshold())), x)
    with pytest.raises(ArgumentError, match=r"path: got net\.c"):
        good.export(tmp_path / "net.c", x)
    with pytest.raises(ArgumentError, match="inputs: got other than float32"):
        good.export(tmp_path / "net.onnx", x.double())
    double = fold(nn.Sequential(nn.Linear(6, 4), HardThreshold()).double().eval(), x.double())
    with pytest.raises(ArgumentError, match="parameters of float64"):
        double.export(tmp_path / "net.onnx", x)
    with pytest.raises(ArgumentError, match=r"tensors of \[\(4, 5\)\] on which the network raises Runt"):
        good.export(tmp_path / "net.onnx", x[:, 1:])
    with pytest.raises(FolderError):
        good.export(tmp_path / "none" / "net.onnx", x)
    # A graph with other thresholds is noticed.
    monkeypatch.setattr(ChannelThreshold, "forward", lambda self, z: torch.full_like(z, -1.0))
    with pytest.raises(ExportError, match=r"other outputs of ChannelThreshold at 2 in . of 4 samples by onnxruntime"):
        good.export(tmp_path / "net.onnx", x)
    assert not (tmp_path / "net.onnx").exists()


def test_functions_that_models_call_are_exported(tmp_path: Path):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.last = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(36, 3)
            self.threshold = HardThreshold()
            self.pools = nn.Sequential(nn.AdaptiveMaxPool2d(3), nn.Hardswish(), nn.Hardsigmoid(), nn.ReLU6())

        def forward(self, x: Tensor, other: Tensor) -> dict[str, Tensor]:
            h = self.threshold(self.norm(self.one(torch.relu(x + other))))
            h = nn.functional.dropout(nn.functional.max_pool2d(h, 2), training=self.training)
            wide = torch.cat([h, self.threshold(h * h)], 1)
            means = self.pools(wide).mean((2, 3)) + wide.mean([-2, -1], keepdim=True).flatten(1)
            return {"spins": h, "logits": self.last(h.view(h.size(0), -1)), "again": h, "means": means}

    x = (torch.randn(3, 2, 8, 8), torch.randn(3, 2, 8, 8))
    done = fold(draw_norms(Model()), x)
    told = done.export(tmp_path / "net.onnx", x)
    assert told.by == "onnxruntime"
    made = onnx.load(tmp_path / "net.onnx").graph
    assert [one.name for one in made.output] == ["spins", "logits", "again", "means"]
    assert [one.name for one in made.input] == ["x", "other"]


class Rearranging(nn.Module):
    """Images whose channels are shuffled, taken as tokens with one more that attend to each other, and drawn again."""

    def __init__(self) -> None:
        super().__init__()

        class Channels(nn.LayerNorm):
            def forward(self, input: Tensor) -> Tensor:
                return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

        class Dense(nn.Linear):
            pass

        self.first, self.channels, self.up = nn.Conv2d(2, 8, 3), Channels(8), nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)
        self.norm, self.one, self.two = nn.BatchNorm2d(8), HardThreshold(), HardThreshold()
        self.token, self.gamma = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(8))
        self.over, self.into, self.last = nn.LayerNorm(8), nn.Linear(8, 24), Dense(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(self.channels(self.first(x)))
        b, c, height, width = h.size()
        h = h.view(b, 2, c // 2, height, width).transpose(1, 2).contiguous().view(b, c, height, width)
        left, right = h.chunk(2, dim=1)
        h = nn.functional.batch_norm(
            self.up(torch.cat([right, left[:, :, :, 0:4]], 1)), self.norm.running_mean, self.norm.running_var,
            self.norm.weight, self.norm.bias, False, 0.1, 1e-3,
        )  # fmt: skip
        h = nn.functional.adaptive_avg_pool2d(h.mul(self.gamma.reshape(1, -1, 1, 1)), (3, 5)).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), h], 1)
        q, k, v = self.into(self.over(h)).reshape(b, -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        h = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = nn.functional.layer_norm(h, (8,), self.gamma, None, 1e-4).unsqueeze(1).squeeze(1)
        return self.last(self.two(h[:, 0]) * h[:, 1:].mean(dim=1))


def test_tensors_may_be_rearranged(tmp_path: Path):
    torch.manual_seed(0)
    x = torch.randn(6, 2, 6, 6)
    done = fold(draw_norms(Rearranging()), x)
    told = done.export(tmp_path / "net.onnx", x)
    assert (told.by, told.others) == ("onnxruntime", 0)
    # Any number of samples.
    for count in (1, 6, 11):
        more = torch.randn(count, 2, 6, 6)
        assert np.allclose(run(tmp_path / "net.onnx", more), done(more).numpy(), rtol=1e-4, atol=1e-5)


class Moved(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.into, self.threshold, self.last = kind, nn.Linear(4, 4), HardThreshold(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.into(x)
        if self.kind == "mixed":
            return self.last(self.threshold(h.transpose(0, 1)).transpose(0, 1))
        if self.kind == "picked":
            return self.last(self.threshold(h)[0:1])
        if self.kind == "stepped":
            return self.last(self.threshold(h)[:, :, ::1][:, ::2])
        return self.last(self.threshold(h)).flatten(0, 1)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("mixed", "HardThreshold at threshold"),
        ("picked", "getitem at getitem"),
        ("stepped", "getitem at getitem_1"),
        ("flat", "an output output that is no tensor of it"),
    ],
)
def test_samples_that_leave_the_first_axis_are_refused(kind: str, told: str, tmp_path: Path):
    x = torch.randn(3, 5, 4)
    with pytest.raises(ExportError, match=f"network: got {told}"):
        fold(Moved(kind).eval(), x).export(tmp_path / "net.onnx", x)
