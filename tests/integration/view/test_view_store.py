"""The licence view on every kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import MetaData

from elicense.license.verdict import ViewFlags
from elicense.sql.database import Database
from elicense.view.history import LicenseRuling
from elicense.view.model import NOBODY, Revision, ViewRow
from elicense.view.ruling_store import RulingStore, define_ruling_table
from elicense.view.store import ViewStore, define_view_tables
from tests.support.stores import EmptyStore

metadata = MetaData()
store = ViewStore(*define_view_tables(metadata))
rulings = RulingStore(define_ruling_table(metadata))


@pytest.fixture
def database(empty_store: EmptyStore) -> Iterator[Database]:
    opened = Database(empty_store.create(metadata))
    yield opened
    opened.close()


def row(person: int, license_id: int, **changes: int) -> ViewRow:
    plain = ViewRow(
        person_key=person.to_bytes(16, "big"),
        license_id=license_id.to_bytes(16, "big"),
        city=320500,
        epoch=1,
        idx=license_id,
        revision=1,
        event=1,
        flags=0,
        entry_hash=bytes(32),
        name_tag=bytes(16),
        standing=b"standing",
        recorded_us=7,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def revision(license_id: int, number: int) -> Revision:
    return Revision(license_id.to_bytes(16, "big"), 320500, 1, number, number, 1, 5, 6, 7, (1).to_bytes(16, "big"))


def test_rows_are_found_by_person_in_one_query(database: Database) -> None:
    rows = [row(1, 11), row(2, 22), row(2, 23)]
    database.write_now(lambda conn: store.put(conn, rows))
    found = database.read_now(lambda conn: store.by_person(conn, [n.to_bytes(16, "big") for n in (1, 2, 3)]))
    assert found[rows[0].person_key] == [rows[0]]
    assert sorted(held.idx for held in found[rows[1].person_key]) == [22, 23]
    assert len(found) == 2


def test_a_license_is_found_by_its_id_through_the_revision_index(database: Database) -> None:
    database.write_now(lambda conn: store.put(conn, [row(1, 11)]))
    database.write_now(lambda conn: store.add_revisions(conn, [revision(11, 1), revision(11, 2)]))
    assert database.read_now(lambda conn: store.by_license(conn, (11).to_bytes(16, "big"))) == row(1, 11)
    assert database.read_now(lambda conn: store.by_license(conn, (12).to_bytes(16, "big"))) is None


def test_a_new_revision_replaces_the_row_and_adds_its_flags_to_those_that_stand(database: Database) -> None:
    database.write_now(lambda conn: store.put(conn, [row(1, 11, flags=int(ViewFlags.PROVISIONAL))]))
    database.write_now(lambda conn: store.put(conn, [row(1, 11, revision=2, flags=int(ViewFlags.UNKNOWN_EVENT))]))
    held = database.read_now(lambda conn: store.by_person(conn, [(1).to_bytes(16, "big")]))[(1).to_bytes(16, "big")][0]
    assert held.revision == 2
    assert held.flags == ViewFlags.PROVISIONAL | ViewFlags.UNKNOWN_EVENT


def test_a_decision_clears_flags_and_a_later_revision_does_not_bring_them_back(database: Database) -> None:
    provisional = row(1, 11, flags=int(ViewFlags.PROVISIONAL))
    database.write_now(lambda conn: store.put(conn, [provisional]))
    database.write_now(lambda conn: store.set_flags(conn, [(provisional.person_key, provisional.license_id, 0)]))
    database.write_now(lambda conn: store.put(conn, [row(1, 11, revision=2)]))
    assert [held.flags for held in database.read_now(store.all_rows)] == [0]


def test_a_city_is_paged_through_in_a_stable_order_without_gaps_or_repeats(database: Database) -> None:
    rows = [row(person, person * 10) for person in range(1, 8)] + [row(9, 90, city=120000)]
    database.write_now(lambda conn: store.put(conn, rows))
    seen: list[ViewRow] = []
    after: tuple[bytes, bytes] | None = None
    while True:
        page = database.read_now(partial(store.page, city=320500, after=after, limit=3))
        if not page:
            break
        seen += page
        after = (page[-1].person_key, page[-1].license_id)
    assert seen == rows[:7]


def test_revisions_are_listed_oldest_first_from_a_number_on(database: Database) -> None:
    database.write_now(lambda conn: store.add_revisions(conn, [revision(11, number) for number in (3, 1, 2)]))
    listed = database.read_now(lambda conn: store.revisions(conn, (11).to_bytes(16, "big"), after=1, limit=10))
    assert [found.revision for found in listed] == [2, 3]


def test_whoever_has_no_license_gets_a_row_all_the_same(database: Database) -> None:
    rows = [row(1, 11), row(2, 22), row(2, 23), *(row(n, 100 + n) for n in range(10, 150))]
    database.write_now(lambda conn: store.put(conn, rows))
    asked = [n.to_bytes(16, "big") for n in range(160)]
    found = database.read_now(lambda conn: store.of_persons(conn, asked))
    assert list(found) == asked
    held = database.read_now(lambda conn: store.by_person(conn, asked))
    for key in asked:
        expected = held.get(key, [replace(NOBODY, person_key=key)])
        assert sorted(found[key], key=lambda each: each.idx) == sorted(expected, key=lambda each: each.idx)


def test_more_persons_than_an_engine_takes_parameters_are_found(database: Database) -> None:
    database.write_now(lambda conn: store.put(conn, [row(1, 1), row(39_999, 2)]))
    keys = [number.to_bytes(16, "big") for number in range(40_000)]
    found = database.read_now(lambda conn: store.by_person(conn, keys))
    assert sorted(found) == [keys[1], keys[39_999]]


def test_the_history_of_many_licences_is_one_query(database: Database) -> None:
    database.write_now(lambda conn: store.add_revisions(conn, [revision(1, 1), revision(1, 2), revision(2, 1)]))
    ids = [n.to_bytes(16, "big") for n in (1, 2, 3)]
    found = database.read_now(lambda conn: store.history(conn, ids))
    assert {key: sorted(held.revision for held in revisions) for key, revisions in found.items()} == {
        ids[0]: [1, 2],
        ids[1]: [1],
    }


def test_of_two_rulings_at_one_instant_the_later_word_stands(database: Database) -> None:
    license_id, person = bytes(16), bytes(15) + b"\1"
    for after in (2, 0):
        database.write_now(partial(rulings.add, rulings=[LicenseRuling(license_id, person, 5, 1, after)]))
    assert database.read_now(lambda conn: rulings.of(conn, [license_id])) == {
        (person, license_id): [LicenseRuling(license_id, person, 5, 1, 0)]
    }


def test_rulings_follow_their_person_and_leave_those_of_others_on_the_same_license_id(database: Database) -> None:
    license_id, persons = bytes(16), [bytes([n]) * 16 for n in range(3)]
    given = [LicenseRuling(license_id, person, 5, 1, n) for n, person in enumerate(persons)]
    database.write_now(lambda conn: rulings.add(conn, given))
    # One at the same instant stands there already: of two the one that comes stands.
    database.write_now(lambda conn: rulings.move(conn, [license_id], persons[1], persons[2]))
    assert database.read_now(rulings.all) == [given[0], replace(given[1], person_key=persons[2])]
    database.write_now(lambda conn: rulings.remove(conn, persons[2], license_id))
    assert database.read_now(rulings.all) == given[:1]


def test_a_persons_mark_changes_with_each_row_and_flag(database: Database) -> None:
    key = (1).to_bytes(16, "big")
    marks = []
    for changed in (row(1, 11), row(1, 11, idx=12), row(1, 11, idx=12, flags=2), row(1, 13)):
        database.write_now(partial(store.put, rows=[changed]))
        marks.append(database.read_now(lambda conn: store.marks(conn, [key]))[key])
    assert len(set(marks)) == 4
