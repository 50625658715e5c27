"""Named, seeded problems: for tests, benchmarks and first steps."""

from tpsolve.problems.instances._layer_instances import GENERATORS, Instance, make_instance
from tpsolve.problems.instances._table_instances import TABLES, make_table

__all__ = ["GENERATORS", "TABLES", "Instance", "make_instance", "make_table"]
