"""Kernels that do in one pass over memory what the plain path of a threshold does in several."""
