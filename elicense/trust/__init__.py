"""Keys, certificates, roles and enrollment."""
