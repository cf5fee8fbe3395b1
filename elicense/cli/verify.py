"""``elicense verify``: ask whether a licence is in force."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import date, datetime
from enum import IntEnum
from pathlib import Path

import click

from elicense.cli.evidence_files import keep
from elicense.cli.options import ADDRESS, CREDENTIALS, DOCUMENT_TYPE, member, words
from elicense.client import Client, DocumentType, Purpose, Question, Verdict, connect
from elicense.clock import CHINA


@click.command()
@click.argument("number")
@CREDENTIALS
@DOCUMENT_TYPE
@click.option("--name", default="", help="The holder's name as printed; commercial roles must give it.")
@click.option("--purpose", required=True, type=words(Purpose), help="Why you ask; your role may state some of these.")
@click.option("--case", "case_number", default="", help="Case number; police must give one.")
@ADDRESS
@click.option("--json", "as_json", is_flag=True, help="Print the whole verdict as JSON.")
@click.option("--at", metavar="TIME", help="Ask about a past moment: ISO 8601; China time unless it says otherwise.")
@click.option("--known-at", metavar="TIME", help="Answer from what was known at that moment; needs --at.")
@click.option("--watch", is_flag=True, help="Stay, and print each verdict that differs from the one before.")
@click.option(
    "--sign",
    "evidence",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Have the answer signed, and keep the evidence in this new file; what opens it goes beside it.",
)
def verify(
    number: str,
    credentials: Path,
    document_type: str,
    name: str,
    purpose: str,
    case_number: str,
    address: str | None,
    as_json: bool,
    at: str | None,
    known_at: str | None,
    watch: bool,
    evidence: Path | None,
) -> None:
    """Ask whether the licence with that document NUMBER is in force.

    A NUMBER of - is read from standard input, so that it stays out of the list
    of processes and the shell's history.  Every answer is exit status 0, also
    when the licence is not in force; 1 means that there is no answer.
    """
    if number == "-":
        number = sys.stdin.readline().strip()
    if watch and (at or known_at or evidence):
        raise click.UsageError("--watch follows the licence from now on; leave --at, --known-at and --sign out")
    show = to_json if as_json else to_text
    question = Question(number, name, member(DocumentType, document_type))
    why = member(Purpose, purpose)
    moment, known = _moment("--at", at), _moment("--known-at", known_at)
    with connect(credentials, address=address) as client:
        if watch:
            _follow(client, question, why, case_number, show)
        elif evidence is not None:
            signed = client.verify_signed(question, purpose=why, case_number=case_number, at=moment, as_known_at=known)
            keep(evidence, signed.statement, signed.opening)
            click.echo(show(signed.verdict))
        else:
            verdict = client.verify(
                number,
                purpose=why,
                name=name,
                case_number=case_number,
                document_type=question.document_type,
                at=moment,
                as_known_at=known,
            )
            click.echo(show(verdict))


def _follow(
    client: Client, question: Question, purpose: Purpose, case_number: str, show: Callable[[Verdict], str]
) -> None:
    """Print verdicts until the user has seen enough."""
    watched = client.watch(
        question.number,
        purpose=purpose,
        name=question.name,
        case_number=case_number,
        document_type=question.document_type,
    )
    with closing(watched), suppress(KeyboardInterrupt):
        for verdict in watched:
            click.echo(f"[{verdict.given_at.astimezone(CHINA):%Y-%m-%d %H:%M:%S.%f}] {show(verdict)}")


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("write a moment such as 2026-03-01T14:05", param_hint=option) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=CHINA)


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
