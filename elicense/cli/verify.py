"""``elicense verify``: ask whether a licence is in force."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date, datetime
from enum import IntEnum
from pathlib import Path

import click

from elicense.cli.options import ADDRESS
from elicense.client import DocumentType, Purpose, Verdict, connect


def _words(kind: type[IntEnum]) -> click.Choice[str]:
    return click.Choice([_word(member) for member in kind])


def _word(member: IntEnum) -> str:
    return member.name.lower().replace("_", "-")


def _member(kind: type[IntEnum], word: str) -> IntEnum:
    return kind[word.upper().replace("-", "_")]


@click.command()
@click.argument("number")
@click.option(
    "--credentials",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder that `elicense join` made.",
)
@click.option("--type", "document_type", type=_words(DocumentType), default="resident-id", show_default=True)
@click.option("--name", default="", help="The holder's name as printed; commercial roles must give it.")
@click.option("--purpose", required=True, type=_words(Purpose), help="Why you ask; your role may state some of these.")
@click.option("--case", "case_number", default="", help="Case number; police must give one.")
@ADDRESS
@click.option("--json", "as_json", is_flag=True, help="Print the whole verdict as JSON.")
def verify(
    number: str,
    credentials: Path,
    document_type: str,
    name: str,
    purpose: str,
    case_number: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Ask whether the licence with that document NUMBER is in force.

    A NUMBER of - is read from standard input, so that it stays out of the list
    of processes and the shell's history.  Every answer is exit status 0, also
    when the licence is not in force; 1 means that there is no answer.
    """
    if number == "-":
        number = sys.stdin.readline().strip()
    with connect(credentials, address=address) as client:
        verdict = client.verify(
            number,
            purpose=Purpose(_member(Purpose, purpose)),
            name=name,
            case_number=case_number,
            document_type=DocumentType(_member(DocumentType, document_type)),
        )
    click.echo(to_json(verdict) if as_json else to_text(verdict))


def to_text(verdict: Verdict) -> str:
    """Return a verdict as lines for a person at a counter."""
    lines = [f"{verdict.outcome.name}: {verdict.summary}"]
    if verdict.reasons:
        lines.append("reasons: " + ", ".join(map(_name, verdict.reasons)))
    if verdict.drivable_classes:
        lines.append("may drive: " + " ".join(verdict.drivable_classes))
    for letter in verdict.letters:
        until = f" (until {letter.until.isoformat()})" if letter.until else ""
        lines.append(f"letter {letter.letter} {letter.name}: {letter.meaning}{until}")
    if verdict.freshness:
        fresh = verdict.freshness
        who = "the registry" if fresh.source.name == "REGISTRY" else f"city {fresh.city}"
        lines.append(f"as of {fresh.as_of.isoformat(timespec='milliseconds')}, by {who}; city {fresh.city}")
    if verdict.last_known:
        known = verdict.last_known
        lines.append(f"last known: {known.outcome.name} as of {known.as_of.isoformat(timespec='milliseconds')}")
    if verdict.license:
        lines.append("shown: " + json.dumps(verdict.license, ensure_ascii=False, sort_keys=True))
    return "\n".join(lines)


def to_json(verdict: Verdict) -> str:
    """Return a verdict as one JSON object; enums by name, instants in ISO 8601."""
    value = asdict(verdict)
    value["outcome"] = verdict.outcome.name
    value["fields"] = [_name(number) for number in verdict.fields]
    value["reasons"] = list(map(_name, verdict.reasons))
    if verdict.freshness:
        value["freshness"]["source"] = verdict.freshness.source.name
    if verdict.last_known:
        value["last_known"]["outcome"] = verdict.last_known.outcome.name
    return json.dumps(value, ensure_ascii=False, indent=2, default=_plain)


def _name(number: int) -> str:
    return number.name if isinstance(number, IntEnum) else str(number)


def _plain(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
