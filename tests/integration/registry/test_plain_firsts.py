"""First revisions that ask for nothing but their person are written together: as if they came one by one."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from google.type.date_pb2 import Date
from sqlalchemy import Connection, select

from elicense.sql.database import Database
from elicense.v1 import license_pb2 as pb
from elicense.view.links import PersonLink
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.batch import Batch
from registry.folding import Folding
from registry.model import Claim, ClaimState
from registry.received import Received, receive
from registry.store import RegistryStore, metadata
from tests.support.stores import EmptyStore

SUZHOU, TIANJIN = 320500, 120000
PERSONS = PersonIndex(bytes(32))
NUMBERS = [f"11010519491231{number:03d}X" for number in range(60)]
NOW_US = 1_700_000_000_000_000
STORE = RegistryStore()


def person(number: str) -> bytes:
    return PERSONS.person_key(1, number)


def leaf(index: int) -> bytes:
    return index.to_bytes(32, "big")


def license_of(number: int, *, another: bool = False) -> bytes:
    return uuid.UUID(int=number + 1 + 1_000 * another).bytes


def record(number: int, event: int = pb.LICENSE_EVENT_ISSUED, revision: int = 1, **changes: object) -> bytes:
    """Return a record of a holder's license."""
    day = Date(year=2020, month=1, day=1)
    message = pb.LicenseRecord(city=SUZHOU, epoch=1, license_id=license_of(number), revision=revision)
    message.event = event  # type: ignore[assignment]
    message.record_time.FromMicroseconds(NOW_US - number)
    message.effective_time.FromMicroseconds(NOW_US - 2 * number)
    message.license.holder.full_name = f"张{number}"
    message.license.holder.document.type = pb.DOCUMENT_TYPE_RESIDENT_ID
    message.license.holder.document.number = NUMBERS[number]
    message.license.vehicle_classes.add(code="C1", from_date=day)
    message.license.validity.from_date.CopyFrom(day)
    for name, value in changes.items():
        if isinstance(value, (int, bytes)):
            setattr(message, name, value)
    return message.SerializeToString()


def renumbered(number: int, to: int) -> bytes:
    """Return the record that gives a holder another holder's number."""
    message = pb.LicenseRecord.FromString(record(number, pb.LICENSE_EVENT_UPDATED, 2, previous_entry_hash=leaf(number)))
    message.earlier_documents.add().CopyFrom(message.license.holder.document)
    message.license.holder.document.number = NUMBERS[to]
    message.claim.registry_epoch = 1
    return message.SerializeToString()


def stand(conn: Connection, draw: random.Random) -> None:
    """Let some persons be leased or held by one city or another, or not at all, and some known by another tag."""
    claims, rows = [], []
    for number, name in enumerate(NUMBERS):
        state = draw.choice((None, ClaimState.LEASED, ClaimState.LEASED, ClaimState.LEASED, ClaimState.RELEASED))
        city = draw.choice((SUZHOU, SUZHOU, SUZHOU, TIANJIN))
        if state is not None:
            claimed = license_of(number, another=draw.random() < 0.2)
            claims.append(Claim(person(name), city, claimed, "r", int(state), NOW_US, 1, 0))
        if draw.random() < 0.1:
            flags = draw.choice((0, 1, 2, 4))
            held = license_of(number, another=draw.random() < 0.5)
            rows.append(
                ViewRow(person(name), held, city, 1, number, 1, 1, flags, leaf(number), bytes(16), b"", NOW_US - 9)
            )
    STORE.claims.acquire(conn, claims, lapsed={})
    STORE.view.put(conn, rows)
    for number in draw.sample(range(30), 3):
        link = PersonLink(person(NUMBERS[number]), person(NUMBERS[number + 30]), license_of(number), SUZHOU, 1, 0)
        STORE.view.links.add(conn, link)


def batch(draw: random.Random, *, links: bool) -> Iterator[bytes]:
    """Yield what a city may send, the usual and the odd."""
    for number in draw.sample(range(60), 45):
        yield record(number, provisional=draw.random() < 0.1)
        if draw.random() < 0.1:
            yield record(number, license_id=license_of(number, another=True))
        if draw.random() < 0.1:
            yield record(number, pb.LICENSE_EVENT_STATUS_CHANGED, 2, previous_entry_hash=leaf(number))
        if links and draw.random() < 0.1:
            yield renumbered(number, draw.randrange(60))
        if draw.random() < 0.05:
            yield b"\xff"


def tables(conn: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, in order."""
    return {
        name: sorted((tuple(row) for row in conn.execute(select(table))), key=repr)
        for name, table in metadata.tables.items()
    }


def both_ways(conn: Connection, *, draw: random.Random, ways: Sequence[Received]) -> list[object]:
    """Return what each way comes to from the same state; leaves nothing behind."""
    stand(conn, draw)
    head = Batch(SUZHOU, 1, 0, (), b"", 0, 0, None, 0)
    came: list[object] = []
    for way in ways:
        attempt = conn.begin_nested()
        came.append((Folding(store=STORE, persons=PERSONS).take(conn, head, way, now_us=NOW_US), tables(conn)))
        attempt.rollback()
    conn.rollback()
    return came


@pytest.mark.parametrize("links", [False, True])
def test_first_revisions_taken_together_come_to_what_they_come_to_one_by_one(
    empty_store: EmptyStore, *, links: bool
) -> None:
    database = Database(empty_store.create(metadata))
    together = 0
    for seed in range(12):
        draw = random.Random(seed)  # a test that comes out the same each time
        records = list(batch(draw, links=links and seed % 2 == 0))
        numbered = [(index, body, leaf(index)) for index, body in enumerate(records)]
        received = receive(numbered, city=SUZHOU, epoch=1, persons=PERSONS)
        one_by_one = Received([], received.one_by_one())
        assert [each.idx for each in one_by_one.others] == list(range(len(records)))
        together += len(received.plain)
        first, second = database.write_now(partial(both_ways, draw=draw, ways=(received, one_by_one)))
        assert first == second
    assert together > 100
    database.close()
