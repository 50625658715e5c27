"""Separability of columns of targets: stages that decide, and what they prove."""
