"""Draws `images/exact_anytime.png` from the rows of `benchmarks/exact_anytime.py`."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent


def main() -> None:
    """One panel an instance: errors of the best network and proved bound against seconds."""
    rows = read_parts(HERE.parent / "benchmarks/results/exact_anytime.jsonl")
    figure = Figure(figsize=(11, 2.1 * ((len(rows) + 4) // 5)), layout="constrained")
    panels = figure.subplots((len(rows) + 4) // 5, min(5, len(rows)), squeeze=False).ravel()
    for axes, row in zip(panels, rows, strict=False):
        last = [row["seconds"], row["objective"], row["bound"]]
        seconds, objective, bound = zip(*row["trace"], last, strict=True)
        axes.step(seconds, objective, where="post", color="#D55E00", label="errors found")
        axes.step(seconds, bound, where="post", color="#0072B2", label="proved bound")
        axes.set_xscale("log")
        axes.set_xlim(0.01, row["limit"])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_title(row["instance"], fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("seconds", fontsize=8)
    figure.savefig(HERE / "images/exact_anytime.png", dpi=130)


if __name__ == "__main__":
    main()
