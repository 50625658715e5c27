"""Target problems taken from trained models."""
