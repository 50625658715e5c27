"""Commands that compare solvers, and that draw what was compared."""
