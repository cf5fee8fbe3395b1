"""Too much, too large, too slow, or nonsense; what the healthy city feels meanwhile is a figure."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from elicense.errors import Error
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, load_credentials
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import replication_pb2, replication_pb2_grpc
from tests.faults.fault import Attack, Tally, Trial
from tests.faults.report import quantile
from tests.faults.workload import CALL_S, Ledger
from tests.faults.world import SUZHOU

_PROBES = 40
_REPLICATION = "/elicense.v1.ReplicationService/"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

Flood = Callable[[Trial], AbstractAsyncContextManager[None]]


def _city_credentials(trial: Trial) -> Credentials:
    return load_credentials(trial.city.config.credentials_dir)


# -- what floods -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _connections(trial: Trial) -> AsyncIterator[None]:
    """Hundreds of connections to registry and city on which nothing is ever said."""
    host, port = trial.world.registry.address
    city_port = int(trial.city.config.node.listen.rpartition(":")[2])
    writers = []
    for number in range(400):
        with suppress(OSError):
            writers.append((await asyncio.open_connection(host, (port, city_port)[number % 2]))[1])
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def _slow_senders(trial: Trial) -> AsyncIterator[None]:
    """Well certified connections that send the start of a request, a byte at a time, and never its end."""
    credentials = _city_credentials(trial)
    host, port = trial.world.registry.address
    context = _tls(credentials, trial.world.folder)

    async def crawl() -> None:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=credentials.server_name)
            # A frame that announces 16 KiB of headers.
            for byte in _PREFACE + _SETTINGS + bytes((0, 64, 0, 1, 4, 0, 0, 0, 1)) + bytes(1 << 14):
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0.05)

    async with _background(*(crawl() for _ in range(50))):
        yield


@asynccontextmanager
async def _streams(trial: Trial) -> AsyncIterator[None]:
    """Calls by the hundred, each cancelled as soon as it is sent."""
    credentials, address = _city_credentials(trial), trial.world.registry.config.node.listen

    async def reset() -> None:
        async with secure_channel(credentials, address=address, retries=False, local_pool=True) as channel:
            stub = replication_pb2_grpc.ReplicationServiceStub(channel)
            request = replication_pb2.GetReplicationStateRequest()
            while True:
                calls = [stub.GetReplicationState(request, timeout=CALL_S) for _ in range(100)]
                await asyncio.sleep(0.05)
                for one in calls:
                    one.cancel()
                await asyncio.gather(*(one.code() for one in calls), return_exceptions=True)

    async with _background(reset(), reset()):
        yield


@asynccontextmanager
async def _background(*tasks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.sleep(0.2)
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _tls(credentials: Credentials, folder: Path) -> ssl.SSLContext:
    # The ssl module reads keys from files alone.
    files = []
    for name, held in (("key", credentials.key_pem), ("chain", credentials.chain_pem)):
        path = folder / f"flood-{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(held)
        files.append(path)
    context = ssl.create_default_context(cadata=credentials.root_pem.decode())
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(files[1], files[0])
    return context


async def flooded(trial: Trial, *, flood: Flood) -> Tally:
    """Issue in the healthy city before and during the flood; the attacked nodes serve on."""
    healthy = Ledger(trial.world.tianjin)
    before = await _latencies(healthy)
    async with flood(trial):
        during = await _latencies(healthy)
        served = trial.ledger.acknowledged
        with suppress(TimeoutError):
            await trial.ledger.more(3, deadline_s=20)
    tally = Tally()
    tally.holds("the attacked city served nobody meanwhile", trial.ledger.acknowledged > served)
    tally.holds("the healthy city refused somebody", not healthy.refusals)
    ratio = quantile(during, 0.5) / quantile(before, 0.5)
    trial.notes.append(
        f"a licence in the healthy city took {quantile(before, 0.5) * 1e3:.0f} ms before and "
        f"{quantile(during, 0.5) * 1e3:.0f} ms meanwhile (p50, {ratio:.2f} x)"
    )
    return tally


async def _latencies(ledger: Ledger) -> list[float]:
    line = ledger.city.line()
    ledger.latencies.clear()
    for _ in range(_PROBES):
        with suppress(Error):
            await ledger.issue(line)
    await line.hang_up()
    return list(ledger.latencies) or [time.perf_counter()]


# -- what is nonsense --------------------------------------------------------------------------------------------------


async def nonsense(trial: Trial) -> Tally:
    """Send what no node may take in: too large, not protobuf, not a request, not even TLS."""
    tally, city, world = Tally(), trial.city, trial.world
    issue = "/elicense.v1.IssuanceService/CreateLicense"
    at_city = (city.clerk, city.config.node.listen)
    at_registry = (_city_credentials(trial), world.registry.config.node.listen)
    draw = trial.moments
    for _ in range(20):
        piece = draw.randbytes(draw.randrange(1, 400))
        tally.refused("random bytes as a licence", await _send(*at_city, issue, piece))
        tally.refused("random bytes as a batch", await _send(*at_registry, _REPLICATION + "AppendEntries", piece))
        tally.refused("random bytes as claims", await _send(*at_registry, _REPLICATION + "ClaimPersons", piece))
    request = pb.CreateLicenseRequest(parent=city.parent, license=trial.ledger.person(), request_id="no uuid")
    whole = request.SerializeToString()
    tally.refused("a request id that is none", await _send(*at_city, issue, whole), "MALFORMED")
    for cut in range(1, len(whole), 23):
        tally.refused("a request cut short", await _send(*at_city, issue, whole[:cut]))
    large = bytes(5 << 20)
    tally.refused("5 MiB as a licence", await _send(*at_city, issue, large), "EXHAUSTED")
    tally.refused("5 MiB as a batch", await _send(*at_registry, _REPLICATION + "AppendEntries", large), "EXHAUSTED")
    tally.refused("a method that is none", await _send(*at_city, "/elicense.v1.IssuanceService/Forge", b""))
    for address in (world.registry.address, ("127.0.0.1", int(city.config.node.listen.rpartition(":")[2]))):
        for _ in range(10):
            tally.holds("plain bytes were answered", not await _plain(address, draw.randbytes(200)))
    return tally


async def _send(credentials: Credentials, address: str, method: str, body: bytes) -> str | None:
    # The default would stop what is too large on our own side.
    async with grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(credentials.root_pem, credentials.key_pem, credentials.chain_pem),
        options=(("grpc.ssl_target_name_override", credentials.server_name), ("grpc.use_local_subchannel_pool", 1)),
    ) as channel:
        try:
            await channel.unary_unary(method)(body, timeout=CALL_S)  # type: ignore[arg-type]  # bytes as they are
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
    return None


async def _plain(address: tuple[str, int], body: bytes) -> bytes:
    """Send bytes without TLS; return what a server says that takes them for a request."""
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(body)
        writer.write_eof()
        async with asyncio.timeout(15):
            answer = await reader.read()
        writer.close()
    except OSError:
        return b""
    # A TLS alert (RFC 8446, section 6) is a refusal.
    return b"" if answer[:1] in (b"", b"\x15") else answer


FLOODS = (
    Attack("nonsense: oversized, malformed, cut short, not TLS", nonsense, SUZHOU),
    Attack("400 silent connections", partial(flooded, flood=_connections), SUZHOU, short=False),
    Attack("50 slow senders", partial(flooded, flood=_slow_senders), SUZHOU, short=False),
    Attack("calls cancelled by the hundred", partial(flooded, flood=_streams), SUZHOU, short=False),
)
