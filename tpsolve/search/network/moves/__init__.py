"""Local searches that move the weights of one unit at a time, in many copies of a network."""
