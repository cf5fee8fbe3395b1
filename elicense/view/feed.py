"""What a word of the registry's feed to a city must say of the record that it is about: pure, for both sides."""

from __future__ import annotations

from typing import Final, Protocol

from elicense.errors import Malformed
from elicense.log.model import FIRST_EPOCH, LogKey, StoredEntry
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import read_record

_KINDS: Final = frozenset(replication_pb2.DispositionKind.values()) - {0}
_ACCEPTED: Final = replication_pb2.DISPOSITION_KIND_TRANSFER_ACCEPTED
_REFUSED: Final = replication_pb2.DISPOSITION_KIND_TRANSFER_REFUSED
_AWAY: Final = replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY
_LATE: Final = replication_pb2.DISPOSITION_KIND_LATE_RECORD
_ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED
_LOST: Final = replication_pb2.DISPOSITION_KIND_LOST
_TAKEN_OVER: Final = license_pb2.LICENSE_EVENT_TRANSFERRED_IN


class Word(Protocol):
    """A word as either side stores it."""

    @property
    def city(self) -> int:
        """Whose feed it stands in."""

    @property
    def epoch(self) -> int:
        """Epoch of the record."""

    @property
    def idx(self) -> int:
        """Its index."""

    @property
    def kind(self) -> int:
        """``DispositionKind`` number."""

    @property
    def license_id(self) -> bytes:
        """Licence; empty when the record can not be read."""

    @property
    def other_city(self) -> int | None:
        """The other city of a hand-over."""


def place_of(word: Word) -> tuple[LogKey, int]:
    """Return where the record lies: in the log of the city that is told, or in the other one's that wrote too late."""
    city = (word.other_city or 0) if word.kind == _LATE else word.city
    return LogKey(city, word.epoch), word.idx


def fault_of(word: Word, entry: StoredEntry | None) -> str | None:
    """Return what is wrong with a word, in one sentence; None when nothing is.

    Args:
        word: The word.
        entry: What lies at :func:`place_of` it; None when nothing does.
    """
    if word.kind not in _KINDS:
        return "it is of a kind that there is not"
    if word.kind == _LOST and (word.license_id or word.epoch != FIRST_EPOCH or word.idx):
        return "it was lost, and says something"
    if bool(word.other_city) != (word.kind in (_ACCEPTED, _AWAY, _LATE)) and word.kind not in (_REFUSED, _ERASED):
        return "it is about a hand-over, or names another city, and not both"
    if entry is None:
        return "the log has no such record"
    if entry.record is None or not word.license_id:
        return None  # erased, or not to be read
    try:
        record = read_erasure(entry.record) or read_record(entry.record)
    except Malformed:
        return "it is about another license than the record that it names"
    if record.license_id != word.license_id:
        return "it is about another license than the record that it names"
    if word.kind in (_ACCEPTED, _REFUSED) and record.event != _TAKEN_OVER:
        return "it is about a take-over, but its record is none"
    other = record.taken_over_from.city if word.kind == _ACCEPTED else record.license.offered_to_city
    if word.kind in (_ACCEPTED, _AWAY) and word.other_city != other:
        return "it names another city than the record"
    return None
