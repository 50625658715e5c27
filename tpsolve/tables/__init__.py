"""Tables of samples: files and DataFrames read by rules of our own, and a schema that reads new rows alike."""

from tpsolve.tables._columns import Column
from tpsolve.tables._options import TableOptions
from tpsolve.tables._schema import LabelledTable, TableSchema, read_table

__all__ = ["Column", "LabelledTable", "TableOptions", "TableSchema", "read_table"]
