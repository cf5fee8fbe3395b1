"""Handing licences over to other cities, and taking them over: the use cases behind the clerk's commands.

The order of judgement for a take-over:

1. a request that has been dealt with before is answered from what was stored;
2. the offer is fetched from the registry, with its proof; without the registry nothing is written;
3. every rule of the hand-over is judged, upon the latest record of the other city;
4. the log's writer judges 1 and 3 again, in the transaction that writes;
5. the registry decides.  Until its word arrives the licence is arriving, and this node does not speak for it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from city_node.answers import Answer, Answers
from city_node.changes import LicenseChanges
from city_node.citylog import CityLog
from city_node.commands import ChangeLicense, Done, TakeOverLicense
from city_node.decider import answer_again
from city_node.encoding import shown
from city_node.gate import SigningGate
from city_node.offers import Offers
from city_node.page_tokens import PageTokens
from city_node.revisions import Latest, taken_over_record
from city_node.store import CityStore, Request
from city_node.transfer_store import Direction, HandOver, HandOverState
from elicense.clock import SECOND_US
from elicense.errors import Error, NotFound, StoreCorrupt
from elicense.license.transfer import Offer, OfferWithdrawal, Office, TakeOver
from elicense.sql.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.v1 import custody_pb2

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 1_000
#: How long what has ended stays in the list.
LISTED_US: Final = 30 * 86_400 * SECOND_US
#: How long a take-over waits for the registry's word before it is answered as open.
DECISION_SECONDS: Final = 5.0
RECHECK_SECONDS: Final = 0.25
#: Most bytes that a take-over adds to the record before: another office, ids and times.
_CHANGE_BYTES: Final = 2_048
_QUERY: Final = b"transfers"


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The answer to a take-over.

    Attributes:
        answer: The licence and its record.
        state: :class:`HandOverState` number; 0 when nothing was written.
        detail: The registry's word; empty until it has decided.
    """

    answer: Answer
    state: int = 0
    detail: str = ""


class Transfers:
    """Hand-overs of one city.

    Attributes:
        city: Division code.

    Args:
        city: Division code.
        log: The city's log.
        database: The city's database.
        store: Its tables.
        changes: Changes licences of this city.
        offers: Reads what other cities offer.
        answers: Encodes what was written.
        gate: Whether this node may sign.
        tokens: Seals page tokens.
        clock: UTC microseconds.
        decision_s: How long to wait for the registry's word, seconds.
    """

    def __init__(
        self,
        *,
        city: int,
        log: CityLog,
        database: Database,
        store: CityStore,
        changes: LicenseChanges,
        offers: Offers,
        answers: Answers,
        gate: SigningGate,
        tokens: PageTokens,
        clock: Callable[[], int],
        decision_s: float = DECISION_SECONDS,
    ) -> None:
        self.city = city
        self._log = log
        self._database = database
        self._store = store
        self._changes = changes
        self._offers = offers
        self._answers = answers
        self._gate = gate
        self._tokens = tokens
        self._clock = clock
        self._decision_s = decision_s
        self._heard = asyncio.Event()

    def notify(self) -> None:
        """Say that the registry's word may have arrived."""
        heard, self._heard = self._heard, asyncio.Event()
        heard.set()

    async def offer(
        self,
        license_id: bytes,
        *,
        to_city: int,
        basis: str,
        etag: str,
        request_id: str,
        validate_only: bool,
        actor: str,
    ) -> Answer:
        """Offer custody of a licence to another city.

        Raises:
            Malformed: There is no such other city.
            RequestIdReused: The request id came with another body before.
            LicenseNotFound: No such licence.
            LicenseMoved: Another city has it.
            IllegalTransition: Something keeps it here; all is named.
            EtagMismatch: It has changed since it was read.
            DataLoss: This node only verifies.
        """
        digest = _digest("offer", license_id, str(to_city), basis, etag)
        change = Offer(to_city, self.city, basis)
        command = ChangeLicense(uuid.UUID(request_id).bytes, digest, license_id, change, etag, actor)
        return await self._changes.change(command, validate_only=validate_only)

    async def withdraw(
        self, license_id: bytes, *, basis: str, etag: str, request_id: str, validate_only: bool, actor: str
    ) -> Answer:
        """Take an open offer back; raises as :meth:`offer`."""
        digest = _digest("withdraw", license_id, basis, etag)
        command = ChangeLicense(uuid.UUID(request_id).bytes, digest, license_id, OfferWithdrawal(basis), etag, actor)
        return await self._changes.change(command, validate_only=validate_only)

    async def accept(
        self,
        license_id: bytes,
        *,
        from_city: int,
        office: Office | None,
        basis: str,
        request_id: str,
        validate_only: bool,
        actor: str,
    ) -> TakenOver:
        """Take over a licence that another city, the one in custody, offers.

        Raises:
            RequestIdReused: The request id came with another body before.
            OfferNotFound: No open offer of it to this city.
            IllegalTransition: Something keeps it there; all is named.
            LicenseExists: The person holds a licence here.
            RegistryUnreachable: The registry did not answer; nothing was written.
            DataLoss: This node only verifies.
        """
        parts = () if office is None else (office.archive_number, office.issuing_authority, office.division_code)
        digest = _digest("accept", license_id, basis, *parts)
        key = uuid.UUID(request_id).bytes
        known = (await self._database.read(lambda conn: self._store.requests(conn, [key]))).get(key)  # (1)
        if known is not None:
            done = answer_again(known, digest)
            if isinstance(done, Error):
                raise done
            return await self._again(done.request)
        self._gate.check()
        offer = await self._offers.get(license_id, from_city=from_city)  # (2)
        command = TakeOverLicense(key, digest, offer.row, offer.entry, TakeOver(self.city, office, basis), actor)
        if validate_only:
            latest = Latest.read(offer.row, offer.entry)
            preview = taken_over_record(latest, command, key=self._log.key, now_us=self._clock())  # (3)
            return TakenOver(self._answers.preview(shown(preview, entry_hash=offer.row.entry_hash, flags=0)))
        size = len(offer.entry) + _CHANGE_BYTES
        committed = await self._log.submit(command, entries=1, size=size)  # (4)
        outcome = committed.result[0]
        if isinstance(outcome, Error):
            raise outcome
        if isinstance(outcome, Done):
            return await self._again(outcome.request)
        answer = await self._answers.of(committed, outcome)
        return await self._decided(answer, (license_id, self._log.key.epoch, outcome.index))

    async def incoming(self, request: custody_pb2.ListOffersRequest) -> custody_pb2.ListOffersResponse:
        """Return a page of what other cities offer to this one; raises as :meth:`Offers.page`."""
        return await self._offers.page(request)

    async def acknowledge(self, license_id: bytes, place: tuple[int, int, int]) -> HandOver:
        """End the notice of what another city wrote too late, at city, epoch and index of its log.

        Raises:
            NotFound: There is no such notice.
        """

        def write(conn: Connection) -> HandOver:
            if not self._store.hand_overs.acknowledge(conn, license_id, place, now_us=self._clock()):
                raise NotFound("there is no notice of this record; see the list of hand-overs")
            return next(
                each
                for each in self._store.hand_overs.of_license(conn, license_id)
                if each.direction == Direction.LATE and (each.city, each.epoch, each.idx) == place
            )

        return await self._database.write(write)

    async def page(self, page_size: int, page_token: str) -> tuple[list[HandOver], str]:
        """Return a page of hand-overs, the newest first, and the token of the next one.

        Raises:
            Malformed: The token is not one of this list.
        """
        size = min(page_size, LARGEST_PAGE) or DEFAULT_PAGE
        place = self._tokens.open(_QUERY, page_token, 33)
        before = None
        if place:
            before = (int.from_bytes(place[:8], "big"), place[8:24], place[24], int.from_bytes(place[25:], "big"))
        since_us = self._clock() - LISTED_US
        found = await self._database.read(
            lambda conn: self._store.hand_overs.page(conn, since_us=since_us, before=before, limit=size + 1)
        )
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        place = last.updated_us.to_bytes(8, "big") + last.license_id
        place += bytes([last.direction]) + last.idx.to_bytes(8, "big")
        return found[:size], self._tokens.seal(_QUERY, place)

    async def _again(self, request: Request) -> TakenOver:
        answer = await self._answers.again(request)
        return await self._decided(answer, (request.license_id, request.epoch, request.idx))

    async def _decided(self, answer: Answer, place: tuple[bytes, int, int]) -> TakenOver:  # (5)
        """Wait a moment for the registry's word on a take-over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._decision_s
        while True:
            heard = self._heard
            state = await self._state(place)
            left = deadline - loop.time()
            if state.state != HandOverState.OPEN or left <= 0:
                return TakenOver(answer, state.state, state.detail)
            with suppress(TimeoutError):
                # Another process of this node may be the one that hears it.
                async with asyncio.timeout(min(left, RECHECK_SECONDS)):
                    await heard.wait()

    async def _state(self, place: tuple[bytes, int, int]) -> HandOver:
        license_id, epoch, index = place

        def read(conn: Connection) -> HandOver:
            for each in self._store.hand_overs.of_license(conn, license_id):
                if (each.direction, each.epoch, each.idx) == (Direction.IN, epoch, index):
                    return each
            raise StoreCorrupt("a take-over is not in the list of hand-overs; run fsck", index=index)

        return await self._database.read(read)


def _digest(*parts: str | bytes) -> bytes:
    """Return the digest of a request's meaning."""
    hashed = sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        hashed.update(len(data).to_bytes(4, "big") + data)
    return hashed.digest()
