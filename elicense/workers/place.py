"""A process's place among those that serve one node.

On PostgreSQL all workers are equal: whoever gets a call answers it, and what must
be done once is done by whoever holds a lease.  SQLite has one writer, so one process behind
the others writes, and those that listen verify from committed snapshots and pass
every other call on to it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from elicense.errors import Malformed

WRITER_SOCKET: Final = "writer.sock"
STOP_MARK: Final = "signing-stopped.json"
MAX_WORKERS: Final = 64
"""Workers of one node: more than one a core only take turns."""

_LAST_PORT: Final = 65_535


class Duty(StrEnum):
    """What a process does of a node's work."""

    ALONE = "alone"
    EQUAL = "equal"
    WRITER = "writer"
    VERIFIER = "verifier"


class Place(BaseModel):
    """What a process is told by whoever started it; the default is the only process of a node.

    Attributes:
        duty: What it does.
        number: Its number, from 1; 0 for one that does not listen for callers.
        count: How many listen.
        run: A name of this start of the node, the same for all its processes and unique in the world.
        folder: Folder of the node's processes, which they alone may enter; None for a node of one process.
        listen: Address that all of them share; empty for the configured one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duty: Duty = Duty.ALONE
    number: int = 1
    count: int = 1
    run: str = ""
    folder: Path | None = None
    listen: str = ""

    @property
    def shares(self) -> bool:
        """Whether other processes write the same database."""
        return self.duty in (Duty.EQUAL, Duty.VERIFIER)

    @property
    def accompanied(self) -> bool:
        """Whether the node has other processes."""
        return self.duty is not Duty.ALONE

    @property
    def writes(self) -> bool:
        """Whether it takes calls that change something."""
        return self.duty is not Duty.VERIFIER

    @property
    def listens(self) -> bool:
        """Whether callers reach it."""
        return self.duty is not Duty.WRITER

    @property
    def socket(self) -> Path | None:
        """Where the process that writes for others is reached; None when there is no such process."""
        return self.folder / WRITER_SOCKET if self.folder and self.duty in (Duty.WRITER, Duty.VERIFIER) else None

    @property
    def holder(self) -> str:
        """Name under which it holds leases; a worker that takes its place has the same."""
        return f"{self.run}/{self.number}"

    @property
    def main(self) -> bool:
        """Whether it goes on with the access log of a node of one process."""
        return self.duty in (Duty.ALONE, Duty.WRITER) or (self.duty is Duty.EQUAL and self.number == 1)

    def named(self, node: str) -> str:
        """Return the name of this process in the access log of ``node``."""
        return node if self.main else f"{node}/{self.number}"

    def file(self, path: Path) -> Path:
        """Return a file of this process's own: ``path``, numbered unless it is that of a node of one process."""
        return path if self.main else path.with_name(f"{path.stem}-{self.number}{path.suffix}")

    def metrics(self, address: str) -> str:
        """Return where this process's metrics are served when those of a node of one process are at ``address``.

        Raises:
            Malformed: There is no such port.
        """
        host, _, port = address.rpartition(":")
        offset = self.number - 1 if self.duty is Duty.EQUAL else self.number
        if self.duty is Duty.ALONE or port == "0":
            return address
        if int(port) + offset > _LAST_PORT:
            raise Malformed(f"worker {self.number} has no metrics port: {port} + {offset} is beyond {_LAST_PORT}")
        return f"{host}:{int(port) + offset}"


ALONE: Final = Place()
"""The only process of a node."""


def places(*, workers: int, engine: str, run: str, folder: Path, listen: str) -> list[Place]:
    """Return the places of a node's processes; the writer, if there is one, comes first.

    Args:
        workers: How many listen.
        engine: ``sqlite`` or ``postgresql``.
        run: See :class:`Place`.
        folder: See :class:`Place`.
        listen: Address that they share.

    Raises:
        Malformed: That many can not be.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise Malformed(f"give from 1 to {MAX_WORKERS} workers")

    def place(duty: Duty, number: int) -> Place:
        return Place(duty=duty, number=number, count=workers, run=run, folder=folder, listen=listen)

    if engine == "sqlite":
        return [place(Duty.WRITER, 0), *(place(Duty.VERIFIER, number) for number in range(1, workers + 1))]
    return [place(Duty.EQUAL, number) for number in range(1, workers + 1)]
