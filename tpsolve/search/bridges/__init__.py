"""Bridges to other libraries: models to export, samplers to import."""
