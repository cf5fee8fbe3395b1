"""Whether this node may still sign: the one switch that replication and storage can open, and only a person closes."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from city_node.verify_only import VerifyOnlyMark
from elicense.errors import DataLoss, Error

_log = structlog.get_logger(__name__)


class SigningGate:
    """Open while the city may write its log; shut, over every restart, once its history is in doubt.

    A shut gate leaves the node in *verify-only*: it answers what it holds and
    signs nothing new, because every further signature could be half of a fork.
    It is opened again by a person alone, who takes the mark away while the node
    is stopped (``elicense-city allow-signing``).

    Args:
        mark: Where the reason is kept.
    """

    def __init__(self, mark: VerifyOnlyMark) -> None:
        self._mark = mark
        self._reason: Error | None = mark.read()
        self._listeners: list[Callable[[], None]] = []

    @property
    def reason(self) -> Error | None:
        """Why the node is in verify-only; None while it may sign."""
        return self._reason

    def check(self) -> None:
        """Return while the node may sign.

        Raises:
            DataLoss: The node is in verify-only; the message says why.
        """
        if self._reason is not None:
            raise DataLoss(
                f"this node only verifies: {self._reason.message}; find out why before anything else",
                cause=self._reason.reason,
            )

    def shut(self, reason: Error) -> None:
        """Stop signing; the first reason stays."""
        if self._reason is not None:
            return
        self._reason = reason
        try:
            self._mark.set(reason)
        except OSError as error:
            # This process signs nothing all the same; what shut it is looked for again at the next start.
            _log.critical("verify_only_not_kept", detail=error.strerror)
        _log.critical("verify_only", reason=reason.reason, detail=reason.message)
        for listener in self._listeners:
            listener()

    def on_shut(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the gate is shut."""
        self._listeners.append(listener)
