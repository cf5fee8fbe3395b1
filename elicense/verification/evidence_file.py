"""Evidence of a wrong as one file that anybody can confirm with public keys alone.

A JSON document with the field ``evidence`` = ``elicense/1`` and one of these kinds:

``heads``
    Two signed statements about one log that contradict each other
    (:mod:`elicense.verification.head_evidence`).
``verdict``
    A signed answer and an entry of a log that proves it wrong
    (:mod:`elicense.verification.contradiction`).
``custody``
    A record that a city wrote without custody, the entry that proves it, and where
    that needs it the city's signed word that it knew
    (:mod:`elicense.verification.custody_evidence`).

Binary values are in canonical base64, notes are text.  A ``heads`` file holds no
personal data; the others hold records and are for
a court.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from elicense.errors import Malformed
from elicense.log.proof_file import EntryProof, check_proof, proof_values, read_binary, read_proof
from elicense.log.tree import HASH_SIZE
from elicense.log.verifier_key import encode_base64
from elicense.verification.contradiction import RevealedQuestion, contradicts
from elicense.verification.custody_evidence import CustodyEvidence, confirm_breach
from elicense.verification.evidence import OPENING_SIZE, open_evidence
from elicense.verification.head_evidence import (
    MAX_PROOF,
    HeadEvidence,
    HeadStatement,
    NoteStatement,
    VectorStatement,
    confirm_fork,
    party_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elicense.log.verifier_key import VerifierKey

FORMAT: Final = "elicense/1"
MAX_FILE_SIZE: Final = 1 << 20
_MAX_NUMBER: Final = 2**63
_MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class VerdictEvidence:
    """A signed answer, and the entry that proves it wrong.

    Attributes:
        verdict: The answer, COSE_Sign1.
        entry: The entry with its proof.
        question: What was asked, where the proof needs it.
    """

    verdict: bytes
    entry: EntryProof
    question: RevealedQuestion | None = None


Evidence = HeadEvidence | VerdictEvidence | CustodyEvidence


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What evidence proves.

    Attributes:
        accused: Who did it.
        what: What they did, in one sentence without personal data.
    """

    accused: tuple[str, ...]
    what: str


def format_evidence(evidence: Evidence) -> bytes:
    """Return evidence as a file."""
    values: dict[str, Any] = {"evidence": FORMAT}
    if isinstance(evidence, HeadEvidence):
        values |= {"kind": "heads", "first": _statement(evidence.first), "second": _statement(evidence.second)}
        if evidence.root is not None:
            values["root"] = encode_base64(evidence.root)
            values["proof"] = [encode_base64(value) for value in evidence.proof]
    elif isinstance(evidence, CustodyEvidence):
        values |= {"kind": "custody", "record": proof_values(evidence.record)}
        values["follows"] = proof_values(evidence.follows)
        if evidence.told is not None:
            values["told"] = evidence.told.decode()
    else:
        values |= {"kind": "verdict", "verdict": encode_base64(evidence.verdict), "entry": proof_values(evidence.entry)}
        if (asked := evidence.question) is not None:
            values["question"] = {
                "opening": encode_base64(asked.opening),
                "document_type": asked.document_type,
                "number": asked.number,
                "name": asked.name,
            }
    return json.dumps(values, ensure_ascii=False, indent=2).encode() + b"\n"


def is_evidence(data: bytes) -> bool:
    """Whether bytes look like an evidence file, well formed or not."""
    return data[:1] == b"{" and b'"evidence"' in data[:4_096]


def parse_evidence(data: bytes) -> Evidence:
    """Read evidence; nothing of it is checked yet but its form.

    Raises:
        Malformed: It is not such a file.
    """
    if len(data) > MAX_FILE_SIZE:
        raise Malformed("the evidence file is too large")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("the evidence file is not JSON") from None
    if not isinstance(values, dict) or values.get("evidence") != FORMAT:
        raise Malformed("the file is not evidence of a version known here")
    return _parse_kind(values)


def confirm(evidence: Evidence, keys: Sequence[VerifierKey]) -> Confirmed:
    """Confirm what evidence proves, and against whom.

    Args:
        evidence: The evidence.
        keys: Public keys that are trusted.

    Raises:
        Malformed: It proves nothing: a part is not genuine, or the parts do not contradict each other.
    """
    if isinstance(evidence, HeadEvidence):
        fork = confirm_fork(evidence, keys)
        sizes = " and ".join(map(str, fork.sizes))
        return Confirmed(
            tuple(sorted(fork.accused)), f"signed two histories of the log {fork.origin}, in heads of {sizes} entries"
        )
    if isinstance(evidence, CustodyEvidence):
        breach = confirm_breach(evidence, keys)
        return Confirmed((party_of(breach.origin),), breach.what)
    statement = open_evidence(evidence.verdict, keys)
    entry = check_proof(evidence.entry, list(keys))
    found = contradicts(statement, entry, evidence.question)
    if found is None:
        raise Malformed("the entry does not contradict the answer")
    return Confirmed((statement.issuer,), f"signed an answer that its own record proves wrong: {found}")


def _parse_kind(values: dict[str, Any]) -> Evidence:
    fields = values.keys() - {"evidence", "kind"}
    kind = values.get("kind")
    if kind == "heads" and fields == {"first", "second"}:
        return HeadEvidence(_read_statement(values["first"]), _read_statement(values["second"]))
    if kind == "heads" and fields == {"first", "second", "root", "proof"}:
        proof = values["proof"]
        if not isinstance(proof, list) or len(proof) > MAX_PROOF:
            raise Malformed("the proof of the evidence is not a list of hashes")
        hashes = tuple(map(read_binary, proof))
        root = read_binary(values["root"])
        if any(len(value) != HASH_SIZE for value in (root, *hashes)):
            raise Malformed("a hash of the evidence has another length")
        return HeadEvidence(_read_statement(values["first"]), _read_statement(values["second"]), root, hashes)
    if kind == "verdict" and {"verdict", "entry"} <= fields <= {"verdict", "entry", "question"}:
        question = _read_question(values["question"]) if "question" in fields else None
        return VerdictEvidence(read_binary(values["verdict"]), read_proof(values["entry"]), question)
    if kind == "custody" and {"record", "follows"} <= fields <= {"record", "follows", "told"}:
        told = _read_note(values["told"]) if "told" in fields else None
        return CustodyEvidence(read_proof(values["record"]), read_proof(values["follows"]), told)
    raise Malformed("the evidence is of a kind not known here, or lacks a part")


def _statement(statement: HeadStatement) -> dict[str, Any]:
    if isinstance(statement, NoteStatement):
        return {"note": statement.note.decode()}
    return {"vector": proof_values(statement.entry), "city": statement.city, "epoch": statement.epoch}


def _read_statement(values: Any) -> HeadStatement:
    match values:
        case {"note": str(note)} if len(values) == 1:
            return NoteStatement(_read_note(note))
        case {"vector": entry, "city": int(city), "epoch": int(epoch)} if len(values) == 3:
            if 0 <= city < _MAX_NUMBER and 0 <= epoch < _MAX_NUMBER:
                return VectorStatement(read_proof(entry), city, epoch)
    raise Malformed("a statement of the evidence is neither a note nor a vector")


def _read_note(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Malformed("a note of the evidence is not text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Malformed("a note of the evidence is not text") from None


def _read_question(values: Any) -> RevealedQuestion:
    match values:
        case {"opening": opening, "document_type": int(kind), "number": str(number), "name": str(name)} if (
            len(values) == 4 and len(number) <= _MAX_TEXT and len(name) <= _MAX_TEXT and 0 <= kind < _MAX_NUMBER
        ):
            salt = read_binary(opening)
            if len(salt) == OPENING_SIZE:
                return RevealedQuestion(salt, kind, number, name)
    raise Malformed("the question of the evidence is not one")
