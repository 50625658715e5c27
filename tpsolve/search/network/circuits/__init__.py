"""Exact training by circuits: masters propose targets, circuits of the inputs cut them off."""
