"""What a check of the registry holds in memory does not grow with what its log has decided."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from elicense.log.check import Finding, LogCheck, LogKeys, LogProgress
from elicense.log.checkpoint import log_verifier_key
from elicense.log.entry import leaf_hash
from elicense.log.model import LogKey, NewEntry, StoredEntry
from elicense.sql.database import Database
from elicense.sql.schema import create_tables
from elicense.sql.scratch import Scratch
from elicense.trust.signer import FileSigner
from elicense.v1 import log_pb2
from elicense.view.links import PersonLink
from registry.check_state import check_grants
from registry.decided import Decided
from registry.link_check import LinkCheck
from registry.links import AskedLink
from registry.model import Claim, ClaimState
from registry.store import RegistryStore, metadata

KEY = LogKey(0, 1)
FEW, MANY = 200, 1_000
#: Bytes by which memory may differ: what is held of eight hundred costs two or three times as much.
SPARE = 400_000


def name(kind: str, number: int) -> bytes:
    return f"{kind}{number:08d}".encode().ljust(16, b".")


def decisions(count: int) -> Iterator[log_pb2.RegistryRecord]:
    """Conflicts that are opened, spoken about and resolved, and take-overs that move custody."""
    for number in range(count):
        person, first, second = name("person", number), name("first", number), name("second", number)
        yield log_pb2.RegistryRecord(
            conflict_opened=log_pb2.ConflictOpened(
                person_tag=person, license_id=second, held_license_id=first, held_by_city=320500
            )
        )
        yield log_pb2.RegistryRecord(
            conflict_stated=log_pb2.ConflictStated(conflict_id=second, city=320500, license_id=first, grounds="x" * 100)
        )
        yield log_pb2.RegistryRecord(
            conflict_resolved=log_pb2.ConflictResolved(
                conflict_id=second, person_tag=person, standing_license_id=first, void_license_id=second
            )
        )
        yield log_pb2.RegistryRecord(
            transfer_decided=log_pb2.TransferDecided(
                license_id=first,
                position=log_pb2.LogPosition(city=510100, epoch=1, index=number),
                source=log_pb2.LogPosition(city=320500, epoch=1, index=number),
                source_entry_hash=bytes(32),
            )
        )


def read(scratch: Scratch, count: int) -> None:
    found: list[Finding] = []
    decided = Decided.of(scratch)
    for index, record in enumerate(decisions(count)):
        decided.read(KEY, [StoredEntry(index, record.SerializeToString(), bytes(32), bytes(32))], found.append)
    assert found == []
    assert len(decided.handovers([name("first", 0)]).departures) == 1


def held_after(work: Callable[[int], None], count: int) -> int:
    """The most bytes of Python's own that some work held at once."""
    tracemalloc.start()
    try:
        work(count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_the_log_has_decided_lies_in_a_file() -> None:
    def work(count: int) -> None:
        with closing(Scratch(None)) as scratch:
            read(scratch, count)

    work(FEW)  # whatever is made once
    assert held_after(work, MANY) < held_after(work, FEW) + SPARE


#: Entries that each grant as many claims as one may.
FEW_GRANTS, MANY_GRANTS = 80, 400
GRANTED = 1_000


@pytest.fixture(scope="module")
def granting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A registry whose log grants claims, a thousand an entry."""
    store = RegistryStore()
    url = f"sqlite:///{tmp_path_factory.mktemp('granting') / 'registry.db'}"
    create_tables(url, metadata)

    def write(conn: Connection) -> None:
        store.logs.create(conn, KEY)
        for number in range(MANY_GRANTS):
            head = store.logs.head(conn, KEY)
            assert head is not None
            body = grant(number).SerializeToString()
            entry = NewEntry(body, bytes(32), leaf_hash(bytes(32), body))
            store.logs.advance(conn, head, [entry], recorded_us=number + 1)

    with closing(Database(url, readers=1, writers=1)) as database:
        database.write_now(write)
        yield database


def grant(number: int) -> log_pb2.RegistryRecord:
    record = log_pb2.RegistryRecord()
    record.claims_granted.city = 320500
    for each in range(GRANTED):
        record.claims_granted.claims.add(
            person_tag=name(f"p{number}.", each), license_id=name(f"l{number}.", each), request_id=bytes(16)
        )
    return record


def claims(count: int) -> list[Claim]:
    """The first claim of each of so many grants."""
    return [
        Claim(name(f"p{n}.", 0), 320500, name(f"l{n}.", 0), str(UUID(int=0)), int(ClaimState.HELD), 0, 1, n)
        for n in range(count)
    ]


def test_claims_are_compared_with_their_grants_some_at_a_time(granting: Database) -> None:
    findings: list[Finding] = []

    def work(count: int) -> None:
        granting.read_now(lambda conn: check_grants(conn, RegistryStore(), claims(count), findings.append))

    work(FEW_GRANTS)
    assert held_after(work, MANY_GRANTS) < held_after(work, FEW_GRANTS) + SPARE
    assert findings == []


def test_of_a_log_that_grants_claims_only_some_is_held_at_once(granting: Database) -> None:
    key = log_verifier_key("origin", FileSigner(Ed25519PrivateKey.generate()).public_key())

    def work(_: int) -> None:
        def read(conn: Connection) -> int:
            keys = LogKeys("origin", key, None)
            check = LogCheck(conn, RegistryStore().logs, KEY, keys=keys, found=lambda _: None, since=LogProgress())
            return sum(len(chunk) for chunk in check.entries())

        assert granting.read_now(read) == MANY_GRANTS

    size = len(grant(0).SerializeToString())
    assert held_after(work, MANY_GRANTS) < size * MANY_GRANTS * 3 // 4


@pytest.mark.parametrize("lost", [False, True])
def test_links_are_compared_some_at_a_time(tmp_path: Path, *, lost: bool) -> None:
    store = RegistryStore()
    findings: list[Finding] = []

    def work(count: int) -> None:
        database = Database(f"sqlite:///{tmp_path / f'{count}.db'}", readers=1, writers=1)
        with closing(database), closing(Scratch(None)) as scratch:
            links = LinkCheck(scratch, store, found=findings.append)
            for number in range(count):
                link = PersonLink(name("later", number), name("first", number), name("lic", number), 320500, 1, number)
                links.ask([AskedLink(link, (1, number))])
            for compare in (links.compare, links.compare_asked):
                after: bytes | None = None
                while (after := database.read_now(lambda conn, at=after, of=compare: of(conn, at))) is not None:  # type: ignore[misc]
                    pass

    for count in (FEW, MANY):
        _fill(tmp_path / f"{count}.db", store, count, lost=lost)
    work(FEW)
    findings.clear()
    few, many = held_after(work, FEW), held_after(work, MANY)
    assert many < few + SPARE
    missing = [f"{FEW // 2} links between documents are missing", f"{MANY // 2} links between documents are missing"]
    assert [finding.what for finding in findings] == (missing if lost else [])


def _fill(path: Path, store: RegistryStore, count: int, *, lost: bool) -> None:
    """Store the links that are asked for, or every other one."""
    url = f"sqlite:///{path}"
    create_tables(url, metadata)
    with closing(Database(url, readers=1, writers=1)) as database:

        def write(conn: Connection) -> None:
            for number in range(0, count, 2 if lost else 1):
                link = PersonLink(name("later", number), name("first", number), name("lic", number), 320500, 1, number)
                store.view.links.add(conn, link)

        database.write_now(write)
