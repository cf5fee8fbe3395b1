"""A wire between two nodes that a test can freeze: bytes wait, as on a network that has gone silent.

A frozen link drops nothing.  What was on its way arrives when it thaws, also a
request whose sender gave up long ago: the hardest kind of partition.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

_CHUNK = 64 * 1024


class Link:
    """Forwards TCP connections to an address; see :func:`open_link`."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.address = ""

    @property
    def frozen(self) -> bool:
        """Whether bytes wait."""
        return not self._open.is_set()

    def freeze(self) -> None:
        """Let every byte wait, in both directions."""
        self._open.clear()

    def thaw(self) -> None:
        """Let them go on."""
        self._open.set()

    async def close(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # A task of a stream server that ends as cancelled is reported as a failure of the server.
        with suppress(asyncio.CancelledError, OSError), closing(writer):
            await self._open.wait()
            back, onward = await asyncio.open_connection(self._host, self._port)
            with closing(onward):
                pumps = [
                    asyncio.ensure_future(self._pump(reader, onward)),
                    asyncio.ensure_future(self._pump(back, writer)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(_CHUNK):
                await self._open.wait()
                sink.write(chunk)
                await sink.drain()


async def open_link(target: str) -> Link:
    """Return a link that listens on a free port and forwards to ``target`` (host:port)."""
    link = Link(target)
    await link._start()
    return link
