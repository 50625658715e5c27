"""Learners of single units, one a file, and the optimisers that they share."""
