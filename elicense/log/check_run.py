"""A check of everything that a node stores: many steps, each a transaction, that goes on where it was stopped.

What a step found and how far it came is written in one commit of the scratch
file, behind the step.  So a run that is killed anywhere loses one step at most,
and finds nothing twice.  The file is deleted at the end of a run; one that is of
another database, another program or damaged is told of, and the run starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from elicense.errors import StoreCorrupt
from elicense.log.check import Finding
from elicense.sql.database import Database
from elicense.sql.scratch import Scratch

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

#: Changes whenever files of an earlier program can not be gone on with.
_FORMAT: Final = 2

#: Findings that are kept; a store that is far gone has too many to read.
MAX_FINDINGS: Final = 1_000

Stage = Callable[["Connection", bytes | None], bytes | None]
"""One step of a stage: where the step before it ended in, where it ended itself out; None at the end."""


def whole(check: Callable[[Connection], None]) -> Stage:
    """Return a stage of one step."""

    def step(conn: Connection, _after: bytes | None) -> None:
        check(conn)

    return step


@dataclass(frozen=True, slots=True)
class Report:
    """What a check came to.

    Attributes:
        logs: Logs checked.
        entries: Entries checked, by the runs that this one went on from as well.
        licenses: Licences derived.
        findings: What is wrong, the first :data:`MAX_FINDINGS` of it; none when all is well.
        differences: How much is wrong.
    """

    logs: int
    entries: int
    licenses: int
    findings: tuple[Finding, ...]
    differences: int


class CheckRun:
    """Runs stages and remembers.

    Args:
        database: The database that is checked.
        path: Where the scratch file lies; None for a run that can not be gone on with.
        about: What is checked: a file of anything else is of no use.
        anew: Start from the beginning whatever the file says.
        tell: Called with a sentence when the run goes on from an earlier one, or can not.

    Raises:
        Unavailable: Another check of the same node is running.
    """

    def __init__(
        self, database: Database, path: Path | None, *, about: str, anew: bool, tell: Callable[[str], None]
    ) -> None:
        self._database = database
        self._path = path
        self._about = f"{_FORMAT} {about}"
        self._tell = tell
        try:
            self._open()
        except StoreCorrupt as error:
            self._discard(error.message)
        held = self._notes.get("about")
        if held is not None and anew:
            self.start_anew("it was asked for")
        elif held is not None and held[1] != self._about:
            self.start_anew("the earlier run was of another database or program")
        self._notes.put([("about", self._about)])
        self.scratch.commit()

    @property
    def goes_on(self) -> bool:
        """Whether an earlier run has got further than its start."""
        return len(self._notes) > 1

    def start_anew(self, why: str) -> None:
        """Forget whatever an earlier run has found, and say why."""
        self.scratch.close()
        self._discard(why)
        self._notes.put([("about", self._about)])

    def found(self, finding: Finding) -> None:
        """Note a finding, once."""
        self._count += 1
        self._findings.add((finding.where, finding.what, self._count))

    def step(self, fn: Callable[[Connection], T]) -> T:
        """Do one thing in a transaction, and keep what it wrote into the scratch file.

        Raises:
            StoreUnavailable: The database is away; a later run goes on here.
        """

        def attempt(conn: Connection) -> T:
            self.scratch.rollback()  # of an attempt before this one
            return fn(conn)

        result = self._database.read_now(attempt)
        self.scratch.commit()
        return result

    def stage(self, name: str, step: Stage) -> None:
        """Run a stage from where it was stopped to its end."""
        while (held := self._notes.get(name)) is None or held[1] != b"end":
            at = held[1] if held is not None and isinstance(held[1], bytes) else b""

            def one(conn: Connection, at: bytes = at) -> None:
                ended = step(conn, at[1:] if at else None)
                # A place may be empty, so that it is kept with a byte before it.
                self._notes.put([(name, b"end" if ended is None else b"@" + ended)])

            self.step(one)

    def at(self, name: str) -> bytes | None:
        """Return how far a stage has come: None before its first step."""
        held = self._notes.get(name)
        return held[1] if held is not None and isinstance(held[1], bytes) else None

    def end(self, *, logs: int, entries: int, licenses: int) -> Report:
        """Delete the file and return what everything came to."""
        rows: Sequence[tuple[Any, ...]] = sorted(self._findings.page(None, MAX_FINDINGS), key=itemgetter(2))
        findings = tuple(Finding(where, what) for where, what, _ in rows)
        report = Report(logs, entries, licenses, findings, len(self._findings))
        self.scratch.remove()
        return report

    def close(self) -> None:
        """Leave the file for a later run."""
        self.scratch.close()

    def _open(self) -> None:
        self.scratch = Scratch(self._path)
        try:
            self._notes = self.scratch.shelf("note", keys=1, values=1)
            self._findings = self.scratch.shelf("finding", keys=2, values=1)
            self._count = len(self._findings)
        except StoreCorrupt:
            self.scratch.close()
            raise

    def _discard(self, why: str) -> None:
        self._tell(f"starts anew: {why}")
        if self._path is not None:
            for suffix in ("", "-journal"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._open()
