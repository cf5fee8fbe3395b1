"""How logs and keys are named below a trust domain."""

from __future__ import annotations

from typing import Final

#: Number of the registry's own log among the logs, which cities have under their division codes.
REGISTRY_LOG: Final = 0

#: Every log starts with this epoch.
FIRST_EPOCH: Final = 1


def registry_origin(trust_domain: str, epoch: int) -> str:
    """Return the origin of the registry's own log."""
    return f"{trust_domain}/registry/{epoch}"


def cosigner_name(trust_domain: str) -> str:
    """Return the name of the key that signs receipts."""
    return f"{trust_domain}/registry/cosigner"
