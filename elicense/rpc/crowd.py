"""Looks at one licence each that wait together: one look-up for all of them, and one commit.

A look must be durable before it is answered, and a commit costs as much as some
thirty looks.  So they gather anyway, and gathering before the licences are looked
up, instead of after, spares the look-ups too, and each caller a second wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from elicense.access.entry import AccessEntry
from elicense.errors import Error
from elicense.rpc.coalesce import Coalescer, while_more_come
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Look

MAX_TOGETHER: Final = 128
"""Looks that are answered together at most: some milliseconds, in which the event loop does nothing else."""


class Asked(NamedTuple):
    """One look at one licence, admitted and counted.

    Attributes:
        look: Who looks, why, and what it gets: nothing that lies in the record alone.
        query: At whom.
        subject: The tag under which the look is recorded.
        method: Name of the RPC.
    """

    look: Look
    query: pb.LicenseQuery
    subject: bytes
    method: str


class JudgingTogether(Protocol):
    """What a node can say of many licences at once, to different verifiers."""

    async def judge_each(self, asked: Sequence[Asked]) -> Sequence[pb.Verdict]:
        """Return one verdict a look, in order, with the fields that it gets.

        Raises:
            StoreUnavailable: The database is away.
        """


class RecordingTogether(Protocol):
    """Where looks are made durable."""

    async def record_all(self, entries: Sequence[AccessEntry]) -> Sequence[Error | None]:
        """Return once all are durable, and for each why it is not and must not be answered."""


class Crowd:
    """Answers looks that wait together.

    Args:
        judging: Judges.
        recorder: Makes looks durable before they are answered.
        entry_of: Makes of a look's time, the look and its verdict what is recorded.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        judging: JudgingTogether,
        recorder: RecordingTogether,
        entry_of: Callable[[int, Asked, pb.Verdict], AccessEntry],
        clock: Callable[[], int],
    ) -> None:
        self._judging = judging
        self._recorder = recorder
        self._entry_of = entry_of
        self._clock = clock
        # One lane: while some are answered, the next ones gather.
        self._asked: Coalescer[Asked, pb.Verdict] = Coalescer(
            self._answer, lanes=1, max_batch=MAX_TOGETHER, pause=while_more_come(MAX_TOGETHER)
        )

    async def look(self, asked: Asked) -> pb.Verdict:
        """Return the verdict, once the look is recorded.

        Raises:
            QueueFull: Too many looks wait already.
            ShuttingDown: The node ends.
            StoreFull: The look can not be recorded.
            StoreUnavailable: A database is away.
        """
        return await self._asked.submit(asked)

    async def close(self) -> None:
        """Refuse further looks and wait for those that were accepted."""
        await self._asked.close()

    async def _answer(self, asked: list[Asked]) -> Sequence[pb.Verdict | Error]:
        verdicts = await self._judging.judge_each(asked)
        # Read in the same step in which the recorder learns of them: see AccessRecorder.complete_until.
        at_us = self._clock()
        entries = [self._entry_of(at_us, each, given) for each, given in zip(asked, verdicts, strict=True)]
        recorded = await self._recorder.record_all(entries)
        return [refused or given for refused, given in zip(recorded, verdicts, strict=True)]
