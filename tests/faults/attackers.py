"""Whoever attacks a node: a process of its own, at a rate that it is told, until it is sent SIGTERM.

Its own work is not what is to be felt, so it yields the processor to the nodes and
to those who are served meanwhile; in a nation it would be another machine's.  Its
last line says how often it struck, which may be less often than it was told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc

from elicense.clock import utc_micros
from elicense.log.checkpoint import cosigner_verifier_key
from elicense.rpc.channel import secure_channel
from elicense.rpc.server import stop_on_signals
from elicense.trust.credentials import CHAIN_FILE, KEY_FILE, ROOT_FILE, load_credentials
from elicense.trust.signer import FileSigner
from elicense.v1 import replication_pb2 as pb
from elicense.v1 import replication_pb2_grpc
from tests.support.city import City

STARTED = "attacking"
"""The line that says that the first blow has fallen."""

LOG_KEY_FILE = "log-key.pem"
"""In the folder of a city that lies: the key of its log."""

_REPLICATION = "/elicense.v1.ReplicationService/"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
#: A frame that announces 16 KiB of headers.
_HEADERS = bytes((0, 64, 0, 1, 4, 0, 0, 0, 1))
_CALL_S = 8.0


@dataclass
class Target:
    """Whom an attacker attacks, and as whom.

    Attributes:
        folder: Credentials of a city.
        address: host:port of a node.
        draw: Draws what is sent.
        accepted: Inputs that nobody may accept and somebody did.
    """

    folder: Path
    address: str
    draw: Random
    open: AsyncExitStack
    accepted: int = 0
    _channel: grpc.aio.Channel | None = None
    _held: deque[asyncio.StreamWriter] = field(default_factory=deque)

    async def channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            credentials = load_credentials(self.folder)
            channel = secure_channel(credentials, address=self.address, retries=False, local_pool=True)
            self._channel = await self.open.enter_async_context(channel)
        return self._channel

    async def connect(self, *, tls: bool) -> asyncio.StreamWriter:
        """Open a connection."""
        host, _, port = self.address.rpartition(":")
        if not tls:
            return (await asyncio.open_connection(host, int(port)))[1]
        context = ssl.create_default_context(cafile=self.folder / ROOT_FILE)
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.folder / CHAIN_FILE, self.folder / KEY_FILE)
        name = load_credentials(self.folder).server_name
        return (await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name))[1]

    def keep(self, writer: asyncio.StreamWriter, most: int) -> None:
        """Hold a connection open, and let go of the oldest of too many."""
        self._held.append(writer)
        while len(self._held) > most:
            self._held.popleft().transport.abort()


Strike = Callable[[Target, int], Awaitable[None]]


async def connect_in_silence(target: Target, number: int) -> None:
    """Open a connection and say nothing; every fifth has a handshake and a certificate before it falls silent."""
    with suppress(OSError):
        target.keep(await target.connect(tls=number % 5 == 0), 400)


async def send_slowly(target: Target, number: int) -> None:  # all are alike
    """Begin a request a byte at a time, and never end it."""
    with suppress(OSError):
        writer = await target.connect(tls=True)
        target.keep(writer, 50)
        for byte in _PREFACE + _SETTINGS + _HEADERS + bytes(1 << 14):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.05)


async def cancel(target: Target, number: int) -> None:
    """Call, and give the call up at once."""
    stub = replication_pb2_grpc.ReplicationServiceStub(await target.channel())
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        call = stub.GetReplicationState(pb.GetReplicationStateRequest(), timeout=_CALL_S)
        # On its way, and not yet answered.
        await asyncio.sleep(0.002)
        call.cancel()
        await call.code()


async def send_nonsense(target: Target, number: int) -> None:
    """Send bytes that are no request."""
    method = ("AppendEntries", "ClaimPersons", "ShipAccesses")[number % 3]
    # A field number of 0 is none, whatever follows.
    body = b"\0" + target.draw.randbytes(target.draw.randrange(1, 4_000))
    channel = await target.channel()
    with suppress(grpc.aio.AioRpcError):
        await channel.unary_unary(_REPLICATION + method)(body, timeout=_CALL_S)  # type: ignore[arg-type]
        target.accepted += 1


def forking(entries: int) -> Strike:
    """Return a strike that sends another history each time: a batch of so many entries, well signed."""
    city: City | None = None

    async def fork(target: Target, number: int) -> None:
        nonlocal city
        if city is None:
            city = await _liar(target, entries)
        city.salts[0] = number.to_bytes(32, "big")
        with suppress(grpc.aio.AioRpcError):
            await city.stub().AppendEntries(city.batch(), timeout=_CALL_S)
            target.accepted += 1

    return fork


async def _liar(target: Target, entries: int) -> City:
    credentials = load_credentials(target.folder)
    signer = FileSigner.load(target.folder / LOG_KEY_FILE)
    code = int(credentials.subject.path[1])
    # It does not look at receipts.
    nobody = cosigner_verifier_key("nobody", signer.public_key())
    city = City(code, credentials, signer, utc_micros, nobody)
    target.open.push_async_callback(city.close)
    for last in range(entries):
        city.issue(f"{code}19900101{last:04d}")
    return city


KINDS: dict[str, Callable[[], Strike]] = {
    "connections": lambda: connect_in_silence,
    "slow-senders": lambda: send_slowly,
    "cancelled-calls": lambda: cancel,
    "nonsense": lambda: send_nonsense,
    "forks": lambda: forking(500),
}


async def _attack(words: argparse.Namespace) -> int:
    stop, loop = stop_on_signals(), asyncio.get_running_loop()
    made, running = 0, set[asyncio.Task[None]]()
    strike = KINDS[words.kind]()
    async with AsyncExitStack() as stack:
        target = Target(words.credentials, words.address, Random(words.kind), stack)
        began = loop.time()
        while not stop.is_set() and not (words.most and made == words.most):
            # The first one makes what all need.
            task = asyncio.ensure_future(strike(target, made))
            running.add(task)
            task.add_done_callback(running.discard)
            made += 1
            if made == 1:
                print(STARTED, flush=True)  # noqa: T201
            with suppress(TimeoutError):
                async with asyncio.timeout_at(began + made / words.rate):
                    await stop.wait()
        await stop.wait()
        left = list(running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    print(json.dumps({"made": made, "accepted": target.accepted}), flush=True)  # noqa: T201
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--rate", type=float, required=True, help="Strikes a second.")
    parser.add_argument("--most", type=int, default=0, help="Strikes in all; 0 for any number.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--credentials", type=Path, required=True)
    os.nice(19)
    raise SystemExit(asyncio.run(_attack(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
