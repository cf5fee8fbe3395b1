"""A verdict as evidence: what it states, how it is signed, and how it is read years later. Pure.

The statement carries no document number and no name.  The question stands in it
as SHA-256 over a salt and the question; the salt goes to the asker beside the
statement, so that its holder alone can show what was asked.

What it binds the signer to: *at this time, knowing all of this log up to this
size, the latest revision that counted was this entry*.  So a later entry below
that size which the signer left out, or a record that does not bear the verdict
out, proves the signer wrong; see :mod:`elicense.verification.contradiction`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed, SignatureInvalid
from elicense.license.verdict import Outcome
from elicense.log.verifier_key import ED25519, VerifierKey
from elicense.presentation import cbor, cose

if TYPE_CHECKING:
    from elicense.trust.signer import Signer

CONTENT_TYPE: Final = "application/elicense-verdict+cbor"
VERSION: Final = 1
HASH_SIZE: Final = 32
OPENING_SIZE: Final = 32
LICENSE_ID_SIZE: Final = 16

_MAX_PAYLOAD: Final = 4_096
_MAX_ITEMS: Final = 64
_MAX_TEXT: Final = 16
_MAX_INT: Final = 2**63
#: A time that has a date: before the year 9999.
_MAX_TIME_US: Final = 253_370_764_800 * 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the revision that a verdict rests on stands, and how much of the log the signer knew.

    Attributes:
        city: City whose log holds the revision.
        epoch: Epoch of that log.
        index: Its index.
        revision: Its revision number.
        entry_hash: Its leaf hash.
        license_id: The licence, UUID bytes: random, not personal.
        known_city: City in custody, whose log is known up to the following.
        known_epoch: Epoch of that city's log.
        known_size: Entries of it that the signer knew, all of them.
        as_of_us: Up to when that city's records were complete.
    """

    city: int
    epoch: int
    index: int
    revision: int
    entry_hash: bytes
    license_id: bytes
    known_city: int
    known_epoch: int
    known_size: int
    as_of_us: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What a node states.

    Attributes:
        issuer: Name of the key: who states it.
        question: Commitment to the question, see :func:`commit`.
        outcome: Outcome.
        reasons: Numbers of the reasons.
        classes: Classes that may be driven.
        letters: Status letters in effect.
        given_us: When it was stated, UTC microseconds.
        at_us: The past moment that it is about; None for ``given_us``.
        known_us: Whose knowledge it rests on; None for all that was known.
        place: Where it comes from; None when no licence matched or nothing can be said.
    """

    issuer: str
    question: bytes
    outcome: Outcome
    reasons: tuple[int, ...]
    classes: tuple[str, ...]
    letters: tuple[str, ...]
    given_us: int
    at_us: int | None = None
    known_us: int | None = None
    place: Place | None = None

    @property
    def moment_us(self) -> int:
        """The moment that the statement is about."""
        return self.given_us if self.at_us is None else self.at_us


def answers_key_name(node: str) -> str:
    """Return the name of a node's answer key: ``<trust domain>/registry/answers``, or that of a city.

    Args:
        node: SPIFFE ID of the node.
    """
    return node.removeprefix("spiffe://") + "/answers"


def answers_verifier_key(node: str, public_key: bytes) -> VerifierKey:
    """Return the key with which a node's answers are checked, in the form that all keys are published in.

    Args:
        node: SPIFFE ID of the node.
        public_key: Ed25519 public key, 32 bytes.
    """
    return VerifierKey(answers_key_name(node), ED25519, public_key)


def commit(opening: bytes, document_type: int, number: str, name: str) -> bytes:
    """Return the commitment to a question.

    Args:
        opening: 32 random bytes; without them the question can not be guessed.
        document_type: Kind of document.
        number: Its number, normalized.
        name: Name that was asked with; empty when none was given.

    Raises:
        Malformed: The opening is not 32 bytes.
    """
    if len(opening) != OPENING_SIZE:
        raise Malformed(f"the opening of a question must be {OPENING_SIZE} bytes")
    return sha256(opening + cbor.encode([document_type, number, name])).digest()


def opens(statement: Statement, opening: bytes, document_type: int, number: str, name: str) -> bool:
    """Whether this question is the one that a statement answers."""
    return hmac.compare_digest(commit(opening, document_type, number, name), statement.question)


def sign(statement: Statement, signer: Signer) -> bytes:
    """Return a statement as COSE_Sign1.

    Raises:
        Malformed: The statement's issuer can not name a key.
    """
    key = VerifierKey(statement.issuer, ED25519, signer.public_key())
    return cose.sign(_encode(statement), content_type=CONTENT_TYPE, key_id=key.key_id, signer=signer)


def open_evidence(data: bytes, keys: Sequence[VerifierKey]) -> Statement:
    """Read evidence and check that the node which it names signed it.

    Args:
        data: The COSE_Sign1 as it was received.
        keys: Keys that are trusted to answer.

    Raises:
        Malformed: It is not evidence in its one canonical form.
        SignatureInvalid: None of these keys signed it, or one that is not its issuer's did.
    """
    signed = cose.parse(data)
    if signed.content_type != CONTENT_TYPE:
        raise Malformed("the signed object is not a verdict")
    statement = _decode(signed.payload)
    for key in keys:
        # The name is part of the key: a city's answer must not pass as the registry's.
        if key.algorithm == ED25519 and key.key_id == signed.key_id and key.name == statement.issuer:
            signed.verify(key.public_key)
            return statement
    raise SignatureInvalid("no key of this issuer is among those given")


def _encode(statement: Statement) -> bytes:
    values: dict[int, cbor.Plain] = {
        0: VERSION,
        1: statement.issuer,
        2: statement.question,
        3: int(statement.outcome),
        4: list(statement.reasons),
        5: list(statement.classes),
        6: list(statement.letters),
        7: statement.given_us,
    }
    if statement.at_us is not None:
        values[8] = statement.at_us
    if statement.known_us is not None:
        values[9] = statement.known_us
    if (place := statement.place) is not None:
        values[10] = [getattr(place, name) for name in Place.__dataclass_fields__]
    return cbor.encode(values)


def _decode(payload: bytes) -> Statement:
    match cbor.decode(payload, max_size=_MAX_PAYLOAD):
        case {
            0: 1,
            1: str(issuer),
            2: bytes(question),
            3: int(outcome),
            4: [*reasons],
            5: [*classes],
            6: [*letters],
            7: int(given_us),
            **rest,
        } if (
            rest.keys() <= {8, 9, 10}
            and len(question) == HASH_SIZE
            and outcome in set(Outcome)
            and _numbers(reasons)
            and _texts(classes)
            and _texts(letters)
            and _times([given_us, *(rest[key] for key in (8, 9) if key in rest)])
        ):
            return Statement(
                issuer,
                question,
                Outcome(outcome),
                tuple(reasons),
                tuple(classes),
                tuple(letters),
                given_us,
                _moment(rest, 8),
                _moment(rest, 9),
                _place(rest[10]) if 10 in rest else None,
            )
    raise Malformed("the signed object is not a verdict of a version known here")


def _moment(values: Mapping[object, object], key: int) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) else None


def _place(value: object) -> Place:
    match value:
        case [
            int(city),
            int(epoch),
            int(index),
            int(revision),
            bytes(entry_hash),
            bytes(license_id),
            int(known_city),
            int(known_epoch),
            int(known_size),
            int(as_of_us),
        ] if (
            len(entry_hash) == HASH_SIZE
            and len(license_id) == LICENSE_ID_SIZE
            and _numbers([city, epoch, index, revision, known_city, known_epoch, known_size])
            and _times([as_of_us])
        ):
            return Place(
                city, epoch, index, revision, entry_hash, license_id, known_city, known_epoch, known_size, as_of_us
            )
    raise Malformed("the place in the verdict is not one in a log")


def _numbers(values: Sequence[object]) -> bool:
    return len(values) <= _MAX_ITEMS and all(isinstance(value, int) and 0 <= value < _MAX_INT for value in values)


def _times(values: Sequence[object]) -> bool:
    return all(isinstance(value, int) and 0 <= value < _MAX_TIME_US for value in values)


def _texts(values: Sequence[object]) -> bool:
    return len(values) <= _MAX_ITEMS and all(isinstance(value, str) and 0 < len(value) <= _MAX_TEXT for value in values)
