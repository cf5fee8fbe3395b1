"""The fault campaign: real processes, broken on purpose, and what must hold after each fault."""
