"""Calls between nodes: serialized, delayed, lost, doubled, overtaken; cut while a partition lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol, cast

import grpc

from elicense.errors import Error
from elicense.rpc.context import CALLER
from elicense.rpc.errors import DETAILS_KEY, code_of, internal_status, to_status
from elicense.trust.spiffe import Caller
from tests.simulation.loop import OWNER, Owner, VirtualLoop, outside

#: An answer as it travels: its type and bytes, or why there is none.
_Said = tuple[type, bytes] | grpc.aio.AioRpcError

_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE


@dataclass
class Weather:
    """How bad the network is.

    Attributes:
        longest_s: Longest time of a message; each draws its own, so that they overtake each other.
        lost: Share of messages that vanish.
        doubled: Share of requests that arrive twice.
    """

    longest_s: float = 0.02
    lost: float = 0.0
    doubled: float = 0.0


class Serving(Owner, Protocol):
    """A node that answers calls.

    Attributes:
        services: Its servicers.
    """

    services: list[Any]


@dataclass
class Network:
    """Carries calls.

    Attributes:
        loop: The loop.
        random: Draws what happens to each message.
        weather: How bad it is now.
        cut: Names of nodes that are cut off from each other.
        down: Likewise, also when the time of trouble is over.
    """

    loop: VirtualLoop
    random: Random
    weather: Weather = field(default_factory=Weather)
    cut: set[frozenset[str]] = field(default_factory=set)
    down: set[frozenset[str]] = field(default_factory=set)
    #: Told of each exception that no node should raise.
    on_fault: Callable[[str, Exception], None] = lambda _method, _error: None

    def connect(self, find: Callable[[], Serving | None], *, caller: Caller, name: str) -> Any:
        """Return a stub.

        Args:
            find: Gives the node that is called, as it runs now; None while it does not.
            caller: Whom its certificate says it is.
            name: Name of the calling node.
        """
        return _Stub(self, find, caller, name)

    async def call(self, line: _Stub, method: str, request: Any, limit_s: float) -> Any:
        """Make one call, at most ``limit_s`` virtual seconds long.

        Raises:
            AioRpcError: As gRPC would.
        """
        answer: asyncio.Future[_Said] = self.loop.create_future()
        body = request.SerializeToString()

        def reply(said: _Said) -> None:
            if not answer.done():
                answer.set_result(said)

        for _ in range(1 + (self.random.random() < self.weather.doubled)):
            self._later(lambda: self._arrive(line, method, type(request).FromString(body), reply))
        try:
            async with asyncio.timeout(limit_s):
                said = await answer
        except TimeoutError:
            raise _failed(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time") from None
        if isinstance(said, grpc.aio.AioRpcError):
            raise said
        kind, content = said
        return cast("Any", kind).FromString(content)

    def _arrive(self, line: _Stub, method: str, request: Any, reply: Callable[[_Said], None]) -> None:
        """Take up a request at the node that is called, if it reaches one."""
        node = line.find()
        if node is None:
            self._later(lambda: reply(_failed(_UNAVAILABLE, "connection refused")))
            return
        name = node.name
        if not self._passes(line.name, name):
            return
        handler = next(getattr(servicer, method) for servicer in node.services if hasattr(servicer, method))
        context = outside()
        context.run(OWNER.set, node)
        context.run(CALLER.set, line.caller)
        handling = self.loop.create_task(self._handled(method, handler, request), context=context)

        def done(task: asyncio.Task[_Said]) -> None:
            if self._passes(line.name, name):
                self._later(lambda: reply(task.result()))

        handling.add_done_callback(done, context=outside())

    async def _handled(self, method: str, handler: Callable[..., Awaitable[Any]], request: Any) -> _Said:
        """Answer as a server does: bytes, or a status; no exception leaves it."""
        try:
            message = await handler(request, None)
        except Error as error:
            status = to_status(error)
            return _failed(code_of(error), status.message, status.SerializeToString())
        except Exception as error:
            self.on_fault(method, error)
            status = internal_status()
            return _failed(grpc.StatusCode.INTERNAL, status.message, status.SerializeToString())
        return type(message), message.SerializeToString()

    def _passes(self, one: str, other: str) -> bool:
        line = frozenset((one, other))
        return line not in self.cut and line not in self.down and self.random.random() >= self.weather.lost

    def _later(self, happens: Callable[[], None]) -> None:
        self.loop.call_later(self.random.uniform(0, self.weather.longest_s), happens, context=outside())


def _failed(code: grpc.StatusCode, details: str, status: bytes = b"") -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata(*([(DETAILS_KEY, status)] if status else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=details)


@dataclass(frozen=True)
class _Stub:
    """Looks like a generated stub."""

    network: Network
    find: Callable[[], Serving | None]
    caller: Caller
    name: str

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        def call(request: Any, timeout: float) -> Awaitable[Any]:
            return self.network.call(self, method, request, timeout)

        return call
