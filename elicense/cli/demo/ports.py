"""Ports of the loopback that are held for those who will listen there."""

from __future__ import annotations

import socket


def hold_port(port: int = 0) -> tuple[int, socket.socket]:
    """Return a loopback port, and what holds it until it is closed.

    A node may listen there all the same, and end and listen again, since neither minds the other (SO_REUSEADDR,
    SO_REUSEPORT).  Nobody else is given the port meanwhile, as one that is only found free may be.

    Args:
        port: Which one; 0 takes any that is free.

    Raises:
        OSError: Somebody has that port.
    """
    holding = socket.socket()
    try:
        # Shared only from here on: two who want to hold the same port must not both get it.
        holding.bind(("127.0.0.1", port))
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            holding.setsockopt(socket.SOL_SOCKET, option, 1)
        return int(holding.getsockname()[1]), holding
    except BaseException:
        holding.close()
        raise


class HeldPorts:
    """Holds each port that it gives until it is closed."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        """Return one more port of the loopback."""
        port, holding = hold_port()
        self._held.append(holding)
        return port

    def close(self) -> None:
        """Give every port up."""
        while self._held:
            self._held.pop().close()
