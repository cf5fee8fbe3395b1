"""Moving a licence to another city: offer, withdrawal and take-over.

An offer leaves custody where it is.  Until the other city has taken over, the
city in custody may restrict the licence, cancel it or withdraw the offer;
whatever it writes makes a take-over of the revision before worthless.  A
take-over changes nothing of the licence but the office that keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from elicense.errors import Malformed, Violation
from elicense.license.change import Changed
from elicense.license.divisions import is_city
from elicense.license.eligibility import check_office
from elicense.license.model import License, LicenseEvent
from elicense.license.transitions import Action, missing, require
from elicense.license.verdict import ViewFlags


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer of custody.

    Attributes:
        to_city: Division code of the city that may take over.
        city: Division code of the city in custody.
        basis: Law and application on which it rests.
    """

    to_city: int
    city: int
    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence as it is, offered to the other city."""
        if not is_city(self.to_city) or self.to_city == self.city:
            advice = "Give the division code of another city, such as 510100."
            raise Malformed(
                "a licence can not be offered to this city",
                violations=[Violation("to_city", "CITY_INVALID", advice)],
            )
        require(missing(Action.OFFER, license_, on))
        return Changed(replace(license_, offered_to_city=self.to_city), LicenseEvent.TRANSFERRED_OUT)


@dataclass(frozen=True, slots=True)
class OfferWithdrawal:
    """An offer taken back.

    Attributes:
        basis: Why.
    """

    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence as it is, offered to nobody."""
        require(missing(Action.WITHDRAW_OFFER, license_, on))
        return Changed(replace(license_, offered_to_city=0), LicenseEvent.TRANSFER_WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Office:
    """The office of the new city that keeps the licence from now on.

    Attributes:
        archive_number: Twelve digits.
        issuing_authority: In characters.
        division_code: Its division, six digits.
    """

    archive_number: str
    issuing_authority: str
    division_code: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The other half of a hand-over, written by the new city.

    Attributes:
        city: Division code of the new city.
        office: The office that keeps the licence; None leaves what the licence says.
        basis: Law and application on which it rests.
    """

    city: int
    office: Office | None
    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence in the hands of the new city."""
        broken = list(missing(Action.TAKE_OVER, license_, on))
        office = self.office
        if office is not None:
            check_office(office.division_code, office.archive_number, self.city, broken)
        require(tuple(broken))
        after = replace(license_, offered_to_city=0)
        if office is not None:
            after = replace(
                after,
                archive_number=office.archive_number,
                issuing_authority=office.issuing_authority,
                division_code=office.division_code,
            )
        return Changed(after, LicenseEvent.TRANSFERRED_IN)


def doubts(flags: int) -> Iterator[Violation]:
    """Yield why a licence with these flags of the view can not move: it must count nationwide beyond doubt."""
    if flags & ViewFlags.PROVISIONAL:
        advice = "Wait until the registry has confirmed the licence."
        yield Violation("license.provisional", "LICENSE_PROVISIONAL", advice)
    if flags & ViewFlags.CONFLICT:
        advice = "Have the conflict settled first: another licence of the person may count."
        yield Violation("license", "LICENSE_IN_CONFLICT", advice)
    if flags & ViewFlags.VOID:
        advice = "Cancel the licence: the registry has declared it void."
        yield Violation("license", "LICENSE_VOID", advice)
    if flags & ViewFlags.UNKNOWN_EVENT:
        advice = "Bring the node up to date first: it does not know an event of the licence."
        yield Violation("license", "EVENT_UNKNOWN", advice)
