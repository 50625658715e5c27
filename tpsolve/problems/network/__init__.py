"""Network target problems: weights free, separability is the judge."""
