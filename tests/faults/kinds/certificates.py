"""Callers whose certificate is expired, not yet valid, of another root, revoked, of another role or city, or absent."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from contextlib import suppress
from dataclasses import replace

from city_node.enrollment import enrollment
from city_node.keys import load_keys as load_city_keys
from city_node.store import CityStore
from elicense.cli.join import join as join_person
from elicense.clock import SECOND_US, utc_micros
from elicense.errors import Error
from elicense.rpc.channel import secure_channel
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.spiffe import SpiffeId
from elicense.trust.token import format_token
from elicense.trust.x509 import Authority, Validity, generate_key, key_to_pem, to_pem
from elicense.v1 import issuance_pb2 as issuance
from elicense.v1 import issuance_pb2_grpc, replication_pb2, replication_pb2_grpc
from registry.keys import load_keys as load_registry_keys
from tests.faults.fault import Attack, Tally, Trial
from tests.faults.processes import DEADLINE_S
from tests.faults.workload import CALL_S
from tests.faults.world import SUZHOU, TIANJIN, CityNode
from tests.support.authority import TestAuthority
from tests.support.cluster import TRUST_DOMAIN, call

_HOUR_US = 3_600 * SECOND_US
_NO_HANDSHAKE = ("PEER_UNREACHABLE",)
_NOT_IN_FORCE = ("UNAUTHENTICATED",)
_NOT_ALLOWED = ("CALLER_NOT_ALLOWED",)


def _forged(authority: Authority, like: Credentials, subject: SpiffeId, *, from_us: int, to_us: int) -> Credentials:
    key = generate_key()
    certificate = authority.issue_leaf(
        subject=subject, public_key=key.public_key(), validity=Validity(from_us, to_us), dns_names=()
    )
    return replace(like, key_pem=key_to_pem(key), chain_pem=to_pem(authority.chain_of(certificate)))


async def _issue(city: CityNode, credentials: Credentials) -> str | None:
    """Try to issue as somebody; return why not."""
    async with secure_channel(
        credentials,
        address=city.config.node.listen,
        server_name=city.clerk.server_name,
        retries=False,
        local_pool=True,
    ) as channel:
        request = issuance.ListLicensesRequest(parent=city.parent, page_size=1)
        return await _reason(issuance_pb2_grpc.IssuanceServiceStub(channel).ListLicenses(request, timeout=DEADLINE_S))


async def _replicate(registry: Credentials, credentials: Credentials) -> str | None:
    """Try to replicate as somebody, at the registry that ``registry`` leads to; return why not."""
    async with secure_channel(
        credentials, address=registry.address, server_name=registry.server_name, retries=False, local_pool=True
    ) as channel:
        stub = replication_pb2_grpc.ReplicationServiceStub(channel)
        return await _reason(stub.GetReplicationState(replication_pb2.GetReplicationStateRequest(), timeout=DEADLINE_S))


async def _reason(pending: object) -> str | None:
    try:
        await call(pending)  # type: ignore[arg-type]
    except Error as error:
        return error.reason
    return None


async def wrong_certificates(trial: Trial) -> Tally:
    """Call the city as a clerk and the registry as a city, with every certificate that must not do."""
    tally, city, world, now = Tally(), trial.city, trial.world, utc_micros()
    clerk = city.clerk
    authority = load_city_keys(city.config, random=secrets.token_bytes).authority
    node = load_credentials(city.config.credentials_dir)
    national = load_registry_keys(world.registry.config, random=secrets.token_bytes).authority
    registry = replace(node, address=world.registry.config.node.listen)
    validity = {
        "expired": (now - 2 * _HOUR_US, now - _HOUR_US),
        "not yet valid": (now + _HOUR_US, now + 2 * _HOUR_US),
    }
    for what, (start, end) in validity.items():
        forged = _forged(authority, clerk, clerk.subject, from_us=start, to_us=end)
        tally.refused(f"clerk, {what}", await _issue(city, forged), *_NO_HANDSHAKE)
        forged = _forged(national, node, node.subject, from_us=start, to_us=end)
        tally.refused(f"city, {what}", await _replicate(registry, forged), *_NO_HANDSHAKE)
    stranger = TestAuthority()
    elsewhere = stranger.issue(f"/clerk/{SUZHOU}/window-1").credentials
    foreign = replace(clerk, key_pem=elsewhere.key_pem, chain_pem=elsewhere.chain_pem)
    tally.refused("clerk of another root", await _issue(city, foreign), *_NO_HANDSHAKE)
    tally.refused("city of another root", await _replicate(registry, foreign), *_NO_HANDSHAKE)
    unknown = _forged(authority, clerk, clerk.subject, from_us=now - _HOUR_US, to_us=now + _HOUR_US)
    tally.refused("clerk well signed but never enrolled", await _issue(city, unknown), *_NOT_IN_FORCE)
    other = SpiffeId(TRUST_DOMAIN, ("clerk", str(TIANJIN), "window-1"))
    crossed = _forged(authority, clerk, other, from_us=now - _HOUR_US, to_us=now + _HOUR_US)
    tally.refused("clerk of Tianjin by Suzhou's authority", await _issue(world.tianjin, crossed), *_NOT_IN_FORCE)
    tally.refused("clerk of Suzhou at Tianjin", await _issue(world.tianjin, clerk), *_NOT_IN_FORCE)
    tally.refused("clerk who would replicate", await _replicate(registry, clerk), *_NOT_IN_FORCE, *_NOT_ALLOWED)
    tally.refused("city node that would issue", await _issue(city, node), *_NOT_IN_FORCE, *_NOT_ALLOWED)
    tally.refused("no certificate", await _without(city))
    revoked, before = await _revoked(trial)
    tally.holds("a clerk could not even work before it was revoked", before is None)
    started, reason = time.perf_counter(), None
    with suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while (reason := await _issue(city, revoked)) is None:
                pass
    tally.refused("revoked clerk", reason, *_NOT_IN_FORCE)
    trial.notes.append(f"a revoked clerk was refused within {time.perf_counter() - started:.1f} s")
    return tally


async def _without(city: CityNode) -> str | None:
    host, _, port = city.config.node.listen.rpartition(":")
    context = ssl.create_default_context(cadata=city.clerk.root_pem.decode())
    context.set_alpn_protocols(["h2"])
    try:
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=context, server_hostname=city.clerk.server_name
        )
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        await writer.drain()
        # With TLS 1.3 the refusal comes after the client's side of the handshake is done.
        async with asyncio.timeout(CALL_S):
            answer = await reader.read(1)
        writer.close()
    except (OSError, ssl.SSLError):
        return "NO_HANDSHAKE"
    return None if answer else "NO_HANDSHAKE"


async def _revoked(trial: Trial) -> tuple[Credentials, str | None]:
    """Enrol a clerk, let it work, and revoke it; the node hears of that within a second."""
    city, nursery = trial.city, trial.world.nursery
    name = f"leaver-{secrets.token_hex(4)}"
    keys = load_city_keys(city.config, random=secrets.token_bytes)
    database = Database(city.database_url, readers=1, writers=1)
    try:
        use_case = enrollment(city.config, keys, database, CityStore(), clock=utc_micros, random=secrets.token_bytes)
        token = await use_case.create_token(
            subject=SpiffeId(TRUST_DOMAIN, ("clerk", str(city.code), name)),
            address=city.config.node.listen,
            issued_by="spiffe://test/setup",
        )
    finally:
        await asyncio.to_thread(database.close)
    credentials = await asyncio.to_thread(join_person, format_token(token), trial.world.folder / name)
    before = await _issue(city, credentials)
    config = str(city.folder / "config.toml")
    status, said = await nursery.command("city_node.cli", "revoke", str(credentials.subject), "--config", config)
    assert status == 0, said
    return credentials, before


CERTIFICATES = (Attack("certificates: expired, early, foreign, revoked, of others, none", wrong_certificates, SUZHOU),)
