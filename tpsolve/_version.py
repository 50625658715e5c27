"""The version, read by the build and by everything that records where it came from."""

__version__ = "0.1.0"
