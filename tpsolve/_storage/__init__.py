"""Files on disk: archives of problems and results, logs of rows, and writing that is whole or not at all."""
