"""One hard network problem cut into cubes, which many processes solve, and what they prove together."""
