"""Proofs of exact answers, and checks that share nothing with the solvers."""
