"""Check the links between documents: each must rest on a record that was granted it, and none may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from elicense.log.check import Finding, position
from elicense.log.model import LogKey
from elicense.view.links import Roots
from registry.links import AskedLink
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_Place = tuple[bytes, int, int, int]


class LinkCheck:
    """Makes links anew from what records ask for, and compares.

    Who had the later document when a record came stands in no log.  So a link that was asked for may
    be missing where that document has a claim: a record is refused because somebody has it.

    Args:
        conn: Transaction in which everything is read.
        store: The registry's tables.
        asked: The links that the records of all cities ask for.
        found: Called with each contradiction.
    """

    def __init__(
        self,
        conn: Connection,
        store: RegistryStore,
        asked: Sequence[AskedLink],
        *,
        found: Callable[[Finding], None],
    ) -> None:
        self._roots = Roots()
        self._conn = conn
        self._store = store
        self._asked = asked
        self._found = found

    def compare(self) -> None:
        """Report every link that is wrong, and how many are missing."""
        places = {_place(asked) for asked in self._asked}
        stored = self._store.view.links.all(self._conn)
        made = set()
        erased = set()
        for link in stored:
            place = link.license_id, link.city, link.epoch, link.idx
            made.add(place)
            # It stays when the licence is erased: whoever was barred under one number is barred under the other.
            if place not in places and is_erased(self._conn, self._store, LogKey(link.city, link.epoch), link.idx):
                erased.add(link.person_key)
                self._roots.add(link.person_key, link.first_key)
        self._replay(asked for asked in self._asked if _place(asked) in made)
        rightly = self._roots.as_dict()
        for link in stored:
            place = link.license_id, link.city, link.epoch, link.idx
            rests = place in places or link.person_key in erased
            if not rests or rightly.get(link.person_key) != link.first_key:
                where = position(LogKey(link.city, link.epoch), link.idx)
                self._found(Finding(where, "the link between two documents differs from the logs"))
        self._replay(asked for asked in self._asked if not self._is_refused(asked))
        missing = self._roots.as_dict().keys() - {link.person_key for link in stored}
        if missing:
            self._found(Finding("national view", f"{len(missing)} links between documents are missing"))

    def _is_refused(self, asked: AskedLink) -> bool:
        later = self._roots.root(asked.link.person_key)
        return bool(self._store.claims(self._conn, [later]))

    def _replay(self, asked: Iterable[AskedLink]) -> None:
        """Make links anew, in whatever order: of two that lead on from one another both ends follow."""
        for each in asked:
            self._roots.add(each.link.person_key, each.link.first_key)


def is_erased(conn: Connection, store: RegistryStore, key: LogKey, index: int) -> bool:
    """Whether a log has an entry there whose record was erased."""
    entry = store.logs.entries_at(conn, key, [index]).get(index)
    return entry is not None and entry.record is None


def _place(asked: AskedLink) -> _Place:
    link = asked.link
    return link.license_id, link.city, link.epoch, link.idx
