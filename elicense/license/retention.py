"""When a licence may be erased: pure.

A cancelled licence is kept as long as its holder may still ask for it back: by
the rules on driving licences, within two years of a cancellation.  A revoked or
annulled one is kept, because it bars its person.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from elicense.errors import IllegalTransition, Violation
from elicense.license.model import License

RETENTION_DAYS: Final = 2 * 366
"""Days after its cancellation for which a licence is kept, unless the city's configuration says longer or shorter."""

_CANCELLED: Final = "G"
_REVOKED: Final = frozenset("EF")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a licence that somebody wants to erase.

    Attributes:
        license: As it stands.
        national: Whether the registry holds every record of it that this city wrote.
    """

    license: License
    national: bool


def require_erasable(kept: Kept, on: date, *, retention_days: int) -> None:
    """Refuse to erase a licence that must be kept.

    Raises:
        IllegalTransition: It must; every reason is named.
    """
    letters = {letter.letter: letter for letter in kept.license.status_letters}
    found: list[Violation] = []
    cancelled = letters.get(_CANCELLED)
    if _REVOKED & letters.keys():
        found.append(Violation("license", "LICENSE_REVOKED", "Keep it: what bars a person must be found."))
    elif cancelled is None:
        found.append(Violation("license", "LICENSE_NOT_CANCELLED", "Cancel the licence first."))
    elif on < (until := cancelled.start_date + timedelta(days=retention_days)):
        found.append(Violation("license", "RETENTION_RUNS", f"Keep it until {until.isoformat()}, as the law says."))
    if not kept.national:
        found.append(
            Violation("license", "NOT_NATIONAL", "Wait until the registry holds every record: its view rests on them.")
        )
    if found:
        reasons = ", ".join(violation.reason for violation in found)
        raise IllegalTransition(f"the license can not be erased: {reasons}", violations=found)
