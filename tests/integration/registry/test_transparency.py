"""Heads, proofs and leaf hashes over the wire: what each caller may see, and that it holds together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc
import pytest
from sqlalchemy import Connection

from elicense import errors
from elicense.cli.join import join
from elicense.log.checkpoint import Checkpoint, log_verifier_key, open_checkpoint, open_cosigned, parse_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.merkle import verify_consistency, verify_inclusion
from elicense.log.model import LogKey, NewEntry
from elicense.log.note import parse_note
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials
from elicense.trust.token import format_token
from elicense.v1 import log_pb2, transparency_pb2_grpc
from elicense.v1 import transparency_pb2 as pb
from registry.names import registry_origin
from tests.integration.registry.world import SUZHOU, TIANJIN, TRUST_DOMAIN, World
from tests.support.city import DEADLINE_S, City

T = TypeVar("T")
REGISTRY = pb.LogName(city=0, epoch=1)
LOG = pb.LogName(city=SUZHOU, epoch=1)


@dataclass
class Asker:
    """Asks the transparency service; every error comes as the domain's."""

    stub: transparency_pb2_grpc.TransparencyServiceStub

    async def _call(self, pending: Awaitable[T]) -> T:
        try:
            return await pending
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def head(self, log: pb.LogName = LOG, size: int | None = None) -> tuple[Checkpoint, bytes]:
        request = pb.GetCheckpointRequest(log=log)
        if size is not None:
            request.size = size
        note = (await self._call(self.stub.GetCheckpoint(request, timeout=DEADLINE_S))).checkpoint
        return parse_checkpoint(parse_note(note).text), note

    async def inclusion(self, index: int, size: int, log: pb.LogName = LOG) -> pb.GetInclusionProofResponse:
        request = pb.GetInclusionProofRequest(log=log, index=index, size=size)
        return await self._call(self.stub.GetInclusionProof(request, timeout=DEADLINE_S))

    async def consistency(self, first: int, second: int, log: pb.LogName = LOG) -> list[bytes]:
        request = pb.GetConsistencyProofRequest(log=log, first=first, second=second)
        return list((await self._call(self.stub.GetConsistencyProof(request, timeout=DEADLINE_S))).hashes)

    async def leaves(self, first: int = 0, page_size: int = 0, log: pb.LogName = LOG) -> list[bytes]:
        request = pb.ListEntriesRequest(log=log, first_index=first, page_size=page_size)
        data = (await self._call(self.stub.ListEntries(request, timeout=DEADLINE_S))).leaf_hashes
        return [data[i : i + 32] for i in range(0, len(data), 32)]

    async def vector(self) -> pb.GetHeadVectorResponse:
        return await self._call(self.stub.GetHeadVector(pb.GetHeadVectorRequest(), timeout=DEADLINE_S))

    async def logs(self) -> list[pb.LogDescription]:
        return list((await self._call(self.stub.ListLogs(pb.ListLogsRequest(), timeout=DEADLINE_S))).logs)


@asynccontextmanager
async def asking(world: World, who: str | Credentials) -> AsyncIterator[Asker]:
    if isinstance(who, str):
        token = await world.token(f"spiffe://{TRUST_DOMAIN}/{who}")
        who = await asyncio.to_thread(join, format_token(token), world.folder / who.replace("/", "-"))
    async with secure_channel(who, retries=False, local_pool=True) as channel:
        yield Asker(transparency_pb2_grpc.TransparencyServiceStub(channel))


async def suzhou(world: World, count: int) -> City:
    city = await world.city(SUZHOU)
    await issue(city, count)
    return city


async def issue(city: City, count: int) -> None:
    for _ in range(count):
        city.issue(f"{city.code}19900101{city.size:04d}")
    await city.replicate()
    # Issued without a grant: the registry writes a decision on each, which must not come in between later.
    await city.decided(city.size)


async def test_an_auditor_sees_the_newest_head_cosigned_and_proves_everything_below_it(world: World) -> None:
    city = await suzhou(world, 7)
    await issue(city, 6)
    async with asking(world, "auditor/a1") as auditor:
        head, note = await auditor.head()
        opened = open_cosigned(note, origin=city.origin, log_key=city.key, cosigner_key=city.cosigner)
        assert (head.size, head.root) == (13, city.root()) == (opened.checkpoint.size, opened.checkpoint.root)
        assert await auditor.leaves() == city.leaves()
        assert await auditor.leaves(5, 3) == city.leaves()[5:8]
        for size in (1, 7, 8, 13):
            for index in range(size):
                proof = await auditor.inclusion(index, size)
                assert proof.leaf_hash == city.leaves()[index]
                verify_inclusion(
                    leaf_hash=proof.leaf_hash, index=index, size=size, proof=proof.hashes, root=city.root(size)
                )
            verify_consistency(
                first=size,
                first_root=city.root(size),
                second=13,
                second_root=head.root,
                proof=await auditor.consistency(size, 13),
            )


async def test_a_stranger_sees_a_log_to_its_published_head_and_not_an_entry_further(world: World) -> None:
    city = await suzhou(world, 5)
    async with asking(world, "verifier/rental/one") as stranger, asking(world, "auditor/a1") as auditor:
        with pytest.raises(errors.NotFound):
            await stranger.head()
        assert await stranger.leaves() == []
        assert await world.node.publish_heads()
        await issue(city, 4)
        assert (await auditor.head())[0].size == 9
        assert (await stranger.head())[0].size == 5
        assert await stranger.leaves() == city.leaves()[:5]
        assert len((await stranger.inclusion(0, 5)).hashes) == 3
        for refused in (stranger.inclusion(0, 6), stranger.consistency(5, 9), stranger.inclusion(5, 9)):
            with pytest.raises(errors.Malformed):
                await refused
        with pytest.raises(errors.NotFound):
            await stranger.head(size=9)


async def test_published_heads_are_a_minute_apart_and_those_between_are_never_shown(world: World) -> None:
    city = await suzhou(world, 1)
    async with asking(world, "verifier/insurer/one") as stranger:
        assert await world.node.publish_heads()
        await issue(city, 1)
        assert not await world.node.publish_heads()
        world.clock.advance(seconds=59)
        assert not await world.node.publish_heads()
        assert (await stranger.head())[0].size == 1
        await issue(city, 1)
        world.clock.advance(seconds=2)
        assert await world.node.publish_heads()
        assert (await stranger.head())[0].size == 3
        for size in (1, 2):
            with pytest.raises(errors.NotFound):
                await stranger.head(size=size)
        world.clock.advance(seconds=61)
        assert not await world.node.publish_heads()  # nothing has changed


async def test_the_vector_of_heads_is_an_entry_of_the_registry_log_that_everybody_may_open(world: World) -> None:
    city = await suzhou(world, 3)
    other = await world.city(TIANJIN)
    await issue(other, 2)
    origin = registry_origin(TRUST_DOMAIN, 1)
    key = log_verifier_key(origin, world.keys.log.public_key())
    async with asking(world, "verifier/recruiter/one") as stranger:
        with pytest.raises(errors.NotFound):
            await stranger.vector()
        await world.node.publish_heads()
        shown = await stranger.vector()
        head = open_checkpoint(shown.proof.checkpoint, origin=origin, key=key)
        verify_inclusion(
            leaf_hash=leaf_hash(shown.entry.salt, shown.entry.record),
            index=shown.proof.position.index,
            size=head.size,
            proof=list(shown.proof.hashes),
            root=head.root,
        )
        vector = log_pb2.RegistryRecord.FromString(shown.entry.record).head_vector
        assert vector.trust_domain == TRUST_DOMAIN
        assert [(h.city, h.epoch, h.size, h.root) for h in vector.heads] == [
            (TIANJIN, 1, 2, other.root()),
            (SUZHOU, 1, 3, city.root()),
        ]
        assert (await stranger.head(REGISTRY))[0] == head
    assert not world.fsck().findings
    world.database.write_now(
        lambda conn: conn.exec_driver_sql("UPDATE published_head SET size = size + 1 WHERE log = 120000")
    )
    assert [finding.where for finding in world.fsck().findings] == ["published head 120000/1"]


async def test_the_registry_log_is_published_once_it_has_grown_though_no_city_has(world: World) -> None:
    city = await suzhou(world, 1)
    await world.node.publish_heads()
    world.clock.advance(seconds=61)
    await city.claim("11010519491231002X")
    async with asking(world, "verifier/rental/one") as stranger, asking(world, "auditor/a1") as auditor:
        before = (await stranger.head(REGISTRY))[0].size
        assert (await auditor.head(REGISTRY))[0].size == before + 1
        assert await world.node.publish_heads()
        assert (await stranger.head(REGISTRY))[0].size == before + 2
        verify_consistency(
            first=before,
            first_root=(await auditor.head(REGISTRY, before))[0].root,
            second=before + 2,
            second_root=(await auditor.head(REGISTRY))[0].root,
            proof=await stranger.consistency(before, before + 2, REGISTRY),
        )


async def test_a_head_that_contradicts_itself_is_not_published(world: World) -> None:
    await suzhou(world, 2)
    world.database.write_now(
        lambda conn: conn.exec_driver_sql("UPDATE log_head SET root = zeroblob(32) WHERE log = 320500")
    )
    with pytest.raises(errors.StoreCorrupt):
        await world.node.publish_heads()


async def test_every_log_is_listed_with_its_key_and_an_unknown_one_is_not_found(world: World) -> None:
    city = await suzhou(world, 1)
    async with asking(world, "operator/o1") as operator:
        listed = await operator.logs()
        assert [(log.log.city, log.log.epoch, log.origin) for log in listed] == [
            (0, 1, f"{TRUST_DOMAIN}/registry/1"),
            (SUZHOU, 1, city.origin),
        ]
        for log in (pb.LogName(city=TIANJIN, epoch=1), pb.LogName(city=SUZHOU, epoch=2)):
            with pytest.raises(errors.NotFound):
                await operator.head(log)
        with pytest.raises(errors.Malformed):
            await operator.consistency(2, 1)
        with pytest.raises(errors.Malformed):
            await operator.head(pb.LogName(city=SUZHOU, epoch=0))


async def test_a_city_sees_the_newest_heads_of_its_neighbours(world: World) -> None:
    city = await suzhou(world, 4)
    neighbour = await world.city(TIANJIN)
    async with asking(world, neighbour.credentials) as asker:
        assert (await asker.head())[0].root == city.root()


async def test_the_cost_of_a_proof_does_not_grow_with_the_log(world: World) -> None:
    city = await suzhou(world, 1)
    key = LogKey(SUZHOU, 1)
    logs = world.store.logs

    def grow(size: int) -> None:
        def write(conn: Connection) -> None:
            head = logs.head(conn, key)
            while head is not None and head.size < size:
                step = min(size - head.size, 8_192)
                entries = [NewEntry(None, None, (head.size + i).to_bytes(32, "big")) for i in range(step)]
                head = logs.advance(conn, head, entries, recorded_us=1, note=city.note(1))

        world.database.write_now(write)

    def statements(size: int) -> list[str]:
        ran: list[str] = []

        def prove(conn: Connection) -> None:
            driver = conn.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.set_trace_callback(ran.append)
            logs.inclusion_proof(conn, key, size // 3, size)
            logs.consistency_proof(conn, key, size // 3, size)
            driver.set_trace_callback(None)

        world.database.read_now(prove)
        return ran

    grow(1_000)
    small = statements(1_000)
    grow(70_001)
    large = statements(70_001)
    # One more level of tiles, and the ragged edge of leaves on the right.
    assert len(large) <= len(small) + 6
    assert sum("log_entry" in statement for statement in large) <= 16
