"""A record that was written without custody: proved by one file, and by nothing less."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from elicense.cli.main import main as elicense
from elicense.clock import to_timestamp
from elicense.errors import Malformed
from elicense.log.model import LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import FileSigner
from elicense.v1 import license_pb2, replication_pb2
from elicense.verification.evidence_file import confirm, parse_evidence
from elicense.verification.told import Told, sign_told
from registry.breaches import CUSTODY_BROKEN, Breach
from registry.cli import main as registry_command
from registry.custody_proof import custody_evidence
from registry.evidence_store import EVIDENCE_PER_REASON
from registry.unacknowledged import Acknowledgements, UnacknowledgedGauge
from tests.integration.registry.test_transfers import REFUSED, Move, begin
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, TRUST_DOMAIN, World
from tests.support.city import City
from tests.support.cluster import eventually


@pytest.fixture
async def move(world: World) -> Move:
    return await begin(world)


def later(city: City, move: Move, *, seconds: int) -> int:
    """A city writes of the licence, upon its own latest revision, so much later."""
    now_us = move.world.clock() + seconds * 1_000_000
    message = city._following(move.license_id, license_pb2.LICENSE_EVENT_STATUS_CHANGED)
    message.record_time.CopyFrom(to_timestamp(now_us))
    return city.append(message.SerializeToString())


async def moved(move: Move) -> None:
    await move.take_over()
    await move.chengdu.decided(1)


async def knows(city: City) -> None:
    """Have a city hear the registry's word, and sign that it knows."""
    await city.replicate()
    while city.told or not city.feed:
        await city.send(city.batch(city.size))


async def after_it_moved(move: Move) -> tuple[City, int]:
    await moved(move)
    await move.suzhou.decided(1)
    await knows(move.suzhou)
    return move.suzhou, later(move.suzhou, move, seconds=1)


async def upon_a_refused_take_over(move: Move) -> tuple[City, int]:
    move.suzhou.offer(move.license_id, 0)
    await move.suzhou.replicate()
    await move.take_over(index=1)
    assert (await move.chengdu.decided(1))[0].kind == REFUSED
    return move.chengdu, later(move.chengdu, move, seconds=0)


async def without_a_take_over(move: Move) -> tuple[City, int]:
    tianjin = await move.world.city(TIANJIN)
    tianjin.take_over(move.license_id, move.suzhou, event=license_pb2.LICENSE_EVENT_STATUS_CHANGED)
    return tianjin, 0


async def run(command: Any, *arguments: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, [*map(str, arguments)])


async def prove(move: Move, city: City, index: int) -> tuple[Result, Path]:
    # What the city has signed by now, and a later commit of the registry's log under which its decisions stand.
    await city.replicate()
    await move.suzhou.claim("110105199001019999")
    config = f"{move.world.config.node.data_dir}/config.toml"
    path = move.world.folder / "breach.json"
    return await run(registry_command, "prove-breach", "--config", config, city.code, index, "--out", path), path


async def published(world: World) -> list[str]:
    printed = await run(registry_command, "keys", "--config", f"{world.config.node.data_dir}/config.toml")
    return [line for line in printed.stdout.splitlines() if "+" in line and " " not in line]


BREACHES = [
    (
        after_it_moved,
        "though it had signed at 2 entries that it knew that the registry had given the license to city",
    ),
    (upon_a_refused_take_over, "upon a take-over that the registry had refused"),
    (without_a_take_over, "upon a revision of city 320500 (entry 1 of epoch 1) that it had not taken over"),
]


@pytest.mark.parametrize(("breach", "what"), BREACHES)
async def test_a_record_without_custody_is_proved_to_a_stranger_with_public_keys_alone(
    move: Move, breach: Any, what: str
) -> None:
    city, index = await breach(move)
    made, path = await prove(move, city, index)
    assert made.exit_code == 0, made.output
    keys = move.world.folder / "keys"
    keys.write_text("\n".join(await published(move.world)))
    confirmed = await run(elicense, "log", "verify", path, "--key", keys)
    assert confirmed.exit_code == 3, confirmed.output
    assert f"CONFIRMED: {TRUST_DOMAIN}/city/{city.code} wrote entry {index}" in confirmed.output
    assert what in confirmed.output


def found(world: World) -> dict[str, float]:
    """How many breaches of each city the registry has counted."""
    family = next(each for each in world.node.metrics.collect() if each.name == "elicense_custody_breaches")
    return {s.labels["city"]: s.value for s in family.samples if s.name.endswith("_total")}


def kept(world: World) -> list[Breach]:
    rows = world.database.read_now(lambda conn: world.store.evidence.kept_for(conn, CUSTODY_BROKEN))
    return [Breach.parse(body) for body, _ in rows]


async def look(move: Move, city: City) -> None:
    """Have the city told and the registry's decisions signed, and let it judge."""
    await city.replicate()
    await city.send(city.batch(city.size))
    await move.suzhou.claim("110105199001018888")
    await move.world.node.breaches.look()


@pytest.mark.parametrize(("breach", "what"), BREACHES)
async def test_the_registry_keeps_the_evidence_by_itself_once_and_without_personal_data(
    move: Move, breach: Any, what: str
) -> None:
    city, index = await breach(move)
    await look(move, city)
    (found_by_itself,) = kept(move.world)
    assert (found_by_itself.record.log, found_by_itself.index) == (city.code, index)
    assert found(move.world)[str(city.code)] == 1
    # Also what follows it is without custody, but follows what proves nothing by itself.
    later(city, move, seconds=700)
    await look(move, city)
    config = f"{move.world.config.node.data_dir}/config.toml"
    listed = await run(registry_command, "breaches", "--config", config)
    (line,) = listed.stdout.splitlines()
    assert line.startswith(f"{city.code}/1 entry {index}, found ")
    path = move.world.folder / "listed.json"
    command = line.partition("elicense-registry ")[2].replace("FILE", str(path)).split()
    made = await run(registry_command, *command, "--config", config)
    assert what in made.stdout, made.output
    # A restart judges the last words again and alarms no more.
    await move.world.restart()
    await move.world.node.breaches.look()
    assert found(move.world)[str(city.code)] == 0
    assert len(kept(move.world)) == 1
    (body,) = [body for _, _, body in move.world.database.read_now(lambda c: list(move.world.store.evidence.all(c)))]
    assert move.license_id.hex() not in body.decode()
    assert not move.world.fsck().findings


async def test_a_registry_that_tells_the_city_wakes_itself_to_judge(move: Move) -> None:
    city, _ = await after_it_moved(move)
    await move.suzhou.claim("110105199001018888")
    await city.replicate()
    await city.send(city.batch(city.size))

    async def proved() -> bool:
        return bool(kept(move.world))

    await eventually(proved)


async def test_evidence_waits_for_the_signature_over_the_decision_and_no_longer(move: Move) -> None:
    city, _ = await after_it_moved(move)
    await city.replicate()
    await city.send(city.batch(city.size))
    await move.world.node.breaches.look()
    assert kept(move.world) == []
    await look(move, city)
    assert len(kept(move.world)) == 1


async def test_a_city_that_breaks_custody_all_the_time_fills_no_disk(move: Move) -> None:
    tianjin = await move.world.city(TIANJIN)
    for _ in range(EVIDENCE_PER_REASON + 4):
        tianjin.take_over(move.license_id, move.suzhou, event=license_pb2.LICENSE_EVENT_STATUS_CHANGED)
    for _ in range(8):
        await look(move, tianjin)
    assert len(kept(move.world)) == EVIDENCE_PER_REASON
    assert found(move.world)[str(TIANJIN)] == EVIDENCE_PER_REASON


async def test_no_breach_is_missed_however_much_a_city_is_told_after_it_and_a_judge_who_ended(move: Move) -> None:
    city, _ = await without_a_take_over(move)
    for number in range(1_100):
        city.append(b"unreadable %d" % number)
    await look(move, city)
    assert len(kept(move.world)) == 1
    # As a process leaves it that ended before it had judged anything.
    await move.world.node.stop(grace_s=1)
    with closing(sqlite3.connect(move.world.config.database.url.removeprefix("sqlite:///"))) as database, database:
        database.execute("DELETE FROM evidence")
        database.execute("DELETE FROM feed_mark")
        database.execute("DELETE FROM custody_decision")
    await move.world.start_again()
    await move.world.node.breaches.look()
    assert len(kept(move.world)) == 1


async def test_what_was_judged_and_decided_before_is_not_read_again(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    city, _ = await after_it_moved(move)
    await look(move, city)
    read: list[int] = []
    entries = LogStore.entries

    def counted(*args: Any, **named: Any) -> list[StoredEntry]:
        found = entries(*args, **named)
        read.append(len(found))
        return found

    monkeypatch.setattr(LogStore, "entries", counted)
    # Another record without custody, which proves nothing and is looked up.
    later(city, move, seconds=700)
    await city.replicate()
    await city.send(city.batch(city.size))
    await move.world.node.breaches.look()
    assert len(kept(move.world)) == 1
    assert sum(read) <= 1


@pytest.mark.parametrize("seconds", [0, 86_400])
async def test_a_city_that_was_cut_off_when_its_license_moved_is_never_convicted(move: Move, seconds: int) -> None:
    await moved(move)
    index = later(move.suzhou, move, seconds=seconds)
    # It is back, hears of it all and signs that: by then the record stands.
    await knows(move.suzhou)
    assert move.suzhou.feed[-1].kind == replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
    made, path = await prove(move, move.suzhou, index)
    assert (made.exit_code, path.exists()) == (1, False), made.output
    assert "[NOT_FOUND]" in made.output
    await look(move, move.suzhou)
    assert kept(move.world) == []
    # Nor does a file that is put together by hand.
    key = LogKey(SUZHOU, 1)
    evidence = move.world.database.read_now(lambda conn: custody_evidence(conn, move.world.store, key, index))
    assert evidence.told is not None
    keys = [parse_vkey(line) for line in await published(move.world)]
    for each in (evidence, replace(evidence, told=None)):
        with pytest.raises(Malformed, match="do not show"):
            confirm(each, keys)
    assert not move.world.fsck().findings


async def test_a_city_is_asked_for_its_signature_until_it_gives_one_that_its_log_reaches(move: Move) -> None:
    await moved(move)
    city = move.suzhou
    await city.decided(1)

    async def asked(told: list[bytes]) -> list[int]:
        request = city.batch(city.size)
        del request.told[:]
        request.told.extend(told)
        return list((await city.send(request)).unsigned)

    def signed(signer: FileSigner = city.signer, **changes: Any) -> bytes:
        return sign_told(replace(Told(city.origin, city.size, 1, 1), **changes), signer)

    assert await asked([]) == [1]
    assert await asked([signed(size=city.size + 1)]) == [1]
    assert await asked([signed(index=0)]) == [1]
    other = city_log_origin(TRUST_DOMAIN, CHENGDU, 1)
    for note in (signed(origin=other), signed(move.chengdu.signer), city.note(), b""):
        with pytest.raises(Malformed):
            await asked([note])
    assert await asked([signed(), signed(size=0)]) == []
    assert await asked([]) == []
    (row,) = move.world.database.read_now(lambda conn: list(move.world.store.told.all(conn)))
    assert row.size == city.size


def unacknowledged(world: World) -> dict[str, float]:
    """For how long each city has known without signing, in seconds."""
    name = "elicense_custody_unacknowledged_seconds"
    family = next(each for each in world.node.metrics.collect() if each.name == name)
    return {sample.labels["city"]: sample.value for sample in family.samples}


async def test_a_city_that_calls_and_does_not_sign_that_it_knows_is_shown_until_it_does(move: Move) -> None:
    world, suzhou = move.world, move.suzhou
    await moved(move)
    gauge = UnacknowledgedGauge(
        database=world.database, store=world.store, leads=lambda: True, metrics=CollectorRegistry()
    )
    others = Acknowledgements(world.store)
    config = f"{world.config.node.data_dir}/config.toml"

    async def shown() -> float | None:
        await world.node.breaches.look()
        await gauge.look()
        found = world.database.read_now(others.all)
        assert [each.city for each in found] in ([], [SUZHOU])
        return found[0].seconds if found else None

    # Whoever is away grows no older.
    world.clock.advance(seconds=5_000)
    assert (await shown() or 0) < 60
    # One that calls was told, whether it says that it stored it or not.
    await suzhou.send(suzhou.batch(suzhou.size), keep_feed=False)
    assert 5_000 <= (await shown() or 0) < 5_060
    await suzhou.decided(1)
    suzhou.told.clear()
    await suzhou.send(suzhou.batch(suzhou.size))
    assert suzhou.told
    assert 5_000 <= (await shown() or 0) < 5_060

    async def is_shown() -> bool:
        return unacknowledged(world).get(str(SUZHOU), 0) >= 5_000

    await eventually(is_shown)
    listed = await run(registry_command, "breaches", "--config", config)
    assert f"{SUZHOU}/1 entry 1: told 50" in listed.output
    await knows(suzhou)
    assert await shown() is None

    async def is_over() -> bool:
        return str(SUZHOU) not in unacknowledged(world)

    await eventually(is_over)
    assert (await run(registry_command, "breaches", "--config", config)).output == ""


async def test_no_city_hides_what_it_does_not_sign_behind_other_words(move: Move) -> None:
    world, suzhou = move.world, move.suzhou

    def say(conn: Connection) -> None:
        words = [(0, replication_pb2.DISPOSITION_KIND_STANDS, bytes(16), "")] * 10_000
        world.store.feeds.add(conn, SUZHOU, 1, words)

    world.database.write_now(say)
    await moved(move)
    await suzhou.send(suzhou.batch(suzhou.size), keep_feed=False)
    await world.node.breaches.look()
    (found,) = world.database.read_now(Acknowledgements(world.store).all)
    assert (found.city, found.word.seq) == (SUZHOU, 10_001)
    step = Acknowledgements(world.store)

    def look(conn: Connection) -> int:
        looked = step.look(conn)
        step.note(conn, looked)
        return len(looked.found)

    def look_anew(conn: Connection) -> list[int]:
        # In one transaction: the node looks too, now and then.
        conn.exec_driver_sql("DELETE FROM feed_mark WHERE what = 5")
        return [look(conn) for _ in range(4)]

    assert world.database.write_now(look_anew) == [0, 0, 1, 1]


async def test_what_a_city_does_not_sign_is_shown_after_the_database_was_set_back_beneath_a_running_registry(
    move: Move,
) -> None:
    world, suzhou = move.world, move.suzhou
    standing = (0, replication_pb2.DISPOSITION_KIND_STANDS, bytes(16), "")
    world.database.write_now(lambda conn: world.store.feeds.add(conn, SUZHOU, 1, [standing] * 12))
    metrics = CollectorRegistry()
    gauge = UnacknowledgedGauge(database=world.database, store=world.store, leads=lambda: True, metrics=metrics)
    await gauge.look()

    def set_back(conn: Connection) -> None:
        """To when it had said nothing."""
        for table in ("disposition", "disposition_feed", "feed_mark"):
            conn.exec_driver_sql(f"DELETE FROM {table}")

    world.database.write_now(set_back)
    await moved(move)
    await suzhou.send(suzhou.batch(suzhou.size), keep_feed=False)
    await world.node.breaches.look()
    await gauge.look()
    shown = [sample.labels["city"] for family in metrics.collect() for sample in family.samples]
    assert shown == [str(SUZHOU)]


async def test_what_a_city_signed_in_one_epoch_of_another_city_s_log_convicts_nobody_else(move: Move) -> None:
    city, index = await after_it_moved(move)
    await look(move, city)
    key = LogKey(SUZHOU, 1)
    evidence = move.world.database.read_now(lambda conn: custody_evidence(conn, move.world.store, key, index))
    keys = [parse_vkey(line) for line in await published(move.world)]
    told = Told(city.origin, 2, 1, 1)
    for changed in (
        replace(told, size=index + 1),
        replace(told, index=0),
        replace(told, epoch=2),
        replace(told, origin=city_log_origin(TRUST_DOMAIN, SUZHOU, 2)),
    ):
        with pytest.raises(Malformed):
            confirm(replace(evidence, told=sign_told(changed, city.signer)), keys)
    with pytest.raises(Malformed):
        confirm(replace(evidence, told=sign_told(told, move.chengdu.signer)), keys)
    assert "though it had signed" in confirm(replace(evidence, told=sign_told(told, city.signer)), keys).what


async def test_records_with_custody_convict_nobody(move: Move) -> None:
    await moved(move)
    followed = later(move.chengdu, move, seconds=0)
    for city, index in ((move.suzhou, 0), (move.suzhou, 1), (move.chengdu, 0), (move.chengdu, followed)):
        made, _ = await prove(move, city, index)
        assert (made.exit_code, "[NOT_FOUND]" in made.output) == (1, True), made.output


@pytest.mark.parametrize(("breach", "what"), BREACHES)
async def test_evidence_of_which_anything_is_altered_or_exchanged_is_refused(
    move: Move, breach: Any, what: str
) -> None:
    city, index = await breach(move)
    made, path = await prove(move, city, index)
    assert made.exit_code == 0, made.output
    keys: list[VerifierKey] = [parse_vkey(line) for line in await published(move.world)]
    values = json.loads(path.read_bytes())
    assert what in confirm(parse_evidence(path.read_bytes()), keys).what

    def refused(changed: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            confirm(parse_evidence(json.dumps(changed).encode()), keys)

    for part in ("record", "follows"):
        for name, value in values[part].items():
            changed = json.loads(path.read_bytes())
            if isinstance(value, int):
                changed[part][name] = value + 1
            elif isinstance(value, list):
                changed[part][name] = value[:-1] if value else ["A" * 43 + "="]
            elif name == "checkpoint":
                changed[part][name] = value.replace("\n", "\n9", 1)
            else:
                changed[part][name] = ("B" if value[0] != "B" else "C") + value[1:]
            refused(changed)
        refused({key: held for key, held in values.items() if key != part})
        refused({**values, part: values["follows" if part == "record" else "record"]})
    if "told" in values:
        refused({key: held for key, held in values.items() if key != "told"})
        for told in (1, "", values["told"].replace("\n2\n", "\n1\n"), values["record"]["checkpoint"]):
            refused({**values, "told": told})
    refused({**values, "more": 1})
    for missing in (f"/city/{city.code}/1", "/registry/1" if not values["follows"]["city"] else f"/city/{SUZHOU}/1"):
        fewer = [key for key in keys if not key.name.endswith(missing)]
        with pytest.raises(Malformed):
            confirm(parse_evidence(path.read_bytes()), fewer)
