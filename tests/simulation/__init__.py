"""A deterministic simulation: registry and cities in one process, with time, network and crashes drawn from a seed."""
