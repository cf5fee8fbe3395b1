"""Thin servicers of the registry, one module a proto service."""
