"""A city that signs two histories, or a head that nobody can compute: judged, kept out, and let in again by two."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Connection

from elicense import errors
from elicense.cli.join import join
from elicense.cli.main import main as elicense
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.rpc.channel import secure_channel
from elicense.trust.signer import generate_key_file
from elicense.trust.token import format_token
from elicense.v1 import verification_pb2
from registry.batch import Batch
from registry.cli import main as registry_command
from registry.evidence_store import EVIDENCE_PER_REASON, EvidenceStore
from registry.readers import Readers
from registry.reading import Reading
from registry.serving import QUARANTINE_HEALTH
from tests.integration.registry.test_epochs import open_epoch, wish
from tests.integration.registry.world import SUZHOU, TIANJIN, TRUST_DOMAIN, World
from tests.support.city import DEADLINE_S, City

NUMBER = "11010519491231002X"


async def city_of(world: World, count: int = 5, code: int = SUZHOU) -> City:
    city = await world.city(code)
    await issue(city, count)
    return city


async def issue(city: City, count: int) -> None:
    for _ in range(count):
        city.issue(f"{city.code}19900101{city.size:04d}")
    await city.replicate()
    await city.decided(city.size)


async def run(command: object, *arguments: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, [*map(str, arguments)])  # type: ignore[arg-type]


async def quarantines(world: World) -> list[tuple[int, str, int, int]]:
    """(city, kind, state, size) of each."""
    rows = world.database.read_now(world.store.quarantines.all)
    return [(row.city, {1: "FORK", 2: "UNEXPLAINED"}[row.kind], row.state, row.size) for row in rows]


async def convicts(world: World) -> Result:
    """What `elicense log verify` says of the evidence that is kept."""
    keys = world.folder / "keys"
    printed = await run(registry_command, "keys", "--config", f"{world.config.node.data_dir}/config.toml")
    keys.write_text("\n".join(line for line in printed.stdout.splitlines() if "+" in line))
    (body,) = world.database.read_now(
        lambda conn: [
            body
            for _, digest, body in world.store.evidence.all(conn)
            if digest == world.store.quarantines.all(conn)[0].digest
        ]
    )
    path = world.folder / "evidence.json"
    path.write_bytes(body)
    return await run(elicense, "log", "verify", path, "--key", keys)


def rewritten(city: City, index: int) -> None:
    """Give an entry another salt: from there on the city's log is another history."""
    city.salts[index] = bytes(32)


@pytest.mark.parametrize("how", ["same size", "smaller", "larger", "larger from the start", "one entry"])
async def test_two_histories_are_proved_and_the_city_is_kept_out(world: World, how: str) -> None:
    city = await city_of(world)
    if how == "same size":
        rewritten(city, 2)
        batch = city.batch(5)
    elif how == "smaller":
        rewritten(city, 1)
        batch = city.batch(0, 3)
    elif how == "larger":
        rewritten(city, 4)
        city.issue(NUMBER)
        batch = city.batch(3)
    elif how == "larger from the start":
        rewritten(city, 0)
        city.issue(NUMBER)
        batch = city.batch(0)
    else:
        rewritten(city, 3)
        batch = city.batch(3, 4)
    with pytest.raises(errors.LogForked):
        await city.send(batch)
    assert [row[:3] for row in await quarantines(world)] == [(SUZHOU, "FORK", 1)]
    confirmed = await convicts(world)
    assert confirmed.exit_code == 3, confirmed.output
    assert f"CONFIRMED: {TRUST_DOMAIN}/city/{SUZHOU} signed two histories" in confirmed.output
    # Neither more of it nor a return to the history that is held is taken now.
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5, 5, checkpoint=b""))
    assert not world.fsck().findings


async def test_verdicts_about_a_quarantined_city_grow_stale_and_no_other_city_notices(world: World) -> None:
    city, other = await city_of(world, 2), await city_of(world, 2, TIANJIN)
    verifier = await world.verifier()
    mine, theirs = f"{SUZHOU}199001010000", f"{TIANJIN}199001010000"
    rewritten(city, 0)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(2))
    assert (await verifier.ask(mine)).outcome == verification_pb2.OUTCOME_VALID
    world.clock.advance(seconds=11 * 60)
    await other.send(other.batch(2))
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(2))
    stale = await verifier.ask(mine)
    assert stale.outcome == verification_pb2.OUTCOME_INDETERMINATE
    assert stale.last_known.outcome == verification_pb2.OUTCOME_VALID
    assert (await verifier.ask(theirs)).outcome == verification_pb2.OUTCOME_VALID
    await verifier.channel.close()


async def test_a_head_that_nobody_can_compute_is_unexplained_until_its_entries_come(world: World) -> None:
    city = await city_of(world)
    for _ in range(2):
        city.issue(NUMBER)
    damaged = city.batch(5)
    damaged.entries[0].salt = bytes(32)
    with pytest.raises(errors.RootMismatch):
        await city.send(damaged)
    assert await quarantines(world) == [(SUZHOU, "UNEXPLAINED", 1, 7)]
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5, 5, checkpoint=b""))
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5, 6))
    city.issue("44052418800101001X")
    # The very entries, with what has been written since.
    assert (await city.send(city.batch(5))).next_index == 8
    assert await quarantines(world) == [(SUZHOU, "UNEXPLAINED", 3, 7)]
    assert (await city.send(city.batch(8))).next_index == 8
    assert not world.fsck().findings


@pytest.mark.parametrize("more", [0, 2])
async def test_a_sound_head_beside_an_unexplained_one_is_two_histories(world: World, more: int) -> None:
    city = await city_of(world)
    city.issue(NUMBER)
    with pytest.raises(errors.RootMismatch):
        await city.send(city.batch(5, checkpoint=sign_checkpoint(Checkpoint(city.origin, 6, bytes(32)), city.signer)))
    assert await quarantines(world) == [(SUZHOU, "UNEXPLAINED", 1, 6)]
    for _ in range(more):
        city.issue(NUMBER)
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5))
    assert [row[:3] for row in await quarantines(world)] == [(SUZHOU, "FORK", 1)]
    assert (await convicts(world)).exit_code == 3


async def test_the_records_of_a_city_in_quarantine_are_read_only_where_they_explain_its_head(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = await city_of(world)
    city.append(b"unreadable")
    damaged = city.batch(5)
    damaged.entries[0].salt = bytes(32)
    with pytest.raises(errors.RootMismatch):
        await city.send(damaged)
    read: list[int] = []
    whole = Readers.read

    async def counted(self: Readers, batch: Batch) -> Reading:
        read.append(len(batch.entries))
        return await whole(self, batch)

    monkeypatch.setattr(Readers, "read", counted)
    for batch in (damaged, city.batch(5, 5, checkpoint=b""), city.batch(0, 5), damaged):
        with pytest.raises(errors.Quarantined):
            await city.send(batch)
    assert read == []
    city.append(b"another")
    assert (await city.send(city.batch(5))).next_index == 7
    assert read == [2]
    assert [row[1:3] for row in await quarantines(world)] == [("UNEXPLAINED", 3)]


async def test_small_wrongs_push_out_nothing_that_proves_a_great_one(world: World) -> None:
    city = await city_of(world)
    for _ in range(EVIDENCE_PER_REASON + 1):
        city.append(b"unreadable")
        damaged = city.batch(city.size - 1)
        damaged.entries[0].salt = bytes(32)
        with pytest.raises(errors.RootMismatch):
            await city.send(damaged)
        await city.send(city.batch(city.size - 1))
    assert [row[1:3] for row in await quarantines(world)] == [("UNEXPLAINED", 3)]
    assert not world.fsck().findings
    # The next head that nobody can compute, and a sound one beside it.
    city.append(b"unreadable")
    held = city.size - 1
    unexplained = sign_checkpoint(Checkpoint(city.origin, city.size, bytes(32)), city.signer)
    with pytest.raises(errors.RootMismatch):
        await city.send(city.batch(held, checkpoint=unexplained))
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(held))
    assert [row[1:3] for row in await quarantines(world)] == [("FORK", 1)]
    assert (await convicts(world)).exit_code == 3
    assert not world.fsck().findings


async def test_a_city_that_goes_on_with_what_it_is_in_quarantine_for_fills_no_disk(world: World) -> None:
    city = await city_of(world)
    city.append(b"unreadable")
    for number in range(EVIDENCE_PER_REASON + 4):
        note = sign_checkpoint(Checkpoint(city.origin, 6, bytes([number]) * 32), city.signer)
        with pytest.raises((errors.RootMismatch, errors.Quarantined)):
            await city.send(city.batch(5, checkpoint=note))
    kept = world.database.read_now(lambda conn: len(list(world.store.evidence.all(conn))))
    assert kept <= EVIDENCE_PER_REASON + 2


DAMAGE = {
    "an entry": "UPDATE log_entry SET leaf_hash = zeroblob(32) WHERE log = 320500 AND idx = 1",
    "a record": "UPDATE log_entry SET salt = zeroblob(32) WHERE log = 320500 AND idx = 1",
    "a tile": "UPDATE log_tile SET hashes = zeroblob(8192) WHERE log = 320500 AND level = 0",
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
async def test_a_registry_whose_own_log_is_damaged_accuses_nobody(world: World, change: str) -> None:
    city = await city_of(world, 260)
    assert world.database.write_now(lambda conn: conn.exec_driver_sql(change).rowcount)
    if "salt" in change:
        rewritten(city, 1)
    batch = city.batch(0, 200) if "log_tile" in change else city.batch(0)
    with pytest.raises(errors.StoreCorrupt):
        await city.send(batch)
    assert await quarantines(world) == []


async def operator(world: World, name: str) -> Path:
    token = await world.token(f"spiffe://{TRUST_DOMAIN}/operator/{name}")
    folder = world.folder / f"operator-{name}"
    await asyncio.to_thread(join, format_token(token), folder)
    return folder


async def test_two_operators_let_a_city_in_again_at_the_head_that_is_held(world: World) -> None:
    city = await city_of(world)
    held = list(city.salts)
    rewritten(city, 4)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(5))
    zhang, li = await operator(world, "zhang"), await operator(world, "li")

    async def command(*arguments: object) -> Result:
        return await run(registry_command, "quarantine", *arguments)

    listed = await command("list", "--credentials", zhang)
    assert f"{SUZHOU}/1: FORK OPEN since" in listed.output
    digest = listed.output.split()[-1]
    evidence = world.folder / "kept.json"
    assert (await command("evidence", SUZHOU, digest, "--credentials", li, "--out", evidence)).exit_code == 0
    assert b'"evidence"' in evidence.read_bytes()
    early = await command("approve", SUZHOU, "--credentials", li)
    assert (early.exit_code, "[REFUSED]" in early.output) == (1, True)
    assert (await command("release", SUZHOU, "--credentials", zhang)).exit_code == 0
    alone = await command("approve", SUZHOU, "--credentials", zhang)
    assert (alone.exit_code, "another operator" in alone.output) == (1, True)
    city.salts[:] = held
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5))
    with pytest.raises(errors.Quarantined):
        await open_epoch(city, wish(city, generate_key_file(world.folder / "early.pem")))
    ended = await command("approve", SUZHOU, "--credentials", li)
    assert (ended.exit_code, "FORK ENDED since" in ended.output) == (0, True)
    # The key that signed two histories signs nothing more.
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5))
    assert (await open_epoch(city, wish(city, generate_key_file(world.folder / "second.pem")))).epoch == 2
    again = await command("release", SUZHOU, "--credentials", zhang)
    assert (again.exit_code, "[NOT_FOUND]" in again.output) == (1, True)
    assert not world.fsck().findings
    # What was decided stands in the registry's log: the table alone convinces nobody.
    world.database.write_now(lambda conn: conn.exec_driver_sql("UPDATE quarantine SET ended_by = 'somebody'"))
    assert [finding.where for finding in world.fsck().findings] == [f"quarantine {SUZHOU}/1"]


async def test_evidence_of_a_fork_that_was_released_does_not_close_the_door_again(world: World) -> None:
    city = await city_of(world)
    held_salts = list(city.salts)
    rewritten(city, 4)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(5))
    zhang, li = await operator(world, "zhang"), await operator(world, "li")
    for verb, credentials in (("release", zhang), ("approve", li)):
        done = await run(registry_command, "quarantine", verb, SUZHOU, "--credentials", credentials)
        assert done.exit_code == 0
    rewritten(city, 3)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(5))
    (held,) = world.database.read_now(world.store.quarantines.all)
    assert (held.epoch, held.open) == (1, False)
    city.salts[:] = held_salts
    key = generate_key_file(world.folder / "second.pem")
    assert (await open_epoch(city, wish(city, key))).epoch == 2
    # Nor does other evidence of that epoch, which nothing rests on.
    assert len(world.database.read_now(world.store.evidence.reasons)) == 2
    await world.restart()
    assert await world.node.disputes.judge_kept() == 0
    assert [row[1:3] for row in await quarantines(world)] == [("FORK", 3)]
    assert not world.fsck().findings


async def test_what_is_kept_of_a_city_that_is_in_quarantine_for_a_fork_is_not_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = await city_of(world)
    city.issue(NUMBER)
    with pytest.raises(errors.RootMismatch):
        await city.send(city.batch(5, checkpoint=sign_checkpoint(Checkpoint(city.origin, 6, bytes(32)), city.signer)))
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5))
    assert [row[:3] for row in await quarantines(world)] == [(SUZHOU, "FORK", 1)]
    assert len(world.database.read_now(world.store.evidence.reasons)) == 2
    read: list[bytes] = []
    body = EvidenceStore.body

    def counted(self: EvidenceStore, conn: Connection, city: int, digest: bytes) -> bytes | None:
        read.append(digest)
        return body(self, conn, city, digest)

    monkeypatch.setattr(EvidenceStore, "body", counted)
    assert await world.node.disputes.judge_kept() == 0
    assert read == []


async def test_quarantines_survive_a_restart(world: World) -> None:
    city = await city_of(world)
    rewritten(city, 4)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(5))
    await world.restart()
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(5, 5, checkpoint=b""))


async def test_a_city_does_not_take_the_doubt_about_the_registrys_own_log_for_one_about_its_log(world: World) -> None:
    city, other = await city_of(world), await city_of(world, 1, TIANJIN)
    city.issue(NUMBER)
    damaged = city.batch(5)
    damaged.entries[0].salt = bytes(32)
    with pytest.raises(errors.RootMismatch):
        await city.send(damaged)
    await world.node.stop(grace_s=0)
    database = Path(world.config.database.url.removeprefix("sqlite:///"))
    kept = {path: path.read_bytes() for path in database.parent.glob(f"{database.name}*")}
    await world.start_again()
    await other.claim(NUMBER)
    await world.node.stop(grace_s=0)
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    await world.start_again()
    with pytest.raises(errors.LogBehind):
        await other.claim(NUMBER)
    # What explains the head is taken; that the quarantine is over has to wait.
    assert (await city.send(city.batch(5))).next_index == 6
    assert [row[1:3] for row in await quarantines(world)] == [("UNEXPLAINED", 1)]
    rewritten(city, 2)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(0))


async def test_a_quarantined_city_claims_nobody_and_health_says_so_until_two_operators_end_it(world: World) -> None:
    city, other = await city_of(world, 2), await city_of(world, 1, TIANJIN)

    async def free() -> bool:
        async with secure_channel(city.credentials, retries=False, local_pool=True) as channel:
            request = health_pb2.HealthCheckRequest(service=QUARANTINE_HEALTH)
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE_S)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    assert await free()
    held_salts = list(city.salts)
    rewritten(city, 0)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(2))
    with pytest.raises(errors.Quarantined):
        await city.claim(NUMBER)
    await other.claim(NUMBER)
    assert not await free()
    await world.restart()
    assert not await free()
    zhang, li = await operator(world, "zhang"), await operator(world, "li")
    for verb, credentials in (("release", zhang), ("approve", li)):
        assert (await run(registry_command, "quarantine", verb, SUZHOU, "--credentials", credentials)).exit_code == 0
    assert await free()
    city.salts[:] = held_salts
    await city.claim(f"{SUZHOU}199001019999")
    assert not world.fsck().findings
