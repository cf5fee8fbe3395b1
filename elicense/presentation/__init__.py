"""Signed objects that leave the system: checked with files and public keys alone."""
