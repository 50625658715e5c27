"""The tasks of a comparison: carried out in this process or in others, kept as rows, and checked again."""
