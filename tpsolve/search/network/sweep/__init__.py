"""One unit, exactly: all hyperplanes through points, in the order in which they turn."""
