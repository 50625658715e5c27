"""Closed-form targets: one pass, no search."""
