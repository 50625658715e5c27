"""Which sign patterns single units can make: of points, and as gates."""
