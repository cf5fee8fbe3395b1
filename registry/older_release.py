"""What tables of later releases hold of earlier times, brought out of the log and the view.

A release that did not know a table yet decided and recorded all the same what
belongs there: bars from applying anew, from when on decisions counted, conflicts,
and how far logs are public.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from elicense.license.verdict import ViewFlags
from elicense.log.model import REGISTRY_LOG
from elicense.sql.scratch import Scratch
from elicense.view.history import LicenseRuling
from registry.bans import ban_by
from registry.decided import Decided, LicenseKey
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000


def fill_from_logs(conn: Connection, store: RegistryStore) -> None:
    """Fill those of these tables that are empty; what the log does not say stays out, and is found by fsck."""
    if not store.bans.page(conn, after=None, limit=1):
        _fill_bans(conn, store)
    scratch = Scratch(None)
    try:
        decided = _decided(conn, store, scratch)
        if not store.published(conn):
            store.put_published(conn, decided.vectors.heads)
        if not store.conflicts.all_page(conn, after=None, limit=1):
            for conflicts in decided.conflicts.pages(conn, store, _PAGE):
                store.conflicts.put(conn, conflicts)
        if not store.rulings.licenses(conn, after=b"", limit=1):
            for rulings in _rulings(conn, store, decided):
                store.rulings.add(conn, rulings)
    finally:
        scratch.close()


def _fill_bans(conn: Connection, store: RegistryStore) -> None:
    place = None
    while rows := store.view.rows(conn, after=place, limit=_PAGE):
        store.bans.put(conn, {(row.person_key, row.license_id): ban_by(row) for row in rows})
        place = (rows[-1].person_key, rows[-1].license_id)


def _decided(conn: Connection, store: RegistryStore, scratch: Scratch) -> Decided:
    decided = Decided.of(scratch)
    for key in sorted(key for key in store.logs.keys(conn) if key.log == REGISTRY_LOG):
        index = 0
        while entries := store.logs.entries(conn, key, index, _PAGE):
            decided.read(key, entries, lambda _: None)
            index = entries[-1].index + 1
    return decided


def _rulings(conn: Connection, store: RegistryStore, decided: Decided) -> Iterator[list[LicenseRuling]]:
    after: bytes | None = None
    while licenses := decided.rulings.firsts(after, _PAGE):
        rows: list[Any] = decided.rulings.of([(license_id,) for license_id in licenses])
        tags = {tag for _, tag, _, _ in rows}
        roots = store.view.links.of(conn, tags)
        by_person = store.view.by_person(conn, {roots.get(tag, tag) for tag in tags})
        there = {(row.person_key, row.license_id) for held in by_person.values() for row in held}
        before: dict[LicenseKey, int] = {}
        found = []
        for license_id, tag, decided_us, flags in rows:
            of = (roots.get(tag, tag), license_id)
            # What was erased has no past that could be asked about.
            if of in there:
                # Whatever is ruled on first has waited for that.
                held = before.get(of, int(ViewFlags.PROVISIONAL))
                found.append(LicenseRuling(license_id, of[0], decided_us, held, flags))
                before[of] = flags
        yield found
        after = licenses[-1]
