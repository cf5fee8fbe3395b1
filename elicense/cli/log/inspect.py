"""``elicense log inspect``: what a file says, before anybody has checked who signed it."""

from __future__ import annotations

from pathlib import Path

import click

from elicense.cli.evidence_files import read_bounded
from elicense.errors import Malformed
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.note import Note, parse_note
from elicense.log.proof_file import parse_proof
from elicense.log.tile_folder import TileFolder
from elicense.log.tlog_proof import HEADER, parse_tlog_proof
from elicense.verification.custody_evidence import CustodyEvidence
from elicense.verification.evidence_file import MAX_FILE_SIZE, is_evidence, parse_evidence
from elicense.verification.head_evidence import HeadEvidence, HeadStatement, NoteStatement
from elicense.verification.told import is_told, parse_told


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def inspect(path: Path) -> None:
    """Print what PATH says: a head, a proof, an evidence file, a city's word on custody, or the folder of an export.

    Nothing is checked but the form; `elicense log verify` checks the rest.
    """
    click.echo(_describe(path))
    click.echo("not verified: nobody's signature has been checked")


def _describe(path: Path) -> str:
    if path.is_dir():
        return "export of\n" + describe_note(TileFolder(path).note())
    data = read_bounded(path, MAX_FILE_SIZE)
    if is_evidence(data):
        evidence = parse_evidence(data)
        if isinstance(evidence, HeadEvidence):
            return f"evidence of two histories\n{_statement(evidence.first)}\nand\n{_statement(evidence.second)}"
        if isinstance(evidence, CustodyEvidence):
            where = evidence.record
            return (
                f"evidence of a record without custody: entry {where.index} of city {where.city}, epoch {where.epoch}"
            )
        where = evidence.entry
        return f"evidence of a wrong answer, by entry {where.index} of city {where.city}, epoch {where.epoch}"
    if data[:1] == b"{":
        proof = parse_proof(data)
        return f"entry {proof.index} of city {proof.city}, epoch {proof.epoch}, in\n" + describe_note(proof.checkpoint)
    if data.startswith(HEADER.encode()):
        inclusion = parse_tlog_proof(data)
        return f"entry {inclusion.index} in\n" + describe_note(inclusion.checkpoint)
    if is_told(data):
        lines = _signature_lines(parse_note(data))
        return "\n".join([f"word on custody: {parse_told(data).words}", *lines])
    return describe_note(data)


def _statement(statement: HeadStatement) -> str:
    if isinstance(statement, NoteStatement):
        return describe_note(statement.note)
    where = f"entry {statement.entry.index} of the registry's log, epoch {statement.entry.epoch}"
    return f"what {where} says of city {statement.city}, epoch {statement.epoch}"


def describe_note(data: bytes) -> str:
    """Return what a signed head says and whose signatures it claims to bear.

    Raises:
        Malformed: It is not one.
    """
    try:
        note = parse_note(data)
        head = parse_checkpoint(note.text)
    except Malformed as error:
        raise Malformed(f"the file is none of a head, a proof, evidence or an export: {error.message}") from error
    lines = [f"head of {head.origin}: {head.size:,} entries, root {head.root.hex()}"]
    return "\n".join([*lines, *_signature_lines(note)])


def _signature_lines(note: Note) -> list[str]:
    return [f"signature line of {line.name}, key {line.key_id.hex()}" for line in note.signatures]
