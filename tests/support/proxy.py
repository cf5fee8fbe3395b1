"""A TCP proxy that can cut, hold, slow or half-close what passes through it.

One that holds drops nothing.  What was on its way arrives when it heals, also a
request whose sender gave up long ago: the hardest kind of partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_CHUNK = 1 << 16


@dataclass(eq=False)
class _Link:
    """One connection and its other half."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    #: The near side hears nothing more, not even the end.
    mute: bool = False

    def abort(self) -> None:
        for side in (self.near, self.far):
            side.transport.abort()


@dataclass
class Proxy:
    """Carries connections from ``port`` to ``target``; see :func:`running_proxy`.

    Attributes:
        target: (host, port), or the path of a Unix socket.
        refusing: New connections are closed at once.
        deaf: What the far side sends is dropped: requests arrive, answers do not.
        delay_s: How long each piece is held back.
        inspect: Called with each piece towards the target; may return False to cut the connection before
            the piece is sent on.
        inspect_after: Likewise, after it was sent on.
    """

    target: tuple[str, int] | str
    port: int = 0
    refusing: bool = False
    deaf: bool = False
    delay_s: float = 0.0
    inspect: Callable[[bytes], bool] | None = None
    inspect_after: Callable[[bytes], bool] | None = None
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _links: set[_Link] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where it listens, host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def holding(self) -> bool:
        """Whether nothing gets through, in silence."""
        return not self._open.is_set()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self.refusing = True
        self.drop()

    def drop(self) -> None:
        """Reset every connection; new ones pass."""
        for link in list(self._links):
            link.abort()

    def hold(self) -> None:
        """Let nothing through, in silence; what is sent meanwhile arrives after :meth:`heal`."""
        self._open.clear()

    def half_open(self) -> None:
        """Drop the far half of every connection; the near half is told nothing, now or later."""
        for link in list(self._links):
            link.mute = True
            link.far.transport.abort()

    def heal(self) -> None:
        """Let everything pass again."""
        self.refusing, self.deaf, self.delay_s = False, False, 0.0
        self.inspect = self.inspect_after = None
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        if self.refusing:
            writer.transport.abort()
            return
        try:
            if isinstance(self.target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self.target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, link, outward=True), self._pump(far_reader, writer, link, outward=False)
            )
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: _Link, *, outward: bool
    ) -> None:
        try:
            while piece := await source.read(_CHUNK):
                await self._pass(piece, sink, link, outward=outward)
            if not sink.transport.is_closing() and not (link.mute and not outward):
                sink.write_eof()
        except OSError:
            link.abort()

    async def _pass(self, piece: bytes, sink: asyncio.StreamWriter, link: _Link, *, outward: bool) -> None:
        await self._open.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if outward and self.inspect is not None and not self.inspect(piece):
            link.abort()
            return
        last = outward and self.inspect_after is not None and not self.inspect_after(piece)
        link.mute = link.mute or last
        if sink.transport.is_closing() or (not outward and (self.deaf or link.mute)):
            return
        sink.write(piece)
        await sink.drain()
        if last:
            # Time for the target to act on it; its answer goes nowhere.
            await asyncio.sleep(0.05)
            link.abort()


@asynccontextmanager
async def running_proxy(target: tuple[str, int] | str) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port of the loopback."""
    proxy = Proxy(target)
    proxy.heal()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.carry(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        proxy.drop()
        await server.wait_closed()
