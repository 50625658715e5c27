"""Networks whose symbols are read by a program that has no gradient."""
