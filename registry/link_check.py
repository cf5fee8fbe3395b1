"""Check the links between documents: each must rest on a record that was granted it, and none may be lost.

What one document leads to depends on those alone that are linked with it.  So links
are made anew for some documents at a time, with whatever is linked to them, and what
records ask for lies in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from elicense.log.check import Finding, position
from elicense.log.model import LogKey
from elicense.sql.scratch import Scratch
from elicense.view.links import PersonLink, Roots
from registry.links import AskedLink
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_Place = tuple[bytes, int, int, int]

_PAGE: Final = 200


@dataclass(slots=True)
class _Linked:
    """Whatever is linked with some documents.

    Attributes:
        asked: Links that records ask for: (place, later document, earlier one), in the order of places.
        stored: Links that are stored.
        places: Where records lie that ask for one of the stored links.
        erased: Later documents of stored links whose records were erased.
        roots: What the stored links lead to, if they were made rightly.
    """

    asked: list[tuple[_Place, bytes, bytes]]
    stored: set[PersonLink]
    places: set[_Place]
    erased: set[bytes] = field(default_factory=set)
    roots: Roots = field(default_factory=Roots)


class LinkCheck:
    """Makes links anew from what records ask for, and compares.

    Who had the later document when a record came stands in no log.  So a link that was asked for may
    be missing where that document has a claim: a record is refused because somebody has it.

    Args:
        scratch: The file of the run.
        store: The registry's tables.
        found: Called with each contradiction.
    """

    def __init__(self, scratch: Scratch, store: RegistryStore, *, found: Callable[[Finding], None]) -> None:
        #: (licence, city, epoch, index, later document, earlier one), and the same by either document.
        self._asked = scratch.shelf("link", keys=6)
        self._ends = scratch.shelf("link_end", keys=7)
        self._missing = scratch.shelf("link_missing", keys=1)
        self._store = store
        self._found = found

    def ask(self, links: Iterable[AskedLink]) -> None:
        """Note the links that records ask for."""
        for each in links:
            link = each.link
            row = (link.license_id, link.city, link.epoch, link.idx, link.person_key, link.first_key)
            self._asked.put([row])
            self._ends.put([(link.person_key, *row), (link.first_key, *row)])

    def compare(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Report each of some links that is wrong; return where they ended, None at the end."""
        page = self._store.view.links.page(conn, after=after or b"", limit=_PAGE)
        if not page:
            return None
        seeds = {key for link in page for key in (link.person_key, link.first_key)}
        rows: list[Any] = self._asked.of([_place(link) for link in page])
        seeds.update(key for row in rows for key in row[4:6])
        linked = self._linked(conn, seeds)
        rightly = linked.roots.as_dict()
        for link in page:
            rests = _place(link) in linked.places or link.person_key in linked.erased
            if not rests or rightly.get(link.person_key) != link.first_key:
                where = position(LogKey(link.city, link.epoch), link.idx)
                self._found(Finding(where, "the link between two documents differs from the logs"))
        return page[-1].person_key

    def compare_asked(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Look for links that are missing, of licences behind ``after``; report how many at the end, with None."""
        licenses: list[bytes] = self._asked.firsts(after, _PAGE)
        if not licenses:
            if missing := len(self._missing):
                self._found(Finding("national view", f"{missing} links between documents are missing"))
            return None
        rows: list[Any] = self._asked.of([(license_id,) for license_id in licenses])
        linked = self._linked(conn, {key for row in rows for key in row[4:6]})
        for _, later, earlier in linked.asked:
            if not self._store.claims.of(conn, [linked.roots.root(later)]):
                linked.roots.add(later, earlier)
        stored = {link.person_key for link in linked.stored}
        self._missing.put((key,) for key in linked.roots.as_dict().keys() - stored)
        return licenses[-1]

    def _linked(self, conn: Connection, seeds: set[bytes]) -> _Linked:
        """Return whatever is linked with some documents, in however many steps, or is asked to be."""
        known: set[bytes] = set()
        asked: set[tuple[_Place, bytes, bytes]] = set()
        stored: set[PersonLink] = set()
        while fresh := seeds - known:
            known |= fresh
            around = self._store.view.links.around(conn, fresh)
            ends: list[Any] = self._ends.of([(key,) for key in fresh])
            stored |= around
            asked.update((tuple(row[1:5]), row[5], row[6]) for row in ends)
            seeds = {key for link in around for key in (link.person_key, link.first_key)}
            seeds.update(key for row in ends for key in row[5:7])
        places: list[Any] = self._asked.of([_place(link) for link in stored])
        linked = _Linked(sorted(asked), stored, {tuple(row[:4]) for row in places})
        for link in sorted(stored, key=lambda each: each.person_key):
            # It stays when the licence is erased: whoever was barred under one number is barred under the other.
            key = LogKey(link.city, link.epoch)
            if _place(link) not in linked.places and is_erased(conn, self._store, key, link.idx):
                linked.erased.add(link.person_key)
                linked.roots.add(link.person_key, link.first_key)
        made = {_place(link) for link in stored}
        # In whatever order: of two that lead on from one another both ends follow.
        for place, later, earlier in linked.asked:
            if place in made:
                linked.roots.add(later, earlier)
        return linked


def is_erased(conn: Connection, store: RegistryStore, key: LogKey, index: int) -> bool:
    """Whether a log has an entry there whose record was erased."""
    entry = store.logs.entries_at(conn, key, [index]).get(index)
    return entry is not None and entry.record is None


def _place(link: PersonLink) -> _Place:
    return link.license_id, link.city, link.epoch, link.idx
