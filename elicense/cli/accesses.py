"""``elicense accesses``: who looked at a holder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
from rich.cells import cell_len

from elicense.cli.options import ADDRESS, CREDENTIALS, DOCUMENT_TYPE, member, word
from elicense.client import Access, Accesses, DocumentType, connect
from elicense.client.accesses import LARGEST_PAGE
from elicense.clock import CHINA
from elicense.errors import Malformed
from elicense.license.fields import EVERY_FIELD
from elicense.trust.roles import Role
from elicense.trust.spiffe import identify, parse_spiffe_id

_HEADINGS: Final = ("when (China)", "who", "answered by", "purpose", "told", "fields given")


@click.command()
@click.argument("number")
@click.option("--name", required=True, help="The holder's name as printed.")
@CREDENTIALS
@DOCUMENT_TYPE
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most looks to print.")
@ADDRESS
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def accesses(
    number: str, name: str, credentials: Path, document_type: str, limit: int, address: str | None, as_json: bool
) -> None:
    """List who looked at the holder of the document NUMBER, newest first.

    For the holder's app, at the registry.  A NUMBER of - is read from standard
    input.  The first line says up to when the list is complete.  Reading the
    list is a look itself, and appears in the next one.  Exit status 1 means that
    there is no list.
    """
    if number == "-":
        number = sys.stdin.readline().strip()
    with connect(credentials, address=address) as client:
        # One more than is printed tells whether there are more.
        listed = client.accesses(
            number, name, document_type=member(DocumentType, document_type), page_size=min(limit + 1, LARGEST_PAGE)
        )
        found = list(islice(listed, limit + 1))
    show = to_json if as_json else to_text
    click.echo(show(listed, found[:limit], more=len(found) > limit))


def to_text(listed: Accesses, looks: Sequence[Access], *, more: bool) -> str:
    """Return a list as lines for the holder.

    Args:
        listed: Says how complete the list is.
        looks: The looks to print.
        more: Whether there are older ones.
    """
    lines = [_completeness(listed)]
    if not looks:
        return "\n".join([*lines, "nobody looked"])
    rows = [_HEADINGS, *map(_row, looks)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(map(_padded, row, widths)).rstrip() for row in rows]
    if more:
        lines.append(f"older looks are left out; --limit {2 * len(looks)} shows more")
    return "\n".join(lines)


def to_json(listed: Accesses, looks: Sequence[Access], *, more: bool) -> str:
    """Return a list as one JSON object; enums by name, instants in ISO 8601; arguments as :func:`to_text`."""
    value = {
        "complete_until": _iso(listed.complete_until),
        "completeness": {each.node: _iso(each.until) for each in listed.completeness},
        "accesses": list(map(_plain, looks)),
        "more": more,
    }
    return json.dumps(value, ensure_ascii=False, indent=2)


def _completeness(listed: Accesses) -> str:
    sealed = "looks that the police sealed follow when their delay is over"
    if listed.complete_until is not None:
        return f"complete up to {_time(listed.complete_until)}, China time; {sealed}"
    silent = ", ".join(each.node for each in listed.completeness if each.until is None)
    return f"not complete: nothing is known yet of the looks at {silent or 'any node'}; {sealed}"


def _row(look: Access) -> tuple[str, ...]:
    purpose = _word(look.purpose)
    if look.method == "ListAccesses":
        purpose += ", this list"
    if look.case_number:
        purpose += f", case {look.case_number}"
    if look.was_sealed:
        purpose += " (was sealed)"
    who = look.role if look.role == Role.HOLDER else f"{look.role} {_bearer(look.verifier)}"
    node = f"{look.node}, asked by {_bearer(look.via)}" if look.via else look.node
    cells = (_time(look.at), who, node, purpose, _word(look.outcome), _fields(look))
    # Case numbers are what verifiers typed: nothing of theirs may steer the holder's terminal.
    return tuple("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cell) for cell in cells)


def _fields(look: Access) -> str:
    if set(look.fields) >= EVERY_FIELD:
        return "every field"
    return ", ".join(map(_word, look.fields)) or "none"


def _bearer(spiffe_id: str) -> str:
    """Return the last name in an ID, and the city that it belongs to."""
    try:
        parsed = parse_spiffe_id(spiffe_id)
        identity = identify(parsed)
    except Malformed:
        return spiffe_id
    if identity.role is Role.CITY:
        return f"city {identity.city}"
    return parsed.path[-1] if identity.city is None else f"{parsed.path[-1]} (city {identity.city})"


def _word(number: int) -> str:
    return word(number) if isinstance(number, IntEnum) else str(number)


def _name(number: int) -> str:
    return number.name if isinstance(number, IntEnum) else str(number)


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(CHINA):%Y-%m-%d %H:%M:%S}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _plain(look: Access) -> dict[str, Any]:
    return {
        **asdict(look),
        "at": _iso(look.at),
        "purpose": _name(look.purpose),
        "outcome": _name(look.outcome),
        "fields": list(map(_name, look.fields)),
    }
