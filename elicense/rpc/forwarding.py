"""Passing calls on to the process that writes, as they came: bytes in, bytes out.

The caller's certificate rides along.  The writer looks it up in its own table and
authorizes the call anew, so a process that listens can lend nobody any right.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import grpc

from elicense.errors import PeerUnreachable
from elicense.rpc.authentication import PASSED_ON_KEY, shown_certificate
from elicense.rpc.errors import DETAILS_KEY
from elicense.rpc.message_size import MESSAGE_SIZE_OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

REQUEST_ID_KEY: Final = "x-request-id"
LONGEST_CALL_S: Final = 60.0
"""For a call whose caller set no deadline."""

PATIENCE_S: Final = 5.0
"""A process needs a second or two to start; a client would come again no sooner."""

_OPTIONS: Final = (
    *MESSAGE_SIZE_OPTIONS,
    ("grpc.enable_retries", 0),
    # A writer that starts again is found within this time of its socket.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class PassedOn(Exception):  # no error of ours: what the writer answered
    """The writer's refusal, to be handed to the caller as it is.

    Args:
        error: What the writer answered.
        details: Its ``google.rpc.Status``, serialized.
    """

    def __init__(self, error: grpc.aio.AioRpcError, details: bytes) -> None:
        super().__init__(error.code().name)
        self.code = error.code()
        self.text = error.details() or ""
        self.details = details


class Forwarder:
    """Passes calls on over a Unix socket.

    Args:
        socket: The writer's socket.
        kept: Prefixes of the methods that are answered here.
        patience_s: How long a call waits for a writer that starts again.
    """

    def __init__(self, socket: Path, *, kept: tuple[str, ...], patience_s: float = PATIENCE_S) -> None:
        self._target = f"unix:{socket}"
        self._kept = kept
        self._patience_s = patience_s
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}

    def takes(self, method: str) -> bool:
        """Whether calls of a method are passed on."""
        return not method.startswith(self._kept)

    async def pass_on(self, method: str, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """Return the writer's answer to a call.

        Raises:
            PassedOn: It refused.
            PeerUnreachable: It is not there.
        """
        given = cast("tuple[tuple[str, str], ...]", context.invocation_metadata())
        metadata: list[tuple[str, str | bytes]] = [(key, value) for key, value in given if key == REQUEST_ID_KEY]
        metadata.append((PASSED_ON_KEY, shown_certificate(context)))
        left_s = min(context.time_remaining() or LONGEST_CALL_S, LONGEST_CALL_S)
        channel = await self._ready(min(self._patience_s, left_s / 2))
        try:
            answer: bytes = await self._method(channel, method)(request, timeout=left_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            for key, value in error.trailing_metadata() or ():
                if key == DETAILS_KEY:
                    raise PassedOn(error, cast("bytes", value)) from error
            raise PeerUnreachable("the process that writes has ended; send the request again") from error
        return answer

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def _ready(self, patience_s: float) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = grpc.aio.secure_channel(
                self._target, grpc.local_channel_credentials(grpc.LocalConnectionType.UDS), options=_OPTIONS
            )
        if self._channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            try:
                async with asyncio.timeout(patience_s):
                    await self._channel.channel_ready()
            except TimeoutError as error:
                raise PeerUnreachable("the process that writes is not there; send the request again") from error
        return self._channel

    def _method(self, channel: grpc.aio.Channel, name: str) -> Any:
        if name not in self._methods:
            # Without serializers: the bytes are the caller's.
            self._methods[name] = channel.unary_unary(name)
        return self._methods[name]
