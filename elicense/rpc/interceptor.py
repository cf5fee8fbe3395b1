"""The one interceptor: who calls, whether they may, whether the request is well formed, how it ended.

For every call, in this order:

1. the client's certificate is read from the TLS session; its fingerprint must
   stand in the table of active certificates, and its SPIFFE ID must be the one
   that the table has;
2. role and city must be allowed by the policy table, which has no default;
3. the request is parsed and validated against the rules in its proto;
4. the handler runs, with the caller in :data:`elicense.rpc.context.CALLER` (or, in a process that
   only verifies, the call is passed on to the one that writes, instead of 3 and 4);
5. whatever is raised becomes a status, here and nowhere else;
6. the call is counted and logged.

Handlers are wrapped once, when they are added (:mod:`elicense.rpc.methods`).
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
import structlog
from google.protobuf.message import DecodeError

from elicense.errors import CallerNotAllowed, Error, Malformed, ShuttingDown
from elicense.rpc.authentication import Authenticator
from elicense.rpc.call_lines import CallLines
from elicense.rpc.call_metrics import MethodStats
from elicense.rpc.context import CALLER, current_caller
from elicense.rpc.errors import DETAILS_KEY, code_of, internal_status, to_status
from elicense.rpc.forwarding import Forwarder, PassedOn
from elicense.rpc.streams import OpenStreams
from elicense.rpc.telemetry import describe_exception
from elicense.rpc.validation import RequestRules
from elicense.trust.spiffe import Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from elicense.rpc.active import ActiveCertificates
    from elicense.rpc.call_metrics import RpcMetrics
    from elicense.rpc.telemetry import LineWriter
    from elicense.trust.roles import Policy, Role

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Run = Callable[[Any, _Context], Awaitable[bytes | None]]

_HEALTH_PREFIX: Final = "/grpc.health.v1.Health/"

_KINDS: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Method:
    """What a wrapped handler needs to know of its method."""

    name: str
    roles: frozenset[Role]
    stats: MethodStats
    counted: bool
    deserialize: Callable[[bytes], Message]
    serialize: Callable[[Any], bytes]


class NodeInterceptor:
    """Authentication, authorization, validation, errors and telemetry of a node's server.

    Args:
        policy: Who may call what.
        certificates: Which certificates are in force.
        metrics: Where calls are counted.
        log: Where one JSON line a call goes; None for none.
        clock: UTC microseconds.
        forwarder: Passes on what this process does not answer itself; None for one that answers everything.
        streams: Bounds the streams of questions that callers hold open.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        certificates: ActiveCertificates,
        metrics: RpcMetrics,
        log: LineWriter | None,
        clock: Callable[[], int],
        forwarder: Forwarder | None = None,
        streams: OpenStreams | None = None,
    ) -> None:
        self._streams = streams or OpenStreams()
        self._policy = policy
        self._forwarder = forwarder
        self._authenticator = Authenticator(certificates=certificates, clock=clock)
        self._metrics = metrics
        self._lines = None if log is None else CallLines(log, clock=clock)
        self._check = RequestRules().check
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = asyncio.Event()

    @property
    def running(self) -> int:
        """Calls being handled now; health checks do not count."""
        return self._running

    async def idle(self) -> None:
        """Return as soon as no call is being handled."""
        await self._idle.wait()

    def end_streams(self) -> None:
        """Read nothing more from callers that send a stream: each hears that it must open it anew."""
        self._ending.set()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _authorize(self, method: _Method, caller: Caller) -> None:
        if caller.role not in method.roles:
            raise CallerNotAllowed(f"the role {caller.role} may not call this", role=caller.role.value)
        if not self._policy.admits_city(caller.role, caller.city):
            raise CallerNotAllowed("this node serves callers of its own city; call the one you belong to")

    def _parse(self, method: _Method, raw: bytes) -> Message:
        try:
            request = method.deserialize(raw)
        except DecodeError as error:
            raise Malformed("the request is not a message of this call") from error
        self._check(request)
        return request

    # -- end of a call -------------------------------------------------------------------------------------------------

    def _status(
        self, error: Exception, method: _Method, context: _Context
    ) -> tuple[grpc.StatusCode, str, status_pb2.Status | None]:
        """Return code, reason, and the status to abort with (None when the handler has aborted already)."""
        if isinstance(error, Error):
            code = code_of(error)
            if code is not grpc.StatusCode.INTERNAL:
                return code, error.reason, to_status(error)
        elif isinstance(error, grpc.aio.AbortError):
            # Only handlers of others (health, reflection) abort by themselves.
            return _aborted_code(context), "", None
        _log.error("rpc_failed", method=method.name, **describe_exception(error))
        return grpc.StatusCode.INTERNAL, Error.reason, internal_status()

    def _begin(self, method: _Method) -> float:
        method.stats.started += 1
        if method.counted:
            self._running += 1
            self._idle.clear()
        return perf_counter()

    def _finish(
        self,
        method: _Method,
        started: float,
        context: _Context,
        *,
        code: grpc.StatusCode,
        reason: str,
        caller: Caller | None,
    ) -> None:
        seconds = perf_counter() - started
        method.stats.finish(code, seconds)
        if method.counted:
            self._running -= 1
            if not self._running:
                self._idle.set()
        if self._lines is not None:
            metadata = cast("tuple[tuple[str, str], ...]", context.invocation_metadata())
            self._lines.write(method.name, metadata, seconds=seconds, code=code, reason=reason, caller=caller)

    # -- handlers ------------------------------------------------------------------------------------------------------

    def wrap(self, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a method's handler with everything of this module around it.

        Args:
            name: Full name of the method.
            handler: What generated code made of the servicer's method.
        """
        shape = (handler.request_streaming, handler.response_streaming)
        method = _Method(
            name=name,
            roles=self._policy.methods.get(name, frozenset()),
            stats=self._metrics.method(_KINDS[shape], name),
            counted=not name.startswith(_HEALTH_PREFIX),
            deserialize=cast("Callable[[bytes], Message]", handler.request_deserializer),
            serialize=cast("Callable[[Any], bytes]", handler.response_serializer),
        )
        # Requests reach the wrapper as bytes, so that nothing of them is looked at
        # before the caller has been authorized.
        match shape:
            case (False, False):
                passes = self._forwarder is not None and self._forwarder.takes(name)
                unary = self._passed_on(method) if passes else self._unary(method, handler.unary_unary)
                return grpc.unary_unary_rpc_method_handler(self._guard(method, unary))
            case (False, True):
                stream = self._server_stream(method, handler.unary_stream)
                return grpc.unary_stream_rpc_method_handler(
                    self._guard(method, stream), response_serializer=handler.response_serializer
                )
            case (True, False):
                unary = self._client_stream(method, handler.stream_unary)
                return grpc.stream_unary_rpc_method_handler(self._guard(method, unary))
            case _:
                stream = self._bidi_stream(method, handler.stream_stream)
                return grpc.stream_stream_rpc_method_handler(
                    self._guard(method, stream), response_serializer=handler.response_serializer
                )

    def _guard(self, method: _Method, run: _Run) -> Any:
        async def call(request: Any, context: _Context) -> bytes | None:
            started = self._begin(method)
            code, reason, caller = grpc.StatusCode.OK, "", None
            try:
                caller = await self._authenticator.caller(context)
                self._authorize(method, caller)
                CALLER.set(caller)
                return await run(request, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except PassedOn as answer:
                code, reason = answer.code, "PASSED_ON"
                await context.abort(answer.code, answer.text, trailing_metadata=((DETAILS_KEY, answer.details),))
            except Exception as error:  # every way to fail becomes a status here
                code, reason, status = self._status(error, method, context)
                if status is None:
                    raise
                await context.abort(
                    code,
                    status.message,
                    trailing_metadata=((DETAILS_KEY, status.SerializeToString()),),
                )
            finally:
                self._finish(method, started, context, code=code, reason=reason, caller=caller)

        return call

    def _unary(self, method: _Method, behavior: Any) -> _Run:
        async def run(raw: bytes, context: _Context) -> bytes:
            return method.serialize(await behavior(self._parse(method, raw), context))

        return run

    def _passed_on(self, method: _Method) -> _Run:
        forwarder = cast("Forwarder", self._forwarder)

        async def run(raw: bytes, context: _Context) -> bytes:
            return await forwarder.pass_on(method.name, raw, context)

        return run

    def _server_stream(self, method: _Method, behavior: Any) -> _Run:
        generates = inspect.isasyncgenfunction(behavior)

        async def run(raw: bytes, context: _Context) -> None:
            request = self._parse(method, raw)
            if not generates:
                await behavior(request, context)
                return
            async with aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    # A stream may outlive the certificate that opened it: whoever was revoked hears no more.
                    self._authorize(method, await self._authenticator.caller(context))
                    await context.write(response)

        return run

    def _client_stream(self, method: _Method, behavior: Any) -> _Run:
        async def run(raws: AsyncIterator[bytes], context: _Context) -> bytes:
            return method.serialize(await behavior(self._parse_each(method, raws), context))

        return run

    def _bidi_stream(self, method: _Method, behavior: Any) -> _Run:
        async def run(raws: AsyncIterator[bytes], context: _Context) -> None:
            with self._streams.opened(str(current_caller().spiffe_id)):
                async with aclosing(behavior(self._admit_each(method, raws, context), context)) as responses:
                    async for response in responses:
                        await self._streams.write(context.write(response))

        return run

    async def _admit_each(
        self, method: _Method, raws: AsyncIterator[bytes], context: _Context
    ) -> AsyncIterator[Message]:
        ending = asyncio.create_task(self._ending.wait())
        try:
            while True:
                raw = await self._streams.read(_next(raws), ending)
                if raw is None and ending.done():
                    raise ShuttingDown("this server ends; open the stream anew")
                if raw is None:
                    return
                yield await self._admit(method, raw, context)
        finally:
            ending.cancel()

    async def _admit(self, method: _Method, raw: bytes, context: _Context) -> Message:
        # A stream may outlive the certificate that opened it: whoever was revoked asks nothing more.
        caller = await self._authenticator.caller(context)
        self._authorize(method, caller)
        CALLER.set(caller)
        return self._parse(method, raw)

    async def _parse_each(self, method: _Method, raws: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in raws:
            yield self._parse(method, raw)


def _aborted_code(context: _Context) -> grpc.StatusCode:
    # A servicer context gives the number, whatever its annotation says.
    code: object = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(cast("int", code), grpc.StatusCode.UNKNOWN)


async def _next(raws: AsyncIterator[bytes]) -> bytes | None:
    return await anext(raws, None)
