"""What replication needs of the city: its log, and a way to open an epoch at the registry."""

from __future__ import annotations

from typing import Protocol


class OwnLog(Protocol):
    """What the replicator needs to know of the city's log."""

    @property
    def size(self) -> int:
        """Number of durable entries, as far as this process knows."""

    @property
    def shared(self) -> bool:
        """Whether other processes write the log too."""

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a commit of their own here, or may, or did a moment ago."""

    @property
    def behind_us(self) -> int:
        """Since how many microseconds something has been under way here that the log's size may not count yet."""

    async def durable(self) -> tuple[int, int]:
        """Return a time (UTC microseconds) up to which every record is durable by now, and the log's size."""

    async def peek(self) -> int:
        """Return the log's size, without waiting for a commit that is under way."""


class OpensEpoch(Protocol):
    """Opens epochs at the registry."""

    async def __call__(self, epoch: int) -> None:
        """Open an epoch that this city has opened already; without effect when it is open there.

        Raises:
            Error: The registry refuses, or did not answer.
        """
