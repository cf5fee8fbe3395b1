"""When an entry of a city's log proves that signed evidence was wrong: pure, from files and public keys.

Four ways, each certain.  Whatever could have an innocent reason is not counted.

1. At the place that the evidence names, the log holds another entry.
2. The record at that place does not bear the verdict out.
3. The next revision of the licence stands in the part of the log that the signer
   said it knew, or the registry had cosigned it more than a minute before.
4. No licence matched, says the registry, of a number whose record it had
   cosigned more than a minute before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from elicense.clock import SECOND_US, china_date, from_timestamp
from elicense.errors import Malformed
from elicense.license.document import normalize_number
from elicense.license.standing import decode_standing, standing_of
from elicense.license.verdict import Outcome, VerdictReason, assess
from elicense.log.proof_file import ProvenEntry
from elicense.v1 import license_pb2
from elicense.verification.evidence import Place, Statement, opens
from elicense.view.fold import read_record

MARGIN_US: Final = 60 * SECOND_US
"""By how much the registry must have had an entry before its answer: answers that were under way are no lie."""


class Contradiction(StrEnum):
    """How an entry proves evidence wrong; the value says it to a court."""

    OTHER_ENTRY = "another entry stands in the log where the evidence says that the licence's record is"
    OTHER_VERDICT = "the record that the evidence names does not bear out its verdict"
    REVISION_HIDDEN = "a later revision of the licence was in the log that the signer said it knew, and was left out"
    LICENSE_HIDDEN = "the registry had signed for a licence of this number before it said that none matched"


@dataclass(frozen=True, slots=True)
class RevealedQuestion:
    """What was asked, as the holder of the evidence shows it.

    Attributes:
        opening: Salt of the commitment.
        document_type: Kind of document.
        number: Its number.
        name: Name asked with; empty when none.
    """

    opening: bytes
    document_type: int
    number: str
    name: str = ""


def contradicts(
    statement: Statement, entry: ProvenEntry, question: RevealedQuestion | None = None
) -> Contradiction | None:
    """Return how an entry proves a statement wrong; None when it does not.

    Args:
        statement: Evidence whose signature was checked.
        entry: An entry whose proof was checked.
        question: The question, shown; only needed against "no match".

    Raises:
        Malformed: The entry's record can not be read, or the question is not that of the evidence.
    """
    record = read_record(entry.proof.record)
    if (record.city, record.epoch) != (entry.proof.city, entry.proof.epoch):
        raise Malformed("the record says that it is of another log than the one it stands in")
    if statement.place is None:
        return _against_no_match(statement, entry, record, question)
    place = statement.place
    if (entry.proof.city, entry.proof.epoch, entry.proof.index) == (place.city, place.epoch, place.index):
        if entry.leaf_hash != place.entry_hash:
            return Contradiction.OTHER_ENTRY
        return Contradiction.OTHER_VERDICT if _belies(statement, record) else None
    return Contradiction.REVISION_HIDDEN if _hidden(statement, place, entry, record) else None


def _belies(statement: Statement, record: license_pb2.LicenseRecord) -> bool:
    """Whether the record alone says the opposite of the verdict, on that day."""
    finding = assess(decode_standing(standing_of(record.license)), 0, china_date(statement.moment_us))
    if statement.outcome is Outcome.VALID:
        return finding.outcome is Outcome.INVALID or not set(statement.classes) <= set(finding.drivable)
    # A licence may be cancelled or void without its standing showing it.
    ended = not {VerdictReason.CANCELLED, VerdictReason.VOID}.isdisjoint(statement.reasons)
    return statement.outcome is Outcome.INVALID and not ended and finding.outcome is Outcome.VALID


def _hidden(statement: Statement, place: Place, entry: ProvenEntry, record: license_pb2.LicenseRecord) -> bool:
    follows = (
        record.license_id == place.license_id
        and record.revision == place.revision + 1
        and record.previous_entry_hash == place.entry_hash
    )
    # Another city's record counts only after a hand-over, which the registry decides.
    if entry.proof.city != place.known_city or not follows:
        return False
    if statement.at_us is not None and from_timestamp(record.effective_time) > statement.at_us:
        return False
    if statement.known_us is not None:
        return _held_by(entry, statement.known_us)
    proof = entry.proof
    known = proof.epoch < place.known_epoch or (proof.epoch == place.known_epoch and proof.index < place.known_size)
    return known or (_is_registry(statement) and _held_by(entry, statement.given_us))


def _against_no_match(
    statement: Statement,
    entry: ProvenEntry,
    record: license_pb2.LicenseRecord,
    question: RevealedQuestion | None,
) -> Contradiction | None:
    if statement.outcome is not Outcome.NO_MATCH or question is None:
        return None
    number = normalize_number(question.number)
    if not opens(statement, question.opening, question.document_type, number, question.name):
        raise Malformed("this is not the question that the evidence answers")
    document = record.license.holder.document
    asked = (document.type, document.number) == (question.document_type, number)
    # A name may have changed since; only a question by number alone is beyond doubt.
    certain = asked and not question.name and _is_registry(statement)
    known_us = statement.given_us if statement.known_us is None else statement.known_us
    return Contradiction.LICENSE_HIDDEN if certain and _held_by(entry, known_us) else None


def _held_by(entry: ProvenEntry, us: int) -> bool:
    return entry.held_s is not None and entry.held_s * SECOND_US + MARGIN_US <= us


def _is_registry(statement: Statement) -> bool:
    return statement.issuer.endswith("/registry/answers")
