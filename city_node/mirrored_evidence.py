"""What the registry's quarantines rest on, kept beside the mirror of its log: files, named by their SHA-256.

The registry's log holds the digest alone.  So a registry that lost its database gets
the evidence back together with the decision, and whoever doubts the decision finds the
proof with every city.

What did not come with its decision is marked by an empty file, and asked for again.
A file that can not be read, or is not what its name says, is set aside and asked for
too: one bad block must not keep a registry from getting back the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from elicense.trust.secret_file import SECRET_MODE, replace_file
from elicense.verification.cited import EVIDENCE_BYTES, cited

_LACKING: Final = ".lacking"
_ASIDE: Final = ".unreadable"

_log = structlog.stdlib.get_logger(__name__)


class MirroredEvidence:
    """Keeps it and finds it; called on a thread of its own.

    Args:
        folder: Where the files are; made when the first is.
        metrics: Where files that were set aside are counted.
    """

    def __init__(self, folder: Path, *, metrics: CollectorRegistry) -> None:
        self._folder = folder
        self._aside = Counter(
            "elicense_mirror_evidence_set_aside",
            "Files of mirrored evidence that could not be read and were asked for again.",
            registry=metrics,
        )

    def keep(self, records: Iterable[bytes | None], bodies: Iterable[bytes]) -> None:
        """Keep what these entries of the registry's log cite, and nothing else; what is missing is noted.

        Raises:
            OSError: It can not be written.
        """
        wanted = set(cited(records))
        for digest in wanted:
            if not self._path(digest).exists():
                self._note_lacking(digest)
        self.add(bodies)

    def lacking(self) -> list[bytes]:
        """Return the digests of what is missing, in order."""
        names = (path.name.removesuffix(_LACKING) for path in self._folder.glob(f"*{_LACKING}"))
        return sorted(map(bytes.fromhex, names))

    def add(self, bodies: Iterable[bytes]) -> set[bytes]:
        """Keep what is missing, and nothing else; return its digests.

        Raises:
            OSError: It can not be written.
        """
        added = set()
        for body in bodies:
            digest = sha256(body).digest()
            if self._mark(digest).exists():
                replace_file(self._path(digest), body, SECRET_MODE)
                self._mark(digest).unlink(missing_ok=True)
                added.add(digest)
        return added

    def of(self, digests: Iterable[bytes]) -> list[bytes]:
        """Return what is kept of these digests, as far as one call goes."""
        found, room = [], EVIDENCE_BYTES
        for digest in dict.fromkeys(digests):
            body = self._read(digest)
            if body is not None and len(body) <= room:
                found.append(body)
                room -= len(body)
        return found

    def _read(self, digest: bytes) -> bytes | None:
        """Return one file; None when there is none, also when it had to be set aside."""
        path = self._path(digest)
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._set_aside(path, digest, error.strerror or "it can not be read")
            return None
        if sha256(body).digest() != digest:
            self._set_aside(path, digest, "it is not what its name says")
            return None
        return body

    def _set_aside(self, path: Path, digest: bytes, why: str) -> None:
        self._aside.inc()
        _log.error("mirrored_evidence_set_aside", file=path.name, detail=why)
        try:
            path.rename(path.with_name(path.name + _ASIDE))
            self._note_lacking(digest)
        except OSError as error:
            # It is found again, and said again, whenever it is needed.
            _log.error("mirrored_evidence_not_set_aside", file=path.name, detail=error.strerror)

    def _note_lacking(self, digest: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mark(digest).touch(SECRET_MODE)

    def _path(self, digest: bytes) -> Path:
        return self._folder / digest.hex()

    def _mark(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}{_LACKING}"
