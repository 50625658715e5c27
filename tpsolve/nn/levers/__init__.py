"""Modules and schedules that help networks of hard thresholds to learn."""
