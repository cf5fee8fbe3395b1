"""What the registry lets follow an epoch of a city's log, and what it gives back."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from pathlib import Path

import grpc
import pytest

from elicense import errors
from elicense.log.checkpoint import Checkpoint, log_verifier_key, open_cosigned, sign_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.model import LogKey
from elicense.log.tree import EMPTY_RANGE, EMPTY_ROOT
from elicense.log.verifier_key import format_vkey
from elicense.rpc.errors import from_rpc_error
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import FileSigner, generate_key_file
from elicense.v1 import recovery_pb2 as pb
from elicense.v1 import recovery_pb2_grpc
from elicense.view.opening import Opening, opening_record
from tests.integration.registry.world import World, stand_and_wait
from tests.support.city import City
from tests.support.cluster import eventually

SUZHOU, TIANJIN = 320500, 120000


def recovery(city: City) -> recovery_pb2_grpc.RecoveryServiceStub:
    city.stub()
    assert city._channel is not None
    return recovery_pb2_grpc.RecoveryServiceStub(city._channel)


def origin(city: City, epoch: int) -> str:
    return city_log_origin(city.credentials.subject.trust_domain, city.code, epoch)


def wish(city: City, signer: FileSigner, *, epoch: int = 2, size: int | None = None) -> pb.OpenEpochRequest:
    """Ask for an epoch at the head of the first ``size`` entries."""
    name = origin(city, epoch)
    return pb.OpenEpochRequest(
        epoch=epoch,
        log_verifier_key=format_vkey(log_verifier_key(name, signer.public_key())),
        log_possession_note=sign_checkpoint(Checkpoint(name, 0, EMPTY_ROOT), signer),
        closed_size=city.size if size is None else size,
        closed_root=city.root(size),
    )


async def open_epoch(city: City, request: pb.OpenEpochRequest) -> pb.OpenEpochResponse:
    try:
        answer: pb.OpenEpochResponse = await recovery(city).OpenEpoch(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return answer


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return generate_key_file(tmp_path / "second.pem")


@pytest.fixture
async def suzhou(world: World) -> City:
    """Suzhou with two licences that are held and one that is not."""
    city = await world.city(SUZHOU)
    city.issue("320500199003070134")
    city.issue("320500199003070214")
    await city.replicate()
    city.issue("32050019900307010X")
    return city


async def test_an_epoch_opens_only_at_the_head_that_is_held(suzhou: City, signer: FileSigner) -> None:
    with pytest.raises(errors.EpochNotBound) as refused:
        await open_epoch(suzhou, wish(suzhou, signer))
    assert refused.value.metadata["heldSize"] == "2"
    with pytest.raises(errors.EpochClosed):
        await open_epoch(suzhou, wish(suzhou, signer, epoch=3, size=2))
    other = wish(suzhou, signer, size=2)
    other.log_possession_note = sign_checkpoint(Checkpoint(origin(suzhou, 2), 0, EMPTY_ROOT), suzhou.signer)
    with pytest.raises(errors.SignatureInvalid):
        await open_epoch(suzhou, other)
    assert (await suzhou.state()).epoch == 1


async def test_an_epoch_that_has_ended_takes_nothing_more(world: World, suzhou: City, signer: FileSigner) -> None:
    request = wish(suzhou, signer, size=2)
    assert (await open_epoch(suzhou, request)).epoch == 2
    # A lost answer: the same again.
    assert (await open_epoch(suzhou, request)).epoch == 2
    with pytest.raises(errors.EpochClosed):
        await suzhou.send(suzhou.batch(2))
    await world.restart()
    with pytest.raises(errors.EpochClosed):
        await suzhou.send(suzhou.batch(2))
    state = await suzhou.state()
    assert (state.epoch, state.next_index) == (2, 0)
    assert not world.fsck().findings


async def test_on_postgres_a_batch_that_waited_while_its_epoch_ended_is_refused(
    world_on_postgres: World, signer: FileSigner
) -> None:
    world = world_on_postgres
    city = await world.city(SUZHOU)
    city.issue("320500199003070134")
    await city.replicate()
    city.issue("320500199003070214")
    with world.database._writing.connect() as holder:
        # Both stand at the head of the epoch, its end before the batch, and go on as this is let go.
        world.store.logs.head(holder, LogKey(SUZHOU, 1), lock=True)
        opening = asyncio.create_task(open_epoch(city, wish(city, signer, size=1)))
        await eventually(partial(stand_and_wait, world, 1))
        sending = asyncio.create_task(city.send(city.batch(1)))
        await eventually(partial(stand_and_wait, world, 2))
        holder.rollback()
    opened, sent = await asyncio.gather(opening, sending, return_exceptions=True)
    # Others of the registry may stand there too, and change their order: whichever is second must be refused.
    if isinstance(opened, BaseException):
        assert isinstance(opened, errors.EpochNotBound)
        assert not isinstance(sent, BaseException)
    else:
        assert opened.epoch == 2
        assert isinstance(sent, errors.EpochClosed)
    assert not world.fsck().findings


async def test_the_first_entry_of_an_epoch_must_bind_it_to_the_one_before(
    world: World, suzhou: City, signer: FileSigner
) -> None:
    await open_epoch(suzhou, wish(suzhou, signer, size=2))

    def batch(bound_at: int) -> object:
        opening = Opening(SUZHOU, 2, Checkpoint(origin(suzhou, 1), bound_at, suzhou.root(bound_at)), b"", world.clock())
        record, salt = opening_record(opening, actor="spiffe://elicense.test/city/320500"), secrets.token_bytes(32)
        root = EMPTY_RANGE.append_leaves([leaf_hash(salt, record)]).root()
        request = suzhou.batch(0, 0, epoch=2, tip_size=1)
        request.checkpoint = sign_checkpoint(Checkpoint(origin(suzhou, 2), 1, root), signer)
        request.entries.add(record=record, salt=salt)
        return request

    for wrong in (batch(1), batch(3)):
        with pytest.raises(errors.EpochNotBound):
            await suzhou.send(wrong)  # type: ignore[arg-type]
    taken = await suzhou.send(batch(2))  # type: ignore[arg-type]
    assert taken.next_index == 1
    assert not [word for word in suzhou.feed if word.epoch == 2]
    assert not world.fsck().findings


async def test_a_city_gets_back_its_own_log_byte_for_byte_and_no_other(world: World, suzhou: City) -> None:
    tianjin = await world.city(TIANJIN)
    (epoch,) = (await recovery(suzhou).ListEpochs(pb.ListEpochsRequest(), timeout=20)).epochs
    assert (epoch.epoch, epoch.size) == (1, 2)
    held = open_cosigned(epoch.receipt, origin=suzhou.origin, log_key=suzhou.key, cosigner_key=suzhou.cosigner)
    assert held.checkpoint.root == suzhou.root(2)
    page = await recovery(suzhou).ReadLog(pb.ReadLogRequest(epoch=1, first_index=1), timeout=20)
    assert [(entry.record, entry.salt) for entry in page.entries] == [(suzhou.records[1], suzhou.salts[1])]
    assert [head.size for head in page.heads] == [2]
    nothing = await recovery(tianjin).ReadLog(pb.ReadLogRequest(epoch=1, first_index=0), timeout=20)
    assert not nothing.entries
    with pytest.raises(grpc.aio.AioRpcError):
        await recovery(tianjin).ReadLog(pb.ReadLogRequest(epoch=2, first_index=0), timeout=20)


async def test_a_city_is_told_which_of_its_slots_are_held_emptied_and_of_no_other(
    world: World, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    tianjin = await world.city(TIANJIN)

    async def asked(city: City, first_index: int, epoch: int = 1) -> tuple[list[int], int]:
        request = pb.ListEmptiedSlotsRequest(epoch=epoch, first_index=first_index)
        listed = await recovery(city).ListEmptiedSlots(request, timeout=20)
        return list(listed.indices), listed.next_index

    assert await asked(suzhou, 0) == ([], 2)
    erased = world.store.logs.erased
    world.database.write_now(lambda conn: erased.erase(conn, [(LogKey(SUZHOU, 1), 1)]))
    assert await asked(suzhou, 0) == ([1], 2)
    assert await asked(suzhou, 2) == ([], 2)
    assert await asked(tianjin, 0) == ([], 0)
    monkeypatch.setattr("registry.epochs.SLOTS_PER_ANSWER", 1)
    assert await asked(suzhou, 0) == ([], 1)
    assert await asked(suzhou, 1) == ([1], 2)
    for wrong in ({"first_index": 3}, {"first_index": 0, "epoch": 2}):
        with pytest.raises(grpc.aio.AioRpcError):
            await asked(suzhou, **wrong)
