"""Layer problems of the squared loss as the binary quadratic models of dimod, and back.

    sum_k c_k (V_k . t + b_k - s_k)^2 + stay  =  sum_{i<j} J_ij t_i t_j + sum_j h_j t_j + offset

since t_j^2 = 1. dimod is an extra: pip install 'tpsolve[dimod]'.
"""

from typing import Any

import torch

from tpsolve._check_arguments import check_finite
from tpsolve.errors import ArgumentError, MissingLibraryError, NotAcceptedError, TooLargeError
from tpsolve.problems.layer._layer_problem import LayerProblem

MAX_ROWS = 2**26
"""Maximum size of the weight of `from_bqm`: 256 MB in float32."""


def to_bqm(problem: LayerProblem) -> list[Any]:
    """One `dimod.BinaryQuadraticModel` for each sample of the flat batch, spins 0 to n - 1.

    Its energy at t is the objective of t: couplings, fields (the stay penalty in them) and the offset
    are computed in float64, so that the two differ only by rounding (`problem.rounding()`).

    Raises:
        NotAcceptedError: the loss is not the squared one.
        MissingLibraryError: dimod is not installed.
    """
    if problem.loss != "squared":
        raise NotAcceptedError("problem", f"the loss {problem.loss!r}", "the loss 'squared', the only quadratic one")
    dimod = _dimod()
    energy = problem.energy64
    n, weight = problem.n_vars, energy.weight
    pairs = torch.triu_indices(n, n, 1, device=problem.device)
    models = []
    for row in range(problem.n_samples):
        c = energy.unit_weight[min(row, len(energy.unit_weight) - 1)]
        rest = energy.bias - energy.targets[row]
        gram = (weight.T * c) @ weight
        coupling = 2 * gram[pairs[0], pairs[1]]
        field = 2 * ((c * rest) @ weight)
        offset = float((c * rest**2).sum() + gram.trace())
        if energy.stay is not None:
            field = field - 0.5 * energy.stay[row]
            offset += 0.5 * float(energy.stay[row].abs().sum())
        used = coupling != 0
        arrays = [values.cpu().numpy() for values in (*pairs[:, used], coupling[used])]
        models.append(
            dimod.BinaryQuadraticModel.from_numpy_vectors(
                field.cpu().numpy(), arrays, offset, dimod.SPIN, variable_order=range(n)
            )
        )
    return models


def from_bqm(model: Any) -> tuple[LayerProblem, float]:
    """A layer problem of one sample, batch shape (), and the constant that its objective lacks.

    energy(t) = objective(t) + constant, where target j is the variable at position j of
    `model.variables`, a binary one as (1 + t_j) / 2. Each coupling J t_i t_j becomes a unit above with
    the weights 1 and sign(J), since |J|/2 (t_i + sign(J) t_j)^2 = |J| + J t_i t_j; each field likewise,
    with a bias. So the numbers of the model stay as they are.

    Raises:
        ArgumentError: no binary quadratic model, or one without variables.
        NotFiniteError: a coupling or field is NaN or infinite.
        TooLargeError: so many couplings that the weight would have more than 2^26 numbers.
        MissingLibraryError: dimod is not installed.
    """
    dimod = _dimod()
    if not isinstance(model, dimod.BinaryQuadraticModel) or model.num_variables == 0:
        raise ArgumentError("model", type(model).__name__, "a dimod.BinaryQuadraticModel with variables")
    spins = model.change_vartype(dimod.SPIN, inplace=False)
    fields, (first, second, couplings), offset = spins.to_numpy_vectors(variable_order=list(spins.variables))
    h, j = torch.as_tensor(fields, dtype=torch.float64), torch.as_tensor(couplings, dtype=torch.float64)
    check_finite("model", torch.cat([h, j]))
    n, m = len(h), len(j) + int((h != 0).sum())
    if max(1, m) * n > MAX_ROWS:
        raise TooLargeError("model", f"{m} couplings and fields of {n} variables", f"at most {MAX_ROWS // n} in all")
    # A model without terms still needs a unit above: one that counts for nothing.
    weight = torch.zeros(max(1, m), n, dtype=torch.float64)
    bias, c = torch.ones(len(weight), dtype=torch.float64), torch.zeros(len(weight), dtype=torch.float64)
    rows = torch.arange(len(j))
    weight[rows, torch.as_tensor(first, dtype=torch.int64)] = 1.0
    weight[rows, torch.as_tensor(second, dtype=torch.int64)] = j.sign()
    used = h.nonzero()[:, 0]
    rows = torch.arange(len(j), m)
    weight[rows, used] = 1.0
    bias[rows] += h[used].sign()
    c[:m] = 0.5 * torch.cat([j, h[used]]).abs()
    # Against the target +1, so that a unit's loss is (V_k . t + b_k - 1)^2.
    problem = LayerProblem(weight, torch.ones(len(weight)), bias, "squared", c)
    return problem, float(offset) - float(j.abs().sum() + h.abs().sum())


def _dimod() -> Any:
    try:
        import dimod
    except ImportError as error:
        raise MissingLibraryError("A binary quadratic model", "dimod", "dimod") from error
    return dimod
