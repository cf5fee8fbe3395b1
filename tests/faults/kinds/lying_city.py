"""A city that lies, with the keys that it really has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from elicense.clock import utc_micros
from elicense.errors import Error
from elicense.log.checkpoint import Checkpoint, cosign, sign_checkpoint
from elicense.log.model import LogKey
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id
from elicense.trust.token import parse_token
from elicense.v1 import replication_pb2 as pb
from elicense.v1.license_pb2 import LICENSE_EVENT_CANCELLED, LicenseRecord
from elicense.v1.log_pb2 import LogEntry
from registry.store import RegistryStore
from tests.faults.fault import Attack, Tally, Trial
from tests.faults.world import SUZHOU, World
from tests.support.city import City
from tests.support.cluster import TRUST_DOMAIN

_PROVINCES = (13, 14, 15, 21, 22, 23, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51)
_CODES = (province * 10_000 + 100 for province in _PROVINCES)
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


def _emptied(city: City) -> pb.AppendEntriesRequest:
    """What it wrote last comes empty, and nothing says that the registry has ever seen it."""
    request = _two_more(city)
    request.entries[1].CopyFrom(LogEntry(leaf_hash=city.leaves()[-1]))
    return request


def _emptied_behind_the_receipt(city: City) -> pb.AppendEntriesRequest:
    request = _emptied(city)
    request.held_before.CopyFrom(city.held_before(city.size))
    return request


def _emptied_upon_a_receipt_of_its_own_making(city: City) -> pb.AppendEntriesRequest:
    request = _emptied(city)
    made_up = cosign(city.note(), name=city.cosigner.name, signer=city.signer, time_s=utc_micros() // 1_000_000)
    request.held_before.receipt = made_up
    return request


def _erased_by_its_word_alone(city: City) -> pb.AppendEntriesRequest:
    """A licence in force: that it was cancelled is what nobody is to see."""
    license_id = LicenseRecord.FromString(city.records[0]).license_id
    city.change(license_id, ["G"], event=LICENSE_EVENT_CANCELLED)
    city.emptied = {city.size - 1}
    city.erase(license_id)
    return city.batch(_HELD)


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
    (_emptied, ("SLOT_NOT_HELD",)),
    (_emptied_behind_the_receipt, ("SLOT_NOT_HELD",)),
    (_emptied_upon_a_receipt_of_its_own_making, ("SIGNATURE_INVALID",)),
    (_erased_by_its_word_alone, ("SLOT_NOT_HELD",)),
    (_fork_hidden_in_the_suffix, ("ROOT_MISMATCH",)),
    (_fork_same_size, ("LOG_FORKED",)),
    (_fork_from_before, ("LOG_FORKED",)),
    (_fork_of_the_head, ("LOG_FORKED",)),
)


async def lying_city(trial: Trial) -> Tally:
    """Send every lie from a city of its own; what the registry held before, it holds after."""
    tally, world = Tally(), trial.world

    def held(code: int) -> tuple[int, bytes]:
        head = world.look(world.registry.database_url).read_now(
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


LYING_CITY = (Attack("lying city", lying_city, SUZHOU),)
