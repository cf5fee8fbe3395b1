"""Links between the documents of one person, as records ask for them: pure rules, no I/O.

A record of a changed document asks for links and cites the registry's grant of the
new document.  A link is made only where the registry's log granted that document to
the record's city and nobody has used the grant meanwhile, or where nobody has it at
all: so no city can make two persons with a licence one.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from elicense.v1 import license_pb2, log_pb2
from elicense.view.fold import links_of
from elicense.view.links import PersonLink
from elicense.view.person import PersonIndex


@dataclass(frozen=True, slots=True)
class AskedLink:
    """A link that a record asks for.

    Attributes:
        link: The link.
        grant: Epoch and index of the entry of the registry's log that grants the later document, as the record says.
    """

    link: PersonLink
    grant: tuple[int, int]


@dataclass(frozen=True, slots=True)
class GrantEntry:
    """What an entry of the registry's log grants.

    Attributes:
        city: To whom.
        persons: Their tags.
    """

    city: int
    persons: frozenset[bytes]

    @classmethod
    def read(cls, record: bytes | None) -> GrantEntry:
        """Read an entry; one that is there no more, or is no grant, grants nothing."""
        try:
            granted = log_pb2.RegistryRecord.FromString(record or b"").claims_granted
        except DecodeError:
            return cls(0, frozenset())
        return cls(granted.city, frozenset(claim.person_tag for claim in granted.claims))


def asks(message: license_pb2.LicenseRecord) -> bool:
    """Whether a record asks for links: one that merely repeats earlier documents cites no grant."""
    return bool(message.earlier_documents) and message.HasField("claim")


def asked_by(message: license_pb2.LicenseRecord, persons: PersonIndex, *, index: int) -> list[AskedLink]:
    """Return the links that a record at ``index`` of its log asks for."""
    if not asks(message):
        return []
    grant = message.claim.registry_epoch, message.claim.registry_index
    return [AskedLink(link, grant) for link in links_of(message, persons, index=index)]
