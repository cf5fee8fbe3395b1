"""Whether what a decision rested on is held again, so that it can be brought back: by the logs alone.

A registry that was set back gets its decisions from mirrors and the records of
cities from the cities, in whatever order they come.  A decision waits for the
records that it names; a vector for everything that it states; and a grant for what
ended whatever had the person before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from elicense.clock import china_date, from_timestamp
from elicense.errors import LogForked, StoreCorrupt
from elicense.log.model import LogKey
from elicense.v1 import log_pb2
from elicense.verification.told import parse_told
from registry.bans import ended
from registry.claims import proved_unused
from registry.erasure_orders import has_erased
from registry.model import CityState, ClaimState
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Readiness:
    """Judges decisions in the order of the log.

    Args:
        store: The registry's tables.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    def lock(self, conn: Connection) -> None:
        """Keep every city's log from growing until the transaction ends."""
        for city in self._store.cities(conn):
            self._store.logs.head(conn, LogKey(city.city, city.epoch), lock=True)

    def ready(self, conn: Connection, records: Sequence[bytes]) -> bool:
        """Whether everything that these decisions rest on is held.

        Raises:
            LogForked: An epoch of a city's log was closed at another head than the one held.
            StoreCorrupt: An entry is not a decision.
        """
        states = {state.city: state for state in self._store.states(conn)}
        return all(self._is_ready(conn, decision_of(record), states) for record in records)

    def _is_ready(self, conn: Connection, decision: log_pb2.RegistryRecord, states: Mapping[int, CityState]) -> bool:
        if decision.HasField("claims_granted"):
            return self._are_free(conn, decision, states)
        if decision.HasField("head_vector"):
            sizes = {LogKey(log, epoch): size for log, epoch, size in self._store.logs.sizes(conn)}
            return all(sizes.get(LogKey(h.city, h.epoch), 0) >= h.size for h in decision.head_vector.heads)
        if decision.HasField("custody_acknowledged"):
            return all(self._is_reached(conn, each) for each in decision.custody_acknowledged.acknowledgements)
        if decision.HasField("epoch_opened"):
            return self._is_closed(conn, decision.epoch_opened)
        return all(self._holds(conn, place) for place in _positions(decision))

    def _are_free(self, conn: Connection, decision: log_pb2.RegistryRecord, states: Mapping[int, CityState]) -> bool:
        """Whether nobody has the persons of a grant any more: what ended that is in some city's log."""
        granted, now_us = decision.claims_granted, from_timestamp(decision.record_time)
        roots = {each.person_tag: self._store.view.links.root(conn, each.person_tag) for each in granted.claims}
        wanted = {roots[each.person_tag]: each.license_id for each in granted.claims}
        # The record of a changed document came back before its grant, and has used it up.
        used_up = {root for tag, root in roots.items() if tag != root}
        claims = self._store.claims.of(conn, wanted)
        bans = self._store.bans.of(conn, claims)
        today = china_date(now_us)
        for person, claim in claims.items():
            if claim.state == ClaimState.RELEASED or (claim.city, claim.license_id) == (granted.city, wanted[person]):
                continue
            if claim.city == granted.city and person in used_up:
                continue
            if claim.state == ClaimState.LEASED and proved_unused(claim, states.get(claim.city), now_us=now_us):
                continue
            if claim.state == ClaimState.LEASED and has_erased(conn, self._store, claim.city, claim.license_id):
                continue  # no record will ever use it up
            if claim.state == ClaimState.HELD and claim.license_id in ended(bans.get(person, ()), today, states):
                continue
            return False
        return True

    def _is_reached(self, conn: Connection, signed: log_pb2.Acknowledgement) -> bool:
        head = self._store.logs.head(conn, LogKey(signed.city, signed.epoch))
        return head is not None and head.size >= parse_told(signed.note).size

    def _is_closed(self, conn: Connection, opened: log_pb2.EpochOpened) -> bool:
        head = self._store.logs.head(conn, LogKey(opened.city, opened.epoch - 1))
        if head is None or head.size < opened.closed_size:
            return False
        if (head.size, head.root) != (opened.closed_size, opened.closed_root):
            raise LogForked("a city's epoch was closed at another head than the one held", city=opened.city)
        return True

    def _holds(self, conn: Connection, place: log_pb2.LogPosition) -> bool:
        head = self._store.logs.head(conn, LogKey(place.city, place.epoch))
        return head is not None and head.size > place.index


def decision_of(record: bytes) -> log_pb2.RegistryRecord:
    """Return the decision that an entry holds.

    Raises:
        StoreCorrupt: It holds none.
    """
    try:
        return log_pb2.RegistryRecord.FromString(record)
    except DecodeError as error:
        raise StoreCorrupt("an entry of the registry's log is not a decision") from error


def _positions(decision: log_pb2.RegistryRecord) -> list[log_pb2.LogPosition]:
    """Return the records that a decision rests on."""
    match decision.WhichOneof("decision"):
        case "provisional_confirmed":
            return [decision.provisional_confirmed.position]
        case "conflict_opened":
            return [decision.conflict_opened.position]
        case "license_barred":
            return [decision.license_barred.position, decision.license_barred.ban]
        case "transfer_decided":
            decided = decision.transfer_decided
            return [decided.position, decided.source] if decided.HasField("source") else [decided.position]
    return []
