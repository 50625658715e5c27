"""Draws `images/local_anytime.png` from the rows of `python -m benchmarks.local_search anytime`."""

from pathlib import Path

from matplotlib.figure import Figure

from tpsolve._storage._row_log import read_parts

HERE = Path(__file__).parent
COLUMNS = 4


def main() -> None:
    """One panel an instance: the mean objective above the best one against milliseconds a sample."""
    rows = read_parts(HERE.parent / "benchmarks/results/local_search_anytime.jsonl")
    instances = list(dict.fromkeys(row["instance"] for row in rows))
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    lines = -(-(len(instances) + 1) // COLUMNS)
    figure = Figure(figsize=(12, 3 * lines), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    for axes, instance in zip(panels, instances, strict=False):
        here = [row for row in rows if row["instance"] == instance]
        best = min(row["mean_objective"] for row in here)
        floor = max(1e-4, 1e-3 * here[0]["start"])
        for number, solver in enumerate(solvers):
            own = [row for row in here if row["solver"] == solver]
            auto = solver == "auto"
            axes.plot(
                [row["ms_a_sample"] for row in own],
                [max(floor, row["mean_objective"] - best) for row in own],
                "o-",
                color="black" if auto else f"C{number}" if number < 10 else "0.6",
                linewidth=2.5 if auto else 1,
                markersize=4,
                label=solver,
            )
        axes.set(xscale="log", yscale="log")
        axes.set_title(f"{instance.removeprefix('wide/')}\n{here[0]['n']} targets, {here[0]['m']} units", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(instances) :]:
        axes.axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), frameon=False, fontsize=7, loc="center")
    figure.supxlabel("milliseconds a sample", fontsize=9)
    figure.supylabel("mean objective above the best found (a thousandth of the start or less: at the foot)", fontsize=9)
    figure.savefig(HERE / "images/local_anytime.png", dpi=110)


if __name__ == "__main__":
    main()
