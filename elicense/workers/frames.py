"""Messages between two processes of one node, over a socket that both inherited: a length, then so many bytes.

Each step is one system call that waits for all of it, so that a thread which
waits for a large message does not come and go for every piece of it.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_LENGTH: Final = struct.Struct(">I")


def send_frame(line: socket.socket, body: bytes) -> None:
    """Send one message.

    Raises:
        OSError: The other end is gone, or did not listen in time.
    """
    line.sendall(_LENGTH.pack(len(body)))
    line.sendall(body)


def receive_frame(line: socket.socket) -> bytes | None:
    """Return the next message; None when the other end is gone.

    Raises:
        OSError: It did not come in time.
    """
    head = line.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if not length:
        return b""
    body = line.recv(length, socket.MSG_WAITALL)
    return body if len(body) == length else None
