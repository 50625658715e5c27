"""Draws docs/images/certificates.png: what the two kinds of certificate look like in the plane."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from tpsolve.units import Separability, circuits

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "certificates.png"


def main() -> None:
    g = torch.Generator().manual_seed(4)
    x = torch.randn(24, 2, generator=g, dtype=torch.float64)
    t = torch.where(x[:, :1] + x[:, 1:] > 0.2, 1.0, -1.0).double().repeat(1, 2)
    t[(x[:, 0] + x[:, 1]).argmin(), 1] = 1.0
    certificate = Separability().fit(x, t)
    assert certificate.verify(x, t).tolist() == [1, -1]
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharex=True, sharey=True)
    for k, axis in enumerate((*axes[:2], axes[2])):
        column = t[:, min(k, 1)]
        for sign, marker, colour in ((1, "o", "C0"), (-1, "s", "C1")):
            rows = column == sign
            axis.scatter(x[rows, 0], x[rows, 1], marker=marker, color=colour, zorder=3, label=f"target {sign:+d}")
        axis.set_aspect("equal")
    w, b = certificate.weight[0], certificate.bias[0]
    ends = torch.tensor([-2.5, 2.5], dtype=torch.float64)
    axes[0].plot(ends, -(w[0] * ends + b) / w[1], color="black")
    axes[0].set(title="separable: weights", xlim=(-2.8, 2.8), ylim=(-2.6, 2.6))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    outline(axes[1], x, t[:, 1], certificate.circuit(1), "black")
    axes[1].set_title("not separable: a circuit")
    found = circuits(x, t[:, 1], 6, torch.Generator().manual_seed(0))
    for number, circuit in enumerate(found):
        outline(axes[2], x, t[:, 1], circuit.samples, f"C{number + 2}")
    axes[2].set_title(f"{len(found)} of its circuits")
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=120)
    print(IMAGE)


def outline(axis, x: torch.Tensor, t: torch.Tensor, samples: torch.Tensor, colour: str) -> None:
    """The hulls of a circuit's two classes, which meet in one point."""
    for sign in (1, -1):
        own = x[samples[t[samples] == sign]]
        closed = torch.cat([own, own[:1]])
        axis.plot(closed[:, 0], closed[:, 1], color=colour, marker="o", markersize=11, fillstyle="none")


if __name__ == "__main__":
    main()
