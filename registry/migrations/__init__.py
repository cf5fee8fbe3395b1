"""How the registry's schema came to be, one revision a file."""
