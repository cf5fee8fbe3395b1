"""The numbers of cities' feeds: none is ever given to two words, also by a database that was set back.

A city keeps the first word that it hears under a number, and asks for those behind it.
A registry that was set back says more before it hears from the city again, under
numbers that may have been given to what it lost.  So:

1. How far a city's feed was answered is noted in the transaction that answers it.
2. A city that has more than that has words which this database lost.  Whatever it was
   not answered yet gets a number behind those, before it is answered.

What is noted is of this database alone, so nobody has to know that it was set back; nor is
any of it kept in memory, which a database may be set back without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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


class FeedNumbers:
    """Answers cities with their feeds.

    Args:
        store: The registry's tables.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    def hear(self, conn: Connection, city: int, has: int) -> None:
        """Have a city's words that it was not answered yet follow those that it has.

        Args:
            conn: The transaction that takes in the city's call, and holds its head.
            city: Division code.
            has: The last number that the city has.
        """
        number = min(has, _LAST_NUMBER)
        answered = self._store.told.reached(conn, city, Mark.ANSWERED) if number else 0
        if number > answered:
            self._store.feeds.move_behind(conn, city, answered=answered, number=number)
            self._store.conflicts.move_notices(conn, city, behind=answered, by=number - answered)
            self._store.told.reach(conn, city, Mark.ANSWERED, number)

    def answer(self, conn: Connection, city: int, has: int) -> list[NotedDisposition]:
        """Return what follows in a city's feed, at most 1,000 words, and note that it was answered.

        Args:
            conn: The same transaction.
            city: Division code.
            has: The last number that the city has.
        """
        words = self._store.feeds.after(conn, city, after=has, limit=DISPOSITIONS_PER_ANSWER)
        answer = filled(words, after=has, limit=DISPOSITIONS_PER_ANSWER)
        last = answer[-1].seq if answer else 0
        if last and last > self._store.told.reached(conn, city, Mark.ANSWERED):
            self._store.told.reach(conn, city, Mark.ANSWERED, last)
        return answer
