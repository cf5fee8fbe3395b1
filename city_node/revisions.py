"""The next revision of a licence: what a change or a day makes of its latest record."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Final

from city_node.commands import ChangeLicense, EraseLicense, EraseOnOrder, TakeOverLicense
from city_node.encoding import with_license
from elicense.clock import china_date, china_midnight, to_timestamp
from elicense.errors import IllegalTransition, Malformed, Violation
from elicense.license.cancellation import Cancellation
from elicense.license.change import Change
from elicense.license.codec import license_from_message
from elicense.license.daily import Step
from elicense.license.field_change import FieldCorrection
from elicense.license.identity_change import MAX_EARLIER_DOCUMENTS, IdentityChange
from elicense.license.model import License
from elicense.license.transfer import Offer, doubts
from elicense.license.transitions import require
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey, StoredEntry
from elicense.uuids import uuid_text
from elicense.v1 import license_pb2
from elicense.view.custody import taken_over_us
from elicense.view.fold import read_record
from elicense.view.model import Revision, ViewRow

#: Namespace of the request ids of records that no request causes; random once, fixed for ever.
_RULES: Final = uuid.UUID("5d6f5b1c-6a0e-4d0a-9f43-0f6a3c1c7e52")


@dataclass(frozen=True, slots=True)
class Latest:
    """A licence as it stands, with everything that its next record must cite.

    Attributes:
        row: Its row in the view.
        record: Its latest record.
        license: The same as values.
    """

    row: ViewRow
    record: license_pb2.LicenseRecord
    license: License

    @classmethod
    def read(cls, row: ViewRow, entry: bytes) -> Latest:
        """Read the latest record of a licence."""
        record = read_record(entry)
        return cls(row, record, license_from_message(record.license))


@dataclass(frozen=True, slots=True)
class Wrong:
    """The revision that a correction puts right.

    Attributes:
        revision: Its entry in the revision index.
        entry_hash: Its leaf hash.
    """

    revision: Revision
    entry_hash: bytes


def changed_record(
    latest: Latest, command: ChangeLicense, *, key: LogKey, now_us: int, wrong: Wrong | None
) -> license_pb2.LicenseRecord:
    """Return the record of a change that a clerk asks for.

    Args:
        latest: The licence as it stands.
        command: The change.
        key: The log that gets the record.
        now_us: The time of the record.
        wrong: The revision that a correction puts right; None when it is not there.

    Raises:
        Malformed: The request contradicts itself, or corrects a revision that is not there.
        IllegalTransition: The licence can not change so.
    """
    require_undoubted(command.change, latest.row)
    require_counting(command.change, latest.row)
    changed = of_row(command.change, latest.row).apply(latest.license, china_date(now_us))
    record = _next(latest, changed.license, key=key, now_us=now_us)
    record.event = changed.event  # type: ignore[assignment]  # the same numbers
    record.request_id = uuid_text(command.request_id)
    record.request_digest = command.digest
    record.actor = command.actor
    record.basis = command.change.basis
    if isinstance(command.change, IdentityChange):
        del record.earlier_documents[:]
        record.earlier_documents.extend(earlier_documents(latest))
        if command.grant is not None:
            record.claim.CopyFrom(command.grant)
    if isinstance(command.change, FieldCorrection):
        if wrong is None:
            raise _unknown_revision()
        record.correction.revision = wrong.revision.revision
        record.correction.entry_hash = wrong.entry_hash
        record.correction.reason = command.change.reason
        if wrong.revision.revision == latest.row.revision:
            # Nothing has happened since, so the right values count from when the wrong ones did.
            record.effective_time.CopyFrom(to_timestamp(wrong.revision.effective_us))
    return record


def of_row(change: Change, row: ViewRow) -> Change:
    """Return a change as it is to be judged, given what the registry said of its licence."""
    return replace(change, void=bool(row.flags & ViewFlags.VOID)) if isinstance(change, Cancellation) else change


def earlier_documents(latest: Latest) -> list[license_pb2.IdentityDocument]:
    """Return what a record with yet another document of the holder says of those before: each once, the first in front.

    Raises:
        IllegalTransition: There are too many.
    """
    present = latest.record.license.holder.document
    earlier = list(latest.record.earlier_documents)
    if all((each.type, each.number) != (present.type, present.number) for each in earlier):
        earlier.append(present)
    if len(earlier) > MAX_EARLIER_DOCUMENTS:
        advice = f"A licence names at most {MAX_EARLIER_DOCUMENTS} earlier documents; cancel it and issue another."
        violations = [Violation("document", "TOO_MANY_DOCUMENTS", advice)]
        raise IllegalTransition("the holder has had too many documents", violations=violations)
    return earlier


def require_undoubted(change: Change, row: ViewRow) -> None:
    """Refuse to offer a licence, or to change its holder's document, when it does not count for certain.

    Raises:
        IllegalTransition: It does not.
    """
    if isinstance(change, Offer | IdentityChange):
        require(tuple(doubts(row.flags)))


def taken_over_record(
    latest: Latest, command: TakeOverLicense, *, key: LogKey, now_us: int
) -> license_pb2.LicenseRecord:
    """Return the record of a take-over.

    Args:
        latest: The licence as it stands in the other city.
        command: The take-over.
        key: The log that gets the record.
        now_us: The time of the record.

    Raises:
        IllegalTransition: Something keeps the licence where it is.
    """
    changed = command.change.apply(latest.license, china_date(now_us))
    record = _next(latest, changed.license, key=key, now_us=now_us)
    record.event = changed.event  # type: ignore[assignment]  # the same numbers
    record.request_id = str(uuid.UUID(bytes=command.request_id))
    record.request_digest = command.digest
    record.actor = command.actor
    record.basis = command.change.basis
    record.effective_time.CopyFrom(to_timestamp(taken_over_us(now_us, latest.record)))
    source = latest.row
    record.taken_over_from.city, record.taken_over_from.epoch = source.city, source.epoch
    record.taken_over_from.index = source.idx
    return record


def require_revision(change: Change, row: ViewRow) -> None:
    """Refuse a correction of a revision that the licence does not have.

    Raises:
        Malformed: It does not.
    """
    if isinstance(change, FieldCorrection) and change.revision > row.revision:
        raise _unknown_revision()


def require_counting(change: Change, row: ViewRow) -> None:
    """Refuse any change but its cancellation of a licence that is void nationwide.

    Raises:
        IllegalTransition: The licence is void.
    """
    if row.flags & ViewFlags.VOID and not isinstance(change, Cancellation):
        advice = "Cancel the license: it is void nationwide, whatever is written of it here."
        raise IllegalTransition("the license is void", violations=[Violation("license", "LICENSE_VOID", advice)])


def _unknown_revision() -> Malformed:
    advice = "Give the number of a revision that the licence has."
    violations = [Violation("corrects_revision", "REVISION_UNKNOWN", advice)]
    return Malformed("there is no such revision to correct", violations=violations)


def step_record(latest: Latest, step: Step, *, key: LogKey, now_us: int, actor: str) -> license_pb2.LicenseRecord:
    """Return the record of a step that a day brings; it counts from that day, however late it is written."""
    record = _next(latest, step.license, key=key, now_us=now_us)
    record.event = step.event  # type: ignore[assignment]  # the same numbers
    record.request_id = str(step_request_id(latest.row.license_id, step, record.revision))
    record.actor = actor
    record.basis = step.basis
    record.effective_time.CopyFrom(to_timestamp(china_midnight(step.day)))
    return record


def step_request_id(license_id: bytes, step: Step, revision: int) -> uuid.UUID:
    """Return the request id of a step: the same whoever writes it, and whenever.

    The revision that it makes is part of it, since a day can come twice for one
    licence once a wrong date has been corrected.
    """
    return uuid.uuid5(_RULES, f"{license_id.hex()}/{step.day.isoformat()}/{step.rule}/{revision}")


def erased_record(latest: Latest, command: EraseLicense, *, key: LogKey, now_us: int) -> license_pb2.LicenseRecord:
    """Return the record that erases a licence: which one and why, and nothing of its holder."""
    record = license_pb2.LicenseRecord(
        city=key.log,
        epoch=key.epoch,
        license_id=latest.row.license_id,
        revision=latest.row.revision + 1,
        previous_entry_hash=latest.row.entry_hash,
        event=license_pb2.LICENSE_EVENT_ERASED,
        erases=license_pb2.ErasedSlot(epoch=latest.row.epoch, index=latest.row.idx),
        request_id=str(uuid.UUID(bytes=command.request_id)),
        request_digest=command.digest,
        actor=command.actor,
        basis=command.basis,
    )
    record.record_time.CopyFrom(to_timestamp(now_us))
    record.effective_time.CopyFrom(record.record_time)
    return record


def ordered_record(
    command: EraseOnOrder, slot: StoredEntry, *, key: LogKey, now_us: int, actor: str
) -> license_pb2.LicenseRecord:
    """Return the record that erases a licence on another city's order: which one, and whose order it is."""
    record = license_pb2.LicenseRecord(
        city=key.log,
        epoch=key.epoch,
        license_id=command.license_id,
        previous_entry_hash=slot.leaf_hash,
        event=license_pb2.LICENSE_EVENT_ERASED,
        erases=license_pb2.ErasedSlot(epoch=command.epoch, index=command.idx, ordered_by_city=command.by_city),
        request_id=str(uuid.UUID(bytes=command.request_id)),
        actor=actor,
        basis=f"erased by city {command.by_city}, which had custody",
    )
    record.record_time.CopyFrom(to_timestamp(now_us))
    record.effective_time.CopyFrom(record.record_time)
    return record


def _next(latest: Latest, after: License, *, key: LogKey, now_us: int) -> license_pb2.LicenseRecord:
    # The record before, changed: what a newer node wrote into it stays.
    record = with_license(latest.record, latest.license, after)
    record.city, record.epoch = key.log, key.epoch
    record.revision = latest.row.revision + 1
    record.previous_entry_hash = latest.row.entry_hash
    record.record_time.CopyFrom(to_timestamp(now_us))
    record.effective_time.CopyFrom(record.record_time)
    for name in ("claim", "basis", "correction", "request_digest", "provisional", "imported", "taken_over_from"):
        record.ClearField(name)
    return record
