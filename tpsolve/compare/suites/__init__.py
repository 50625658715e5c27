"""Suites: the instances of a comparison, made, read from files or taken from tables."""
