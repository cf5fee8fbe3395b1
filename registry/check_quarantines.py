"""Check the quarantines, and the evidence that they rest on, against what the registry's log decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from elicense.clock import from_timestamp
from elicense.log.check import Finding
from elicense.v1 import log_pb2
from registry.quarantine_model import Quarantine, State
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class QuarantineCheck:
    """Reads decisions in log order; the last ones say how each quarantine stands."""

    def __init__(self) -> None:
        self._expected: dict[tuple[int, int], Quarantine] = {}

    def read(self, record: log_pb2.RegistryRecord) -> None:
        """Note a decision about a quarantine."""
        about = about_of(record)
        held = after(self._expected.get((about.city, about.epoch)), record)
        if held is not None:
            self._expected[held.city, held.epoch] = held

    def compare(self, conn: Connection, store: RegistryStore, found: Callable[[Finding], None]) -> None:
        """Compare with what is stored; every piece of evidence must be what its digest says."""
        stored = {(held.city, held.epoch): held for held in store.quarantines.all(conn)}
        for city, epoch in sorted(stored.keys() | self._expected.keys()):
            where = f"quarantine {city}/{epoch}"
            expected = self._expected.get((city, epoch))
            if stored.get((city, epoch)) != expected:
                found(Finding(where, "it is not what the registry's log decided"))
            if expected is not None and store.evidence.body(conn, city, expected.digest) is None:
                found(Finding(where, "the evidence that it rests on is missing"))
        for city, digest, body in store.evidence.all(conn):
            if sha256(body).digest() != digest:
                found(Finding(f"evidence against city {city}, digest {digest.hex()}", "it does not have this digest"))


def after(held: Quarantine | None, record: log_pb2.RegistryRecord) -> Quarantine | None:
    """Return how a quarantine stands after a decision about it; None when there is none to decide about."""
    now_us = from_timestamp(record.record_time)
    if record.HasField("city_quarantined"):
        opened = record.city_quarantined
        return Quarantine(
            city=opened.city,
            epoch=opened.epoch,
            kind=int(opened.kind),
            state=int(State.OPEN),
            size=opened.size,
            root=opened.root,
            digest=opened.evidence_digest,
            opened_us=now_us,
        )
    if held is None:
        return None
    if record.HasField("release_asked"):
        return replace(held, state=int(State.RELEASE_ASKED), asked_by=record.actor)
    return replace(held, state=int(State.ENDED), ended_by=record.actor, ended_us=now_us)


def about_of(
    record: log_pb2.RegistryRecord,
) -> log_pb2.CityQuarantined | log_pb2.ReleaseAsked | log_pb2.QuarantineEnded:
    """Return the part of a decision that names a quarantine."""
    if record.HasField("city_quarantined"):
        return record.city_quarantined
    return record.release_asked if record.HasField("release_asked") else record.quarantine_ended
