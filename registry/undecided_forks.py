"""Forks that are proved, and that no quarantine rests on yet.

What proves a fork is kept before the decision that cites it.  In between the registry may
end, or its own log be in doubt, so that nothing is decided; and a city that knows of its two
histories sends nothing more over which it could be judged.  What is kept convinces by itself:
two heads that the city signed, and what shows that they are of two histories.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from elicense.errors import LogForked, Malformed, Quarantined, RootMismatch
from elicense.log.model import LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.verification.evidence_file import is_evidence, parse_evidence
from elicense.verification.head_evidence import HeadEvidence, check_statement, confirm_fork
from registry.model import City
from registry.quarantine import OpenQuarantine, opens
from registry.quarantine_model import Kind
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Why evidence about the heads of a city is kept.
_OF_HEADS: Final = {LogForked.reason, RootMismatch.reason, Quarantined.reason}


def undecided_forks(conn: Connection, store: RegistryStore) -> list[OpenQuarantine]:
    """Return what is to be decided: one quarantine for each city that is proved to have forked its open epoch.

    Args:
        conn: The transaction.
        store: The registry's tables.
    """
    cities = sorted({city for city, _, reason in store.evidence.reasons(conn) if reason in _OF_HEADS})
    found = [undecided_fork(conn, store, city) for city in cities]
    return [command for command in found if command is not None]


def undecided_fork(conn: Connection, store: RegistryStore, city: int) -> OpenQuarantine | None:
    """Return what is to be decided upon what is kept of one city; None where that proves no fork of its open epoch.

    Args:
        conn: The transaction.
        store: The registry's tables.
        city: Division code.
    """
    enrolled = store.city(conn, city)
    # First of all, and once: most cities of which something is kept are in quarantine for it.
    if enrolled is None or not opens(store.quarantines.of(conn, city), enrolled.epoch, Kind.FORK):
        return None
    for digest in store.evidence.digests(conn, city, _OF_HEADS):
        body = store.evidence.body(conn, city, digest)
        # What was changed since it was kept is for fsck to say.
        if body is not None and is_evidence(body) and sha256(body).digest() == digest:
            # The evidence of an epoch that is over by now accuses nobody: its key signs nothing more.
            command = _command(conn, store, enrolled, digest, body)
            if command is not None:
                return command
    return None


def _command(
    conn: Connection, store: RegistryStore, enrolled: City, digest: bytes, body: bytes
) -> OpenQuarantine | None:
    """Return the quarantine of a city that evidence proves; None when it proves nothing of the city's open epoch."""
    keys = [parse_vkey(enrolled.log_key)]
    try:
        evidence = parse_evidence(body)
        if not isinstance(evidence, HeadEvidence):
            return None
        confirm_fork(evidence, keys)
        heads = [check_statement(each, keys).head for each in (evidence.second, evidence.first)]
    except Malformed:
        return None
    held = store.logs.head(conn, LogKey(enrolled.city, enrolled.epoch))
    # The one that is not of the history which is held.
    signed = next(
        (
            each
            for each in heads
            if held is None or each.size > held.size or store.logs.root_at(conn, held, each.size) != each.root
        ),
        heads[0],
    )
    return OpenQuarantine(enrolled.city, enrolled.epoch, Kind.FORK, signed.size, signed.root, digest)
