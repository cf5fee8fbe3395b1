"""Taking in a city's log, over real gRPC and mutual TLS."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from elicense import errors
from elicense.log.checkpoint import Checkpoint, open_cosigned, sign_checkpoint
from elicense.v1 import replication_pb2, verification_pb2
from elicense.v1.license_pb2 import LicenseRecord
from elicense.v1.log_pb2 import LogEntry
from elicense.v1.replication_pb2 import AppendEntriesRequest, HeldBefore
from registry.evidence_store import EVIDENCE_PER_REASON
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, World, running_world
from tests.support.city import City

NUMBER = "11010519491231002X"
OTHER = "44052418800101001X"


async def suzhou_with_records(world: World, count: int = 3) -> City:
    city = await world.city(SUZHOU)
    for number in range(count):
        city.issue(f"32050019900101{number:04d}")
    return city


def flipped(data: bytes, position: int = 0) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


async def test_a_batch_is_answered_with_a_receipt_that_both_sides_signed(world: World) -> None:
    city = await suzhou_with_records(world)
    answer = await city.replicate()
    receipt = open_cosigned(answer.receipt, origin=city.origin, log_key=city.key, cosigner_key=city.cosigner)
    assert (receipt.checkpoint.size, receipt.checkpoint.root) == (3, city.root())
    assert answer.next_index == 3
    assert not world.fsck().findings


async def test_sending_a_batch_again_changes_nothing_and_gives_the_same_receipt(world: World) -> None:
    city = await suzhou_with_records(world)
    first = await city.replicate()
    again = await city.send(city.batch(0))
    assert (again.next_index, again.receipt) == (first.next_index, first.receipt)
    assert not world.fsck().findings


async def test_the_receipt_of_a_head_is_the_same_after_a_restart_or_made_again(world: World) -> None:
    city = await suzhou_with_records(world)
    await city.replicate()
    await world.restart()
    state = await city.state()
    receipt = open_cosigned(state.receipt, origin=city.origin, log_key=city.key, cosigner_key=city.cosigner)
    assert receipt.checkpoint.size == state.next_index == 3


async def test_an_equal_prefix_is_skipped_and_the_new_suffix_applied(world: World) -> None:
    city = await suzhou_with_records(world)
    await city.replicate()
    city.issue(NUMBER)
    answer = await city.send(city.batch(1))
    assert answer.next_index == 4
    assert not world.fsck().findings


async def test_a_gap_is_refused_with_the_index_that_is_expected(world: World) -> None:
    city = await suzhou_with_records(world)
    await city.send(city.batch(0, 1))
    with pytest.raises(errors.SequenceGap) as refusal:
        await city.send(city.batch(2))
    assert refusal.value.metadata["expectedIndex"] == "1"


def flip_record(request: AppendEntriesRequest) -> None:
    request.entries[1].record = flipped(request.entries[1].record, 5)


def flip_salt(request: AppendEntriesRequest) -> None:
    request.entries[1].salt = flipped(request.entries[1].salt)


def flip_checkpoint_size(request: AppendEntriesRequest) -> None:
    request.checkpoint = request.checkpoint.replace(b"\n3\n", b"\n2\n", 1)


def flip_checkpoint_root(request: AppendEntriesRequest) -> None:
    lines = request.checkpoint.split(b"\n")
    lines[2] = (b"B" if lines[2][:1] == b"A" else b"A") + lines[2][1:]
    request.checkpoint = b"\n".join(lines)


def flip_signature(request: AppendEntriesRequest) -> None:
    head, _, tail = request.checkpoint.rpartition(b" ")
    request.checkpoint = head + b" " + tail[:20] + (b"B" if tail[20:21] == b"A" else b"A") + tail[21:]


def break_checkpoint_form(request: AppendEntriesRequest) -> None:
    request.checkpoint = request.checkpoint.replace(b"\n3\n", b"\n03\n", 1)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (flip_record, errors.RootMismatch),
        (flip_salt, errors.RootMismatch),
        (flip_checkpoint_size, errors.SignatureInvalid),
        (flip_checkpoint_root, errors.SignatureInvalid),
        (flip_signature, errors.SignatureInvalid),
        (break_checkpoint_form, errors.CheckpointInvalid),
    ],
)
async def test_one_changed_byte_is_refused_with_its_own_reason_and_leaves_nothing(
    world: World, tamper: object, reason: type[errors.Error]
) -> None:
    assert callable(tamper)
    city = await suzhou_with_records(world)
    request = city.batch(0)
    tamper(request)
    with pytest.raises(errors.Error) as refusal:
        await city.send(request)
    assert type(refusal.value) is reason
    assert (await city.state()).next_index == 0
    # What is right afterwards is taken as if nothing had happened.
    assert (await city.replicate()).next_index == 3


async def test_a_checkpoint_must_be_that_of_the_end_of_the_batch(world: World) -> None:
    city = await suzhou_with_records(world)
    with pytest.raises(errors.CheckpointInvalid):
        await city.send(city.batch(0, checkpoint=city.note(2)))


async def test_suzhou_can_not_write_the_log_of_tianjin(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    tianjin.issue(NUMBER)
    with pytest.raises(errors.CheckpointInvalid):
        await suzhou.send(tianjin.batch(0))
    # Nor with its own key under the other's name: the city is taken from the certificate.
    forger = City(TIANJIN, suzhou.credentials, suzhou.signer, world.clock, suzhou.cosigner)
    forger.issue(NUMBER)
    with pytest.raises(errors.CheckpointInvalid):
        await forger.send(forger.batch(0))
    assert (await tianjin.state()).next_index == 0
    assert (await suzhou.state()).next_index == 0


async def test_a_key_that_is_not_the_citys_can_not_sign_its_log(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    forger = City(SUZHOU, suzhou.credentials, tianjin.signer, world.clock, suzhou.cosigner)
    forger.issue(NUMBER)
    with pytest.raises(errors.SignatureInvalid):
        await forger.send(forger.batch(0))


async def test_a_certificate_of_another_root_gets_nothing(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = await world.city(SUZHOU)
    async with running_world(tmp_path_factory.mktemp("elsewhere")) as elsewhere:
        stranger = await elsewhere.city(SUZHOU)
        credentials = stranger.credentials
    foreign = City(SUZHOU, own.credentials, own.signer, world.clock, own.cosigner)
    foreign.credentials = type(credentials)(
        subject=credentials.subject,
        address=own.credentials.address,
        server_name=own.credentials.server_name,
        key_pem=credentials.key_pem,
        chain_pem=credentials.chain_pem,
        root_pem=own.credentials.root_pem,
    )
    world.joined.append(foreign)
    with pytest.raises(errors.PeerUnreachable):
        await foreign.state()


async def test_a_verifier_may_not_replicate(world: World) -> None:
    verifier = await world.verifier()
    city = await world.city(SUZHOU)
    with pytest.raises(errors.CallerNotAllowed):
        await City(SUZHOU, city.credentials, city.signer, world.clock, city.cosigner, _channel=verifier.channel).state()
    await verifier.channel.close()


async def test_a_well_signed_record_of_another_city_is_kept_without_effect_and_noted(world: World) -> None:
    city = await world.city(SUZHOU)
    city.issue(NUMBER, city=TIANJIN)
    city.append(b"not a record at all")
    city.issue(OTHER, claim=(await city.claim(OTHER))[0])
    answer = await city.replicate()
    assert answer.next_index == 3
    assert [(noted.index, noted.kind) for noted in answer.dispositions] == [
        (0, replication_pb2.DISPOSITION_KIND_UNREADABLE),
        (1, replication_pb2.DISPOSITION_KIND_UNREADABLE),
    ]
    verifier = await world.verifier()
    assert (await verifier.ask(NUMBER)).outcome == verification_pb2.OUTCOME_NO_MATCH
    assert (await verifier.ask(OTHER)).outcome == verification_pb2.OUTCOME_VALID
    await verifier.channel.close()
    assert not world.fsck().findings


async def test_another_history_of_held_entries_is_a_fork_and_is_kept_as_evidence(world: World) -> None:
    city = await suzhou_with_records(world)
    await city.replicate()
    city.salts[1] = bytes(32)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(0))
    kept = world.database.read_now(lambda conn: conn.exec_driver_sql("SELECT city, reason FROM evidence").all())
    assert [tuple(row) for row in kept] == [(SUZHOU, "LOG_FORKED")]


async def test_a_clock_more_than_ten_minutes_off_is_refused(world: World) -> None:
    city = await suzhou_with_records(world)
    request = city.batch(0)
    request.city_time.seconds += 11 * 60
    with pytest.raises(errors.ClockSkewed):
        await city.send(request)


async def test_another_epoch_is_refused(world: World) -> None:
    city = await suzhou_with_records(world)
    with pytest.raises(errors.EpochClosed):
        await city.send(city.batch(0, epoch=2))


async def test_the_feed_survives_lost_answers(world: World) -> None:
    city = await world.city(SUZHOU)
    city.append(b"unreadable")
    await city.send(city.batch(0), keep_feed=False)
    city.append(b"unreadable too")
    await city.send(city.batch(1), keep_feed=False)
    answer = await city.send(city.batch(city.size))
    assert [(noted.sequence, noted.index, noted.epoch) for noted in answer.dispositions] == [(1, 0, 1), (2, 1, 1)]
    assert not (await city.send(city.batch(city.size))).dispositions


async def test_cities_do_not_disturb_each_other(world: World) -> None:
    cities = [await world.city(code) for code in (SUZHOU, TIANJIN, CHENGDU)]
    for number, city in enumerate(cities):
        number_text = f"11010519900101{number:04d}"
        city.issue(number_text, claim=(await city.claim(number_text))[0])
        await city.replicate()
    report = world.fsck()
    assert (report.licenses, report.findings) == (3, ())


@pytest.mark.parametrize(("first", "stop"), [(0, 5), (5, 5), (1, 3)])
async def test_another_head_over_the_same_entries_is_a_fork_and_is_kept_as_evidence(
    world: World, first: int, stop: int
) -> None:
    city = await suzhou_with_records(world, 5)
    await city.replicate()
    request = city.batch(first, stop)
    request.checkpoint = sign_checkpoint(Checkpoint(city.origin, stop, bytes([stop]) * 32), city.signer)
    with pytest.raises(errors.LogForked):
        await city.send(request)
    kept = world.database.read_now(lambda conn: conn.exec_driver_sql("SELECT reason FROM evidence").scalars().all())
    assert list(kept) == ["LOG_FORKED"]
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(1, 3))


async def test_a_heartbeat_with_a_head_that_nobody_signed_is_refused(world: World) -> None:
    city = await suzhou_with_records(world)
    await city.replicate()
    with pytest.raises(errors.CheckpointInvalid):
        await city.send(city.batch(3, checkpoint=b"garbage"))
    unsigned = city.batch(3)
    flip_signature(unsigned)
    with pytest.raises(errors.SignatureInvalid):
        await city.send(unsigned)
    assert (await city.send(city.batch(3))).next_index == 3


async def test_evidence_against_one_city_is_bounded(world: World) -> None:
    for number in range(EVIDENCE_PER_REASON + 2):
        digest = bytes([number]) * 32
        kept = partial(world.store.evidence.add, city=SUZHOU, digest=digest, reason="LOG_FORKED", body=digest, now_us=0)
        world.database.write_now(kept)
    count = world.database.read_now(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM evidence").scalar_one())
    assert count == EVIDENCE_PER_REASON


async def test_a_head_that_has_no_room_for_the_registrys_signature_is_refused_before_it_is_kept(world: World) -> None:
    city = await suzhou_with_records(world)
    other = "\N{EM DASH} w AAAAAAA=\n".encode()
    cosigner = f"\N{EM DASH} {world.cosigner_name} AAAAAAA=\n".encode()
    for lines in (other * 63, cosigner):
        with pytest.raises(errors.CheckpointInvalid):
            await city.send(city.batch(0, checkpoint=city.note() + lines))
    assert (await city.state()).next_index == 0
    assert (await city.send(city.batch(0, checkpoint=city.note() + other * 30))).next_index == 3


def emptied(city: City, first: int, index: int, stop: int | None = None) -> AppendEntriesRequest:
    """A batch from ``first`` on in which one entry comes by its leaf hash alone, with whatever the city can show."""
    return replace(city, emptied={index}).batch(first, stop)


async def test_an_erased_slot_that_was_held_before_is_taken_in_by_its_leaf_hash_alone(world: World) -> None:
    city = await suzhou_with_records(world)
    world.has_held(city)
    request = emptied(city, 0, 1)
    assert (await city.send(request)).next_index == 3
    # The slot may have been sent before it was erased, or after.
    assert (await city.send(request)).next_index == 3
    assert (await city.send(city.batch(0))).next_index == 3
    assert not world.fsck().findings
    city.append(b"another")
    short = city.batch(3)
    short.entries[0].CopyFrom(LogEntry(leaf_hash=bytes(31)))
    with pytest.raises(errors.Malformed):
        await city.send(short)


@pytest.mark.parametrize("stop", [1, 2, 3, 5], ids=["far below", "below", "at", "beyond"])
async def test_a_batch_may_end_anywhere_about_the_receipt_that_covers_what_it_sends_empty(
    world: World, stop: int
) -> None:
    city = await suzhou_with_records(world)
    world.has_held(city)
    for number in range(2):
        city.append(b"more %d" % number)
    assert (await city.send(emptied(city, 0, 0, stop))).next_index == stop
    assert not world.fsck().findings


async def test_a_slot_that_was_never_held_in_full_is_not_taken_in_emptied(world: World) -> None:
    """Or a city could empty its licence by its own word: the registry would not know whether it was ever cancelled."""
    city, other = await suzhou_with_records(world), await world.city(CHENGDU)
    for number in range(3):
        other.append(b"other %d" % number)
    refused = emptied(city, 0, 1)
    assert not refused.HasField("held_before")
    world.has_held(other)
    world.has_held(city)
    honest = city.held_before(3)
    foreign = replace(city, signer=other.signer)
    world.has_held(foreign)
    forged = replace(city, salts=[bytes(32)] * 3)
    world.has_held(forged)
    short = replace(city, records=city.records[:1], salts=city.salts[:1])
    world.has_held(short)
    shown: list[tuple[HeldBefore, type[errors.Error]]] = [
        (HeldBefore(receipt=city.note()), errors.SignatureInvalid),
        (HeldBefore(receipt=other.receipt[1]), errors.CheckpointInvalid),
        (HeldBefore(receipt=foreign.receipt[1]), errors.SignatureInvalid),
        (HeldBefore(receipt=b"no note"), errors.CheckpointInvalid),
        (HeldBefore(receipt=honest.receipt, hashes=[bytes(32)]), errors.SlotNotHeld),
        (forged.held_before(3), errors.SlotNotHeld),
        (short.held_before(1), errors.SlotNotHeld),
        (replace(city, receipt=short.receipt).held_before(3), errors.SlotNotHeld),
    ]
    with pytest.raises(errors.SlotNotHeld, match="send it in full, or with the receipt") as without:
        await city.send(refused)
    assert without.value.metadata["index"] == "1"
    for held_before, expected in shown:
        refused.held_before.CopyFrom(held_before)
        with pytest.raises(expected):
            await city.send(refused)
    # What is refused costs nothing: the city may send it in full, or with what shows that it was held.
    assert (await city.state()).next_index == 0
    refused.held_before.CopyFrom(honest)
    assert (await city.send(refused)).next_index == 3
    assert not world.fsck().findings


async def test_a_receipt_covers_nothing_that_was_written_behind_it(world: World) -> None:
    city = await suzhou_with_records(world)
    await city.replicate()
    index = city.append(b"another")
    with pytest.raises(errors.SlotNotHeld):
        await city.send(emptied(city, 3, index))
    assert (await city.replicate()).next_index == 4


async def test_records_that_no_table_can_hold_stall_nobody(world: World) -> None:
    city = await world.city(SUZHOU)
    for number in range(2):
        city.issue(f"32050019900101{number:04d}")
        message = LicenseRecord.FromString(city.records[number])
        if number:
            message.event = 70_000  # type: ignore[assignment]
        else:
            message.effective_time.seconds = 2**60
        city.records[number] = message.SerializeToString()
    answer = await city.replicate()
    assert answer.next_index == 2
    assert [noted.kind for noted in answer.dispositions] == [replication_pb2.DISPOSITION_KIND_UNREADABLE] * 2
    assert not world.fsck().findings


async def test_a_damaged_record_takes_nothing_from_other_answers(world: World) -> None:
    city = await world.city(SUZHOU)
    city.issue(NUMBER)
    message = LicenseRecord.FromString(city.records[0])
    message.license.vehicle_classes[0].from_date.month = 13
    city.records[0] = message.SerializeToString()
    city.issue(OTHER, claim=(await city.claim(OTHER))[0])
    answer = await city.replicate()
    assert [noted.kind for noted in answer.dispositions] == [replication_pb2.DISPOSITION_KIND_UNREADABLE]
    verifier = await world.verifier()
    assert (await verifier.ask(NUMBER)).outcome == verification_pb2.OUTCOME_NO_MATCH
    assert (await verifier.ask(OTHER)).outcome == verification_pb2.OUTCOME_VALID
    await verifier.channel.close()


async def test_records_that_can_not_be_read_do_not_make_a_city_look_fresh(world: World) -> None:
    city = await world.city(SUZHOU)
    city.append(b"unreadable")
    await city.send(city.batch(0, tip_size=5))
    (state,) = world.database.read_now(world.store.states)
    assert state.as_of_us == 0


async def test_a_city_that_was_fast_when_it_wrote_does_not_vouch_for_what_it_has_not_sent(world: World) -> None:
    """Its next record may have been written before the one held arrived, whatever times both show."""
    city = await world.city(SUZHOU)
    city.issue(NUMBER)
    await city.send(city.batch(0, tip_size=1))
    (before,) = world.database.read_now(world.store.states)
    city.issue(OTHER)
    await city.send(city.batch(1, tip_size=3))
    (state,) = world.database.read_now(world.store.states)
    assert (state.as_of_us, state.awaited_size) == (before.as_of_us, 3)
