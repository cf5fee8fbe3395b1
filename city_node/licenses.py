"""Reading a city's licences: as they stand, listed, and revision by revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from city_node.answers import Answers
from city_node.encoding import shown
from city_node.history_reader import History, WrittenRevision
from city_node.holding import moved_away, require_custody
from city_node.page_tokens import PageTokens
from city_node.store import CityStore
from elicense.clock import to_timestamp
from elicense.errors import Error, LicenseNotFound, StoreCorrupt
from elicense.log.model import LogKey, StoredEntry
from elicense.rpc.coalesce import Coalescer
from elicense.sql.database import Database
from elicense.v1 import issuance_pb2, license_pb2, log_pb2
from elicense.view.fold import read_record
from elicense.view.model import Revision, ViewRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Current:
    """A licence as it stands.

    Attributes:
        row: Its row in the view.
        entry: Bytes of its latest record.
    """

    row: ViewRow
    entry: bytes

    @property
    def record(self) -> license_pb2.LicenseRecord:
        """Its latest record."""
        return read_record(self.entry)

    def shown(self) -> license_pb2.License:
        """The licence as the API shows it."""
        return shown(self.record, entry_hash=self.row.entry_hash, flags=self.row.flags)


class Licenses:
    """Reads the licences of one city.

    Args:
        city: Division code.
        database: The city's database.
        store: Its tables.
        answers: Knows how widely a record is safe.
        history: Reads what other cities wrote.
        tokens: Seals page tokens.
    """

    def __init__(
        self,
        *,
        city: int,
        database: Database,
        store: CityStore,
        answers: Answers,
        history: History,
        tokens: PageTokens,
    ) -> None:
        self._history = history
        self._city = city
        self._database = database
        self._store = store
        self._answers = answers
        self._tokens = tokens
        self._lookups: Coalescer[bytes, Current] = Coalescer(self._look_up)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()

    async def current(self, license_id: bytes) -> Current:
        """Return a licence as it stands.

        Raises:
            LicenseNotFound: No such licence in this city.
            LicenseMoved: Another city has taken it over.
            StoreCorrupt: Its record is not where the view says.
        """
        return await self._lookups.submit(license_id)

    async def page(self, page_size: int, page_token: str) -> issuance_pb2.ListLicensesResponse:
        """Return a page of this city's licences, in a stable order.

        Raises:
            Malformed: The token is not one of this query.
        """
        size = _page_size(page_size)
        after = self._tokens.open(b"licenses", page_token, 32)
        place = (after[:16], after[16:]) if after else None

        def read(conn: Connection) -> list[Current]:
            rows = self._store.view.page(conn, city=self._city, after=place, limit=size + 1)
            return self._with_entries(conn, rows)

        found = await self._database.read(read)
        response = issuance_pb2.ListLicensesResponse(licenses=[current.shown() for current in found[:size]])
        if len(found) > size:
            last = found[size - 1].row
            response.next_page_token = self._tokens.seal(b"licenses", last.person_key + last.license_id)
        return response

    async def revisions(self, license_id: bytes, page_size: int, page_token: str) -> issuance_pb2.ListRevisionsResponse:
        """Return a page of a licence's revisions, oldest first, whichever city wrote them.

        Raises:
            LicenseNotFound: No such licence in this city.
            LicenseMoved: Another city has taken it over, its history with it.
            RegistryUnreachable: Other cities wrote some of them, and the registry is away.
            Malformed: The token is not one of this query.
        """
        size = _page_size(page_size)
        query = b"revisions" + license_id
        after = int.from_bytes(self._tokens.open(query, page_token, 4), "big")

        def read(conn: Connection) -> tuple[list[WrittenRevision], ViewRow | None, bool]:
            found = self._store.view.revisions(conn, license_id, after=after, limit=size + 1)
            own = [revision for revision in found if revision.city == self._city]
            entries = self._entries(conn, [(revision.epoch, revision.idx) for revision in own])
            written = [WrittenRevision(revision, entries.get((revision.epoch, revision.idx))) for revision in own]
            first = self._store.view.revisions(conn, license_id, after=0, limit=1)
            row = self._store.view.by_license(conn, license_id)
            # Numbers that are missing here are those of other cities.
            ahead = [revision.revision for revision in own]
            whole = bool(first) and first[0].revision == 1 and ahead == list(range(after + 1, after + 1 + len(ahead)))
            return written, row, whole and (len(ahead) > size or (row is not None and row.revision in (*ahead, after)))

        found, row, whole = await self._database.read(read)
        if row is None:
            raise LicenseNotFound("no license of this name in this city")
        require_custody(row, self._city)
        if not whole:
            foreign = await self._history.after(license_id, after, size + 1)
            found = sorted([*found, *foreign], key=lambda written: written.revision.revision)
        response = issuance_pb2.ListRevisionsResponse()
        for written in found[:size]:
            response.revisions.append(self._revision(written, row))
        if len(found) > size:
            response.next_page_token = self._tokens.seal(query, found[size - 1].revision.revision.to_bytes(4, "big"))
        return response

    def _revision(self, written: WrittenRevision, row: ViewRow) -> issuance_pb2.LicenseRevision:
        revision, entry = written.revision, written.entry
        if entry is None:
            raise StoreCorrupt("a record of the revision index is missing; run fsck")
        message = issuance_pb2.LicenseRevision(
            revision=revision.revision,
            event=revision.event,  # type: ignore[arg-type]  # an open enum: any number is kept
            record_time=to_timestamp(revision.recorded_us),
            effective_time=to_timestamp(revision.effective_us),
            position=log_pb2.LogPosition(city=revision.city, epoch=revision.epoch, index=revision.idx),
            durability=self._durability(revision),  # type: ignore[arg-type]
        )
        if entry.record is not None:
            record = read_record(entry.record)
            message.actor = record.actor
            message.basis = record.basis
            if record.HasField("correction"):
                message.correction.CopyFrom(record.correction)
            message.license.CopyFrom(shown(record, entry_hash=entry.leaf_hash, flags=row.flags))
        return message

    def _durability(self, revision: Revision) -> int:
        if revision.city != self._city:
            return log_pb2.DURABILITY_NATIONAL  # the registry handed it out
        return self._answers.durability(revision.epoch, revision.idx)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _look_up(self, license_ids: list[bytes]) -> Sequence[Current | Error]:
        def read(conn: Connection) -> dict[bytes, Current | Error]:
            rows = [self._store.view.by_license(conn, license_id) for license_id in set(license_ids)]
            found: dict[bytes, Current | Error] = {}
            kept = []
            for row in rows:
                if row is not None and (moved := moved_away(row, self._city)) is not None:
                    found[row.license_id] = moved
                elif row is not None:
                    kept.append(row)
            return found | {current.row.license_id: current for current in self._with_entries(conn, kept)}

        found = await self._database.read(read)
        missing = LicenseNotFound("no license of this name in this city")
        return [found.get(license_id, missing) for license_id in license_ids]

    def _with_entries(self, conn: Connection, rows: Sequence[ViewRow]) -> list[Current]:
        entries = self._entries(conn, [(row.epoch, row.idx) for row in rows])
        found = []
        for row in rows:
            entry = entries.get((row.epoch, row.idx))
            if entry is None or entry.record is None or entry.leaf_hash != row.entry_hash:
                raise StoreCorrupt("the latest record of a license is not where the view says; run fsck")
            found.append(Current(row, entry.record))
        return found

    def _entries(self, conn: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], StoredEntry]:
        found: dict[tuple[int, int], StoredEntry] = {}
        for epoch in {epoch for epoch, _ in places}:
            indices = [index for of, index in places if of == epoch]
            entries = self._store.logs.entries_at(conn, LogKey(self._city, epoch), indices)
            found.update(((epoch, index), entry) for index, entry in entries.items())
        return found


def _page_size(asked: int) -> int:
    return min(asked, LARGEST_PAGE) or DEFAULT_PAGE
