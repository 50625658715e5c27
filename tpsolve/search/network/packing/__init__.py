"""Bounds of one unit from circuits that share the costs of their points."""
