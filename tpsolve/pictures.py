"""Pictures of what single units and small networks can tell apart, for samples in the plane."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor, nn

from tpsolve._glyphs import drawable, dress
from tpsolve._storage._printable import printable
from tpsolve.errors import ArgumentError
from tpsolve.models import Model
from tpsolve.problems import NetworkProblem
from tpsolve.problems.network._labels import decode
from tpsolve.search import FrontierPoint
from tpsolve.units import Certificate
from tpsolve.units.separability._class_rows import ClassRow

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
Scaling = Sequence[tuple[Fraction, Fraction]]
MAX_NUMBER = 1e100
"""The largest number of a picture: sums and products of larger ones may overflow."""


def draw_separation(
    inputs: Tensor,
    labels: Sequence[str],
    names: Sequence[str],
    rows: Sequence[ClassRow],
    certificate: Certificate,
    scaling: Scaling = (),
) -> Figure:
    """One panel a class: the line that tells it from the rest, or the circuit that forbids any line.

    Args:
        inputs: `(N, 2)`.
        names: of the two features.
        rows, certificate: of `class_rows(inputs, labels)`.
        scaling: offset and scale of both, where an input is `(number - offset) * scale`: the axes show the numbers.

    Raises:
        ArgumentError: numbers beyond `MAX_NUMBER`.
    """
    x = inputs.double().numpy()
    spans = tuple(_span(name, values) for name, values in zip(names, x.T, strict=True))
    own_class = np.array(labels)
    figure = Figure(figsize=(4.4 * len(rows), 4.2), layout="constrained")
    for k, (axes, row) in enumerate(zip(np.atleast_1d(figure.subplots(1, len(rows))), rows, strict=True)):
        member = own_class == row.label
        axes.scatter(*x[~member].T, s=22, color="#9aa5b1", label="the others", zorder=2)
        axes.scatter(*x[member].T, s=26, color=COLOURS[k % len(COLOURS)], label=row.label, zorder=3)
        axes.set_xlim(*spans[0])
        axes.set_ylim(*spans[1])
        if row.status > 0:
            _draw_line(axes, certificate.weight[k].double().numpy(), float(certificate.bias[k]), spans)
            axes.set_title(f"{row.label}: separable, margin {row.margin:.3g}")
        elif row.status < 0:
            circuit = list(row.circuit)
            for side in (True, False):
                _draw_hull(axes, x[[i for i in circuit if member[i] == side]])
            axes.set_title(f"{row.label}: {len(circuit)} samples forbid it")
        else:
            axes.set_title(f"{row.label}: undecided")
        axes.legend(frameon=False, loc="best", fontsize=8)
        _finish(axes, names, scaling)
    return dress(figure)


def draw_network(problem: NetworkProblem, network: nn.Module, names: Sequence[str], scaling: Scaling = ()) -> Figure:
    """The plane of a network on two features: regions by class, lines of the first units, samples, rings on errors.

    Args:
        network: `problem.network(targets)`.
        names: of the two features.
        scaling: as in `draw_separation`.

    Raises:
        ArgumentError: numbers beyond `MAX_NUMBER`.
    """
    x = problem.samples.double().cpu()
    spans = tuple(_span(name, values) for name, values in zip(names, x.numpy().T, strict=True))
    (left, right), (low, high) = spans
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    across, up = np.meshgrid(np.linspace(left, right, 400), np.linspace(low, high, 400))
    with torch.no_grad():
        plane = torch.from_numpy(np.stack([across.ravel(), up.ravel()], axis=1))
        regions = decode(network(plane)).reshape(across.shape).numpy()
        named = decode(network(x))
    for k, label in enumerate(problem.classes):
        colour = COLOURS[k % len(COLOURS)]
        axes.contourf(across, up, (regions == k).astype(float), levels=[0.5, 1.5], colors=[colour], alpha=0.16)
        axes.scatter(*x[problem.index == k].T, s=24, color=colour, label=str(label), zorder=3)
    first = next(module for module in network.modules() if isinstance(module, nn.Linear))
    for weight, bias in zip(first.weight.detach().numpy(), first.bias.detach().tolist(), strict=True):
        _draw_line(axes, weight, bias, spans)
    wrong = named != problem.index
    if bool(wrong.any()):
        rings = {"s": 110, "facecolors": "none", "edgecolors": "#1c2430", "linewidths": 1.3}
        axes.scatter(*x[wrong].T, **rings, label="error", zorder=4)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    errors = int(wrong.sum())
    axes.set_title(f"{errors} {'error' if errors == 1 else 'errors'} on {len(x)} samples")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    _finish(axes, names, scaling)
    return dress(figure)


def draw_frontier(points: Sequence[FrontierPoint]) -> Figure:
    """Errors against the number of weights other than 0, as a staircase, with the proved bound below it.

    Args:
        points: of `size_frontier`; proved ones are filled.

    Raises:
        ArgumentError: no points.
    """
    if not points:
        raise ArgumentError("points", "no point", "at least one")
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    sizes = range(max(p.max_nonzero for p in points) + 1)
    # A network serves for larger sizes too, and a bound for smaller ones.
    errors = [min((p.errors for p in points if p.nonzero <= size), default=math.inf) for size in sizes]
    bound = [max(p.bound for p in points if p.max_nonzero >= size) for size in sizes]
    if not all(p.proved for p in points):
        axes.fill_between(sizes, bound, errors, step="post", color=COLOURS[0], alpha=0.15, lw=0, label="not known")
    axes.step(sizes, errors, where="post", color=COLOURS[0], lw=1)
    for proved, face, label in ((True, COLOURS[0], "proved"), (False, "white", "found, not proved")):
        own = [p for p in points if p.proved is proved]
        if own:
            place = [p.nonzero for p in own], [p.errors for p in own]
            axes.scatter(*place, s=30, facecolors=face, edgecolors=COLOURS[0], label=label, zorder=3)
    axes.set_xlabel("weights other than 0")
    axes.set_ylabel("training errors")
    axes.set_ylim(bottom=min(0.0, *bound))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return dress(figure)


def draw_model(model: Model) -> Figure:
    """What a model does: the regions of its classes where it has two features, else its units with a bar a weight.

    Of a model of images, each unit of the first layer is drawn as the image of its weights. At most `MAX_PANELS` units
    are drawn.

    Raises:
        ArgumentError: numbers beyond `MAX_NUMBER`.
    """
    if model.shape:
        return _draw_images(model)
    return _draw_regions(model) if len(model.features) == 2 else _draw_units(model)


def _draw_images(model: Model) -> Figure:
    """The weights of each unit of the first layer, those of several channels added; blue is for it, red against."""
    weight = model.layers.weights[0][0][:MAX_PANELS].reshape(-1, *model.shape).sum(axis=1)
    columns = min(8, len(weight))
    figure = Figure(figsize=(1.1 * columns, 1.25 * -(-len(weight) // columns) + 0.4), layout="constrained")
    grid = np.atleast_1d(figure.subplots(-(-len(weight) // columns), columns)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for k, (axes, image) in enumerate(zip(grid, weight, strict=False)):
        largest = max(float(np.abs(image).max()), 1.0)
        axes.imshow(image, cmap="RdBu", vmin=-largest, vmax=largest)
        axes.set_title(str(k + 1), fontsize=7, pad=2)
    figure.suptitle(f"units 1 to {len(weight)} of {len(model.layers.weights[0][1])} in the first layer", fontsize=10)
    return dress(figure)


def _draw_regions(model: Model) -> Figure:
    names = model.features
    ends = np.stack([model.grid.low, model.grid.high])
    spans = tuple(_span(name, values) for name, values in zip(names, ends.T, strict=True))
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    across, up = np.meshgrid(*(np.linspace(low, high, 400) for low, high in spans))
    regions = model.layers.classes(np.stack([across.ravel(), up.ravel()], axis=1)).reshape(across.shape)
    for k, label in enumerate(model.classes):
        colour = COLOURS[k % len(COLOURS)]
        axes.contourf(across, up, (regions == k).astype(float), levels=[0.5, 1.5], colors=[colour], alpha=0.3)
        axes.scatter([], [], s=60, marker="s", color=colour, alpha=0.5, label=str(label))
    for weight, bias in zip(*model.layers.weights[0], strict=True):
        if weight.any():
            _draw_line(axes, weight, float(bias), spans)
    axes.set_xlim(*spans[0])
    axes.set_ylim(*spans[1])
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    _finish(axes, names, model.scaling or ())
    return dress(figure)


MAX_BARS = 30
"""Of a unit, the weights that matter most are drawn."""
MAX_PANELS = 64
"""Units in one picture, the first ones of the lowest layer."""


def _draw_units(model: Model) -> Figure:
    """A panel a unit: a bar of each weight times the span of what it reads, so that bars tell what matters."""
    span = np.where(model.grid.high > model.grid.low, model.grid.high - model.grid.low, 1.0)
    panels = []
    names, reach = [_short_name(name) for name in model.features], span
    for number, (weight, bias) in enumerate(model.layers.weights):
        last = number == len(model.layers.weights) - 1
        own = [f"unit {k + 1}" if len(model.widths) == 1 else f"unit {number + 1}.{k + 1}" for k in range(len(bias))]
        titles = own
        if last:
            titles = [str(label) for label in (model.classes[1:] if len(bias) == 1 else model.classes)]
        for title, row in zip(titles, weight, strict=True):
            if row.any():
                panels.append((_short_name(title), names, row * reach, last))
        names, reach = own, np.full(len(bias), 2.0)
    panels = panels[:MAX_PANELS]
    columns = min(4, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    bars = max((min(MAX_BARS, int((row != 0).sum())) for _, _, row, _ in panels), default=1)
    figure = Figure(figsize=(3.6 * columns, (1.1 + 0.24 * bars) * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, read, row, last) in zip(grid, panels, strict=False):
        used = np.argsort(-np.abs(row))[: min(MAX_BARS, int((row != 0).sum()))][::-1]
        with np.errstate(over="ignore"):
            values = row[used] / np.abs(row).max()
        axes.barh(range(len(used)), values, color=[COLOURS[0] if v > 0 else COLOURS[1] for v in values])
        axes.set_yticks(range(len(used)), [read[k] for k in used], fontsize=8)
        axes.axvline(0, color="#1c2430", linewidth=0.8)
        # Bars of all panels are equally thick.
        axes.set_ylim(len(used) - 0.4 - bars, len(used) - 0.4)
        axes.set_xlim(-1.05, 1.05)
        axes.set_xticks([])
        axes.set_title(f"for {title}" if last else title, fontsize=10)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        for text in (axes.title, *axes.get_yticklabels()):
            text.set_parse_math(False)
    return dress(figure)


def _short_name(name: object) -> str:
    text = drawable(printable(name))
    return text if len(text) <= 32 else f"{text[:29]}..."


def _finish(axes: Axes, names: Sequence[str], scaling: Scaling) -> None:
    """Name the axes, in the numbers of the file; no text is a formula or holds signs that can't be drawn."""
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    for axis, (offset, scale) in zip((axes.xaxis, axes.yaxis), scaling, strict=False):
        if (offset, scale) != (0, 1):
            axis.set_major_formatter(FuncFormatter(partial(_number, offset=offset, scale=scale)))
    legend = axes.get_legend()
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *(legend.get_texts() if legend else ())]
    for text in texts:
        text.set_parse_math(False)
        text.set_text(drawable("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text.get_text())))
    axes.spines[["top", "right"]].set_visible(False)


def _number(value: float, place: int | None, *, offset: Fraction, scale: Fraction) -> str:
    return f"{float(Fraction(value) / scale + offset):.6g}"


def _span(name: str, values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > MAX_NUMBER:
        raise ArgumentError(name, f"numbers up to {max(-low, high):.3g}", f"at most {MAX_NUMBER:g} to draw them")
    room = 0.06 * (high - low) or max(1.0, 1e-6 * abs(high))
    return low - room, high + room


def _draw_line(axes: Axes, weight: np.ndarray, bias: float, spans: tuple[tuple[float, float], ...]) -> None:
    """Where weight @ x + bias = 0 within the `spans` of the two axes; a line that passes by is left out."""
    centre, size = np.mean(spans, axis=1), np.ptp(spans, axis=1)
    # In the square of side 1 around the centre, so that neither units nor the length of the weights matter.
    normal, offset = weight * size, bias + weight @ centre
    length = np.hypot(*normal)
    if abs(offset) >= length * np.sqrt(0.5):
        return
    normal, offset = normal / length, offset / length
    ends = -offset * normal + np.outer([-1, 1], [-normal[1], normal[0]])
    axes.plot(*(centre + ends * size).T, color="#1c2430", linewidth=1.4)


def _draw_hull(axes: Axes, points: np.ndarray) -> None:
    """Outline of one side of a circuit; the two sides meet."""
    try:
        points = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        # Fewer than three points, or all on a line: drawn as they are.
        points = points[np.lexsort(points.T)]
    closed = np.vstack([points, points[:1]])
    axes.plot(*closed.T, "-o", color="#D55E00", linewidth=2, markersize=9, markerfacecolor="none", zorder=4)
