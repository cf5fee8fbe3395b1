"""``elicense log verify``: check signed objects years later, with files and public keys alone."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from pathlib import Path

import click

from elicense.cli.evidence_files import opening_of, read_bounded, read_opening
from elicense.cli.log.files import Progress
from elicense.cli.log.keys import KEYS, read_keys
from elicense.clock import CHINA, SECOND_US
from elicense.errors import Malformed
from elicense.license.document import normalize_number
from elicense.license.model import DocumentType
from elicense.license.verdict import VerdictReason
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.note import open_note
from elicense.log.proof_file import MAX_FILE_SIZE as MAX_PROOF_SIZE
from elicense.log.proof_file import check_proof, parse_proof
from elicense.log.tile_folder import TileFolder, check_export
from elicense.log.tlog_proof import HEADER as TLOG_HEADER
from elicense.log.tlog_proof import check_tlog_proof, parse_tlog_proof
from elicense.log.verifier_key import VerifierKey
from elicense.presentation.cose import MAX_SIZE
from elicense.verification.contradiction import RevealedQuestion, contradicts
from elicense.verification.evidence import Statement, open_evidence, opens
from elicense.verification.evidence_file import MAX_FILE_SIZE, confirm, is_evidence, parse_evidence
from elicense.verification.told import is_told, parse_told

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_PATH = click.Path(path_type=Path, exists=True)
_CONTRADICTED = 3
_SIGNATURE_LINE = "\n\N{EM DASH} ".encode()


@click.command("verify")
@click.argument("evidence", type=_PATH)
@KEYS
@click.option("--leaf", help="Leaf hash of the entry in hex, where EVIDENCE is a tlog-proof.")
@click.option("--against", "proof", type=_FILE, help="Proof of an entry that may contradict the evidence.")
@click.option("--number", help="Document number that was asked about, to show that this is the answer to it.")
@click.option("--name", default="", help="Name that was asked with.")
@click.option("--type", "document_type", type=click.Choice([m.name.lower().replace("_", "-") for m in DocumentType]))
@click.option("--opening", type=_FILE, help="What opens the question; EVIDENCE.opening when left out.")
def verify_command(
    evidence: Path,
    keys: tuple[str, ...],
    leaf: str | None,
    proof: Path | None,
    number: str | None,
    name: str,
    document_type: str | None,
    opening: Path | None,
) -> None:
    """Check EVIDENCE: a signed verdict, head or word on custody, a proof, an evidence file, or the folder of an export.

    Needs no network and no database.  Exit status 0: it is genuine, and nothing
    given here contradicts it.  3: it proves somebody wrong, who is named.  1: it is
    not genuine, or can not be read.
    """
    known = read_keys(keys)
    if evidence.is_dir():
        checked = check_export(TileFolder(evidence), Progress())
        click.echo(describe_head(TileFolder(evidence).note(), known))
        click.echo(f"export: complete; {checked.entries:,} entries with their bytes, {checked.erased:,} erased")
        return
    data = read_bounded(evidence, MAX_FILE_SIZE)
    if is_evidence(data):
        confirmed = confirm(parse_evidence(data), known)
        click.echo(f"CONFIRMED: {' and '.join(confirmed.accused)} {confirmed.what}")
        sys.exit(_CONTRADICTED)
    text = _describe_proof(data, known, leaf)
    if text is not None:
        click.echo(text)
        return
    statement = open_evidence(read_bounded(evidence, MAX_SIZE), known)
    question = None
    if number is not None:
        kind = DocumentType[(document_type or "resident-id").upper().replace("-", "_")]
        question = RevealedQuestion(read_opening(opening or opening_of(evidence)), kind, normalize_number(number), name)
        if not opens(statement, question.opening, kind, question.number, name):
            raise Malformed("the evidence is genuine, but not the answer to this question")
    click.echo(describe(statement))
    if question is not None:
        click.echo("question: it answers the number and name given")
    if proof is None:
        return
    entry = check_proof(parse_proof(read_bounded(proof, MAX_PROOF_SIZE)), known)
    found = contradicts(statement, entry, question)
    if found is None:
        click.echo("proof: genuine; it does not contradict the evidence")
        return
    click.echo(f"CONTRADICTED: {found}; {statement.issuer} signed what its own record proves wrong")
    sys.exit(_CONTRADICTED)


def _describe_proof(data: bytes, keys: list[VerifierKey], leaf: str | None) -> str | None:
    """Check what is a proof, a head or a word on custody, and describe it; None for anything else."""
    if data.startswith(TLOG_HEADER.encode()):
        if leaf is None or re.fullmatch("[0-9a-f]{64}", leaf) is None:
            raise Malformed("a tlog-proof is about an entry: give its leaf hash with --leaf, 64 hex digits")
        proof = parse_tlog_proof(data)
        head = check_tlog_proof(proof, bytes.fromhex(leaf), keys)
        return f"genuine: entry {proof.index} of {head.origin}, which had {head.size:,} entries"
    if data[:1] == b"{":
        entry = check_proof(parse_proof(data), keys)
        return (
            f"genuine: entry {entry.proof.index} of city {entry.proof.city}, epoch {entry.proof.epoch}, "
            f"leaf hash {entry.leaf_hash.hex()}"
        )
    if is_told(data):
        told = parse_told(data)
        # The key of the log that it is about alone: nobody else's word on it counts.
        open_note(data, [key for key in keys if key.name == told.origin])
        return f"genuine: {told.words}"
    return describe_head(data, keys) if _SIGNATURE_LINE in data else None


def describe_head(note: bytes, keys: list[VerifierKey]) -> str:
    """Check a signed head and say what it states and who signed it.

    Raises:
        CheckpointInvalid: It is not a head.
        SignatureInvalid: None of the keys signed it, or one of them did not sign this.
    """
    opened = open_note(note, keys)
    head = parse_checkpoint(opened.text)
    lines = [f"genuine: {head.origin} had {head.size:,} entries, root {head.root.hex()}"]
    for signed in opened.signatures:
        when = "" if signed.time_s is None else f" on {_when(signed.time_s * SECOND_US)}"
        lines.append(f"signed by {signed.key.name}{when}")
    return "\n".join(lines)


def describe(statement: Statement) -> str:
    """Return what evidence states, as lines."""
    reasons = ", ".join(_reason(number) for number in statement.reasons)
    lines = [f"genuine: {statement.outcome.name}{f' ({reasons})' if reasons else ''}"]
    lines.append(f"stated by {statement.issuer} on {_when(statement.given_us)}")
    if statement.at_us is not None:
        lines.append(f"about {_when(statement.at_us)}")
    if statement.known_us is not None:
        lines.append(f"as known on {_when(statement.known_us)}")
    if statement.classes:
        lines.append("may drive: " + " ".join(statement.classes))
    if statement.letters:
        lines.append("letters: " + " ".join(statement.letters))
    if (place := statement.place) is not None:
        lines.append(
            f"record: entry {place.index} of city {place.city}, epoch {place.epoch}, hash {place.entry_hash.hex()}"
        )
        lines.append(
            f"known then: {place.known_size} entries of city {place.known_city}, epoch {place.known_epoch}, "
            f"complete to {_when(place.as_of_us)}"
        )
    return "\n".join(lines)


def _reason(number: int) -> str:
    return VerdictReason(number).name if number in set(VerdictReason) else str(number)


def _when(us: int) -> str:
    try:
        return datetime.fromtimestamp(us / SECOND_US, CHINA).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{us} us after 1970"
