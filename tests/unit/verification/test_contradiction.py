"""When an entry proves that signed evidence was wrong, and when it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.type.date_pb2 import Date
from hypothesis import given
from hypothesis import strategies as st

from elicense.clock import SECOND_US, to_timestamp
from elicense.errors import Malformed, RootMismatch, SignatureInvalid
from elicense.license.verdict import Outcome, VerdictReason
from elicense.log.checkpoint import Checkpoint, cosign, cosigner_verifier_key, log_verifier_key, sign_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.merkle import batch_inclusion_proofs
from elicense.log.proof_file import EntryProof, ProvenEntry, check_proof, format_proof, parse_proof
from elicense.log.tree import EMPTY_RANGE
from elicense.v1 import license_pb2
from elicense.verification.contradiction import MARGIN_US, Contradiction, RevealedQuestion, contradicts
from elicense.verification.evidence import Place, Statement, commit
from tests.unit.log.keys import signer

SUZHOU, NUMBER, LICENSE = 320500, "11010519491231002X", b"l" * 16
ORIGIN, COSIGNER = f"elicense.test/city/{SUZHOU}/1", "elicense.test/registry/cosigner"
LOG_KEY = log_verifier_key(ORIGIN, signer("log").public_key())
COSIGNER_KEY = cosigner_verifier_key(COSIGNER, signer("cosigner").public_key())
KEYS = [LOG_KEY, COSIGNER_KEY]
NOW = 1_800_000_000 * SECOND_US
HELD_S = NOW // SECOND_US - 3_600
OPENING = bytes(32)
QUESTION = RevealedQuestion(OPENING, 1, NUMBER)


@dataclass
class Log:
    """A city's log with one licence: issued, then suspended."""

    records: list[bytes]
    salts: list[bytes]

    def leaves(self) -> list[bytes]:
        return [leaf_hash(salt, record) for salt, record in zip(self.salts, self.records, strict=True)]

    def proof(self, index: int, *, held_s: int | None = None) -> EntryProof:
        leaves = self.leaves()
        root = EMPTY_RANGE.append_leaves(leaves).root()
        note = sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root), signer("log"))
        if held_s is not None:
            note = cosign(note, name=COSIGNER, signer=signer("cosigner"), time_s=held_s)
        path = batch_inclusion_proofs(EMPTY_RANGE, leaves, [index])[0]
        return EntryProof(SUZHOU, 1, index, self.records[index], self.salts[index], tuple(path), note)

    def proven(self, index: int, *, held_s: int | None = None) -> ProvenEntry:
        return check_proof(self.proof(index, held_s=held_s), KEYS)


def record(revision: int, *letters: str, previous: bytes = b"", **changes: Any) -> bytes:
    day = Date(year=2020, month=1, day=1)
    message = license_pb2.LicenseRecord(
        city=SUZHOU,
        epoch=1,
        license_id=LICENSE,
        revision=revision,
        previous_entry_hash=previous,
        effective_time=to_timestamp(NOW - 10_000 * SECOND_US),
    )
    message.license.holder.full_name = "张伟"
    message.license.holder.document.type = license_pb2.DOCUMENT_TYPE_RESIDENT_ID
    message.license.holder.document.number = NUMBER
    message.license.vehicle_classes.add(code="C1", from_date=day)
    message.license.validity.kind = license_pb2.VALIDITY_KIND_LONG_TERM
    message.license.validity.from_date.CopyFrom(day)
    for letter in letters:
        message.license.status_letters.add(letter=letter, start_date=day)
    for name, value in changes.items():
        setattr(message, name, value)
    return message.SerializeToString()


def log(*second_letters: str, **changes: Any) -> Log:
    first, salt = record(1), b"s" * 32
    second = record(2, *(second_letters or ("D",)), **{"previous": leaf_hash(salt, first), **changes})
    return Log([first, second], [salt, b"t" * 32])


def stated(held: Log, **changes: Any) -> Statement:
    """The registry says VALID by the first revision, and that it knows two entries."""
    place = Place(SUZHOU, 1, 0, 1, held.leaves()[0], LICENSE, SUZHOU, 1, 2, NOW)
    statement = Statement(
        issuer="elicense.test/registry/answers",
        question=commit(OPENING, 1, NUMBER, ""),
        outcome=Outcome.VALID,
        reasons=(),
        classes=("C1", "C2"),
        letters=(),
        given_us=NOW,
        place=place,
    )
    return replace(statement, **changes)


def known(held: Log, size: int) -> Place:
    place = stated(held).place
    assert place is not None
    return replace(place, known_size=size)


def test_a_later_revision_that_the_signer_knew_and_left_out_proves_it_wrong() -> None:
    held = log()
    assert contradicts(stated(held), held.proven(1)) is Contradiction.REVISION_HIDDEN


def test_a_later_revision_that_came_after_the_answer_proves_nothing() -> None:
    held = log()
    assert contradicts(stated(held, place=known(held, 1)), held.proven(1)) is None


def test_what_the_registry_cosigned_long_before_its_answer_it_knew() -> None:
    held = log()
    statement = stated(held, place=known(held, 1))
    assert contradicts(statement, held.proven(1, held_s=HELD_S)) is Contradiction.REVISION_HIDDEN
    just_then = (NOW - MARGIN_US) // SECOND_US + 1
    assert contradicts(statement, held.proven(1, held_s=just_then)) is None
    # A city does not know what the registry held.
    by_city = replace(statement, issuer=f"elicense.test/city/{SUZHOU}/answers")
    assert contradicts(by_city, held.proven(1, held_s=HELD_S)) is None


@pytest.mark.parametrize(
    "changes",
    [{"revision": 3}, {"previous": b"x" * 32}, {"license_id": b"o" * 16}],
)
def test_a_record_that_is_not_the_next_revision_proves_nothing(changes: dict[str, Any]) -> None:
    revision = changes.pop("revision", 2)
    held = log()
    other = record(revision, "D", **{"previous": held.leaves()[0], **changes})
    held.records[1] = other
    assert contradicts(stated(held), held.proven(1)) is None


def test_an_answer_about_the_past_is_only_contradicted_by_what_counted_then() -> None:
    held = log()
    effective = NOW - 10_000 * SECOND_US
    assert contradicts(stated(held, at_us=effective), held.proven(1)) is Contradiction.REVISION_HIDDEN
    assert contradicts(stated(held, at_us=effective - 1), held.proven(1)) is None


def test_an_answer_as_known_is_only_contradicted_by_what_was_held_then() -> None:
    held = log()
    asked = {"at_us": NOW - 100 * SECOND_US, "known_us": HELD_S * SECOND_US + MARGIN_US}
    assert contradicts(stated(held, **asked), held.proven(1)) is None
    assert contradicts(stated(held, **asked), held.proven(1, held_s=HELD_S)) is Contradiction.REVISION_HIDDEN
    asked["known_us"] -= 1
    assert contradicts(stated(held, **asked), held.proven(1, held_s=HELD_S)) is None


def test_another_entry_at_the_stated_place_proves_it_wrong() -> None:
    held = log()
    place = replace(known(held, 2), entry_hash=b"x" * 32)
    assert contradicts(stated(held, place=place), held.proven(0)) is Contradiction.OTHER_ENTRY


def test_a_record_that_does_not_bear_the_verdict_out_proves_it_wrong() -> None:
    held = log()
    assert contradicts(stated(held), held.proven(0)) is None
    invalid = stated(held, outcome=Outcome.INVALID, reasons=(VerdictReason.STATUS_LETTER,), classes=())
    assert contradicts(invalid, held.proven(0)) is Contradiction.OTHER_VERDICT
    assert contradicts(stated(held, classes=("A1",)), held.proven(0)) is Contradiction.OTHER_VERDICT
    suspended = replace(known(held, 2), index=1, revision=2, entry_hash=held.leaves()[1])
    assert contradicts(stated(held, place=suspended), held.proven(1)) is Contradiction.OTHER_VERDICT
    doubted = stated(held, outcome=Outcome.INDETERMINATE, reasons=(VerdictReason.CONFLICT,), classes=())
    assert contradicts(doubted, held.proven(0)) is None
    cancelled = stated(held, outcome=Outcome.INVALID, reasons=(VerdictReason.CANCELLED,), classes=())
    assert contradicts(cancelled, held.proven(0)) is None


def test_no_match_is_disproved_by_a_record_that_the_registry_had_signed_for() -> None:
    held = log()
    nobody = stated(held, outcome=Outcome.NO_MATCH, classes=(), place=None)
    proven = held.proven(0, held_s=HELD_S)
    assert contradicts(nobody, proven, QUESTION) is Contradiction.LICENSE_HIDDEN
    assert contradicts(nobody, proven) is None
    assert contradicts(nobody, held.proven(0), QUESTION) is None
    named = replace(nobody, question=commit(OPENING, 1, NUMBER, "张伟"))
    # The name may have been another one by then.
    assert contradicts(named, proven, replace(QUESTION, name="张伟")) is None
    with pytest.raises(Malformed):
        contradicts(nobody, proven, replace(QUESTION, number="44052418800101001X"))


def test_a_proof_file_is_read_back_and_checked() -> None:
    proof = log().proof(1, held_s=HELD_S)
    assert parse_proof(format_proof(proof)) == proof
    assert check_proof(proof, KEYS).held_s == HELD_S
    assert check_proof(proof, [LOG_KEY]).held_s is None


def test_a_proof_that_does_not_hold_is_refused() -> None:
    proof = log().proof(1)
    with pytest.raises(RootMismatch):
        check_proof(replace(proof, record=record(2)), KEYS)
    with pytest.raises(RootMismatch):
        check_proof(replace(proof, index=0), KEYS)
    with pytest.raises(Malformed):
        check_proof(replace(proof, epoch=2), KEYS)
    stranger = log_verifier_key(ORIGIN, signer("stranger").public_key())
    with pytest.raises(SignatureInvalid):
        check_proof(proof, [stranger])


def test_a_record_of_another_log_than_its_own_is_no_proof() -> None:
    held = log()
    held.records[1] = record(2, "D", previous=held.leaves()[0], city=120000)
    with pytest.raises(Malformed):
        contradicts(stated(held), held.proven(1))


_JSON = st.dictionaries(st.text(max_size=3), st.integers()).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=200) | _JSON)
def test_only_typed_errors_escape_from_a_proof_file(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_proof(data)


@pytest.mark.parametrize("field", ["city", "epoch", "index", "record", "salt", "hashes", "checkpoint"])
@pytest.mark.parametrize("value", [None, True, -1, 2**70, "é", "YQ", ["YQ=="], {}, 1.5, "\ud800"])
def test_a_wrong_field_of_a_proof_file_is_refused(field: str, value: object) -> None:
    values = json.loads(format_proof(log().proof(1)))
    values[field] = value
    try:
        check_proof(parse_proof(json.dumps(values).encode()), KEYS)
    except Malformed:
        return
    pytest.fail("it was accepted")
