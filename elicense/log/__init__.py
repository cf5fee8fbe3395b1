"""The log of a city or of the registry: Merkle tree, entries, signed heads and tiles, and their storage."""
