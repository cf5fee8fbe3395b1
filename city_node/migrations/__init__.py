"""How the schema of a city node came to be, one revision a file."""
