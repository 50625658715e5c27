"""The proof that a result of `Circuits` holds."""

from fractions import Fraction

import torch

from tpsolve._result import Result
from tpsolve.errors import NotAcceptedError
from tpsolve.problems import NetworkProblem
from tpsolve.search.network.circuits._formula import NetworkFormula
from tpsolve.search.proofs._proof import Proof, clause_hash, data_hash


def make_proof(problem: NetworkProblem, result: Result, about: dict[str, str] | None = None) -> Proof:
    """The proof that a result of `Circuits` holds, to be saved and checked with `verify_proof`.

    Args:
        about: where the data are: for a table the name of its column of classes.

    Raises:
        NotAcceptedError: a result of another solver.
        ArgumentError: the oracle has no weights for the result's targets that float64 holds.
    """
    if "circuits" not in result.stats:
        raise NotAcceptedError("result", f"a result of {result.stats.get('solver')}", "a result of circuits")
    # Checked in exact arithmetic, so that sums may be too close to 0 for float64.
    weights = result.stats.get("weights") or problem.weights(result.targets)
    circuits, formula = result.stats["circuits"].to(torch.int32), NetworkFormula(problem)
    learned = (clause for row in circuits.tolist() for clause in formula.circuit(*_samples_and_signs(row)))
    labels = [problem.classes[k] for k in problem.index.tolist()]
    return Proof(
        data=data_hash(problem.samples.cpu().numpy(), labels, problem.weight),
        widths=problem.widths,
        classes=problem.classes,
        objective=Fraction(result.objective.item()),
        bound=Fraction(result.bound.item()),
        engine=result.stats["engine"],
        weights=[(weight.cpu(), bias.cpu()) for weight, bias in weights],
        circuits=circuits,
        clauses=clause_hash(learned),
        about=about or {},
    )


def _samples_and_signs(row: list[int]) -> tuple[list[int], list[int]]:
    used = [v for v in row if v]
    return [abs(v) - 1 for v in used], [1 if v > 0 else -1 for v in used]
