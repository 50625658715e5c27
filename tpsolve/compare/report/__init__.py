"""What is made of the rows of a comparison: tables, pictures and a page."""
