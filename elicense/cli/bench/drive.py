"""Closed-loop load: so many calls in flight, each caller asking again once it has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

import grpc

from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import Credentials

CONNECTIONS: Final = 4
"""Connections that share the calls in flight."""

_DEADLINE_S: Final = 60.0

Call = Callable[[bytes], Awaitable[bytes]]


class Driver:
    """Calls one method of one server.

    Args:
        credentials: Who calls.
        method: Full name of the method.
        address: Whom to call instead of the credentials' own node.
        in_flight: Calls at once.
    """

    def __init__(
        self, credentials: Credentials, method: str, *, address: str | None = None, in_flight: int = 64
    ) -> None:
        count = min(CONNECTIONS, in_flight)
        self._channels = [secure_channel(credentials, address=address, local_pool=True) for _ in range(count)]
        self._calls = [self._call_of(channel, method) for channel in self._channels]
        self._in_flight = in_flight

    def _call_of(self, channel: grpc.aio.Channel, method: str) -> Call:
        # No serializers: a driver that parses would be the slower one of the two.
        callable_: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

        async def call(request: bytes) -> bytes:
            return await callable_(request, timeout=_DEADLINE_S)

        return call

    async def one(self, request: bytes) -> bytes:
        """Return the answer to one call."""
        return await self._calls[0](request)

    async def run(self, requests: Iterable[bytes], check: Callable[[bytes], None] | None = None) -> int:
        """Make all calls and return how many there were.

        Args:
            requests: The requests; one that is drawn is sent at once.
            check: Looks at each answer; raises when it is not what it should be.
        """
        waiting = iter(requests)
        made = await asyncio.gather(
            *(self._caller(self._calls[number % len(self._calls)], waiting, check) for number in range(self._in_flight))
        )
        return sum(made)

    async def _caller(self, call: Call, waiting: Iterator[bytes], check: Callable[[bytes], None] | None) -> int:
        made = 0
        for request in waiting:
            answer = await call(request)
            made += 1
            if check is not None:
                check(answer)
        return made

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()
