"""What an auditor keeps between its rounds: the last head of each log that it has checked.

A file of its own, written whole or not at all.  Who holds it can prove later what
was shown then; two auditors who exchange theirs find out whether both were shown
the same.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from elicense.errors import Error, Malformed

MAX_SIZE: Final = 64 << 20
_FORMAT: Final = "elicense-audit/1"


@dataclass(slots=True)
class AuditState:
    """The heads that were checked.

    Attributes:
        heads: Signed note by origin.
    """

    heads: dict[str, bytes] = field(default_factory=dict)


def read_state(path: Path) -> AuditState:
    """Return what an earlier round left; nothing when there is no file yet.

    Raises:
        Malformed: It is not such a file.
        Error: It can not be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return AuditState()
    except OSError as error:
        raise Error(f"{path} can not be read: {error.strerror}") from error
    return parse_state(data)


def parse_state(data: bytes) -> AuditState:
    """Read a state; the heads in it are not checked.

    Raises:
        Malformed: It is not one.
    """
    values: Any = None
    if len(data) <= MAX_SIZE:
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            values = None
    match values:
        case {"audit": str(version), "heads": dict(heads)} if (
            version == _FORMAT and len(values) == 2 and all(isinstance(note, str) for note in heads.values())
        ):
            try:
                return AuditState({_text(origin): note.encode() for origin, note in heads.items()})
            except UnicodeEncodeError:
                pass  # JSON can spell what is no character
    raise Malformed("the file is not the state of an auditor")


def format_state(state: AuditState) -> bytes:
    """Return a state as a file."""
    values = {"audit": _FORMAT, "heads": {origin: note.decode() for origin, note in sorted(state.heads.items())}}
    return json.dumps(values, ensure_ascii=False, indent=1).encode()


def write_state(path: Path, state: AuditState) -> None:
    """Keep a state; after a power cut the file holds it or the one before.

    Raises:
        Error: It can not be written.
    """
    scratch = path.with_name(path.name + ".new")
    try:
        with scratch.open("wb") as file:
            file.write(format_state(state))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise Error(f"{path} can not be written: {error.strerror}") from error


def _text(origin: str) -> str:
    origin.encode()
    return origin
