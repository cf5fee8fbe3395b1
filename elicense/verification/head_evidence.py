"""Two signed statements about one log that can not both be true. Pure, from files and public keys.

A *statement* says of a log: its first n entries have this root.  A signed note
says so for whoever signed it, and so does a vector of city heads for the
registry in whose log it stands.  Two statements contradict each other

1. when they give two roots for one size, or
2. when the smaller one gives a root that the larger one rules out: a consistency
   proof leads from *another* root of that size to the larger head.  There is only
   one root from which it can lead there, so the smaller statement is no part of
   the same history.

Whoever stands behind both is the one who is accused: a city by its log's key,
the registry by its own log, its cosignatures, or both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from elicense.errors import Malformed
from elicense.log.checkpoint import Checkpoint, parse_checkpoint
from elicense.log.merkle import verify_consistency
from elicense.log.note import open_note
from elicense.log.proof_file import EntryProof, check_proof
from elicense.log.verifier_key import COSIGNATURE
from elicense.trust.enrollment import city_log_origin
from elicense.v1 import log_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elicense.log.verifier_key import VerifierKey

MAX_PROOF: Final = 128


@dataclass(frozen=True, slots=True)
class NoteStatement:
    """A signed head.

    Attributes:
        note: Signed note.
    """

    note: bytes


@dataclass(frozen=True, slots=True)
class VectorStatement:
    """What a vector of city heads, an entry of the registry's log, says of one log.

    Attributes:
        entry: The entry with its proof.
        city: Division code of the city.
        epoch: Epoch of its log.
    """

    entry: EntryProof
    city: int
    epoch: int


HeadStatement = NoteStatement | VectorStatement


@dataclass(frozen=True, slots=True)
class HeadEvidence:
    """Two statements that contradict each other.

    Attributes:
        first: The one about fewer entries, or as many.
        second: The other one.
        root: The root that the second one's first entries have; None when both are of one size.
        proof: Consistency proof from that root to the second one's.
    """

    first: HeadStatement
    second: HeadStatement
    root: bytes | None = None
    proof: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Stated:
    """A statement whose signatures were checked.

    Attributes:
        head: What it says.
        parties: Who stands behind it: ``<trust domain>/registry`` or ``<trust domain>/city/<code>``.
    """

    head: Checkpoint
    parties: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fork:
    """What evidence of two histories proves.

    Attributes:
        accused: Who signed both.
        origin: Log that has two histories.
        sizes: Sizes of the two heads.
    """

    accused: frozenset[str]
    origin: str
    sizes: tuple[int, int]


def check_statement(statement: HeadStatement, keys: Sequence[VerifierKey]) -> Stated:
    """Check who made a statement.

    Args:
        statement: The statement.
        keys: Keys of city logs, of the registry's log and of its cosignatures that are trusted.

    Raises:
        CheckpointInvalid: A head is not one.
        SignatureInvalid: None of the keys signed it, or one of them did not sign this.
        RootMismatch: The vector is not in the log.
        Malformed: There is no key for it, or it is not what it should be.
    """
    if isinstance(statement, VectorStatement):
        return _from_vector(statement, keys)
    opened = open_note(statement.note, keys)
    head = parse_checkpoint(opened.text)
    parties = {
        party_of(signed.key.name)
        for signed in opened.signatures
        # Another log's key has no say; a cosigner has it of every log.
        if signed.key.algorithm == COSIGNATURE or signed.key.name == head.origin
    }
    return Stated(head, frozenset(parties))


def confirm_fork(evidence: HeadEvidence, keys: Sequence[VerifierKey]) -> Fork:
    """Confirm that evidence proves two histories of one log, and say who signed both.

    Args:
        evidence: The evidence.
        keys: As for :func:`check_statement`.

    Raises:
        Malformed: It proves nothing; so for every error of :func:`check_statement`.
    """
    first, second = check_statement(evidence.first, keys), check_statement(evidence.second, keys)
    a, b = first.head, second.head
    if a.origin != b.origin:
        raise Malformed("the two heads are of different logs")
    if a.size > b.size:
        raise Malformed("the first head of the evidence must be the smaller one")
    accused = first.parties & second.parties
    if not accused:
        raise Malformed("nobody stands behind both heads; two parties may each have signed what they were shown")
    # (1) one size, (2) two sizes; with one size there is nothing to lead from.
    root = b.root if a.size == b.size else evidence.root
    if root is None:
        raise Malformed("heads of two sizes need the root that the larger one rests on, and a proof from it")
    if a.size != b.size:
        verify_consistency(first=a.size, first_root=root, second=b.size, second_root=b.root, proof=list(evidence.proof))
    if root == a.root:
        raise Malformed("the two heads are of one history; they do not contradict each other")
    return Fork(accused, a.origin, (a.size, b.size))


def party_of(name: str) -> str:
    """Return who holds a key of that name."""
    parts = name.split("/")
    match parts[1:]:
        case ["registry", *_]:
            return f"{parts[0]}/registry"
        case ["city", code, *_]:
            return f"{parts[0]}/city/{code}"
    return name


def read_vector(record: bytes) -> log_pb2.HeadVector:
    """Return the vector that an entry of the registry's log holds.

    Raises:
        Malformed: It holds none.
    """
    try:
        decision = log_pb2.RegistryRecord.FromString(record)
    except DecodeError:
        raise Malformed("the entry is not a decision of the registry") from None
    if decision.WhichOneof("decision") != "head_vector":
        raise Malformed("the entry is not a vector of city heads")
    return decision.head_vector


def _from_vector(statement: VectorStatement, keys: Sequence[VerifierKey]) -> Stated:
    proof = statement.entry
    if proof.city:
        raise Malformed("a vector of city heads stands in the registry's log")
    check_proof(proof, list(keys))
    vector = read_vector(proof.record)
    origin = parse_checkpoint(open_note(proof.checkpoint, keys).text).origin
    if not origin.startswith(f"{vector.trust_domain}/registry/"):
        raise Malformed("the vector is of another trust domain than the log it stands in")
    for line in vector.heads:
        if (line.city, line.epoch) == (statement.city, statement.epoch):
            head = Checkpoint(city_log_origin(vector.trust_domain, line.city, line.epoch), line.size, line.root)
            return Stated(head, frozenset({party_of(origin)}))
    raise Malformed("the vector does not name this log")
