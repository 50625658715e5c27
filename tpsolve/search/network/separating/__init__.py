"""A master that keeps what it has assigned separable while it searches."""
