"""Cancelling a licence for good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from elicense.license.change import Changed, with_letters
from elicense.license.expiry import DERIVED
from elicense.license.model import License, LicenseEvent, StatusLetter
from elicense.license.transitions import Action, missing, require

CANCELLED: Final = "G"
"""The letter of a cancelled licence."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A cancellation.

    Attributes:
        basis: Law and reason.
        void: Whether the licence is void nationwide.
    """

    basis: str
    void: bool = False

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence with G in place of M and R."""
        require(missing(Action.CANCEL_VOID if self.void else Action.CANCEL, license_, on))
        letters = with_letters(license_.status_letters, [StatusLetter(CANCELLED, on, None, self.basis)], DERIVED)
        # An open offer ends with it: a cancelled licence goes nowhere.
        return Changed(replace(license_, status_letters=letters, offered_to_city=0), LicenseEvent.CANCELLED)
