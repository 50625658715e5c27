"""What a user declares of symbols and label, as CP-SAT constraints: models that are built once a label and used
again.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tpsolve.errors import ArgumentError

Declaration = Callable[[Any, list[Any], Any], object]
"""Called with (model, symbols, label): an ortools CpModel, a variable for each symbol, and the label of the sample."""
MAX_MODELS = 1024
"""Models kept; the oldest leave first."""
MAX_ANSWERS = 2**18
"""Remembered answers to whether symbols satisfy the constraints; the oldest leave first."""


class DeclaredModel:
    """The model of one label.

    Attributes:
        native: the CpModel, without an objective.
        values: of each symbol, for each of its values a Boolean literal that says that it has this value.
    """

    native: Any
    values: list[list[Any]]

    def __init__(self, declare: Declaration, kinds: tuple[int, ...], label: Any):
        from ortools.sat.python import cp_model

        self.native = cp_model.CpModel()
        self.values = []
        symbols = []
        for size in kinds:
            # A spin is written as size 0.
            domain = list(range(size)) if size else [-1, 1]
            symbol = self.native.new_int_var_from_domain(cp_model.Domain.from_values(domain), "")
            literals = [self.native.new_bool_var("") for _ in domain]
            self.native.add_exactly_one(literals)
            for value, literal in zip(domain, literals, strict=True):
                self.native.add(symbol == value).only_enforce_if(literal)
            symbols.append(symbol)
            self.values.append(literals)
        try:
            declare(self.native, symbols, label)
        except Exception as error:  # The user's own function, whatever it raises.
            got = f"{type(error).__name__} ({error}) for the label {label!r}"
            mend = "It is called with (model, symbols, label): a CpModel, a list of variables, and the label."
            raise ArgumentError("constraints", got, "a function that adds constraints", mend) from error
        if why := self.native.validate():
            raise ArgumentError(
                "constraints", f"a model that CP-SAT refuses: {why.strip()}", "constraints that it takes"
            )
        self._fixed: Any = None
        self._checking = threading.Lock()

    def holds(self, values: Sequence[int]) -> bool:
        """Whether the constraints hold where each symbol has its value of this number."""
        from ortools.sat.python import cp_model

        # CP-SAT ends the whole process where a model changes while it is solved.
        with self._checking:
            if self._fixed is None:
                # One copy serves all checks, as making one takes longer than most checks.
                self._fixed = self.native.clone()
            variables = self._fixed.proto.variables
            for value, literals in zip(values, self.values, strict=True):
                for number, literal in enumerate(literals):
                    domain = variables[literal.index].domain
                    domain[0] = domain[1] = int(number == value)
            solver = cp_model.CpSolver()
            solver.parameters.num_workers = 1
            return solver.solve(self._fixed) in (cp_model.OPTIMAL, cp_model.FEASIBLE)


class DeclaredConstraints:
    """Constraints as a function of (model, symbols, label), with the models that were built of them.

    Args:
        declare: adds to an ortools `CpModel` what must hold of the symbols, integer variables of 0 to K - 1, or of -1
            and +1
            for spins, if the label is right: sums, AllDifferent, tables, automata, further variables.
    """

    declare: Declaration

    def __init__(self, declare: Declaration):
        if not callable(declare):
            raise ArgumentError("constraints", type(declare).__name__, "a function of (model, symbols, label)")
        self.declare = declare
        self._models: dict[Any, DeclaredModel] = {}
        self._known: dict[Any, bool] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the models, which are built anew."""
        return {"declare": self.declare, "_models": {}, "_known": self._known}

    @classmethod
    def of(cls, constraints: "Declaration | DeclaredConstraints | None") -> "DeclaredConstraints | None":
        """`constraints` themselves, if they keep their models already."""
        return constraints if constraints is None or isinstance(constraints, DeclaredConstraints) else cls(constraints)

    def model(self, kinds: tuple[int, ...], label: Any) -> DeclaredModel:
        """The model for symbols of these sizes (0: a spin) and this label."""
        try:
            hash(label)
        except TypeError:
            return DeclaredModel(self.declare, kinds, label)
        key = (kinds, type(label), label)
        if key not in self._models:
            self._models[key] = DeclaredModel(self.declare, kinds, label)
            if len(self._models) > MAX_MODELS:
                del self._models[next(iter(self._models))]
        return self._models[key]

    def holds(self, symbols: Sequence[int], kinds: tuple[int, ...], label: Any) -> bool:
        """Whether the symbols satisfy the constraints of the label: CP-SAT's answer with all symbols fixed,
        remembered.
        """
        try:
            key = (tuple(symbols), kinds, type(label), label)
            if key not in self._known:
                if len(self._known) >= MAX_ANSWERS:
                    del self._known[next(iter(self._known))]
                self._known[key] = self._check(symbols, kinds, label)
            return self._known[key]
        except TypeError:  # A label without a hash.
            return self._check(symbols, kinds, label)

    def _check(self, symbols: Sequence[int], kinds: tuple[int, ...], label: Any) -> bool:
        return self.model(kinds, label).holds(
            [symbol if size else (symbol + 1) // 2 for symbol, size in zip(symbols, kinds, strict=True)]
        )
