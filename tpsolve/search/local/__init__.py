"""Local searches: flips of targets, sample by sample side by side."""
