"""Solvers made of other solvers."""
