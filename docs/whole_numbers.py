"""Draw the frontier of the page whole-numbers.md: python docs/whole_numbers.py"""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

from tpsolve import Budget, NetworkProblem
from tpsolve.pictures import draw_frontier
from tpsolve.search import size_frontier

FEATURES = ["worst radius", "worst texture", "worst smoothness", "worst concavity", "worst symmetry", "area error"]
SECONDS = 100

if __name__ == "__main__":
    cells = load_breast_cancer(as_frame=True)
    high = (cells.data[FEATURES] > cells.data[FEATURES].median()).astype(int)
    problem = NetworkProblem(high, cells.target.tolist(), [2], weight_set="ternary")
    points = size_frontier(problem, budget=Budget(seconds=SECONDS))
    for point in points:
        print(point.max_nonzero, point.nonzero, point.errors, point.bound, point.proved)
    draw_frontier(points).savefig(Path(__file__).parent / "images" / "frontier.png", dpi=110)
