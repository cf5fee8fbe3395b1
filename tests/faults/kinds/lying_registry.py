"""A registry that lies to one city, with the keys that it really has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from city_node.store import CityStore
from elicense.clock import utc_micros
from elicense.log.checkpoint import cosign
from elicense.log.model import LogKey
from elicense.rpc.channel import secure_channel
from elicense.rpc.server import ReloadingCredentials
from elicense.trust.credentials import load_credentials
from elicense.v1 import replication_pb2 as pb
from elicense.v1 import replication_pb2_grpc
from registry.keys import load_keys
from registry.names import cosigner_name
from registry.store import RegistryStore
from tests.faults.fault import Attack, Tally, Trial, log_of
from tests.faults.processes import until
from tests.faults.world import SUZHOU, TIANJIN, World

if TYPE_CHECKING:
    from sqlalchemy import Connection


Lie = Callable[["LyingRegistry", pb.AppendEntriesResponse], None]


@dataclass
class LyingRegistry(replication_pb2_grpc.ReplicationServiceServicer):
    """Has the registry's keys, asks the real one, and bends what it says to one city."""

    stub: replication_pb2_grpc.ReplicationServiceStub
    world: World
    lie: Lie | None = None
    told: int = 0
    receipts: list[tuple[int, bytes]] = field(default_factory=list)

    async def AppendEntries(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await _relayed(self.stub.AppendEntries(request), context)
        self.receipts.append((answer.next_index, answer.receipt))
        if self.lie is not None:
            self.lie(self, answer)
            self.told += 1
        return answer

    async def GetReplicationState(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await _relayed(self.stub.GetReplicationState(request), context)
        # A city that lost an answer asks for the state, and keeps the receipt that comes with it.
        self.receipts.append((answer.next_index, answer.receipt))
        if self.lie is not None:
            self.lie(self, answer)
            self.told += 1
        return answer

    async def ClaimPersons(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _relayed(self.stub.ClaimPersons(request), context)

    async def ShipAccesses(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _relayed(self.stub.ShipAccesses(request), context)

    def cosigned(self, checkpoint: bytes) -> bytes:
        config = self.world.registry.config
        keys = load_keys(config, random=bytes)
        return cosign(
            checkpoint, name=cosigner_name(config.node.trust_domain), signer=keys.cosigner, time_s=utc_micros() // 10**6
        )


async def _relayed(call: Any, context: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        context.set_trailing_metadata(error.trailing_metadata())
        await context.abort(error.code(), error.details())


def _another_root(liar: LyingRegistry, answer: Any) -> None:
    """A split view: a head of the right size with another root, cosigned."""
    first, size, _, *rest = answer.receipt.split(b"\n")
    forged = b"\n".join((first, size, b"A" * 43 + b"=", *rest[:-2], b""))
    answer.receipt = liar.cosigned(forged)


def _not_cosigned(liar: LyingRegistry, answer: Any) -> None:
    *lines, _, end = answer.receipt.split(b"\n")
    answer.receipt = b"\n".join((*lines, end))


def _no_receipt(_: LyingRegistry, answer: Any) -> None:
    answer.receipt = b""


def _says_more(_: LyingRegistry, answer: Any) -> None:
    answer.next_index += 5


def _says_less(_: LyingRegistry, answer: Any) -> None:
    """A suffix withheld: the receipt is for more than it says to hold."""
    answer.next_index -= 1


def _a_stale_head(liar: LyingRegistry, answer: Any) -> None:
    answer.next_index, answer.receipt = liar.receipts[0]


def _of_another_city(liar: LyingRegistry, answer: Any) -> None:
    world = liar.world
    held = world.look(world.registry.config.database.url).read_now(
        lambda conn: RegistryStore().logs.latest_cosigned(conn, LogKey(TIANJIN, 1))
    )
    if held is None:
        answer.receipt = b""
    else:
        answer.next_index, answer.receipt = held


def _gap_in_the_feed(_: LyingRegistry, answer: Any) -> None:
    if isinstance(answer, pb.AppendEntriesResponse):
        answer.dispositions.add(index=0, kind=pb.DISPOSITION_KIND_CONFLICT, sequence=10**6, epoch=1)
    else:
        answer.receipt = b""


_REGISTRY_LIES: tuple[tuple[Lie, tuple[str, ...]], ...] = (
    (_another_root, ("SIGNATURE_INVALID",)),
    (_not_cosigned, ("SIGNATURE_INVALID", "CHECKPOINT_INVALID")),
    (_no_receipt, ("CHECKPOINT_INVALID",)),
    (_says_more, ("CHECKPOINT_INVALID",)),
    (_says_less, ("CHECKPOINT_INVALID",)),
    (_of_another_city, ("CHECKPOINT_INVALID",)),
    (_gap_in_the_feed, ("DATA_LOSS",)),
    # What it signed once is no lie to the city, which sends again from there and keeps what it has.
    (_a_stale_head, ()),
)


@asynccontextmanager
async def _in_between(trial: Trial) -> Any:
    """Put a lying registry where the city looks for the real one."""
    world, city = trial.world, trial.city
    config = world.registry.config
    async with secure_channel(
        load_credentials(city.config.credentials_dir), address=config.node.listen, retries=False, local_pool=True
    ) as channel:
        liar = LyingRegistry(replication_pb2_grpc.ReplicationServiceStub(channel), world)
        server = grpc.aio.server()
        replication_pb2_grpc.add_ReplicationServiceServicer_to_server(liar, server)
        port = server.add_secure_port("127.0.0.1:0", ReloadingCredentials(config.credentials_dir).server_credentials())
        await server.start()
        real, city.upstream.target = city.upstream.target, ("127.0.0.1", port)
        city.upstream.drop()
        try:
            yield liar
        finally:
            city.upstream.target = real
            city.upstream.drop()
            await server.stop(None)


def _receipt_of(trial: Trial) -> tuple[int, bytes] | None:
    """Return the last receipt that the city holds, of its newest epoch."""

    def read(conn: Connection) -> tuple[int, bytes] | None:
        logs = CityStore().logs
        return logs.latest_cosigned(conn, max(key for key in logs.keys(conn) if key.log == trial.city.code))

    return trial.world.look(trial.city.database_url).read_now(read)


async def lying_registry(trial: Trial) -> Tally:
    """Tell the city every lie; it must store none of them, and go on once it hears the truth."""
    tally, city, world = Tally(), trial.city, trial.world
    async with _in_between(trial) as liar:
        for lie, expected in _REGISTRY_LIES:
            what = lie.__name__.strip("_").replace("_", " ")
            # What it holds came by way of the liar: then it is known what the real one said.
            await until(lambda: _receipt_of(trial) in liar.receipts)
            said, told = log_of(city.folder), liar.told
            before = (_receipt_of(trial) or (0, b""))[0]
            liar.lie = lie
            async with asyncio.timeout(40):
                while liar.told < told + 2:
                    await trial.ledger.more(1)
                await trial.ledger.more(1)
            liar.lie = None
            await world.caught_up(city)
            heard = log_of(city.folder)[len(said) :]
            if expected:
                tally.refused(what, next((reason for reason in expected if reason in heard), None))
            held = _receipt_of(trial)
            tally.holds(f"{what}: stored", held in liar.receipts)
            tally.holds(f"{what}: an earlier receipt came back", held is not None and held[0] >= before)
    return tally


LYING_REGISTRY = (Attack("lying registry", lying_registry, SUZHOU),)
