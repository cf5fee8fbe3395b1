"""A commit seen through: run again when it lost a race, looked up when its end was not heard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from elicense.errors import Error, StoreUnavailable
from elicense.log.model import HeadMoved
from elicense.sql.faults import CommitUnknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elicense.log.appender import Appender, Outcome
    from elicense.log.decision import SignedHead
    from elicense.sql.database import Database

C = TypeVar("C")
R = TypeVar("R")

_MAX_MOVES: Final = 8  # lost compare-and-sets in a row before the callers hear of it
_RESOLVE_PAUSES_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Committer(Generic[C, R]):
    """Runs an appender's transactions on the database's writer threads.

    Args:
        database: Where the log is.
        appender: What a transaction does.
    """

    def __init__(self, database: Database, appender: Appender[C, R]) -> None:
        self._database = database
        self._appender = appender

    async def commit(
        self,
        commands: Sequence[C],
        *,
        signed: SignedHead | None,
        unsaved: SignedHead | None,
        gives_way: bool = False,
    ) -> tuple[Outcome[R], SignedHead | Error, float]:
        """Decide and append, durably, and sign the head.

        Args:
            commands: In the order in which they came.
            signed: The head that was signed last, as far as this process knows.
            unsaved: A signed head whose note is to be stored along.
            gives_way: Let other writes of the database go first.

        Returns:
            What was committed, and its signed head or why it could not be signed:
            an error after the commit is a value, since the commit can not be undone or run again.
            And how long the transaction took, seconds, without the wait for its turn.

        Raises:
            Error: Nothing was committed, or (StoreUnavailable) it is not known whether it was.
        """
        attempted: list[Outcome[R]] = []
        # Read on the thread that runs the transaction.
        clock = asyncio.get_running_loop().time
        began = 0.0

        def transact(conn: Connection) -> Outcome[R]:
            nonlocal began
            began = clock()
            attempted.clear()
            outcome = self._appender.transact(conn, commands, signed=signed, unsaved=unsaved)
            attempted.append(outcome)
            return outcome

        def seal(outcome: Outcome[R]) -> tuple[Outcome[R], SignedHead | Error, float]:
            seconds = clock() - began
            if signed is not None and (signed.size, signed.root) == (outcome.after.size, outcome.after.root):
                return outcome, signed, seconds
            try:
                return outcome, self._appender.seal(outcome.after), seconds
            except Error as error:
                return outcome, error, seconds

        for _ in range(_MAX_MOVES):
            try:
                return await self._database.write_then(transact, seal, gives_way=gives_way)
            except HeadMoved:
                continue
            except CommitUnknown as error:
                # Without entries there is no head to recognize it by.
                if not attempted or not attempted[0].leaf_hashes:
                    raise
                await self._require_committed(attempted[0], error)
                return await asyncio.to_thread(seal, attempted[0])
        raise StoreUnavailable("others append to this log without pause; repeat the request later")

    async def _require_committed(self, outcome: Outcome[R], unknown: CommitUnknown) -> None:
        """Find out whether a COMMIT that was not answered did happen.

        Raises:
            StoreUnavailable: It did not, or that can not be found out now.
        """
        for pause in _RESOLVE_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                held = await self._database.write(lambda conn: self._appender.holds(conn, outcome))
            except StoreUnavailable:
                continue
            if held:
                return
            raise StoreUnavailable("the transaction was not committed; repeat the request") from unknown
        raise StoreUnavailable("it is not known whether the request was committed; repeat it as it is") from unknown
