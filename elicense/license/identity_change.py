"""Giving the holder of a licence another identity document: the same person and licence, under another number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from elicense.errors import IllegalTransition, Violation
from elicense.license.change import Changed
from elicense.license.eligibility import check_consistency
from elicense.license.model import IdentityDocument, License, LicenseEvent
from elicense.license.transitions import Action, missing

MAX_EARLIER_DOCUMENTS: Final = 16
"""Most documents that named a holder before the present one.

Every later record carries them all, and each is a look-up for whoever folds it.  A foreigner's passport of
five years, the document that changes most often, is renewed 16 times in 80 years.
"""


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """A new document, and a new name where it states one.

    Attributes:
        document: The new document, its number in normal form.
        full_name: The new name; empty when it stays.
        city: Division code of the city in custody.
        basis: Law or decision.
    """

    document: IdentityDocument
    full_name: str
    city: int
    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence under the new document; it may break no rule that it did not break before."""
        holder = replace(license_.holder, document=self.document, full_name=self.full_name or license_.holder.full_name)
        after = replace(license_, holder=holder)
        broken = list(missing(Action.CHANGE_IDENTITY, license_, on))
        if self.document == license_.holder.document:
            advice = "Give a document that differs from the one recorded; for a new name alone, update the licence."
            broken.append(Violation("document", "SAME_DOCUMENT", advice))
        known = set(check_consistency(license_, on=on, city=self.city))
        broken += [each for each in check_consistency(after, on=on, city=self.city) if each not in known]
        if broken:
            raise IllegalTransition("the identity document cannot be changed so; see what is wrong", violations=broken)
        return Changed(after, LicenseEvent.UPDATED)
