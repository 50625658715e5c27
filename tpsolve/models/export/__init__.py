"""A model as a program or a file of another tool, one language a file; each is compared with the model."""
