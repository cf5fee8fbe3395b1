"""How often a verifier may look: counted across processes without a write per look."""
