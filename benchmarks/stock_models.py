"""The models of the support matrix: of torchvision, timm, transformers, PyTorch Geometric, SpikingJelly and snnTorch.

Each is made from its configuration, with random weights, and small: nothing is downloaded. The libraries are no
dependencies: `pip install -c constraints.txt torchvision timm transformers torch_geometric spikingjelly snntorch`.
"""

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tpsolve.nn import HardThreshold, convert

CLASSES, SAMPLES, SIZE = 10, 4, 64


@dataclass(frozen=True)
class Stock:
    """A model and a batch for it.

    Args:
        make: the model, not yet converted. thresholds: puts thresholds in it.
        inputs, labels, loss: as `target_backward` takes them.
    """

    make: Callable[[], nn.Module]
    thresholds: Callable[[nn.Module], nn.Module]
    inputs: Any
    labels: Any
    loss: Callable[[Any, Any], Tensor] = cross_entropy


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _classes(*shape: int) -> Tensor:
    return torch.randint(CLASSES, (SAMPLES, *shape), generator=_generator())


def _reals(*shape: int) -> Tensor:
    return torch.randn(SAMPLES, *shape, generator=_generator())


def replacing(activation: type[nn.Module], threshold: Callable[[], nn.Module] = HardThreshold) -> Any:
    """What puts thresholds in place of a class of modules."""
    return lambda model: convert(model, activation, threshold)


def of_logits(output: Any, y: Tensor) -> Tensor:
    """Cross-entropy of a model of transformers, or of torchvision's in training; labels for each token or one."""
    logits = output.logits if hasattr(output, "logits") else output
    return cross_entropy(logits.flatten(0, -2), y.flatten())


def with_heads(output: Any, y: Tensor) -> Tensor:
    """GoogLeNet's loss: its further outputs in training count 0.3 each."""
    heads = (output.aux_logits1, output.aux_logits2) if hasattr(output, "aux_logits1") else ()
    return of_logits(output, y) + sum(0.3 * cross_entropy(head, y) for head in heads)


def of_first(output: Any, y: Tensor) -> Tensor:
    """Cross-entropy of the first output."""
    return cross_entropy(output[0], y)


# torchvision

TORCHVISION = {
    "alexnet": nn.ReLU,
    "vgg11_bn": nn.ReLU,
    "resnet18": nn.ReLU,
    "squeezenet1_1": nn.ReLU,
    "densenet121": nn.ReLU,
    "googlenet": nn.ReLU,
    "mobilenet_v2": nn.ReLU6,
    "mobilenet_v3_small": nn.ReLU,
    "mnasnet0_5": nn.ReLU,
    "shufflenet_v2_x0_5": nn.ReLU,
}
LARGE = ("alexnet", "googlenet")
"""Those that need images of more than 32 x 32."""


def torchvision() -> Any:
    """The library, with the two operators that it asks for at once: a build of torch without them can't import it."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # A build that matches has them.
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")


def _torchvision(name: str) -> Stock:
    def make() -> nn.Module:
        return getattr(torchvision().models, name)(weights=None, num_classes=CLASSES)

    size = SIZE if name in LARGE else SIZE // 2
    if name == "googlenet":
        # Its activations are calls of a function.
        put_in = partial(convert, activation=nn.ReLU, functions=True)
        return Stock(make, put_in, _reals(3, size, size), _classes(), with_heads)
    return Stock(make, replacing(TORCHVISION[name]), _reals(3, size, size), _classes(), of_logits)


# timm


def _timm(name: str, activation: str, **settings: Any) -> Stock:
    def make() -> nn.Module:
        torchvision()
        return getattr(importlib.import_module("timm.models"), name)(num_classes=CLASSES, **settings)

    def put_in(model: nn.Module) -> nn.Module:
        kinds = {type(module).__name__: type(module) for module in model.modules()}
        return convert(model, kinds[activation])

    return Stock(make, put_in, _reals(3, SIZE // 2, SIZE // 2), _classes())


# transformers


def _transformers(name: str, config: str, inputs: Any, labels: Tensor, activation: str, **settings: Any) -> Stock:
    def make() -> nn.Module:
        torchvision()
        library = importlib.import_module("transformers")
        return getattr(library, name)(getattr(library, config)(**settings))

    def put_in(model: nn.Module) -> nn.Module:
        kinds = {type(module).__name__: type(module) for module in model.modules()}
        return convert(model, kinds[activation])

    return Stock(make, put_in, inputs, labels, of_logits)


def _tokens(words: int = 6) -> dict[str, Tensor]:
    ids = torch.randint(2, 50, (SAMPLES, words), generator=_generator())
    mask = torch.ones_like(ids)
    mask[1, words // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _text_models() -> dict[str, Callable[[], Stock]]:
    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    wide = {"intermediate_size": 24, "max_position_embeddings": 32}
    tokens = _tokens()
    next_token = tokens["input_ids"]
    one = {"num_labels": CLASSES, "pad_token_id": 0}
    return {
        "BERT": lambda: _transformers(
            "BertForSequenceClassification", "BertConfig", tokens, _classes(), "GELUActivation", **small, **wide, **one
        ),
        "GPT-2": lambda: _transformers(
            "GPT2LMHeadModel", "GPT2Config", tokens, next_token, "NewGELUActivation",
            vocab_size=50, n_positions=32, n_embd=16, n_inner=24, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1,
            use_cache=False,
        ),
        "T5": lambda: _transformers(
            "T5ForConditionalGeneration", "T5Config", {**tokens, "decoder_input_ids": next_token}, next_token, "ReLU",
            vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
            use_cache=False,
        ),
        "OPT": lambda: _transformers(
            "OPTForCausalLM", "OPTConfig", tokens, next_token, "ReLU",
            **small, ffn_dim=24, max_position_embeddings=32, word_embed_proj_dim=16, use_cache=False,
        ),
        "Llama": lambda: _transformers(
            "LlamaForCausalLM", "LlamaConfig", tokens, next_token, "SiLUActivation", **small, **wide,
            num_key_value_heads=2, bos_token_id=1, eos_token_id=1, use_cache=False,
        ),
        "ViT": lambda: _transformers(
            "ViTForImageClassification", "ViTConfig", {"pixel_values": _reals(3, 16, 16)}, _classes(), "GELUActivation",
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16,
            patch_size=4, num_labels=CLASSES,
        ),
    }  # fmt: skip


# Of torch alone


class Recurrent(nn.Module):
    """A recurrent cell by hand, over time, on top of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.into, self.again = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 10), nn.Linear(10, 10)
        self.act, self.top = nn.ReLU(), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        inputs, _ = self.lstm(x)
        h = torch.zeros(len(x), 10, dtype=x.dtype)
        for step in range(x.shape[1]):
            h = self.act(self.into(inputs[:, step]) + self.again(h))
        return self.top(h)


class LstmHead(nn.Module):
    """An LSTM below two layers, which gives its state too."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.first, self.act = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 10), nn.ReLU()
        self.top = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Any:
        inputs, state = self.lstm(x, state)
        return self.top(self.act(self.first(inputs[:, -1]))), state


class UNet(nn.Module):
    """Two levels down and up, with shortcuts across, and a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = self._level(1, 4), self._level(4, 8)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(8, 4, 2, 2)
        self.side, self.top = self._level(8, 4), nn.Conv2d(4, CLASSES, 1)

    def _level(self, read: int, give: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(read, give, 3, padding=1), nn.BatchNorm2d(give), nn.ReLU(inplace=True),
            nn.Conv2d(give, give, 3, padding=1), nn.BatchNorm2d(give), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.up(self.down2(self.pool(fine)))
        return self.top(self.side(torch.cat([fine, coarse], 1)))


# Graphs and spikes

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4, 4, 0], [1, 0, 2, 1, 3, 2, 4, 3, 0, 4]])


def _graphs(samples: bool) -> Stock:
    """Graphs of equal edges as samples; or one graph whose nodes are the rows."""

    def make() -> nn.Module:
        # Imported by name, since the package loads what it finds of compiled operators.
        return importlib.import_module("torch_geometric.nn").GCN(6, 8, 3, CLASSES, act=nn.ReLU())

    g = _generator()
    x, y = torch.randn(SAMPLES, 5, 6, generator=g), torch.randint(CLASSES, (SAMPLES, 5), generator=g)
    if samples:
        return Stock(make, replacing(nn.ReLU), (x, EDGES), y, of_logits)
    return Stock(make, replacing(nn.ReLU), (x[0], EDGES), y[0], of_logits)


def _spiking_jelly() -> Stock:
    def make() -> nn.Module:
        node: Any = importlib.import_module("spikingjelly.activation_based.neuron")
        functional: Any = importlib.import_module("spikingjelly.activation_based.functional")

        class Spiking(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = nn.Sequential(
                    nn.Linear(6, 8), node.LIFNode(), nn.Linear(8, 8), node.IFNode(), nn.Linear(8, CLASSES)
                )

            def forward(self, x: Tensor) -> Tensor:
                functional.reset_net(self.net)
                return torch.stack([self.net(x) for _ in range(3)]).mean(0)

        return Spiking()

    def put_in(model: nn.Module) -> nn.Module:
        surrogate: Any = importlib.import_module("spikingjelly.activation_based.surrogate")
        return convert(model, surrogate.Sigmoid, lambda: HardThreshold(low=0))

    return Stock(make, put_in, 2 * _reals(6), _classes())


def _snn_torch() -> Stock:
    def make() -> nn.Module:
        leaky: Any = importlib.import_module("snntorch").Leaky

        class Spiking(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.into, self.again, self.top = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
                self.low, self.high = leaky(beta=0.9), leaky(beta=0.8)

            def forward(self, x: Tensor) -> Tensor:
                low, high, outputs = self.low.init_leaky(), self.high.init_leaky(), []
                for _ in range(3):
                    spikes, low = self.low(self.into(x), low)
                    spikes, high = self.high(self.again(spikes), high)
                    outputs.append(self.top(spikes))
                return torch.stack(outputs).mean(0)

        return Spiking()

    def put_in(model: nn.Module) -> nn.Module:
        neurons: Any = (model.low, model.high)
        for neuron in neurons:
            neuron.spike_grad = HardThreshold(low=0)
        return model

    return Stock(make, put_in, 2 * _reals(6), _classes())


MODELS: dict[str, Callable[[], Stock]] = {
    **{f"torchvision {name}": (lambda name=name: _torchvision(name)) for name in TORCHVISION},
    "timm vit_tiny": lambda: _timm(
        "vit_tiny_patch16_224", "GELU", img_size=SIZE // 2, depth=2, embed_dim=32, num_heads=2
    ),
    "timm resnet10t": lambda: _timm("resnet10t", "ReLU"),
    "timm convnext_atto": lambda: _timm("convnext_atto", "GELU", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)),
    "timm MLP-Mixer": lambda: _timm("MlpMixer", "GELU", img_size=SIZE // 2, num_blocks=2, embed_dim=32),
    "timm mobilenetv3_small": lambda: _timm("mobilenetv3_small_050", "Hardswish"),
    **{f"transformers {name}": make for name, make in _text_models().items()},
    "LSTM and head": lambda: Stock(
        LstmHead, replacing(nn.ReLU), _reals(5, 6), _classes(), lambda o, y: cross_entropy(o[0], y)
    ),
    "recurrent cell": lambda: Stock(Recurrent, replacing(nn.ReLU), _reals(5, 6), _classes()),
    "U-Net": lambda: Stock(UNet, replacing(nn.ReLU), _reals(1, 16, 16), _classes(16, 16)),
    "PyG GCN, graphs": lambda: _graphs(True),
    "PyG GCN, nodes": lambda: _graphs(False),
    "SpikingJelly": _spiking_jelly,
    "snnTorch": _snn_torch,
}
