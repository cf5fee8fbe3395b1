"""Answering whether a licence is in force: the same code on the registry and on every city node."""
