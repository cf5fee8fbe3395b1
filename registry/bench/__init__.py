"""The registry's part of ``elicense bench``: filling a store, reading it raw, serving it.

Run as ``python -m registry.bench``; no part of the registry's own command, and
nothing that a configuration file could switch on.
"""
