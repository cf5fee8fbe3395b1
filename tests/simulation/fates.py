"""What becomes of a licence: suspended, revoked, under another number, moved to the other city, erased."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from elicense.clock import china_date
from elicense.license.civil_date import date_to_message
from elicense.license.document import resident_check_character
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2, transfer_pb2
from tests.simulation.counters import Counter
from tests.simulation.template import CITIES, START_US
from tests.simulation.written import SUSPENDS

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

_BASIS: Final = "本人申请"
#: How often a citizen asks for what is refused until the registry has heard of the licence.
_PATIENCE: Final = 6


class Fates:
    """Brings licences to their ends.

    Args:
        nation: The nation.
        random: Draws what happens.
        counter: Gives a counter of a city.
        on_document: Told of each new document, with the holder's name.
    """

    def __init__(
        self,
        nation: Nation,
        random: Random,
        *,
        counter: Callable[[int, int], Counter],
        on_document: Callable[[license_pb2.IdentityDocument, str], None],
    ) -> None:
        self._nation = nation
        self._random = random
        self._counter = counter
        self._on_document = on_document

    async def meet(self, at: Counter, license_: license_pb2.License) -> bool:
        """Bring one fate, or none; tell whether the holder may want to apply anew."""
        fate = self._random.random()
        if fate < 0.2:
            await self._suspend(at, license_.name, license_.etag)
        elif fate < 0.3:
            return await self._revoke(at, license_.name)
        elif fate < 0.45:
            await self._renumber(at, license_)
        elif fate < 0.6:
            await self._erase(at, license_.name)
        elif fate < 0.9:
            await self._move(at, license_)
        return False

    async def _suspend(self, at: Counter, name: str, etag: str = "") -> None:
        request = pb.SetStatusRequest(name=name, etag=etag, add_letters=[_letter("D")])
        await at.change(at.stub.SetStatus, request)

    async def _revoke(self, at: Counter, name: str) -> bool:
        """Revoke a licence, which bars its holder from the next one."""
        letter = _letter("F")
        letter.ban.ground = "DRUNK_DRIVING"
        return await at.change(at.stub.SetStatus, pb.SetStatusRequest(name=name, add_letters=[letter])) is not None

    async def _renumber(self, at: Counter, license_: license_pb2.License) -> None:
        """Give the holder another number; whoever has the same one in the other city may want it too."""
        document = another_number(license_.holder.document)
        request = pb.ChangeIdentityRequest(name=license_.name, document=document, legal_basis=_BASIS)
        if await at.change(at.stub.ChangeIdentity, request) is not None:
            self._nation.outcome.renumbered += 1
            self._on_document(document, license_.holder.full_name)

    async def _erase(self, at: Counter, name: str) -> None:
        """Cancel a licence, and have it erased once the registry holds whatever was written of it."""
        cancelled = pb.CancelLicenseRequest(name=name, legal_basis=_BASIS)
        if await at.change(at.stub.CancelLicense, cancelled) is None:
            return
        erased = pb.EraseLicenseRequest(name=name, legal_basis="个人信息保护法 第四十七条", request_id=at.request_id())
        for _ in range(_PATIENCE):
            await asyncio.sleep(self._random.uniform(0, 2))
            if await at.ask(at.stub.EraseLicense, erased) is not None:
                self._nation.outcome.erased += 1
                self._nation.oracle.erased(at.city, uuid.UUID(name.rpartition("/")[2]).bytes)
                return

    async def _move(self, at: Counter, license_: license_pb2.License) -> None:
        """Move to the other city, while the old one may change its mind, or write of the licence too late."""
        other = next(city for city in CITIES if city != at.city)
        offer = transfer_pb2.OfferTransferRequest(name=license_.name, to_city=other, legal_basis=_BASIS)
        if await at.change(at.stub.OfferTransfer, offer) is None:
            return
        there = self._counter(other, at.number)
        await asyncio.gather(self._take_over(there, license_.name), self._meanwhile(at, license_.name))

    async def _meanwhile(self, at: Counter, name: str) -> None:
        fate = self._random.random()
        await asyncio.sleep(self._random.uniform(0, 4))
        if fate < 0.3:
            await self._suspend(at, name)
        elif fate < 0.5:
            withdrawal = transfer_pb2.WithdrawTransferRequest(name=name, legal_basis=_BASIS)
            await at.change(at.stub.WithdrawTransfer, withdrawal)
        elif fate < 0.65:
            await at.change(at.stub.CancelLicense, pb.CancelLicenseRequest(name=name, legal_basis=_BASIS))

    async def _take_over(self, at: Counter, name: str) -> None:
        """Ask the new city until the registry knows of the offer, and then until it has decided."""
        taking = transfer_pb2.AcceptTransferRequest(
            parent=f"cities/{at.city}", license=name, legal_basis=_BASIS, request_id=at.request_id()
        )
        for _ in range(_PATIENCE):
            await asyncio.sleep(self._random.uniform(0, 2))
            answer = await at.ask(at.stub.AcceptTransfer, taking)
            if answer is None:
                continue
            at.heard(taking.request_id)
            if answer.state == transfer_pb2.TRANSFER_STATE_REFUSED:
                self._nation.event(f"take-over refused: {answer.detail}")
                return
            if answer.state == transfer_pb2.TRANSFER_STATE_DONE:
                self._nation.outcome.moved += 1
                self._nation.oracle.taken_over(at.city, uuid.UUID(name.rpartition("/")[2]).bytes)
                await self._settle_in(at, answer.license)
                return

    async def _settle_in(self, at: Counter, license_: license_pb2.License) -> None:
        """Meet a fate in the new city, which ends what the old one began."""
        fate = self._random.random()
        if fate < 0.3:
            await self._suspend(at, license_.name)
        elif fate < 0.5:
            await self._renumber(at, license_)
        elif fate < 0.7:
            await self._erase(at, license_.name)


def another_number(document: license_pb2.IdentityDocument) -> license_pb2.IdentityDocument:
    """Return a document with another number; birth and sex stay."""
    number = document.number
    digits = f"{number[:14]}{(int(number[14:17]) + 2) % 1000:03}"
    return license_pb2.IdentityDocument(type=document.type, number=digits + resident_check_character(digits))


def _letter(letter: str) -> license_pb2.StatusLetter:
    return license_pb2.StatusLetter(
        letter=letter,
        legal_basis="道路交通安全法 第九十一条",
        start_date=date_to_message(china_date(START_US)),
        authority=SUSPENDS,
    )
