"""A city node's part of ``elicense bench``: filling its log with licences.

Run as ``python -m city_node.bench``; no part of the city's own command, and
nothing that a configuration file could switch on.
"""
