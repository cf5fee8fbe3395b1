"""Following at the registry what this city can not judge itself, for one watcher.

While the registry is away the watcher is told so, instead of being left with a
verdict that nobody vouches for; once it is back the watch goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import grpc
import structlog

from city_node.registry_faults import as_registry_fault
from elicense.errors import Error, Unavailable
from elicense.license.verdict import REGISTRY_UNREACHABLE
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.telemetry import describe_exception
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.verification.answer import as_message

FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 5.0
STREAMS_PER_CHANNEL: Final = 900
"""Below the number of streams that a server lets one connection carry."""

_log = structlog.stdlib.get_logger(__name__)


class RegistryRelay:
    """One watch at the registry; begins at once.

    Args:
        stub: The registry's VerificationService.
        request: What to follow, and for whom.
        wake: Called with each new verdict.
        allow: Takes out of a verdict what this node does not allow.
        clock: UTC microseconds.
        jitter: A value from 0 to 1 that spreads retries.
        ended: Called once when it has ended.
    """

    def __init__(
        self,
        *,
        stub: verification_pb2_grpc.VerificationServiceStub,
        request: pb.WatchLicenseRequest,
        wake: Callable[[], None],
        allow: Callable[[pb.Verdict], None],
        clock: Callable[[], int],
        jitter: Callable[[], float],
        ended: Callable[[], None],
    ) -> None:
        self._stub = stub
        self._request = request
        self._wake = wake
        self._allow = allow
        self._clock = clock
        self._jitter = jitter
        self._ended = ended
        self._newest: tuple[pb.Verdict, bool] | None = None
        self._refusal: Error | None = None
        self._failures = 0
        self._task = asyncio.create_task(self._run(), name="watch-relay")

    @property
    def newest(self) -> tuple[pb.Verdict, bool] | None:
        """The newest verdict, and whether it is this node's own word; None before the first.

        Raises:
            Error: The registry refused.
        """
        if self._refusal is not None:
            raise self._refusal
        return self._newest

    async def stop(self) -> None:
        """End the watch at the registry."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        try:
            while True:
                try:
                    await self._follow()
                except Unavailable:
                    self._say(as_message(REGISTRY_UNREACHABLE, now_us=self._clock()), own=True)
                except Error as error:
                    self._refusal = error
                    self._wake()
                    return
                except Exception as error:  # the watcher must not wait for ever for a task that died
                    _log.error("watch_relay_failed", **describe_exception(error))
                    self._refusal = Error("following the license at the registry failed")
                    self._wake()
                    return
                self._failures += 1
                longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 10))
                await asyncio.sleep(longest * (0.5 + self._jitter() / 2))
        finally:
            self._ended()

    async def _follow(self) -> None:
        """Follow until the registry ends the stream."""
        call = self._stub.WatchLicense(self._request)
        try:
            async for response in call:
                self._failures = 0
                self._allow(response.verdict)
                self._say(response.verdict, own=False)
        except grpc.RpcError as error:
            raise as_registry_fault(from_rpc_error(error)) from error
        finally:
            # A call that is merely dropped would live on.
            call.cancel()

    def _say(self, verdict: pb.Verdict, *, own: bool) -> None:
        self._newest = (verdict, own)
        self._wake()


class Relays:
    """Opens watches at the registry, over as many connections as they need.

    They are apart from the channel of questions: a connection carries a bounded
    number of streams, and a live display must not stand before a question.

    Args:
        connect: Opens one more channel to the registry.
        clock: UTC microseconds.
        jitter: A value from 0 to 1 that spreads retries.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], grpc.aio.Channel],
        clock: Callable[[], int],
        jitter: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._jitter = jitter
        self._channels: list[tuple[grpc.aio.Channel, set[int]]] = []
        self._next = 0

    def open(
        self, request: pb.WatchLicenseRequest, wake: Callable[[], None], *, allow: Callable[[pb.Verdict], None]
    ) -> RegistryRelay:
        """Follow a licence at the registry; ``wake`` is called with each new verdict, ``allow`` cuts it to size."""
        channel, carried = next(
            ((channel, carried) for channel, carried in self._channels if len(carried) < STREAMS_PER_CHANNEL),
            (None, set[int]()),
        )
        if channel is None:
            channel = self._connect()
            self._channels.append((channel, carried))
        number, self._next = self._next, self._next + 1
        carried.add(number)
        return RegistryRelay(
            stub=verification_pb2_grpc.VerificationServiceStub(channel),
            request=request,
            wake=wake,
            allow=allow,
            clock=self._clock,
            jitter=self._jitter,
            ended=lambda: carried.discard(number),
        )

    async def close(self) -> None:
        """Close every channel; the watches have ended by then."""
        for channel, _ in self._channels:
            await channel.close()
        self._channels.clear()
