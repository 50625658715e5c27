"""Forward passes of a model observed, cut and run again."""
