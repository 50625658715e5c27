"""Search over the columns of hidden targets: all dichotomies, or the best on lines."""
