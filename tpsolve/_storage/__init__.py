"""Files on disk: archives of problems and results, tables, logs of rows, and writing that is whole or not at all."""
