"""Servicers of a city node, one module a proto service: parse, call the use case, encode."""
