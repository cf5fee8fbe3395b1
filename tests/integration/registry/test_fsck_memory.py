"""What a check of the registry holds in memory does not grow with what its log has decided."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from elicense.log.check import Finding
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.sql.schema import create_tables
from elicense.sql.scratch import Scratch
from elicense.v1 import log_pb2
from elicense.view.links import PersonLink
from registry.decided import Decided
from registry.link_check import LinkCheck
from registry.links import AskedLink
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
