"""One line of the log for each call that ended: who called what, how it ended and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from elicense.rpc.forwarding import REQUEST_ID_KEY
from elicense.rpc.telemetry import LineWriter, Stamp
from elicense.trust.spiffe import Caller

if TYPE_CHECKING:
    import grpc

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class CallLines:
    """Writes the lines.

    Args:
        log: Where they go.
        clock: UTC microseconds.
    """

    def __init__(self, log: LineWriter, *, clock: Callable[[], int]) -> None:
        self._log = log
        self._stamp = Stamp(clock)

    def write(
        self,
        method: str,
        metadata: Iterable[tuple[str, str]],
        *,
        seconds: float,
        code: grpc.StatusCode,
        reason: str,
        caller: Caller | None,
    ) -> None:
        """Write that of one call.

        Args:
            method: Full name of the method.
            metadata: What came with the call; of it only a request id is written, if it is one.
            seconds: How long it took.
            code: How it ended.
            reason: Stable reason of the error; empty when there was none.
            caller: Who called; None when that was not found out.
        """
        request_id = ""
        for key, value in metadata:
            if key == REQUEST_ID_KEY and _REQUEST_ID.match(value):
                request_id = value
        # None of these values needs escaping: all are from fixed sets or checked patterns.
        self._log.write(
            f'{{"time":"{self._stamp()}","event":"rpc","method":"{method}",'
            f'"caller":"{"" if caller is None else caller.spiffe_id}",'
            f'"code":"{code.name}","reason":"{reason}","ms":{seconds * 1000:.3f},"request_id":"{request_id}"}}'
        )
