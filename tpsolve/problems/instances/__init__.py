"""Named, seeded problems: for tests, benchmarks and first steps."""

from tpsolve.problems.instances.layers import GENERATORS, Instance, make_instance
from tpsolve.problems.instances.tables import TABLES, make_table

__all__ = ["GENERATORS", "TABLES", "Instance", "make_instance", "make_table"]
