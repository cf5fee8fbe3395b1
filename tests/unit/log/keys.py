"""Keys from fixed seeds, so that every signature in these tests is always the same."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from elicense.trust.signer import FileSigner


def signer(seed: str) -> FileSigner:
    return FileSigner(Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest()))
