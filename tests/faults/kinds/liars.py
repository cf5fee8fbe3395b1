"""A city and a registry that lie, each with the keys that it really has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from city_node.store import CityStore
from elicense.clock import utc_micros
from elicense.errors import Error
from elicense.log.checkpoint import Checkpoint, cosign, sign_checkpoint
from elicense.log.model import LogKey
from elicense.rpc.channel import secure_channel
from elicense.rpc.server import ReloadingCredentials
from elicense.trust.credentials import load_credentials
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id
from elicense.trust.token import parse_token
from elicense.v1 import replication_pb2 as pb
from elicense.v1 import replication_pb2_grpc
from registry.keys import load_keys
from registry.names import cosigner_name
from registry.store import RegistryStore
from tests.faults.fault import Attack, Tally, Trial, log_of
from tests.faults.world import SUZHOU, TIANJIN, World
from tests.support.city import City
from tests.support.cluster import TRUST_DOMAIN

# -- a city ------------------------------------------------------------------------------------------------------------

_CODES = iter((130100, 140100, 150100, 210100, 220100, 230100, 330100, 340100, 350100, 360100, 370100, 410100, 420100))
_HELD = 3


async def join_liar(world: World) -> City:
    """Enrol one more city, which then holds three entries at the registry."""
    code = next(_CODES)
    token = parse_token(await world.cluster.national_token(city_id(TRUST_DOMAIN, code)))
    signer = generate_key_file(world.folder / f"liar-{code}.pem")
    city = await City.join(
        replace(token, address=world.registry.config.node.listen), code, signer=signer, clock=utc_micros
    )
    for last in range(_HELD):
        city.issue(f"{code}19900101{last:04d}")
    await city.replicate()
    return city


def _other_history(city: City, index: int) -> None:
    city.salts[index] = bytes(32)


def _fork_same_size(city: City) -> pb.AppendEntriesRequest:
    _other_history(city, _HELD - 1)
    return city.batch()


def _fork_from_before(city: City) -> pb.AppendEntriesRequest:
    _other_history(city, 1)
    city.issue(f"{city.code}199001020000")
    return city.batch()


def _fork_of_the_head(city: City) -> pb.AppendEntriesRequest:
    return city.batch(city.size, checkpoint=sign_checkpoint(Checkpoint(city.origin, city.size, bytes(32)), city.signer))


def _fork_hidden_in_the_suffix(city: City) -> pb.AppendEntriesRequest:
    """Only what is new is sent, but it was signed on another history."""
    _other_history(city, 0)
    city.issue(f"{city.code}199001020000")
    return city.batch(_HELD)


def _two_more(city: City) -> pb.AppendEntriesRequest:
    for last in range(2):
        city.issue(f"{city.code}19900103{last:04d}")
    return city.batch(_HELD)


def _reordered(city: City) -> pb.AppendEntriesRequest:
    request = _two_more(city)
    first, second = request.entries
    del request.entries[:]
    request.entries.extend((second, first))
    return request


def _dropped(city: City) -> pb.AppendEntriesRequest:
    request = _two_more(city)
    del request.entries[0]
    return request


def _dropped_and_counted_so(city: City) -> pb.AppendEntriesRequest:
    request = _dropped(city)
    request.first_index += 1
    return request


def _changed(city: City) -> pb.AppendEntriesRequest:
    request = _two_more(city)
    request.entries[0].record = request.entries[0].record + b"\x00"
    return request


def _stale(city: City) -> pb.AppendEntriesRequest:
    return _with(_two_more(city), checkpoint=city.note(_HELD))


def _set_back(city: City) -> pb.AppendEntriesRequest:
    """It says that it never had the last entry."""
    del city.records[-1], city.salts[-1]
    return city.batch(city.size)


def _other_epoch(city: City) -> pb.AppendEntriesRequest:
    return _with(_two_more(city), epoch=2)


def _with(request: pb.AppendEntriesRequest, **changes: Any) -> pb.AppendEntriesRequest:
    for name, value in changes.items():
        setattr(request, name, value)
    return request


_LIES: tuple[tuple[Callable[[City], pb.AppendEntriesRequest], tuple[str, ...]], ...] = (
    (_reordered, ("ROOT_MISMATCH",)),
    (_dropped, ("CHECKPOINT_INVALID",)),
    (_dropped_and_counted_so, ("SEQUENCE_GAP",)),
    (_changed, ("ROOT_MISMATCH",)),
    (_stale, ("CHECKPOINT_INVALID",)),
    (_set_back, ("SEQUENCE_GAP",)),
    (_other_epoch, ("EPOCH_CLOSED",)),
    (_fork_hidden_in_the_suffix, ("ROOT_MISMATCH",)),
    (_fork_same_size, ("LOG_FORKED",)),
    (_fork_from_before, ("LOG_FORKED",)),
    (_fork_of_the_head, ("LOG_FORKED",)),
)


async def lying_city(trial: Trial) -> Tally:
    """Send every lie from a city of its own; what the registry held before, it holds after."""
    tally, world = Tally(), trial.world

    def held(code: int) -> tuple[int, bytes]:
        head = world.look(world.registry.config.database.url).read_now(
            lambda conn: RegistryStore().logs.head(conn, LogKey(code, 1))
        )
        assert head is not None
        return head.size, head.root

    async def send(what: str, city: City, request: pb.AppendEntriesRequest, *expected: str) -> None:
        before = held(city.code)
        tally.refused(what, await _reason(city.send(request)), *expected)
        tally.holds(f"{what}: the registry holds something else now", held(city.code) == before)

    honest, other = await join_liar(world), await join_liar(world)
    liars = [honest, other]
    for lie, expected in _LIES:
        # What was signed and does not fit costs the city its standing, so each has a city of its own;
        # of every other lie nothing stays.
        city = await join_liar(world) if {"LOG_FORKED", "ROOT_MISMATCH"} & set(expected) else honest
        liars.append(city)
        told = replace(city, records=list(city.records), salts=list(city.salts))
        await send(lie.__name__.strip("_").replace("_", " "), city, lie(told), *expected)
    # Sending again what is held is no lie, and changes nothing.
    before = held(honest.code)
    tally.holds("replay: refused", await _reason(honest.send(honest.batch())) is None)
    tally.holds("replay: the registry holds something else now", held(honest.code) == before)
    await send("another city's batch", honest, _two_more(other), "CHECKPOINT_INVALID", "SIGNATURE_INVALID")
    forger = replace(honest, signer=other.signer)
    await send("a key that is not the city's", forger, _two_more(forger), "SIGNATURE_INVALID")
    for city in liars:
        await city.close()
    return tally


async def _reason(call: Awaitable[object]) -> str | None:
    try:
        await call
    except Error as error:
        return error.reason
    return None


# -- a registry --------------------------------------------------------------------------------------------------------

Lie = Callable[["LyingRegistry", pb.AppendEntriesResponse], None]


@dataclass
class LyingRegistry(replication_pb2_grpc.ReplicationServiceServicer):
    """Has the registry's keys, asks the real one, and bends what it says to one city."""

    stub: replication_pb2_grpc.ReplicationServiceStub
    world: World
    lie: Lie | None = None
    told: int = 0
    receipts: list[tuple[bytes, int]] = field(default_factory=list)

    async def AppendEntries(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await _relayed(self.stub.AppendEntries(request), context)
        self.receipts.append((answer.receipt, answer.next_index))
        if self.lie is not None:
            self.lie(self, answer)
            self.told += 1
        return answer

    async def GetReplicationState(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await _relayed(self.stub.GetReplicationState(request), context)
        # A city that lost an answer asks for the state, and keeps the receipt that comes with it.
        self.receipts.append((answer.receipt, answer.next_index))
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


async def lying_registry(trial: Trial) -> Tally:
    """Tell the city every lie; it must store none of them, and go on once it hears the truth."""
    tally, city, world = Tally(), trial.city, trial.world
    async with _in_between(trial) as liar:
        for lie, expected in _REGISTRY_LIES:
            what = lie.__name__.strip("_").replace("_", " ")
            said, told = log_of(city.folder), liar.told
            liar.lie = lie
            async with asyncio.timeout(40):
                while liar.told < told + 2:
                    await trial.ledger.more(1)
                await trial.ledger.more(1)
            liar.lie = None
            await world.caught_up(city)
            heard = log_of(city.folder)[len(said) :]
            tally.refused(what, next((reason for reason in expected if reason in heard), None))
            held = world.look(city.database_url).read_now(
                lambda conn: CityStore().logs.latest_cosigned(conn, LogKey(city.code, 1))
            )
            tally.holds(f"{what}: stored", held is not None and any(held[1] == real for real, _ in liar.receipts))
    return tally


LIARS = (
    Attack("lying city", lying_city, SUZHOU),
    Attack("lying registry", lying_registry, SUZHOU),
)
