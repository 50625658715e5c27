"""Solvers of network problems, whose weights are free."""
