"""The line between a worker and whoever keeps it running: "I am ready" one way, and each learns of the other's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

READY: Final = b"ready\n"
"""What a worker says once it serves."""


class Link:
    """A worker's end.

    Args:
        writer: The stream to the other end.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def ready(self) -> None:
        """Say that this worker serves."""
        with suppress(ConnectionError):
            self._writer.write(READY)
            await self._writer.drain()


@asynccontextmanager
async def linked(descriptor: int, stop: asyncio.Event) -> AsyncIterator[Link]:
    """Give this worker's end of the line; ``stop`` is set when the other end is gone.

    A worker whose keeper was killed would serve on unseen, and hold the port
    against the next start.

    Args:
        descriptor: The inherited socket.
        stop: Ends the worker.
    """
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))

    async def watch() -> None:
        # Nothing is ever sent this way.
        with suppress(ConnectionError):
            await reader.read()
        stop.set()

    watching = asyncio.create_task(watch(), name="link")
    try:
        yield Link(writer)
    finally:
        watching.cancel()
        writer.close()
