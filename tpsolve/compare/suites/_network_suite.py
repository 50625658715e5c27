"""The networks suite: small tables whose fewest training errors are sought, weights free."""

from tpsolve.problems import Instance, NetworkProblem, make_table


def networks(samples: int, seed: int) -> list[Instance[NetworkProblem]]:
    """Nine networks of 2 to 6 units; `seed` draws the random tables, and `samples` only scales the budget."""
    tables = (
        ("xor/2", "checkerboard-2", (2,)),
        ("parity-4/4", "parity-4", (4,)),
        ("parity-4/3-2", "parity-4", (3, 2)),
        ("random-2-40/3", f"random-2-40-s{seed}", (3,)),
        ("random-2-80/2", f"random-2-80-s{seed}", (2,)),
        ("random-4-40/2", f"random-4-40-s{seed}", (2,)),
        ("monks-2/3", "monks-2", (3,)),
        ("iris/3", "iris", (3,)),
        ("iris-two/1", "iris-two", (1,)),
    )
    return [Instance(name, NetworkProblem(*make_table(table), widths=widths)) for name, table, widths in tables]
