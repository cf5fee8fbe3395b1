"""Whether this node may still sign: the one switch that replication and storage can open, and only a person closes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from city_node.verify_only import VerifyOnlyMark
from elicense.errors import DataLoss, Error, HistoryUnknown

_log = structlog.get_logger(__name__)


class SigningGate:
    """Open while the city may write its log; shut, over every restart, once its history is in doubt.

    A shut gate leaves the node in *verify-only*: it answers what it holds and
    signs nothing new, because every further signature could be half of a fork.
    It is opened again by a person alone, who restores the log or takes the mark
    away while the node is stopped (``elicense-city allow-signing``).

    A gate that is *held* is shut until somebody can be asked, and no longer.

    Args:
        mark: Where the reason is kept.
    """

    def __init__(self, mark: VerifyOnlyMark) -> None:
        self._mark = mark
        self._shut: Error | None = mark.read()
        self._held: Error | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def reason(self) -> Error | None:
        """Why the node is in verify-only; None while it may sign."""
        return self._shut or self._held

    def check(self) -> None:
        """Return while the node may sign.

        Raises:
            DataLoss: The node is in verify-only; the message says why.
            HistoryUnknown: It is until that is known which it waits for.
        """
        if self._shut is not None:
            raise DataLoss(
                f"this node only verifies: {self._shut.message}; find out why before anything else",
                cause=self._shut.reason,
            )
        if self._held is not None:
            raise HistoryUnknown(f"this node only verifies for now: {self._held.message}")

    def shut(self, reason: Error, evidence: Sequence[bytes] = ()) -> None:
        """Stop signing; the first reason stays, with the signed heads that show it."""
        if self._shut is not None:
            return
        self._shut = reason
        try:
            self._mark.set(reason, evidence)
        except OSError as error:
            # This process signs nothing all the same; what shut it is looked for again at the next start.
            _log.critical("verify_only_not_kept", detail=error.strerror)
        _log.critical("verify_only", reason=reason.reason, detail=reason.message)
        self._tell()

    def hold(self, reason: Error) -> None:
        """Stop signing until :meth:`release`."""
        if self._held is None:
            self._held = reason
            _log.warning("verify_only_for_now", detail=reason.message)
            self._tell()

    def release(self) -> None:
        """End what :meth:`hold` began."""
        if self._held is not None:
            self._held = None
            _log.info("signing_again")
            self._tell()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the node may sign no longer, or again."""
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
