"""How logs and keys are named below a trust domain."""

from __future__ import annotations


def registry_origin(trust_domain: str, epoch: int) -> str:
    """Return the origin of the registry's own log."""
    return f"{trust_domain}/registry/{epoch}"


def cosigner_name(trust_domain: str) -> str:
    """Return the name of the key that signs receipts."""
    return f"{trust_domain}/registry/cosigner"
