"""Solvers of program problems: draws, the best assignments in order, all of them, and declared constraints."""
