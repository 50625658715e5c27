"""Layer target problems, and their states under flips."""
