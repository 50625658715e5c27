"""Draws `images/exact_anytime.png` from the rows of `benchmarks/unsaturated.py`."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
ROWS = HERE.parent / "benchmarks/results/unsaturated.jsonl"
DRAWN = (
    ("uniform-3-60-s3", 3), ("uniform-5-50-s1", 2), ("uniform-5-100-s1", 1), ("moons-200-0.3", 3), ("penguins", 2),
    ("blobs-150-3-2-0.5", 3), ("xor-100-6-0.05", 2), ("gauss-5-500-3.0", 1), ("data/haberman", 2), ("data/balance", 2),
    ("data/pima-300", 1), ("data/heart", 1),
)  # fmt: skip
"""Table, hidden units."""


def main() -> None:
    """One panel a table: errors of the best network and proved bound against seconds."""
    found = {(row["table"], *row["widths"]): row for row in read_parts(ROWS) if row["limit"] == 60 and "trace" in row}
    rows = [found[key] for key in DRAWN]
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(3, 4).ravel()
    for axes, row in zip(panels, rows, strict=True):
        last = [row["seconds"], row["objective"], row["bound"]]
        seconds, objective, bound = zip(*row["trace"], last, strict=True)
        axes.step(seconds, objective, where="post", color="#D55E00", label="errors found")
        axes.step(seconds, bound, where="post", color="#0072B2", label="proved bound")
        axes.set_xscale("log")
        axes.set_xlim(0.01, row["limit"])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_title(f"{row['table'].removeprefix('data/')}, {_units(row['widths'][0])}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("seconds", fontsize=8)
    figure.savefig(HERE / "images/exact_anytime.png", dpi=130)


def _units(count: int) -> str:
    return "1 unit" if count == 1 else f"{count} units"


if __name__ == "__main__":
    main()
