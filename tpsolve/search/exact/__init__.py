"""Exact solvers of layer problems: enumeration, CP-SAT, MILP, and the models that they share."""
