"""How long a client goes on without a server that it was following."""

from __future__ import annotations

import time
from typing import Final

from elicense.errors import Error, Unavailable

PAUSE_S: Final = 0.2
"""Rest before a stream is opened again."""


class Patience:
    """Says whether a stream that ended is worth opening again.

    Args:
        patience_s: Seconds without a server after which it is not.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None

    def heard(self) -> None:
        """Note that a server answered."""
        self._since = None

    def check(self, error: Error) -> None:
        """Raise what ended the stream, unless it is worth opening again."""
        if not isinstance(error, Unavailable):
            raise error
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._patience_s:
            raise error
