"""A registry that lies to one city, with the keys that it really has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from city_node.store import CityStore
from elicense.clock import utc_micros
from elicense.errors import Malformed
from elicense.log.checkpoint import cosign, log_verifier_key, parse_checkpoint, sign_checkpoint
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, Head, LogKey
from elicense.log.note import parse_note
from elicense.rpc.channel import secure_channel
from elicense.rpc.server import ReloadingCredentials
from elicense.trust.credentials import load_credentials
from elicense.v1 import recovery_pb2
from elicense.v1 import replication_pb2 as pb
from elicense.verification.evidence_file import confirm, parse_evidence
from registry.keys import RegistryKeys, load_keys
from registry.names import cosigner_name, registry_origin
from registry.store import RegistryStore
from tests.faults.fault import Attack, Tally, Trial, log_of
from tests.faults.processes import DEADLINE_S, until
from tests.faults.world import SUZHOU, TIANJIN, World

if TYPE_CHECKING:
    from sqlalchemy import Connection


Lie = Callable[["LyingRegistry", Any], None]

_GROUP = "lying registry"

#: What a city hears of its own log, and what it hears of the registry's.
_OF_THE_CITY: dict[str, Any] = {
    "/elicense.v1.ReplicationService/AppendEntries": pb.AppendEntriesResponse,
    "/elicense.v1.ReplicationService/GetReplicationState": pb.GetReplicationStateResponse,
}
_OF_THE_REGISTRY: dict[str, Any] = {
    "/elicense.v1.RecoveryService/ReadRegistryLog": recovery_pb2.ReadRegistryLogResponse
}


@dataclass
class LyingRegistry(grpc.GenericRpcHandler):
    """Has the registry's keys, asks the real one, and bends what it says to one city.

    Attributes:
        channel: The way to the real one.
        world: The nation.
        lie: Bends the answers of ``lies_in``; None tells the truth.
        told: How often it has lied.
        receipts: Size and receipt of each answer about the city's log.
    """

    channel: grpc.aio.Channel
    world: World
    lie: Lie | None = None
    lies_in: Mapping[str, Any] = field(default_factory=dict)
    told: int = 0
    receipts: list[tuple[int, bytes]] = field(default_factory=list)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, handler_call_details.method))

    async def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        call: Any = self.channel.unary_unary(method)
        try:
            content: bytes = await call(request)
        except grpc.aio.AioRpcError as error:
            context.set_trailing_metadata(error.trailing_metadata())
            await context.abort(error.code(), error.details())
        if method in _OF_THE_CITY:
            answer = _OF_THE_CITY[method].FromString(content)
            # A city that lost an answer asks for the state, and keeps the receipt that comes with it.
            self.receipts.append((answer.next_index, answer.receipt))
        if self.lie is not None and method in self.lies_in:
            answer = self.lies_in[method].FromString(content)
            self.lie(self, answer)
            self.told += 1
            content = answer.SerializeToString()
        return content

    def cosigned(self, checkpoint: bytes) -> bytes:
        config = self.world.registry.config
        name = cosigner_name(config.node.trust_domain)
        return cosign(checkpoint, name=name, signer=self.keys().cosigner, time_s=utc_micros() // 10**6)

    def keys(self) -> RegistryKeys:
        return load_keys(self.world.registry.config, random=bytes)


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
    held = world.look(world.registry.database_url).read_now(
        lambda conn: RegistryStore().logs.commits.latest_cosigned(conn, LogKey(TIANJIN, 1))
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
        liar = LyingRegistry(channel, world)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((liar,))
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
        return logs.commits.latest_cosigned(conn, max(key for key in logs.keys(conn) if key.log == trial.city.code))

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
            liar.lie, liar.lies_in = lie, _OF_THE_CITY
            async with asyncio.timeout(DEADLINE_S):
                while liar.told < told + 2:
                    await trial.ledger.more(1)
                await trial.ledger.more(1)
            liar.lie = None
            await world.caught_up(city)
            if expected:
                tally.refused(what, await _said(city.folder, expected, since=len(said)))
            held = _receipt_of(trial)
            tally.holds(f"{what}: stored", held in liar.receipts)
            tally.holds(f"{what}: an earlier receipt came back", held is not None and held[0] >= before)
    return tally


def _another_history(liar: LyingRegistry, answer: Any) -> None:
    """The split view proper: two signed heads of one size."""
    answer.head = _signed(liar, answer.head, root=b"\x2a" * 32)


def _an_entry_changed(_: LyingRegistry, answer: Any) -> None:
    for entry in answer.entries:
        entry.salt = bytes(32)


def _decisions_withheld(_: LyingRegistry, answer: Any) -> None:
    del answer.entries[:], answer.heads[:]


def _not_signed(_: LyingRegistry, answer: Any) -> None:
    *lines, _signature, end = answer.head.split(b"\n")
    answer.head = b"\n".join((*lines, end))


def _signed(liar: LyingRegistry, note: bytes, *, root: bytes) -> bytes:
    checkpoint = parse_checkpoint(parse_note(note).text)
    return sign_checkpoint(replace(checkpoint, root=root), liar.keys().log)


_LIES_OF_ITS_LOG: tuple[tuple[Lie, tuple[str, ...]], ...] = (
    (_an_entry_changed, ("ROOT_MISMATCH",)),
    (_decisions_withheld, ("MALFORMED",)),
    (_not_signed, ("SIGNATURE_INVALID", "CHECKPOINT_INVALID")),
    (_another_history, ("ROOT_MISMATCH",)),
)


async def split_view(trial: Trial) -> Tally:
    """Show one city another log of the registry than the others; its mirror must stay as it is, and prove it."""
    tally, city = Tally(), trial.city
    evidence = city.config.evidence_dir
    async with _in_between(trial) as liar:
        for lie, expected in _LIES_OF_ITS_LOG:
            what = lie.__name__.strip("_").replace("_", " ")
            await _mirror_goes_on(trial)
            liar.lie, liar.lies_in, told = lie, _OF_THE_REGISTRY, liar.told
            said, files = log_of(city.folder), set(evidence.glob("registry-*.json"))
            # Each licence of a new driver is one more decision.
            async with asyncio.timeout(DEADLINE_S):
                while liar.told < told + 2:
                    await trial.ledger.more(1)
            tally.refused(what, await _said(city.folder, expected, since=len(said)))
            if lie is _another_history:
                await until(lambda: len(set(evidence.glob("registry-*.json")) - files) > 0)  # noqa: B023
                tally.holds(f"{what}: not proved", _is_proved(liar, set(evidence.glob("registry-*.json")) - files))
            liar.lie = None
            await _mirror_goes_on(trial)
            tally.holds(f"{what}: stored", _mirror_is_true(trial))
    return tally


async def _said(folder: Path, reasons: Iterable[str], *, since: int) -> str | None:
    """Return for which of these reasons a node has refused something, once it says so: its log is behind it."""

    def heard() -> str | None:
        log = log_of(folder)[since:]
        return next((reason for reason in reasons if reason in log), None)

    with suppress(TimeoutError):
        await until(lambda: heard() is not None)
    return heard()


async def _mirror_goes_on(trial: Trial) -> None:
    """Wait until the city holds all that the registry has decided by now."""
    decided = _own_log(trial, registry=True).size
    await until(lambda: _own_log(trial, registry=False).size >= decided)


def _mirror_is_true(trial: Trial) -> bool:
    held = _own_log(trial, registry=False)
    database = trial.world.look(trial.world.registry.database_url)

    def root_there(conn: Connection) -> bytes:
        logs = RegistryStore().logs
        whole = logs.head(conn, held.key)
        return b"" if whole is None or whole.size < held.size else logs.root_at(conn, whole, held.size)

    return database.read_now(root_there) == held.root


def _own_log(trial: Trial, *, registry: bool) -> Head:
    """Return the head of the registry's own log, there or in the city's mirror."""
    url = trial.world.registry.database_url if registry else trial.city.database_url
    logs = (RegistryStore() if registry else CityStore()).logs

    def newest(conn: Connection) -> Head:
        head = logs.head(conn, max(key for key in logs.keys(conn) if key.log == REGISTRY_LOG))
        assert head is not None
        return head

    return trial.world.look(url).read_now(newest)


def _is_proved(liar: LyingRegistry, files: Iterable[Path]) -> bool:
    """Whether each file convicts the registry, by its public key alone."""
    origin = registry_origin(liar.world.registry.config.node.trust_domain, FIRST_EPOCH)
    key = log_verifier_key(origin, liar.keys().log.public_key())
    try:
        for file in files:
            confirm(parse_evidence(file.read_bytes()), [key])
    except Malformed:
        return False
    return True


LYING_REGISTRY = (
    Attack("lying registry", lying_registry, SUZHOU, group=_GROUP),
    Attack("registry that shows a city another log of its own", split_view, SUZHOU, group=_GROUP),
)
