"""The server around the handlers: health, reflection, draining, rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509 import load_pem_x509_certificate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from elicense.errors import CallerNotAllowed, PeerUnreachable
from elicense.rpc.channel import secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.server import ListenOptions, ReloadingCredentials
from tests.integration.rpc.test_calls import GOOD, Servicer, ask, serving, stub_of
from tests.support.authority import TestAuthority
from tests.support.cluster import eventually
from tests.support.node import TestNode

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def status(channel: grpc.aio.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return int(response.status)


async def test_health_is_not_serving_until_the_node_is_ready(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running() as node, node.channel("/auditor/zhao") as channel:
        services = ("", "elicense.v1.VerificationService")
        assert [await status(channel, s) for s in services] == [NOT_SERVING, NOT_SERVING]
        await node.server.set_ready()
        assert [await status(channel, s) for s in services] == [SERVING, SERVING]
        await node.server.health.set_ready(False, services=services[1:])
        assert [await status(channel, s) for s in services] == [SERVING, NOT_SERVING]
        listed = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=10)
        assert set(listed.statuses) == set(services)


async def test_health_of_an_unknown_service_is_not_found(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running() as node, node.channel("/auditor/zhao") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(channel, "no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

        async def logged() -> list[dict[str, Any]]:
            return node.lines()

        # The caller may hear first, and nobody waits for the end of a health check.
        assert (await eventually(logged))[-1]["code"] == "NOT_FOUND"


async def test_health_asks_for_a_certificate_like_everything_else(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running() as node:
        unlisted = pki.issue("/auditor/zhao", node=node.id)
        async with node.channel(unlisted) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await status(channel)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_unknown_method_is_unimplemented(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running() as node, node.channel("/operator/wang") as channel:
        call: Any = channel.unary_unary("/elicense.v1.VerificationService/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_draining_finishes_running_calls_and_takes_no_new_ones(pki: TestAuthority, tmp_path: Path) -> None:
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await proceed.wait()

    async with TestNode(pki, tmp_path).running(serving(Servicer(wait))) as node:
        await node.server.set_ready()
        async with node.channel("/verifier/police/p") as channel, node.channel("/auditor/zhao") as watching:
            watch = health_pb2_grpc.HealthStub(watching).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            running = asyncio.create_task(ask(channel))
            await begun.wait()
            draining = asyncio.create_task(node.server.drain(60))
            assert (await watch.read()).status == NOT_SERVING
            async with node.channel("/verifier/police/late") as late:
                with pytest.raises(PeerUnreachable):
                    await ask(late)
            assert not draining.done()
            proceed.set()
            assert await running == "spiffe://elicense.test/verifier/police/p"
            # The watcher still listens; the end does not wait a minute for it.
            async with asyncio.timeout(30):
                await draining
            watch.cancel()


async def test_draining_cuts_off_what_does_not_finish(pki: TestAuthority, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    node = TestNode(pki, tmp_path)
    async with node.running(serving(Servicer(hang))), node.channel("/verifier/police/p") as channel:
        running = asyncio.create_task(ask(channel))
        await begun.wait()
        await node.server.drain(0.05)
        with pytest.raises(PeerUnreachable):
            await running


async def test_reflection_is_for_operators_and_off_unless_asked_for(pki: TestAuthority, tmp_path: Path) -> None:
    async def list_services(channel: grpc.aio.Channel) -> set[str]:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        try:
            return {s.name async for r in call for s in r.list_services_response.service}
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async with TestNode(pki, tmp_path / "on", reflection=True).running() as node:
        async with node.channel("/operator/wang") as channel:
            assert "elicense.v1.VerificationService" in await list_services(channel)
        async with node.channel("/verifier/police/p") as channel:
            with pytest.raises(CallerNotAllowed):
                await list_services(channel)
    async with TestNode(pki, tmp_path / "off").running() as node, node.channel("/operator/wang") as channel:
        with pytest.raises(Exception, match="does not offer"):
            await list_services(channel)


async def test_a_rotated_certificate_is_served_without_a_restart(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running(serving(Servicer())) as node:
        async with node.channel("/verifier/police/p") as channel:
            await ask(channel)
            rotated = pki.issue("/registry")
            rotated.save(node.folder)
            await ask(channel)
        async with node.channel("/verifier/police/p") as channel:
            await ask(channel)
    assert node.credentials.current == rotated.credentials
    assert node.credentials.failures == 0


async def test_half_a_rotation_keeps_the_last_good_certificate(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running(serving(Servicer())) as node:
        before = node.credentials.current
        rotated = pki.issue("/registry").credentials
        (node.folder / "chain.pem").write_bytes(rotated.chain_pem)
        async with node.channel("/verifier/police/p") as channel:
            await ask(channel)
        assert node.credentials.current == before
        assert node.credentials.failures > 0
        (node.folder / "key.pem").write_bytes(rotated.key_pem)
        async with node.channel("/verifier/police/p") as channel:
            await ask(channel)
        assert load_pem_x509_certificate(node.credentials.current.chain_pem) == rotated.certificate


async def test_an_address_in_use_is_said_so(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path / "a").running() as node:
        other = TestNode(pki, tmp_path / "b", options=ListenOptions(node.address))
        with pytest.raises(PeerUnreachable, match="in use"):
            await other.server.start()


async def test_several_servers_may_share_a_port(pki: TestAuthority, tmp_path: Path) -> None:
    first = TestNode(pki, tmp_path / "a", options=ListenOptions("127.0.0.1:0", reuse_port=True))
    async with first.running():
        second = TestNode(pki, tmp_path / "b", options=ListenOptions(first.address, reuse_port=True))
        async with second.running():
            assert second.port == first.port


async def test_code_without_a_loop_may_call_as_well(pki: TestAuthority, tmp_path: Path) -> None:
    async with TestNode(pki, tmp_path).running(serving(Servicer())) as node:
        police = node.admit("/verifier/police/p")

        def call() -> str:
            with secure_channel_sync(police.credentials, address=node.address) as channel:
                return str(stub_of(channel).VerifyLicense(GOOD, timeout=10).verdict.summary)

        assert await asyncio.to_thread(call) == police.row.subject


def test_a_folder_that_can_not_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"key\.pem"):
        ReloadingCredentials(tmp_path)
