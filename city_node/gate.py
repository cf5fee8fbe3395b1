"""Whether this node may still sign: the one switch that replication and storage can open, and only a person closes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from elicense.errors import DataLoss, Error, HistoryUnknown
from elicense.workers.stop_mark import StopMark

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

    def __init__(self, mark: StopMark) -> None:
        self._mark = mark
        self._shut: Error | None = mark.read()
        self._held: Error | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def reason(self) -> Error | None:
        """Why the node is in verify-only; None while it may sign."""
        return self._shut or self._held

    @property
    def waits(self) -> bool:
        """Whether it is shut only until somebody can be asked."""
        return self._held is not None and self._shut is None

    def check(self) -> None:
        """Return while the node may sign.

        Raises:
            DataLoss: The node is in verify-only; the message says why.
            HistoryUnknown: It is until that is known which it waits for.
        """
        # The mark is looked at each time: another process of this node may have left it just now.
        reason = self._shut or self._mark.read()
        if reason is not None:
            raise DataLoss(
                f"this node only verifies: {reason.message}; find out why before anything else", cause=reason.reason
            )
        if self._held is not None:
            raise HistoryUnknown(f"this node only verifies for now: {self._held.message}")

    def shut(self, reason: Error, evidence: Sequence[bytes] = ()) -> None:
        """Stop signing; the first reason stays, with the signed heads that show it."""
        self.refresh()
        if self._shut is not None:
            return
        try:
            self._mark.set(reason, evidence)
        except OSError as error:
            # This process signs nothing all the same; what shut it is looked for again at the next start.
            _log.critical("verify_only_not_kept", detail=error.strerror)
        self._close(reason)

    def refresh(self) -> None:
        """Shut the gate if another process of this node has; call it on the event loop."""
        if self._shut is None and (reason := self._mark.read()) is not None:
            self._close(reason)

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

    def _close(self, reason: Error) -> None:
        self._shut = reason
        _log.critical("verify_only", reason=reason.reason, detail=reason.message)
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
