"""``elicense log``: check signed objects years later, with files and public keys alone."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from elicense.cli.command import Command
from elicense.cli.evidence_files import opening_of, read_bounded, read_opening
from elicense.clock import CHINA, SECOND_US
from elicense.errors import Malformed
from elicense.license.document import normalize_number
from elicense.license.model import DocumentType
from elicense.license.verdict import VerdictReason
from elicense.log.proof_file import MAX_FILE_SIZE, check_proof, parse_proof
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.presentation.cose import MAX_SIZE
from elicense.verification.contradiction import RevealedQuestion, contradicts
from elicense.verification.evidence import Statement, open_evidence, opens

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_CONTRADICTED = 3
_KEYS_SIZE = 1 << 16


@click.group("log", cls=Command)
def log_group() -> None:
    """Check signed answers and entries of logs, offline."""


@log_group.command("verify")
@click.argument("evidence", type=_FILE)
@click.option("--key", "keys", multiple=True, required=True, help="A published key, or a file with one a line.")
@click.option("--against", "proof", type=_FILE, help="Proof of an entry that may contradict the evidence.")
@click.option("--number", help="Document number that was asked about, to show that this is the answer to it.")
@click.option("--name", default="", help="Name that was asked with.")
@click.option("--type", "document_type", type=click.Choice([m.name.lower().replace("_", "-") for m in DocumentType]))
@click.option("--opening", type=_FILE, help="What opens the question; EVIDENCE.opening when left out.")
def verify_command(
    evidence: Path,
    keys: tuple[str, ...],
    proof: Path | None,
    number: str | None,
    name: str,
    document_type: str | None,
    opening: Path | None,
) -> None:
    """Check signed EVIDENCE of a verdict, and whether a PROOF contradicts it.

    Needs no network and no database.  Exit status 0: the evidence is genuine, and
    nothing given here contradicts it.  3: an entry proves it wrong.  1: it is not
    genuine, or can not be read.
    """
    known = [key for text in keys for key in _keys(text)]
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
    entry = check_proof(parse_proof(read_bounded(proof, MAX_FILE_SIZE)), known)
    found = contradicts(statement, entry, question)
    if found is None:
        click.echo("proof: genuine; it does not contradict the evidence")
        return
    click.echo(f"CONTRADICTED: {found}; {statement.issuer} signed what its own record proves wrong")
    sys.exit(_CONTRADICTED)


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


def _keys(text: str) -> list[VerifierKey]:
    path = Path(text)
    if "+" in text and not path.exists():
        return [parse_vkey(text)]
    lines = read_bounded(path, _KEYS_SIZE).decode(errors="replace").splitlines()
    return [parse_vkey(line) for line in lines if line and not line.startswith("#")]
