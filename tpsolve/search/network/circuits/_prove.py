"""The proof that a result of an exact solver of networks holds."""

from fractions import Fraction

import torch

from tpsolve._result import Result
from tpsolve.errors import NotAcceptedError
from tpsolve.problems import NetworkProblem
from tpsolve.search.network.circuits._formula import NetworkFormula
from tpsolve.search.proofs._proof import Proof, ProofPart, clause_hash, data_hash

PROVING = ("circuits", "cubes", "sweep", "dichotomies")
"""The solvers whose results can be proved."""
PROVING_WHOLE = ("weight-box", "all-columns")
"""Of them, those for problems with a `weight_set`."""


def has_proof(problem: NetworkProblem, solver: str | None) -> bool:
    """Whether `make_proof` takes results of the solver; those of a problem with a margin, prices of
    features or a shared bias it does not.
    """
    return (
        problem.margin is None
        and not problem.prices
        and not problem.rules.shared_bias
        and solver in (PROVING if problem.weight_set is None else PROVING_WHOLE)
    )


def make_proof(problem: NetworkProblem, result: Result, about: dict[str, str] | None = None) -> Proof:
    """The proof that a result holds, to be saved and checked with `verify_proof`.

    Results are those of `circuits`, `sweep` and `dichotomies`, of cubes, and with a `weight_set` of `weight-box` and
    `all-columns`.

    Args:
        about: where the data are: for a table the name of its column of classes.

    Raises:
        NotAcceptedError: a result of another solver, or a problem with a margin, prices of features or a
            shared bias.
        ArgumentError: the targets of the result are those of no network.
    """
    solver = str(result.stats.get("solver"))
    if problem.rules.shared_bias:
        mend = "Solve it without the shared bias."
        raise NotAcceptedError("problem", "a shared bias", "a problem without one", mend)
    if problem.prices:
        mend = "Its bound stands in the result, but the check knows one penalty of all weights only."
        raise NotAcceptedError("problem", "prices of features", "a problem without them", mend)
    if problem.margin is not None:
        mend = "Its bound stands in the result, but the check knows errors and weights only."
        raise NotAcceptedError("problem", "a margin", "a problem without a margin", mend)
    if not has_proof(problem, solver):
        solvers = PROVING if problem.weight_set is None else PROVING_WHOLE
        raise NotAcceptedError("result", f"a result of {solver}", f"a result of {' or '.join(solvers)}")
    if problem.weight_set is not None:
        return _of_set(problem, result, about or {})
    # Checked in exact arithmetic, so that sums may be too close to 0 for float64.
    weights, rationals = result.stats.get("weights"), result.stats.get("rationals", {})
    if not weights:
        weights, rationals = problem.nearest_weights(result.targets)
    method = result.stats.get("proved_by", solver)
    circuits, learned = torch.zeros(0, problem.inputs.shape[1] + 2, dtype=torch.int32), []
    if method in ("circuits", "packing"):
        circuits, formula = result.stats["circuits"].to(torch.int32), NetworkFormula(problem)
        learned = (clause for row in circuits.tolist() for clause in formula.circuit(*_samples_and_signs(row)))
    labels = [problem.classes[k] for k in problem.index.tolist()]
    return Proof(
        data=data_hash(problem.samples.cpu().numpy(), labels, problem.weight),
        widths=problem.widths,
        classes=problem.classes,
        objective=Fraction(result.objective.item()),
        bound=Fraction(result.bound.item()),
        engine=result.stats.get("refuted_by", result.stats.get("engine", "")),
        weights=[(weight.cpu(), bias.cpu()) for weight, bias in weights],
        circuits=circuits,
        clauses=clause_hash(learned),
        about=about or {},
        method=method,
        parts=tuple(ProofPart(*evidence) for evidence in result.stats.get("parts", [])),
        shares=result.stats["shares"] if method == "packing" else None,
        rationals=dict(rationals),
    )


def _of_set(problem: NetworkProblem, result: Result, about: dict[str, str]) -> Proof:
    weights = [(weight.cpu(), bias.cpu()) for weight, bias in problem.check_weights(result.stats["weights"])]
    penalty = Fraction(problem.penalty)
    errors = problem.errors(problem.columns(problem.from_weights(weights))[-1]).item()
    objective = Fraction(errors) + penalty * problem.nonzero(weights)
    return Proof(
        data=data_hash(
            problem.samples.cpu().numpy(), [problem.classes[k] for k in problem.index.tolist()], problem.weight
        ),
        widths=problem.widths,
        classes=problem.classes,
        objective=objective,
        # The search adds floats up; what is exact may be less.
        bound=min(objective, Fraction(result.bound.item())),
        engine="cp-sat" if result.stats["solver"] == "weight-box" else "",
        weights=weights,
        circuits=torch.zeros(0, problem.inputs.shape[1] + 2, dtype=torch.int32),
        clauses=clause_hash([]),
        about=about,
        method="weight-set",
        weight_set=problem.weight_set,
        bias_set=problem.bias_set,
        penalty=penalty,
        **problem.rules.sets(),
    )


def _samples_and_signs(row: list[int]) -> tuple[list[int], list[int]]:
    used = [v for v in row if v]
    return [abs(v) - 1 for v in used], [1 if v > 0 else -1 for v in used]
