"""The mirror that a city keeps of the registry's log: nothing in it that was not signed, and no second history."""

from __future__ import annotations

import asyncio
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry

import city_node.cli
import city_node.mirror
import city_node.mirrored_evidence
import registry.cli
import registry.mirrored
from city_node.epochs import RegistryEpochs
from city_node.mirror import Mirror
from city_node.mirrored_evidence import MirroredEvidence
from city_node.store import CityStore
from elicense import errors
from elicense.cli.main import main as elicense
from elicense.log.model import Head, LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id
from elicense.trust.token import parse_token
from elicense.v1 import log_pb2
from registry.store import RegistryStore
from tests.integration.city.test_restore import all_is_well, command, copy_registry, restore, set_registry_back
from tests.support.city import City as RawCity
from tests.support.cluster import CHENGDU, SUZHOU, TIANJIN, TRUST_DOMAIN, City, Cluster, drivers, eventually


def own_log(url: str, store: CityStore | RegistryStore, epoch: int = 1) -> tuple[Head | None, list[StoredEntry]]:
    """The registry's log, as either side holds it."""
    database = Database(url, readers=1)
    key = LogKey(0, epoch)
    try:
        return database.read_now(lambda conn: (store.logs.head(conn, key), store.logs.entries(conn, key, 0, 10_000)))
    finally:
        database.close()


def mirrored(city: City, epoch: int = 1) -> tuple[Head | None, list[StoredEntry]]:
    return own_log(city.config.database_url, CityStore(), epoch)


def held(cluster: Cluster, epoch: int = 1) -> tuple[Head | None, list[StoredEntry]]:
    return own_log(cluster.registry_config.database.url, RegistryStore(), epoch)


async def caught_up(cluster: Cluster, city: City, epoch: int = 1, *, least: int = 0) -> int:
    """Wait until the registry has decided so much and the mirror holds everything; return how many entries that is."""

    async def same() -> bool:
        # A city whose registry was away a moment ago may issue without a grant: the decision comes behind it.
        return len(mirrored(city, epoch)[1]) >= least and mirrored(city, epoch)[1] == held(cluster, epoch)[1]

    await eventually(same)
    return len(mirrored(city, epoch)[1])


def keep_whole(cluster: Cluster) -> dict[Path, bytes]:
    """The whole machine of a stopped registry: its database and its anchor."""
    anchor = cluster.registry_config.anchor_path
    return {**copy_registry(cluster), anchor: anchor.read_bytes()}


def set_whole_back(cluster: Cluster, kept: dict[Path, bytes]) -> None:
    for path in copy_registry(cluster):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


async def convicted(cluster: Cluster, city: City) -> Result:
    """What a stranger finds out from the evidence, with public keys alone."""
    config = str(cluster.folder / "registry" / "config.toml")
    keys = cluster.folder / "published"
    printed = await command(registry.cli.main, "keys", "--config", config)
    # The registry in this process logs to the same standard output.
    keys.write_text("\n".join(line for line in printed.splitlines() if "+" in line and " " not in line))
    (path,) = city.config.evidence_dir.iterdir()
    arguments = ["log", "verify", str(path), "--key", str(keys)]
    return await asyncio.to_thread(CliRunner().invoke, elicense, arguments)


async def test_a_city_mirrors_every_decision_of_the_registry_with_its_signatures(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was decided while the city was away takes several transactions.
    monkeypatch.setattr(city_node.mirror, "PARTS_PER_WRITE", 2)
    tianjin = await cluster.add_city(TIANJIN)
    for wanted in drivers(SUZHOU, 2):
        await suzhou.issue(wanted)
    before = await caught_up(cluster, suzhou, least=2)
    await suzhou.stop()
    for wanted in drivers(TIANJIN, 5):
        await tianjin.issue(wanted)
    await suzhou.start()
    await caught_up(cluster, suzhou, least=before + 5)
    assert await caught_up(cluster, tianjin) == len(held(cluster)[1])
    await tianjin.stop()
    await all_is_well(cluster, suzhou)


async def test_a_damaged_mirror_is_found_by_fsck(cluster: Cluster, suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    await suzhou.issue(wanted)
    await caught_up(cluster, suzhou)
    await suzhou.stop()
    database = Database(suzhou.config.database_url)
    database.write_now(lambda conn: conn.exec_driver_sql("UPDATE log_entry SET record = x'00' WHERE log = 0"))
    database.close()
    said = await command(city_node.cli.main, "fsck", "--config", str(suzhou.folder / "config.toml"), status=1)
    assert "record and salt do not give the stored leaf hash" in said


@pytest.mark.parametrize("theirs", [1, 2, 4])
async def test_a_registry_that_signs_another_history_is_convicted_by_a_city_that_issues_on(
    cluster: Cluster, suzhou: City, theirs: int
) -> None:
    """It was set back as a whole, so that nothing inside it can tell, and shows less, as much or more than before."""
    tianjin = await cluster.add_city(TIANJIN)
    first, *others = drivers(SUZHOU, 4)
    await cluster.stop_registry()
    kept = keep_whole(cluster)
    await cluster.start_registry()
    for wanted in others[:2]:
        await suzhou.issue(wanted)
    assert await caught_up(cluster, suzhou, least=2) == 2
    await suzhou.stop()
    await tianjin.stop()
    database = Database(tianjin.config.database_url)
    # Tianjin's mirror is lost too: nobody but Suzhou knows the first history.
    for table in ("log_head", "log_entry", "log_checkpoint", "log_tile"):
        database.write_now(lambda conn, table=table: conn.exec_driver_sql(f"DELETE FROM {table} WHERE log = 0"))  # type: ignore[misc]
    database.close()
    await cluster.stop_registry()
    set_whole_back(cluster, kept)
    await cluster.start_registry()
    await tianjin.start()
    for wanted in drivers(TIANJIN, theirs):
        await tianjin.issue(wanted)
    before = mirrored(suzhou)
    await suzhou.start()

    async def accused() -> bool:
        return suzhou.config.evidence_dir.exists() and any(suzhou.config.evidence_dir.iterdir())

    await eventually(accused)
    with pytest.raises(errors.RootMismatch):
        await suzhou.running.mirror.catch_up()
    assert mirrored(suzhou) == before
    confirmed = await convicted(cluster, suzhou)
    assert confirmed.exit_code == 3, confirmed.output
    assert f"CONFIRMED: {TRUST_DOMAIN}/registry signed two histories" in confirmed.output
    # The city's own log does not rest on the registry's: it issues on.
    await suzhou.issue(first)


async def test_a_registry_that_lost_decisions_for_good_goes_on_in_a_new_epoch_and_signs_no_size_twice(
    cluster: Cluster, suzhou: City
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await caught_up(cluster, suzhou)
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    await suzhou.issue(second)
    before = await caught_up(cluster, suzhou, least=2)
    lost = mirrored(suzhou)
    await suzhou.stop()
    await cluster.stop_registry()
    await set_registry_back(cluster, kept)
    await cluster.start_registry()
    await suzhou.start()
    await suzhou.issue(third)
    await suzhou.replicated()
    await caught_up(cluster, suzhou, 2, least=2)
    opening = log_pb2.RegistryRecord.FromString(held(cluster, 2)[1][0].record or b"").registry_epoch_opened
    ended = held(cluster)[0]
    assert ended is not None
    assert (opening.closed_epoch, opening.closed_size, opening.closed_root) == (1, ended.size, ended.root)
    assert (opening.signed_size, ended.size) == (before, before - 1)
    # What is lost there is kept here, and nobody is accused: no size of an epoch was signed twice.
    assert mirrored(suzhou) == lost
    assert not suzhou.config.evidence_dir.exists()
    printed = await command(registry.cli.main, "keys", "--config", str(cluster.folder / "registry" / "config.toml"))
    assert f"{TRUST_DOMAIN}/registry/1+" in printed
    assert f"{TRUST_DOMAIN}/registry/2+" in printed
    await all_is_well(cluster, suzhou)


async def test_a_registry_that_gets_an_epoch_back_with_its_own_log_gets_what_was_written_in_it_too(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    before = await caught_up(cluster, suzhou)
    await suzhou.stop()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    suzhou.config.anchor_path.unlink()
    assert (await restore(suzhou))["epoch"] == 2
    await cluster.stop_registry()
    await suzhou.start()
    # Without a grant: the registry's decision rests on the record.
    await suzhou.issue(second)
    await cluster.start_registry()
    await suzhou.replicated()
    decided = await caught_up(cluster, suzhou, least=before + 2)
    await cluster.stop_registry()
    set_whole_back(cluster, kept)
    refused, opening, show = asyncio.Event(), RegistryEpochs.__call__, Mirror._show

    async def noted(self: RegistryEpochs, epoch: int) -> None:
        try:
            await opening(self, epoch)
        finally:
            refused.set()

    async def later(self: Mirror, *arguments: Any) -> int:
        await refused.wait()
        return await show(self, *arguments)

    monkeypatch.setattr(RegistryEpochs, "__call__", noted)
    monkeypatch.setattr(Mirror, "_show", later)
    await cluster.start_registry()
    # The city wants to open its epoch there while nothing is decided yet; then that comes out of the mirror.
    assert await caught_up(cluster, suzhou, least=decided) == decided
    await all_is_well(cluster, suzhou)


async def test_what_a_quarantine_rests_on_is_mirrored_with_it_and_given_back_to_a_registry_that_lost_it(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    token = parse_token(await cluster.national_token(city_id(TRUST_DOMAIN, TIANJIN)))
    liar = await RawCity.join(token, TIANJIN, signer=generate_key_file(tmp_path / "liar.pem"), clock=cluster.clock)
    liar.issue("11010519491231002X")
    await liar.replicate()
    await caught_up(cluster, suzhou, least=1)
    await liar.close()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    liar.salts[0] = bytes(32)
    with pytest.raises(errors.LogForked):
        await liar.send(liar.batch(1))
    before = await caught_up(cluster, suzhou, least=len(mirrored(suzhou)[1]) + 1)
    (path,) = (suzhou.config.evidence_dir / "mirrored").iterdir()
    evidence = path.read_bytes()
    assert (sha256(evidence).hexdigest(), path.stat().st_mode & 0o777) == (path.name, 0o600)
    await liar.close()
    await cluster.stop_registry()
    for file in copy_registry(cluster):
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    await cluster.start_registry()
    await caught_up(cluster, suzhou, least=before)
    database = Database(cluster.registry_config.database.url, readers=1)
    assert database.read_now(lambda conn: list(RegistryStore().evidence.all(conn)))[0][2] == evidence
    database.close()
    # It is no alarm against the registry.
    assert [each.name for each in suzhou.config.evidence_dir.iterdir()] == ["mirrored"]
    await all_is_well(cluster, suzhou)


async def liar_of(cluster: Cluster, folder: Path, code: int) -> RawCity:
    """A city that will lie."""
    token = parse_token(await cluster.national_token(city_id(TRUST_DOMAIN, code)))
    liar = await RawCity.join(token, code, signer=generate_key_file(folder / f"{code}.pem"), clock=cluster.clock)
    liar.issue(f"{code}199001010000")
    await liar.replicate()
    await liar.decided(1)
    await liar.close()
    return liar


async def lie(*liars: RawCity) -> None:
    """Sign a second history each, and be put into quarantine."""
    for liar in liars:
        liar.salts[0] = bytes(32)
        with pytest.raises(errors.LogForked):
            await liar.send(liar.batch(1))
        await liar.close()


def evidence_of(cluster: Cluster) -> dict[str, bytes]:
    """What the registry keeps as evidence, by its digest."""
    with closing(Database(cluster.registry_config.database.url, readers=1)) as database:
        kept = database.read_now(lambda conn: list(RegistryStore().evidence.all(conn)))
    return {digest.hex(): body for _, digest, body in kept}


async def mirrored_evidence(cluster: Cluster, city: City) -> None:
    """Wait until the city has every piece of evidence that the registry has, and nothing else."""
    folder = city.config.evidence_dir / "mirrored"

    async def same() -> bool:
        files = {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
        return files == evidence_of(cluster)

    await eventually(same)


async def test_evidence_that_does_not_go_into_one_answer_is_asked_for_again_and_given_back_in_parts(
    cluster: Cluster, suzhou: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liars = [await liar_of(cluster, tmp_path, code) for code in (TIANJIN, CHENGDU)]
    await suzhou.stop()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    await lie(*liars)
    bodies = evidence_of(cluster)
    assert len(bodies) == 2
    # As if they were so large that one fills a page.
    for module in (registry.mirrored, city_node.mirrored_evidence):
        monkeypatch.setattr(module, "EVIDENCE_BYTES", max(map(len, bodies.values())))
    await suzhou.start()
    await mirrored_evidence(cluster, suzhou)
    await cluster.stop_registry()
    for file in copy_registry(cluster):
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    await cluster.start_registry()

    async def given_back() -> bool:
        return evidence_of(cluster) == bodies

    await eventually(given_back)


async def test_a_file_of_evidence_that_can_not_be_read_keeps_nothing_else_from_being_given_back(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    liars = [await liar_of(cluster, tmp_path, code) for code in (TIANJIN, CHENGDU)]
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    await lie(*liars)
    bodies = evidence_of(cluster)
    await mirrored_evidence(cluster, suzhou)
    decided = await caught_up(cluster, suzhou)
    await cluster.stop_registry()
    bad, good = sorted((suzhou.config.evidence_dir / "mirrored").iterdir())
    # Whatever is wrong with it, to read it fails.
    bad.unlink()
    bad.mkdir()
    for file in copy_registry(cluster):
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    await cluster.start_registry()
    await caught_up(cluster, suzhou, least=decided)

    async def the_rest() -> bool:
        return evidence_of(cluster) == {good.name: bodies[good.name]}

    await eventually(the_rest)
    assert not bad.exists()
    assert bad.with_name(f"{bad.name}.unreadable").exists()
    assert suzhou.running.metrics.get_sample_value("elicense_mirror_evidence_set_aside_total") == 1.0
    # Another city has it: then this one asks for it, and has it again.
    with closing(Database(cluster.registry_config.database.url)) as database:
        await database.write(
            lambda conn: RegistryStore().evidence.add(
                conn,
                city=next(q.city for q in RegistryStore().quarantines.all(conn) if q.digest.hex() == bad.name),
                digest=bytes.fromhex(bad.name),
                reason=errors.LogForked.reason,
                body=bodies[bad.name],
                now_us=0,
            )
        )
    await mirrored_evidence(cluster, suzhou)


async def test_a_damaged_file_of_evidence_is_not_given_away_but_asked_for_again(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    await lie(await liar_of(cluster, tmp_path, TIANJIN))
    await mirrored_evidence(cluster, suzhou)
    (path,) = (suzhou.config.evidence_dir / "mirrored").iterdir()
    digest, body = bytes.fromhex(path.name), path.read_bytes()
    path.write_bytes(body[:-2])
    proofs = MirroredEvidence(path.parent, metrics=CollectorRegistry())
    assert proofs.of([digest]) == []
    assert proofs.lacking() == [digest]

    async def again() -> bool:
        return proofs.lacking() == []

    await eventually(again)
    assert path.read_bytes() == body
