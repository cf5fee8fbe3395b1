"""The numbers of cities' feeds: none is ever given to two words, also by a database that was set back.

A city keeps the first word that it hears under a number, and asks for those behind it.
A registry that was set back says more before it hears from the city again, under
numbers that may have been given to what it lost.  So:

1. How far a city's feed was answered is noted in the transaction that answers it.
2. A city that has more than that has words which this database lost.  Whatever it was
   not answered yet gets a number behind those, before it is answered.
3. That costs the more the more words wait, and a city may state any number: so it is done
   for a city now and then only, and until then a call that would take it is refused whole,
   before what it sends is compared.  It is done behind everything else that can refuse the
   call, which would undo it and leave it to be had again with the next.

What is noted is of this database alone, so nobody has to know that it was set back; nor is
any of it kept in memory, which a database may be set back without.  When a city's words were
renumbered is: forgotten, or remembered of what the database lost, it loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from elicense.clock import SECOND_US
from elicense.errors import QuotaExceeded
from registry.filled_feed import filled
from registry.told_store import Mark

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from registry.model import NotedDisposition
    from registry.store import RegistryStore

#: Words in one answer.
DISPOSITIONS_PER_ANSWER: Final = 1_000
#: A city may state any number; behind this one there is room for more words than there will ever be.
_LAST_NUMBER: Final = 2**48
#: How long a city waits until its words are renumbered again.  An honest one needs it once each time that the registry
#: was set back, and not even two of those in a row make its licences stale, which takes ten minutes; of the one writer
#: a city that lies takes a second in so long, with 100,000 words that wait.
RENUMBERED_EVERY_US: Final = 300 * SECOND_US


class FeedNumbers:
    """Answers cities with their feeds.

    Args:
        store: The registry's tables.
        clock: UTC microseconds.
    """

    def __init__(self, store: RegistryStore, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        #: When the words of a city were renumbered, and behind which number.
        self._renumbered: dict[int, tuple[int, int]] = {}

    def require_due(self, conn: Connection, city: int, has: int) -> None:
        """Refuse a call that would have a city's words renumbered again too soon.

        Args:
            conn: The transaction that takes in the city's call, and holds its head.
            city: Division code.
            has: The last number that the city has.

        Raises:
            QuotaExceeded: That was done for the city just now; nothing of the call may be taken in.
        """
        number = min(has, _LAST_NUMBER)
        before = self._renumbered.get(city)
        # Behind the same number it is the same transaction, which runs again.
        if before is None or before[1] == number or number <= self._store.told.reached(conn, city, Mark.ANSWERED):
            return
        left_us = before[0] + RENUMBERED_EVERY_US - self._clock()
        # More than that is left only by a clock that was set back, which keeps nobody waiting.
        if 0 < left_us <= RENUMBERED_EVERY_US:
            seconds = -(-left_us // SECOND_US)
            raise QuotaExceeded(
                "this city says again that it has more words than it was ever answered; "
                f"send the same in {seconds} s, which loses nothing",
                retryAfterSeconds=seconds,
            )

    def hear(self, conn: Connection, city: int, has: int) -> int:
        """Have a city's words that it was not answered yet follow those that it has; nothing refuses the call any more.

        Args:
            conn: The same transaction.
            city: Division code.
            has: The last number that the city has.

        Returns:
            The last number that the city was answered, or has.
        """
        number = min(has, _LAST_NUMBER)
        answered = self._store.told.reached(conn, city, Mark.ANSWERED)
        if number <= answered:
            return answered
        self._renumbered[city] = self._clock(), number
        self._store.feeds.move_behind(conn, city, answered=answered, number=number)
        self._store.conflicts.move_notices(conn, city, behind=answered, by=number - answered)
        self._store.told.reach(conn, city, Mark.ANSWERED, number)
        return number

    def answer(self, conn: Connection, city: int, has: int, *, answered: int) -> list[NotedDisposition]:
        """Return what follows in a city's feed, at most 1,000 words, and note that it was answered.

        Args:
            conn: The same transaction.
            city: Division code.
            has: The last number that the city has.
            answered: What :meth:`hear` returned.
        """
        words = self._store.feeds.after(conn, city, after=has, limit=DISPOSITIONS_PER_ANSWER)
        answer = filled(words, after=has, limit=DISPOSITIONS_PER_ANSWER)
        last = answer[-1].seq if answer else 0
        if last > answered:
            self._store.told.reach(conn, city, Mark.ANSWERED, last)
        return answer
