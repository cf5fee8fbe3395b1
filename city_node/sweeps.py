"""Go through what a city's log, the registry's feed and its tables hold, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from google.protobuf.message import DecodeError

from city_node.license_check import LicenseCheck
from city_node.store import CityStore, StoredDisposition
from elicense.log.check import Finding, position
from elicense.log.check_run import CheckRun, Stage
from elicense.log.model import LogKey, StoredEntry
from elicense.uuids import uuid_bytes
from elicense.v1 import license_pb2
from elicense.view.feed import fault_of, place_of
from elicense.view.fold import LICENSE_ID_SIZE
from elicense.view.links import PersonLink, Roots
from elicense.view.opening import read_opening
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Licences, words or rows that one step takes.
_PAGE: Final = 500
_KEY: Final = 16
#: Most entries of a commit.
_COMMIT: Final = 2_048

_NO_RECORD: Final = "the record can not be read"
_NO_RECEIPT: Final = "the entry was erased before the registry gave a receipt for it"
_SEQ: Final = "the feed has a gap before this word"


class Sweeps:
    """Takes note of what log and feed are about, compares licences, and looks for what is stored besides.

    Args:
        run: The run.
        store: The city's tables.
        persons: Computes person and name tags.
        city: Division code.
    """

    def __init__(self, run: CheckRun, store: CityStore, *, persons: PersonIndex, city: int) -> None:
        self._run = run
        self._store = store
        self._city = city
        scratch = run.scratch
        self._places = scratch.shelf("place", keys=3, values=1)
        self._words = scratch.shelf("word", keys=2)
        self._heard = scratch.shelf("heard", keys=1, values=1)
        self._requests = scratch.shelf("request", keys=1, values=2)
        self._standing = scratch.shelf("standing", keys=2)
        self._links = scratch.shelf("link", keys=6)
        # Licences that were written to once they had been compared.
        self._late = scratch.shelf("late", keys=1)
        self._check = LicenseCheck(
            store,
            persons=persons,
            city=city,
            places=self._places,
            words=self._words,
            found=run.found,
        )
        self.stages: dict[str, Stage] = {
            "licenses": self._licenses,
            "view": self._view,
            "revisions": self._revisions,
            "hand-overs": self._hand_overs,
            "requests": self._stored_requests,
        }

    @property
    def licenses(self) -> int:
        """Licences that the log holds."""
        return len(self._standing)

    def read(self, conn: Connection, key: LogKey, entries: Sequence[StoredEntry]) -> None:
        """Take note of what entries of the log are about."""
        if key.log != self._city:
            return  # the mirror of the registry's log
        self._check_emptied(conn, key, entries)
        start = entries[0].index
        sizes = sorted(self._store.logs.commits.between(conn, key, start, entries[-1].index + 1 + _COMMIT))
        at = 0
        about = []
        for entry in entries:
            while at < len(sizes) - 1 and sizes[at] <= entry.index:
                at += 1
            license_id = self._subject(key, entry)
            if license_id:
                about.append((license_id, key.epoch, entry.index, sizes[at] if sizes else 0))
        self._places.put(about)
        self._note_late({row[0] for row in about})

    def _check_emptied(self, conn: Connection, key: LogKey, entries: Sequence[StoredEntry]) -> None:
        """Whatever is erased must have a receipt: a registry that is sent the log again would not take it else."""
        emptied = [entry.index for entry in entries if entry.record is None]
        if emptied:
            receipt = self._store.logs.commits.latest_cosigned(conn, key)
            for index in emptied:
                if receipt is None or index >= receipt[0]:
                    self._run.found(Finding(position(key, index), _NO_RECEIPT))

    def hear(self, conn: Connection) -> bool:
        """Take note of what some words of the registry's feed are about; return whether that were the last."""
        held: Any = self._heard.get("feed")
        after = 0 if held is None else held[1]
        page = self._store.dispositions(conn, self._city, after=after, limit=_PAGE)
        if not page:
            return True
        for before, word in zip([after, *(word.seq for word in page)], page, strict=False):
            if word.seq != before + 1:
                self._run.found(Finding(f"feed, word {word.seq}", _SEQ))
        self._check_words(conn, page)
        about = [(word.license_id, word.seq) for word in page if word.license_id]
        self._words.put(about)
        self._note_late({license_id for license_id, _ in about})
        self._heard.put([("feed", page[-1].seq)])
        return False

    def check_late(self, conn: Connection, _after: bytes | None = None) -> bytes | None:
        """Compare some of what was written to meanwhile once more; None when there was nothing."""
        licenses: list[bytes] = self._late.firsts(None, _PAGE)
        self._compare(conn, licenses)
        self._late.drop((license_id,) for license_id in licenses)
        return b"" if licenses else None

    def check_latest(self, conn: Connection) -> None:
        """Compare all of it once more."""
        while self.check_late(conn) is not None:
            pass

    def compare_links(self, conn: Connection) -> None:
        """Every link must rest on a record; only where that was erased may it stand alone."""
        # The links that a licence asks for are known once it has been compared.
        self.check_latest(conn)
        roots, made = Roots(), set()
        after: tuple[Any, ...] | None = None
        while page := self._links.page(after, _PAGE):
            for license_id, city, epoch, idx, person_key, first_key in page:
                roots.add(bytes(person_key), bytes(first_key))  # type: ignore[arg-type]
                made.add((license_id, city, epoch, idx))
            after = page[-1]
        stored = self._store.view.links.all(conn)
        for link in stored:
            entry = self._store.logs.entries_at(conn, LogKey(link.city, link.epoch), [link.idx]).get(link.idx)
            if _place(link) not in made and entry is not None and entry.record is None:
                made.add(_place(link))
                roots.add(link.person_key, link.first_key)
        expected = roots.as_dict()
        for link in stored:
            if expected.pop(link.person_key, None) != link.first_key or _place(link) not in made:
                where = f"license {UUID(bytes=link.license_id)}"
                self._run.found(Finding(where, "a link between documents differs from the log"))
        if expected:
            what = f"{len(expected)} links between documents are missing"
            self._run.found(Finding(f"city {self._city}", what))

    def _subject(self, key: LogKey, entry: StoredEntry) -> bytes:
        """Return which licence an entry is about; empty for none."""
        if entry.record is None:
            return b""
        where = position(key, entry.index)
        try:
            record = license_pb2.LicenseRecord.FromString(entry.record)
            request_id = uuid_bytes(record.request_id)
        except (DecodeError, ValueError):
            if read_opening(entry.record) is None:
                self._run.found(Finding(where, _NO_RECORD))
            return b""
        if len(record.license_id) != LICENSE_ID_SIZE:
            self._run.found(Finding(where, _NO_RECORD))
            return b""
        if not self._requests.add((request_id, key.epoch, entry.index)):
            held: Any = self._requests.get(request_id)
            if held[1:] != (key.epoch, entry.index):
                self._run.found(Finding(where, "the record repeats the request id of an earlier one"))
        return record.license_id

    def _note_late(self, licenses: set[bytes]) -> None:
        if self._run.at("licenses") is not None:
            self._late.put((license_id,) for license_id in licenses)

    def _check_words(self, conn: Connection, page: Sequence[StoredDisposition]) -> None:
        """Every word must be about the record that it names."""
        places = [place_of(word) for word in page]
        entries = self._store.logs.entries_anywhere(conn, places)
        for word, place in zip(page, places, strict=True):
            # Of another city's record nothing is held here.
            fault = fault_of(word, entries.get(place)) if place[0].log == self._city else None
            if fault is not None:
                self._run.found(Finding(f"feed, word {word.seq}", fault))

    def _compare(self, conn: Connection, licenses: Sequence[bytes]) -> None:
        derived = self._check.check(conn, licenses)
        self._standing.put((row.person_key, license_id) for license_id, row in derived.rows.items())
        self._links.put((*_place(link), link.person_key, link.first_key) for link in derived.links)

    # -- pages: each returns where it ended, and None at the end -----------------------------------------------------

    def _licenses(self, conn: Connection, after: bytes | None) -> bytes | None:
        licenses = sorted({*self._places.firsts(after, _PAGE), *self._words.firsts(after, _PAGE)})[:_PAGE]
        self._compare(conn, licenses)
        return licenses[-1] if licenses else None

    def _view(self, conn: Connection, after: bytes | None) -> bytes | None:
        place = None if after is None else (after[:_KEY], after[_KEY:])
        rows = self._store.view.rows(conn, after=place, limit=_PAGE)
        known = set(self._standing.of([(row.person_key, row.license_id) for row in rows]))
        strange = [row for row in rows if (row.person_key, row.license_id) not in known]
        # One that has come since it was looked for is there now.
        derived = self._check.check(conn, [row.license_id for row in strange])
        for row in strange:
            expected = derived.rows.get(row.license_id)
            if expected is None or expected.person_key != row.person_key:
                where = f"license {UUID(bytes=row.license_id)}"
                self._run.found(Finding(where, "no record of the log made this license"))
        return rows[-1].person_key + rows[-1].license_id if rows else None

    def _revisions(self, conn: Connection, after: bytes | None) -> bytes | None:
        return self._unknown(self._store.view.indexed(conn, after=after or b"", limit=_PAGE), conn)

    def _hand_overs(self, conn: Connection, after: bytes | None) -> bytes | None:
        return self._unknown(self._store.hand_overs.licenses(conn, after=after or b"", limit=_PAGE), conn)

    def _unknown(self, licenses: Sequence[bytes], conn: Connection) -> bytes | None:
        """Compare licences of which neither log nor feed knows anything."""
        known = {row[0] for row in self._places.of([(license_id,) for license_id in licenses])}
        known |= {row[0] for row in self._words.of([(license_id,) for license_id in licenses])}
        self._check.check(conn, [license_id for license_id in licenses if license_id not in known])
        return licenses[-1] if licenses else None

    def _stored_requests(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Every request id that is stored must be that of a record."""
        ids = self._store.request_ids(conn, after=after or b"", limit=_PAGE)
        known = {row[0] for row in self._requests.of([(request_id,) for request_id in ids])}
        for request_id in ids:
            if request_id not in known:
                where = f"request {UUID(bytes=request_id)}"
                self._run.found(Finding(where, "no record of the log has this request id"))
        return ids[-1] if ids else None


def _place(link: PersonLink) -> tuple[bytes, int, int, int]:
    return link.license_id, link.city, link.epoch, link.idx
