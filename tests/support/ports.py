"""Ports that stay a test's own from when it chooses them until it ends, whether a node listens there or not.

One that is only found free, or that a node gives up to take it again, may be anybody's
in between: another process of tests has its nodes and connections on the same loopback.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from types import TracebackType

from elicense.cli.demo import ports

#: Where rows are looked for: below the ports that the kernel gives to whoever connects.
_ROWS = range(20_000, 30_000)


class HeldPorts(ports.HeldPorts):
    """Holds each port that it gives until its context ends."""

    def __enter__(self) -> HeldPorts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def take_row(self, count: int) -> int:
        """Return the first of ``count`` more ports in a row."""
        while True:
            first, held = secrets.choice(_ROWS), list[socket.socket]()
            with suppress(OSError):
                for port in range(first, first + count):
                    held.append(ports.hold_port(port)[1])  # one that is taken ends the row
                self._held += held
                return first
            for holding in held:
                holding.close()

    def address(self) -> str:
        """Return one more port as host:port."""
        return f"127.0.0.1:{self.take()}"
