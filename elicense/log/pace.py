"""How much bulk work goes into a commit, so that who waits at a counter hardly notices it.

While nobody asks for a commit of their own, bulk work gets all of it.  Once
somebody has, and for a while after, a commit with bulk work in it is kept short,
and the next one comes only after a pause twice as long as it took: whoever comes meanwhile
waits for one short commit at most, and two times out of three for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: For so long after an urgent request bulk work gives way.
URGENT_S: Final = 5.0
#: How long a commit with bulk work should last then, seconds.
SHORT_COMMIT_S: Final = 0.01
#: How many times as long as it took nothing of the kind follows.
_PAUSES: Final = 2
#: What one entry is thought to take before one was measured, seconds.
_FIRST_GUESS_S: Final = 0.000_2
#: How much the last commit counts against those before it.
_WEIGHT: Final = 0.3


class BulkPace:
    """Says how many bulk entries the next commit may have; belongs to one event loop.

    Args:
        clock: Seconds that only grow.
        most: Entries while nothing is urgent.
        short_s: How long a commit should last while something is.
    """

    def __init__(self, *, clock: Callable[[], float], most: int, short_s: float = SHORT_COMMIT_S) -> None:
        self._clock = clock
        self._most = most
        self._short_s = short_s
        self._entry_s = _FIRST_GUESS_S
        self._urgent_until = float("-inf")
        self._pause_until = float("-inf")

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a commit of their own, or did a moment ago."""
        return self._clock() < self._urgent_until

    @property
    def pause_s(self) -> float:
        """How long bulk work has to wait yet; 0 when its turn is now."""
        return max(0.0, self._pause_until - self._clock()) if self.is_urgent else 0.0

    @property
    def room(self) -> int:
        """Bulk entries of the next commit; at least one, also while they have to wait."""
        return self.size if self.is_urgent else self._most

    @property
    def size(self) -> int:
        """How many entries a short commit has."""
        return max(1, min(self._most, int(self._short_s / self._entry_s)))

    def note_urgent(self) -> None:
        """Say that something urgent came."""
        self._urgent_until = self._clock() + URGENT_S

    def note_commit(self, entries: int, seconds: float) -> None:
        """Say how long a commit took that had ``entries`` of bulk work, without the wait for its turn."""
        if entries:
            self._entry_s += _WEIGHT * (seconds / entries - self._entry_s)
            self._pause_until = self._clock() + _PAUSES * seconds
