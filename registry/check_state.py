"""Check what the registry keeps of each city, and the feeds to them, against logs and records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from google.protobuf.message import DecodeError

from elicense.clock import from_timestamp
from elicense.errors import Malformed, StoreCorrupt
from elicense.log.check import Finding, position
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.sql.scratch import Shelf
from elicense.v1 import log_pb2, replication_pb2
from elicense.verification.told import open_told
from elicense.view.feed import fault_of, place_of
from elicense.view.fold import person_key_of, read_record
from elicense.view.person import PersonIndex
from registry.breaches import CUSTODY_BROKEN
from registry.ingest import MAX_CLOCK_SKEW_US
from registry.model import CityState, Claim, ClaimState, NotedDisposition, Pending
from registry.store import RegistryStore
from registry.told_store import Mark

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000
#: Decisions that are held at once: one may grant a thousand claims, which takes 60 kB.
_GRANTING: Final = 32
_REASONS: Final = frozenset({"LOG_FORKED", "ROOT_MISMATCH", "QUARANTINED", CUSTODY_BROKEN})


def check_states(conn: Connection, store: RegistryStore, found: Callable[[Finding], None]) -> None:
    """Compare the replication state of each city with the head of its open epoch."""
    open_epochs: dict[int, int] = {}
    for city in store.cities(conn):
        open_epochs[city.city] = max(city.epoch, open_epochs.get(city.city, 0))
    for state in store.states(conn):
        where = f"state of city {state.city}"
        try:
            head = store.logs.head(conn, LogKey(state.city, state.epoch))
        except StoreCorrupt:
            continue  # the check of the log has said so
        if head is None or state.city not in open_epochs:
            found(Finding(where, "the city has no log of this epoch"))
        elif state.next_index != head.size:
            found(Finding(where, "it differs from the head of the city's log"))
        elif not _is_sane(state):
            found(Finding(where, "its times or its tip are none that the registry takes in"))


def _is_sane(state: CityState) -> bool:
    skew_us = abs(state.city_clock_us - state.received_us)
    if skew_us > MAX_CLOCK_SKEW_US or state.tip_size < state.next_index:
        return False
    if state.tip_size > state.next_index:
        return state.awaited_size > state.next_index
    said_us = min(state.city_clock_us, state.received_us)
    return (state.as_of_us, state.awaited_us, state.awaited_size) == (said_us, said_us, state.tip_size)


def next_feed(conn: Connection, store: RegistryStore, after: int | None) -> int | None:
    """Return the first city behind ``after`` that has a feed, or words of one; None when there is none."""
    cities = set(store.feeds.ends(conn)) | store.feeds.cities(conn)
    return min((city for city in cities if after is None or city > after), default=None)


def check_feed(
    conn: Connection, store: RegistryStore, found: Callable[[Finding], None], *, city: int, unreadable: Shelf
) -> None:
    """Every word of a feed must be about the record that it names, and none may be ahead of its feed.

    Numbers may be left out: a database that was set back goes on behind what its cities have.
    """
    last, after = store.feeds.ends(conn), 0
    while page := store.feeds.after(conn, city, after=after, limit=_PAGE):
        _check_words(conn, store, page, found)
        for word in page:
            # Such a word names nothing but its record; two of them can not be about one.
            nameless = word.kind == replication_pb2.DISPOSITION_KIND_UNREADABLE and not word.license_id
            if nameless and not unreadable.add((city, word.epoch, word.idx)):
                found(Finding(f"feed of city {city}, word {word.seq}", "it repeats another word"))
        after = page[-1].seq
    if after > last.get(city, 0) or (not after and city not in last):
        found(Finding(f"feed of city {city}", "its last number is not that of its last word"))


def _check_words(
    conn: Connection, store: RegistryStore, page: list[NotedDisposition], found: Callable[[Finding], None]
) -> None:
    places = [place_of(word) for word in page]
    entries = store.logs.entries_anywhere(conn, places)
    for word, place in zip(page, places, strict=True):
        fault = fault_of(word, entries.get(place))
        if fault is not None:
            found(Finding(f"feed of city {word.city}, word {word.seq}", fault))


def check_told(conn: Connection, store: RegistryStore, found: Callable[[Finding], None], *, logged: Shelf) -> None:
    """Whatever a city signed that it knows must be signed by it, and say what is kept of it and what the log has.

    Args:
        conn: The transaction.
        store: The registry's tables.
        found: Called with each finding.
        logged: What the registry's log has of it.
    """
    keys = {LogKey(city.city, city.epoch): city.log_key for city in store.cities(conn)}
    count = 0
    for row in store.told.all(conn):
        key, told = LogKey(row.city, row.epoch), None
        there: Any = logged.get(row.city, row.epoch, row.of_epoch, row.of_idx)
        here = (row.registry_epoch, row.registry_idx, row.note) if row.registry_epoch is not None else None
        count += there is not None
        if (None if there is None else there[4:]) != here or (here is None and row.registry_idx is not None):
            where = f"what log {key.log}/{key.epoch} signed of entry {row.of_idx}, epoch {row.of_epoch}"
            found(Finding(where, "the registry's log has it otherwise"))
        with suppress(Malformed):
            told = open_told(row.note, key=parse_vkey(keys.get(key, "")))
        if told is None or (told.size, told.epoch, told.index) != (row.size, row.of_epoch, row.of_idx):
            where = f"what log {key.log}/{key.epoch} signed of entry {row.of_idx}, epoch {row.of_epoch}"
            found(Finding(where, "the city did not sign what is kept of it"))
    if count != len(logged):
        what = f"{len(logged) - count} words of cities that the registry's log has are missing"
        found(Finding("what cities signed", what))


def check_marks(conn: Connection, store: RegistryStore, found: Callable[[Finding], None]) -> None:
    """No feed and no log may have been gone through further than it goes."""
    feeds = store.feeds.ends(conn)
    own = {epoch: size for log, epoch, size in store.logs.sizes(conn) if log == REGISTRY_LOG}
    for city, what, epoch, number in store.told.marks(conn):
        last = own.get(epoch, 0) if what == Mark.DECIDED else feeds.get(city, 0)
        if what not in frozenset(Mark) or not 0 <= number <= last:
            found(Finding(f"mark {what} of city {city}, epoch {epoch}", "what it is of does not go so far"))


def check_reasons(conn: Connection, store: RegistryStore, found: Callable[[Finding], None]) -> None:
    """Evidence is kept for one of few reasons."""
    for city, digest, reason in store.evidence.reasons(conn):
        if reason not in _REASONS:
            found(Finding(f"evidence against city {city}, digest {digest.hex()}", "its reason is none that there is"))


def check_waiting(
    conn: Connection, store: RegistryStore, found: Callable[[Finding], None], *, persons: PersonIndex
) -> None:
    """What waits for a decision must be about the record that it names."""
    after: Pending | None = None
    while page := store.pending(conn, limit=_PAGE, after=after):
        after = page[-1]
        places = {(LogKey(each.city, each.epoch), each.idx): each for each in page}
        entries = store.logs.entries_anywhere(conn, places)
        for place, waiting in places.items():
            entry = entries.get(place)
            if entry is None or entry.record is None:
                continue  # erased, or reported with the view
            try:
                record = read_record(entry.record)
            except Malformed:
                continue
            told = (entry.leaf_hash, record.license_id, store.view.links.root(conn, person_key_of(record, persons)))
            if told != (waiting.entry_hash, waiting.license_id, waiting.person_key):
                where = f"{position(*place)}, which waits for a decision"
                found(Finding(where, "what is kept of it differs from the record"))


def check_grants(
    conn: Connection, store: RegistryStore, claims: Sequence[Claim], found: Callable[[Finding], None]
) -> None:
    """Every claim must say of its grant what the granting entry of the registry's log does."""
    by_entry: defaultdict[tuple[LogKey, int], list[Claim]] = defaultdict(list)
    for claim in claims:
        by_entry[LogKey(REGISTRY_LOG, claim.registry_epoch), claim.registry_index].append(claim)
    places = sorted(by_entry)
    for start in range(0, len(places), _GRANTING):
        some = places[start : start + _GRANTING]
        entries = store.logs.entries_anywhere(conn, some)
        for place in some:
            entry = entries.get(place)
            _check_granted(None if entry is None else entry.record, by_entry[place], found)


def _check_granted(record: bytes | None, claims: Sequence[Claim], found: Callable[[Finding], None]) -> None:
    """Compare claims with the one entry that they name."""
    try:
        decision = log_pb2.RegistryRecord.FromString(record or b"")
    except DecodeError:
        decision = log_pb2.RegistryRecord()
    for claim in claims:
        if claim.state not in frozenset(ClaimState):
            found(Finding(f"claim for license {UUID(bytes=claim.license_id)}", f"its state {claim.state} is none"))
        # A hold moves to another city with its licence; a lease does not.
        leased_to = claim.city if claim.state == ClaimState.LEASED else 0
        granted = _grant_in(decision, claim, leased_to)
        told = (claim.request_id, claim.lease_end_us)
        if told != (granted or ("", 0)) or (granted is None and (claim.registry_epoch or claim.registry_index)):
            where = f"claim for license {UUID(bytes=claim.license_id)}"
            found(Finding(where, "what it says of its grant differs from the registry's log"))


def _grant_in(decision: log_pb2.RegistryRecord, claim: Claim, leased_to: int) -> tuple[str, int] | None:
    """Return request id and end of lease of a claim's grant; None when an entry does not grant it, or elsewhere."""
    if leased_to and decision.claims_granted.city != leased_to:
        return None
    for granted in decision.claims_granted.claims:
        # Once a record uses it, a claim is for the licence of that record.
        if granted.person_tag == claim.person_key and (not leased_to or granted.license_id == claim.license_id):
            return str(UUID(bytes=granted.request_id)), from_timestamp(decision.claims_granted.lease_end_time)
    return None
