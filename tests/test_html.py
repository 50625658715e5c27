"""What values show of themselves in notebooks."""

import torch
from support.pages import Page

import tpsolve
from tpsolve import Budget, NetworkProblem, ProgramProblem, solve
from tpsolve._result import SHOWN, facts_table, lines_table
from tpsolve.problems import BlockProblem, make_instance
from tpsolve.search import make_proof
from tpsolve.units import Separability

XOR = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


def read(shown: str) -> str:
    page = Page()
    page.feed(shown)
    assert page.open == []
    return " ".join(" ".join(page.words).split())


def test_texts_stay_texts():
    hostile = "</td><script>alert(1)</script>"
    assert "<script>" not in facts_table(hostile, {hostile: hostile}) + lines_table([hostile], [[hostile]], "")
    assert read(lines_table(["k"], [[k] for k in range(SHOWN + 3)], "lines")).endswith(f"{SHOWN - 1} 3 more lines")


def test_each_kind_of_problem_says_what_it_is():
    problem = make_instance("random", n=6, m=4, samples=3).problem
    assert "LayerProblem samples 3 targets of a sample 6 start given" in read(problem._repr_html_())
    assert "units above 4 loss hinge" in read(problem._repr_html_())
    block = BlockProblem(torch.nn.Linear(6, 2), torch.zeros(3, dtype=torch.int64), torch.ones(3, 6))
    assert "BlockProblem samples 3 targets of a sample 6" in read(block._repr_html_())
    assert "module above Linear" in read(block._repr_html_())
    network = NetworkProblem(XOR, ["<b>", "no", "no", "<b>"], [2], weight_set="ternary")
    assert "samples 4 different points 4 features 2 classes <b>, no" in read(network._repr_html_())
    assert "weights (-1, 0, 1)" in read(network._repr_html_())
    program = ProgramProblem(lambda a, b: a > 0 and b > 0, [True], torch.zeros(1, 2), symbols="sign")
    assert "symbols 2 values of each symbol 2" in read(program._repr_html_())


def test_certificates_and_proofs_say_what_they_claim():
    inputs, targets = torch.tensor(XOR), torch.tensor([[1.0, -1], [-1, -1], [-1, 1], [1, 1]])
    fit = Separability().fit(inputs, targets)
    assert (
        read(fit._repr_html_())
        == "unit claim proof 0 not separable 4 samples forbid it: 0, 1, 2, 3 1 separable weights"
    )
    problem = NetworkProblem(XOR, [0, 1, 1, 0], [1])
    proof = make_proof(problem, solve(problem, "circuits", budget=Budget(seconds=20)))
    assert "training errors 1 none makes fewer than 1" in read(proof._repr_html_())


def test_a_target_report_has_a_line_a_threshold():
    from tpsolve.nn import HardThreshold, target_backward

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), HardThreshold(), torch.nn.Linear(2, 2))
    report = target_backward(model, torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), torch.nn.CrossEntropyLoss())
    assert isinstance(report, tpsolve.nn.TargetReport)
    assert read(report._repr_html_()).startswith("loss ")
    assert "1 sign-gradient" in read(report._repr_html_())
