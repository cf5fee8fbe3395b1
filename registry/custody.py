"""What a city may know of licences that move: what is offered to it, and the history of what it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.clock import SECOND_US
from elicense.errors import LicenseNotFound, Malformed, OfferNotFound, StoreCorrupt
from elicense.license.verdict import ViewFlags
from elicense.log.checkpoint import cosign
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.trust.signer import Signer
from elicense.view.fold import LICENSE_ID_SIZE, person_key_of, read_record
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex
from registry.store import RegistryStore
from registry.transfer_model import OpenOffer, Position

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 100
LARGEST_HISTORY: Final = 200
#: Bytes of a division code, six decimal digits, in a page token.
_CITY_SIZE: Final = 3


@dataclass(frozen=True, slots=True)
class ProvedOffer:
    """An open offer with its proof.

    Attributes:
        row: The licence as it stands.
        entry: Its latest record.
        checkpoint: Cosigned head over it.
        hashes: Path from the record to that head.
        log_key: Verification key of the log, in C2SP vkey form.
    """

    row: ViewRow
    entry: StoredEntry
    checkpoint: bytes
    hashes: Sequence[bytes]
    log_key: str


@dataclass(frozen=True, slots=True)
class ListedOffer:
    """An open offer with the licence as it stands.

    Attributes:
        offer: The offer.
        offered: The record that offers it.
        latest: The latest record.
    """

    offer: OpenOffer
    offered: StoredEntry
    latest: StoredEntry


class Custody:
    """Answers cities; writes nothing.

    Args:
        database: The registry's database.
        store: Its tables.
        cosigner: Signs receipts.
        cosigner_name: Name of the cosigner's key.
        persons: Computes person tags.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        persons: PersonIndex,
        cosigner: Signer,
        cosigner_name: str,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._persons = persons
        self._cosigner = cosigner
        self._cosigner_name = cosigner_name
        self._clock = clock

    async def offer(self, city: int, license_id: bytes, *, from_city: int) -> ProvedOffer:
        """Return an open offer to a city.

        Args:
            city: The city to which it is offered.
            license_id: The licence.
            from_city: City in custody; 0 for whichever offers a licence with that id.

        Raises:
            OfferNotFound: There is none.
            StoreUnavailable: The database is away.
        """

        def read(conn: Connection) -> tuple[ViewRow, StoredEntry, bytes, list[bytes], str, bool]:
            transfers = self._store.transfers
            offer = transfers.offer(conn, to_city=city, license_id=license_id, from_city=from_city)
            row = None if offer is None else self._row(conn, offer.person_key, license_id)
            # The offer's city is a condition, not a hint: two cities may have two licences of one id.
            if offer is None or row is None or row.city != offer.from_city or not row.flags & ViewFlags.OFFERED:
                raise _no_offer()
            key = LogKey(row.city, row.epoch)
            entry = self._entry(conn, (row.city, row.epoch, row.idx))
            head = self._store.logs.head(conn, key)
            if head is None or head.note is None:
                raise StoreCorrupt("a city's log has no signed head; run fsck", city=row.city)
            held = self._store.logs.commits.latest_cosigned(conn, key)
            cosigned = held[1] if held is not None and held[0] == head.size else b""
            hashes = self._store.logs.inclusion_proof(conn, key, row.idx, head.size)
            vkey = next((c.log_key for c in self._store.cities(conn) if (c.city, c.epoch) == (row.city, row.epoch)), "")
            return row, entry, cosigned or head.note, hashes, vkey, bool(cosigned)

        row, entry, note, hashes, log_key, is_cosigned = await self._database.read(read)
        if not is_cosigned:
            # The head is durable; what was given out as a receipt is stored with the city's next batch.
            time_s = self._clock() // SECOND_US
            note = cosign(note, name=self._cosigner_name, signer=self._cosigner, time_s=time_s)
        return ProvedOffer(row, entry, note, hashes, log_key)

    async def offers(
        self, city: int, *, person_key: bytes, page_size: int, page_token: str
    ) -> tuple[list[ListedOffer], str]:
        """Return a page of open offers to a city, and the token of the next page.

        Args:
            city: The city.
            person_key: Only licences of this person; empty for all.
            page_size: At most this many; a default when 0.
            page_token: Token of the page before.

        Raises:
            Malformed: The token is not one of this list.
        """
        size = min(page_size, LARGEST_PAGE) or DEFAULT_PAGE
        behind = _behind(page_token)

        def read(conn: Connection) -> list[ListedOffer]:
            known = self._store.view.links.root(conn, person_key) if person_key else b""
            found = self._store.transfers.offers(conn, to_city=city, person_key=known, after=behind, limit=size + 1)
            listed = []
            for offer in found:
                row = self._row(conn, offer.person_key, offer.license_id)
                if row is not None:
                    offered = self._entry(conn, (offer.from_city, offer.epoch, offer.idx))
                    listed.append(ListedOffer(offer, offered, self._entry(conn, (row.city, row.epoch, row.idx))))
            return listed

        found = await self._database.read(read)
        if len(found) <= size:
            return found, ""
        last = found[size - 1].offer
        return found[:size], (last.license_id + last.from_city.to_bytes(_CITY_SIZE, "big")).hex()

    async def history(
        self, city: int, license_id: bytes, *, after: int, page_size: int
    ) -> list[tuple[Revision, StoredEntry]]:
        """Return revisions of a licence in a city's custody that other cities wrote, in order.

        Raises:
            LicenseNotFound: The city does not have custody of such a licence.
        """
        size = min(page_size, LARGEST_HISTORY) or DEFAULT_PAGE

        def read(conn: Connection) -> list[tuple[Revision, StoredEntry]]:
            row = self._in_custody(conn, city, license_id)
            revisions = self._store.view.history(conn, [license_id]).get(license_id, [])
            foreign = [r for r in revisions if r.city != city and r.revision > after and r.person_key == row.person_key]
            foreign.sort(key=lambda revision: revision.revision)
            return [(r, self._entry(conn, (r.city, r.epoch, r.idx))) for r in foreign[:size]]

        return await self._database.read(read)

    async def record(self, city: int, license_id: bytes, where: Position) -> StoredEntry:
        """Return one record of a licence in a city's custody, wherever it lies.

        Raises:
            LicenseNotFound: The city does not have custody of such a licence, or the record is not of it.
        """

        def read(conn: Connection) -> StoredEntry:
            row = self._in_custody(conn, city, license_id)
            # A licence id is a city's own choice, so another person's licence may bear the same: the person counts too.
            revisions = self._store.view.history(conn, [license_id]).get(license_id, [])
            its_own = any((r.city, r.epoch, r.idx) == where and r.person_key == row.person_key for r in revisions)
            found = self._store.logs.entries_at(conn, LogKey(where[0], where[1]), [where[2]]).get(where[2])
            # The registry's own log has number 0; its records are no licences.
            if where[0] == 0 or found is None or found.record is None:
                raise _not_in_custody()
            try:
                message = read_record(found.record)
                # What came too late stands in no index, but names the person.
                named = self._store.view.links.root(conn, person_key_of(message, self._persons))
                its_own = its_own or named == row.person_key
                if message.license_id != license_id or not its_own:
                    raise _not_in_custody()
            except Malformed:
                raise _not_in_custody() from None
            return found

        return await self._database.read(read)

    def _in_custody(self, conn: Connection, city: int, license_id: bytes) -> ViewRow:
        # A licence id is a city's own choice, so another city's licence may bear the same.
        row = next((row for row in self._store.view.of_license(conn, license_id) if row.city == city), None)
        if row is None:
            raise _not_in_custody()
        return row

    def _row(self, conn: Connection, person_key: bytes, license_id: bytes) -> ViewRow | None:
        rows = self._store.view.by_person(conn, [person_key]).get(person_key, [])
        return next((row for row in rows if row.license_id == license_id), None)

    def _entry(self, conn: Connection, where: Position) -> StoredEntry:
        city, epoch, index = where
        entry = self._store.logs.entries_at(conn, LogKey(city, epoch), [index]).get(index)
        if entry is None:
            raise StoreCorrupt("a record is not where the view says; run fsck", city=city)
        return entry


def _behind(page_token: str) -> tuple[bytes, int]:
    """Return licence and city of the last offer of the page before."""
    if not page_token:
        return b"", 0
    try:
        place = bytes.fromhex(page_token)
    except ValueError:
        place = b""
    if len(place) != LICENSE_ID_SIZE + _CITY_SIZE:
        raise Malformed("the page token is not one of this list")
    return place[:LICENSE_ID_SIZE], int.from_bytes(place[LICENSE_ID_SIZE:], "big")


def _no_offer() -> OfferNotFound:
    return OfferNotFound("no open offer of this license to this city; ask the other city whether it still offers it")


def _not_in_custody() -> LicenseNotFound:
    return LicenseNotFound("no such record of a license in this city's custody")
