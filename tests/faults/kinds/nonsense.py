"""What no node may take in: too large, not protobuf, not a request, not even TLS."""

from __future__ import annotations

import asyncio

import grpc

from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, load_credentials
from elicense.v1 import issuance_pb2 as pb
from tests.faults.fault import Attack, Tally, Trial
from tests.faults.processes import DEADLINE_S
from tests.faults.world import SUZHOU

_REPLICATION = "/elicense.v1.ReplicationService/"


async def nonsense(trial: Trial) -> Tally:
    """Send what no node may take in: too large, not protobuf, not a request, not even TLS."""
    tally, city, world = Tally(), trial.city, trial.world
    issue = "/elicense.v1.IssuanceService/CreateLicense"
    at_city = (city.clerk, city.config.node.listen)
    at_registry = (load_credentials(trial.city.config.credentials_dir), world.registry.config.node.listen)
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
            await channel.unary_unary(method)(body, timeout=DEADLINE_S)  # type: ignore[arg-type]  # bytes as they are
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


NONSENSE = (Attack("nonsense: oversized, malformed, cut short, not TLS", nonsense, SUZHOU),)
