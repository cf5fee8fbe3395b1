"""A city's feed as the city is answered: without a gap, also where this registry has lost words of it.

A registry that was set back has a city's feed go on behind whatever that city says it
has, so that no number is given twice.  The numbers in between are words that are lost
here; what they said is said again, under later numbers.  The city itself has them.
But if it is set back in its turn, to before them, it would wait for them for ever: it
takes its feed without a gap.  So they are filled with words that say nothing, when they
are asked for and not before: a city may state any number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elicense.log.model import FIRST_EPOCH
from elicense.v1 import replication_pb2
from registry.model import NotedDisposition

_LOST: Final = replication_pb2.DISPOSITION_KIND_LOST
_SAID_AGAIN: Final = "This word was lost with the registry's database; what it said is said again."


def filled(words: Sequence[NotedDisposition], *, after: int, limit: int) -> list[NotedDisposition]:
    """Return up to ``limit`` words of a city's feed from number ``after + 1`` on, none of them left out.

    Args:
        words: Those that are stored behind ``after``, in order.
        after: The last number that the city has.
        limit: Most words in one answer.
    """
    answered: list[NotedDisposition] = []
    for word in words:
        first = after + len(answered) + 1
        until = min(word.seq, after + limit + 1)
        answered += [_lost(word.city, number) for number in range(first, until)]
        if len(answered) == limit:
            break
        answered.append(word)
    return answered


def _lost(city: int, number: int) -> NotedDisposition:
    """Return a word that says nothing, about an entry that every log has."""
    return NotedDisposition(city, number, FIRST_EPOCH, 0, int(_LOST), b"", _SAID_AGAIN, 0)
