"""What the registry's quarantines rest on, kept beside the mirror of its log: files, named by their SHA-256.

The registry's log holds the digest alone.  So a registry that lost its database gets
the evidence back together with the decision, and whoever doubts the decision finds the
proof with every city.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from elicense.trust.secret_file import SECRET_MODE, replace_file
from elicense.verification.cited import EVIDENCE_BYTES, cited


class MirroredEvidence:
    """Keeps it and finds it; called on a thread of its own.

    Args:
        folder: Where the files are; made when the first is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, records: Iterable[bytes | None], bodies: Iterable[bytes]) -> None:
        """Keep what these entries of the registry's log cite, and nothing else.

        Raises:
            OSError: It can not be written.
        """
        wanted = set(cited(records))
        for body in bodies:
            digest = sha256(body).digest()
            if digest in wanted:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(self._folder / digest.hex(), body, SECRET_MODE)

    def of(self, records: Iterable[bytes | None]) -> list[bytes]:
        """Return what is kept of all that these entries cite, as far as one call goes."""
        found, room = [], EVIDENCE_BYTES
        for digest in dict.fromkeys(cited(records)):
            path = self._folder / digest.hex()
            body = path.read_bytes() if path.exists() else b""
            if body and len(body) <= room:
                found.append(body)
                room -= len(body)
        return found
