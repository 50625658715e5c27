"""The picture and the measured tables of the page whole-numbers.md.

`python -m docs.whole_numbers` writes the tables from rows of benchmarks. With `--picture` it draws the frontier
anew, which takes as many seconds as `SECONDS` says.
"""

import argparse
import re
from pathlib import Path

from sklearn.datasets import load_breast_cancer

from benchmarks import whole_anchors, whole_images, whole_numbers, whole_proofs
from benchmarks.record import RESULTS
from benchmarks.whole_numbers_tables import FURTHER, TUNING
from tpsolve import Budget, NetworkProblem
from tpsolve._storage._row_log import read_parts
from tpsolve.pictures import draw_frontier
from tpsolve.search import size_frontier

FEATURES = ["worst radius", "worst texture", "worst smoothness", "worst concavity", "worst symmetry", "area error"]
SECONDS = 100
PAGE = Path(__file__).with_name("whole-numbers.md")


def draw() -> None:
    """The frontier of six questions about cells."""
    cells = load_breast_cancer(as_frame=True)
    high = (cells.data[FEATURES] > cells.data[FEATURES].median()).astype(int)
    problem = NetworkProblem(high, cells.target.tolist(), [2], weight_set="ternary")
    points = size_frontier(problem, budget=Budget(seconds=SECONDS))
    for point in points:
        print(point.max_nonzero, point.nonzero, point.errors, point.bound, point.proved)
    draw_frontier(points).savefig(Path(__file__).parent / "images" / "frontier.png", dpi=110)


def write() -> None:
    """The tables, between their marks."""
    errors = [row for row in read_parts(RESULTS / "whole_numbers.jsonl") if row["budget"] == 3]
    proofs = [row for row in read_parts(RESULTS / "whole_proofs.jsonl") if row["budget"] == 60]
    anchors = read_parts(RESULTS / "whole_anchors.jsonl")
    text = PAGE.read_text()
    for name, lines in (
        ("tuning", whole_numbers.table(errors, TUNING)),
        ("further", whole_numbers.table(errors, FURTHER)),
        ("margins", whole_numbers.margins(errors, FURTHER)),
        ("sizes-tuning", whole_numbers.sizes(errors, TUNING)),
        ("sizes-further", whole_numbers.sizes(errors, FURTHER)),
        ("pictures", whole_images.table(read_parts(RESULTS / "whole_images.jsonl"))),
        ("monks", whole_anchors.monks_table(anchors)),
        ("images", whole_anchors.images_text(anchors)),
        ("proofs", whole_proofs.table(proofs)),
        ("cards", whole_anchors.cards_table(anchors)),
        ("circuits", whole_anchors.circuits_table(anchors)),
    ):
        marked = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        body = "\n".join(lines)
        text = marked.sub(lambda found, body=body: f"{found[1]}\n{body}\n\n{found[2]}", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", action="store_true")
    if parser.parse_args().picture:
        draw()
    write()
