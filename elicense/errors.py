"""What can go wrong, in words that know nothing of gRPC.

Every error carries a stable UPPER_SNAKE ``reason`` (AIP-193).  One table in
:mod:`elicense.rpc.errors` maps each class to a status code; the client rebuilds
the same class from the reason, so both ends write ``except LicenseNotFound``.

::

Error:
    ├── Malformed            a request or file breaks its format; names the fields
    │   ├── CheckpointInvalid, SignatureInvalid, RootMismatch, RequestIdReused, CsrInvalid
    ├── Unauthenticated      no certificate, or none that is active
    ├── CallerNotAllowed     wrong role or city
    ├── NotFound             LicenseNotFound, OfferNotFound, CityNotFound, ConflictNotFound
    ├── AlreadyExists        LicenseExists, PersonClaimed
    ├── Refused              NotEligible, PersonBanned, IllegalTransition, LicenseMoved, ConflictClosed,
    │   │                    ConflictNotDue, ClockSkewed, Quarantined, SlotNotHeld, TokenSpent, TokenExpired
    │   ├── EpochClosed, EpochNotBound
    ├── Aborted              EtagMismatch, SequenceGap
    ├── Exhausted            StoreFull, QueueFull, QuotaExceeded, WatchesExhausted, StreamsExhausted
    ├── Unavailable          StoreUnavailable, RegistryUnreachable, PeerUnreachable, ShuttingDown, StreamIdle,
    │                        HistoryUnknown
    └── DataLoss             LogForked, LogBehind, StoreCorrupt
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule or malformed field.

    Attributes:
        field: Path of the field in the request, dots between names; empty when no one field is to blame.
        reason: UPPER_SNAKE reason, stable.
        message: One sentence that says what to do; holds no personal data.
    """

    field: str
    reason: str
    message: str


class Error(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        message: One sentence for a person; says what to do and holds no personal data.
        violations: Every broken rule or field, where there are several.
        metadata: The message's values by name, for machines.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, violations: Sequence[Violation] = (), **metadata: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.metadata = {key: str(value) for key, value in metadata.items()}


class Malformed(Error):
    """A request, file or message breaks its format."""

    reason = "MALFORMED"


class CheckpointInvalid(Malformed):
    """A signed head is not in the C2SP form, or is for another log."""

    reason = "CHECKPOINT_INVALID"


class SignatureInvalid(Malformed):
    """A signature by a known key does not verify."""

    reason = "SIGNATURE_INVALID"


class RootMismatch(Malformed):
    """Entries do not lead to the root that was signed."""

    reason = "ROOT_MISMATCH"


class RequestIdReused(Malformed):
    """The same request id came with another body."""

    reason = "REQUEST_ID_REUSED"


class CsrInvalid(Malformed):
    """A certificate request can not be read or does not prove its key."""

    reason = "CSR_INVALID"


class Unauthenticated(Error):
    """The caller showed no certificate, or none in the table of active ones."""

    reason = "UNAUTHENTICATED"


class CallerNotAllowed(Error):
    """The caller's role or city may not do this."""

    reason = "CALLER_NOT_ALLOWED"


class NotFound(Error):
    """A named thing does not exist."""

    reason = "NOT_FOUND"


class LicenseNotFound(NotFound):
    """No such licence in this city."""

    reason = "LICENSE_NOT_FOUND"


class OfferNotFound(NotFound):
    """No open offer of this licence to this city."""

    reason = "OFFER_NOT_FOUND"


class CityNotFound(NotFound):
    """No such city."""

    reason = "CITY_NOT_FOUND"


class ConflictNotFound(NotFound):
    """No such conflict, or none of the caller's city."""

    reason = "CONFLICT_NOT_FOUND"


class AlreadyExists(Error):
    """A thing that must be unique exists already."""

    reason = "ALREADY_EXISTS"


class LicenseExists(AlreadyExists):
    """This person holds a licence in this city already."""

    reason = "LICENSE_EXISTS"


class PersonClaimed(AlreadyExists):
    """Another city holds this person."""

    reason = "PERSON_CLAIMED"


class Refused(Error):
    """The request is well formed but the state of things forbids it."""

    reason = "REFUSED"


class NotEligible(Refused):
    """One or more rules of eligibility are broken; all are listed."""

    reason = "NOT_ELIGIBLE"


class PersonBanned(Refused):
    """This person may not apply anew yet; metadata has ``recordedByCity`` and ``untilDate``, a day or ``life``."""

    reason = "PERSON_BANNED"


class IllegalTransition(Refused):
    """The licence can not go from its state to the one asked for."""

    reason = "ILLEGAL_TRANSITION"


class LicenseMoved(Refused):
    """Another city has custody of the licence; metadata has ``city``."""

    reason = "LICENSE_MOVED"


class ConflictClosed(Refused):
    """The conflict is decided already."""

    reason = "CONFLICT_CLOSED"


class ConflictNotDue(Refused):
    """The conflict can not be decided yet."""

    reason = "CONFLICT_NOT_DUE"


class ClockSkewed(Refused):
    """The city's clock is too far from the registry's."""

    reason = "CLOCK_SKEWED"


class EpochClosed(Refused):
    """The log epoch is not the one that is open."""

    reason = "EPOCH_CLOSED"


class EpochNotBound(Refused):
    """A new epoch does not follow the head of the one before; metadata has ``heldSize``."""

    reason = "EPOCH_NOT_BOUND"


class Quarantined(Refused):
    """The city's log is not taken in, because of a head that it signed.

    With ``released`` in its metadata, two operators have agreed that the city may go on in its next epoch.
    """

    reason = "QUARANTINED"


class SlotNotHeld(Refused):
    """A slot comes emptied, and nothing shows that the registry has ever held what was in it.

    ``index`` in the metadata is that of the first such slot, where it is known.
    """

    reason = "SLOT_NOT_HELD"


class TokenSpent(Refused):
    """The join token has been used."""

    reason = "TOKEN_SPENT"


class TokenExpired(Refused):
    """The join token is too old."""

    reason = "TOKEN_EXPIRED"


class Aborted(Error):
    """A compare-and-set was lost; read again and decide anew."""

    reason = "ABORTED"


class EtagMismatch(Aborted):
    """The licence has changed since it was read."""

    reason = "ETAG_MISMATCH"


class SequenceGap(Aborted):
    """The batch does not start where the log ends; metadata has ``expectedIndex``."""

    reason = "SEQUENCE_GAP"


class Exhausted(Error):
    """A limit is reached; try later or ask for less."""

    reason = "EXHAUSTED"


class StoreFull(Exhausted):
    """The disk or database is full."""

    reason = "STORE_FULL"


class QueueFull(Exhausted):
    """Too much is waiting already."""

    reason = "QUEUE_FULL"


class QuotaExceeded(Exhausted):
    """The caller has had its share; metadata has ``retryAfterSeconds``."""

    reason = "QUOTA_EXCEEDED"


class WatchesExhausted(Exhausted):
    """A verifier, or the server, follows as many licences as it may."""

    reason = "WATCHES_EXHAUSTED"


class StreamsExhausted(Exhausted):
    """The caller holds as many streams open as it may."""

    reason = "STREAMS_EXHAUSTED"


class Unavailable(Error):
    """Something needed is away for now; the only class that is retried."""

    reason = "UNAVAILABLE"


class StoreUnavailable(Unavailable):
    """The database can not be reached, or did not say whether it committed."""

    reason = "STORE_UNAVAILABLE"


class RegistryUnreachable(Unavailable):
    """The registry can not be reached from this city."""

    reason = "REGISTRY_UNREACHABLE"


class PeerUnreachable(Unavailable):
    """The server that was called can not be reached."""

    reason = "PEER_UNREACHABLE"


class StreamIdle(Unavailable):
    """The caller neither sent nor read anything on a stream for too long; what was not answered may be sent anew."""

    reason = "STREAM_IDLE"


class ShuttingDown(Unavailable):
    """This server is draining."""

    reason = "SHUTTING_DOWN"


class HistoryUnknown(Unavailable):
    """A node can not tell yet whether its database holds everything that it signed."""

    reason = "HISTORY_UNKNOWN"


class DataLoss(Error):
    """Something signed or stored is not what it should be; a person must look."""

    reason = "DATA_LOSS"


class LogForked(DataLoss):
    """Two different histories of one log."""

    reason = "LOG_FORKED"


class LogBehind(DataLoss):
    """The database lacks entries of its log that were signed: it was set back."""

    reason = "LOG_BEHIND"


class StoreCorrupt(DataLoss):
    """What was read back is not what was written, or the disk reported an I/O error."""

    reason = "STORE_CORRUPT"
