"""A city gets its log back from the registry, and goes on without a fork."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from click.testing import CliRunner

import city_node.cli
import registry.cli
import registry.ingest
from city_node.app import build
from city_node.batches import BatchReader
from city_node.config import load_city_config
from city_node.handing_in import HandingIn
from city_node.restore import Restore, Restored
from city_node.store import CityStore
from city_node.verify_only import verify_only_mark
from elicense import errors
from elicense.clock import to_timestamp, utc_micros
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.model import LogKey, StoredEntry
from elicense.rpc.channel import secure_channel
from elicense.sql.database import Database
from elicense.trust.credentials import load_credentials
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import load_signer
from elicense.trust.spiffe import city_id
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import log_pb2, replication_pb2, replication_pb2_grpc
from elicense.v1.verification_pb2 import OUTCOME_INVALID, OUTCOME_VALID, PURPOSE_ROADSIDE_CHECK
from registry.model import CityState, state_heard
from registry.store import RegistryStore
from tests.integration.city.test_anchor import copy_database, set_back
from tests.integration.city.test_issuance import set_status, suspension
from tests.support.cluster import DEADLINE_S, SUZHOU, TRUST_DOMAIN, City, Cluster, call, drivers, eventually


async def command(main: Any, *arguments: str, status: int = 0) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments))
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def config_of(city: City) -> tuple[str, str]:
    """Return the option that names a city's configuration."""
    return "--config", str(city.folder / "config.toml")


async def restore(city: City, *options: str) -> dict[str, Any]:
    output = await command(city_node.cli.main, "restore", *config_of(city), "--json", *options)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


async def all_is_well(cluster: Cluster, city: City) -> None:
    """Stop both sides, and recompute everything on both."""
    await city.stop()
    await cluster.stop_registry()
    await command(city_node.cli.main, "fsck", "--config", str(city.folder / "config.toml"))
    await command(registry.cli.main, "fsck", "--config", str(cluster.folder / "registry" / "config.toml"))


def entries(url: str, store: CityStore | RegistryStore, epoch: int) -> list[StoredEntry]:
    database = Database(url, readers=1)
    try:
        return database.read_now(lambda conn: store.logs.entries(conn, LogKey(SUZHOU, epoch), 0, 1_000))
    finally:
        database.close()


def both(cluster: Cluster, city: City, epoch: int) -> tuple[list[StoredEntry], list[StoredEntry]]:
    """Return the entries of an epoch on both sides."""
    ours = entries(city.config.database_url, CityStore(), epoch)
    return ours, entries(cluster.registry_config.database.url, RegistryStore(), epoch)


def copy_registry(cluster: Cluster) -> dict[Path, bytes]:
    """Return the files of a stopped registry's database."""
    folder = cluster.folder / "registry"
    return {path: path.read_bytes() for path in folder.iterdir() if path.name.startswith("registry.db")}


async def set_registry_back(cluster: Cluster, kept: dict[Path, bytes]) -> None:
    """Put a stopped registry's database back as it was, and have a person say that it may sign again."""
    folder = cluster.folder / "registry"
    for path in copy_registry(cluster):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    await command(registry.cli.main, "allow-signing", "--yes", "--config", str(folder / "config.toml"))


def lose_database(city: City) -> None:
    set_back(city, {})


async def test_a_database_that_was_set_back_is_refilled_and_its_epoch_goes_on(cluster: Cluster, suzhou: City) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    kept = copy_database(suzhou)
    await suzhou.start()
    request_id = str(uuid.uuid4())
    issued = await suzhou.issue(second, request_id=request_id)
    await set_status(suzhou, issued.license.name, add_letters=[suspension()])
    await suzhou.replicated()
    await suzhou.stop()
    before, _ = both(cluster, suzhou, 1)
    set_back(suzhou, kept)
    await suzhou.start()
    with pytest.raises(errors.DataLoss, match="restore"):
        await suzhou.issue(third)
    await suzhou.stop()
    restored = await restore(suzhou)
    assert restored == {"epoch": 1, "opened": False, "refilled": 2, "size": 3, "registered": True, "to_erase": []}
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs == before
    await suzhou.start()
    # The idempotence table came back with the records.
    again = await suzhou.issue(second, request_id=request_id)
    assert again.license.name == issued.license.name
    assert again.durability == log_pb2.DURABILITY_NATIONAL
    with pytest.raises(errors.LicenseExists):
        await suzhou.issue(second)
    await suzhou.issue(third)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_city_that_lost_database_and_anchor_goes_on_in_a_new_epoch(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    issued = (await suzhou.issue(first)).license
    request_id = str(uuid.uuid4())
    await suzhou.issue(second, request_id=request_id)
    await suzhou.replicated()
    await suzhou.stop()
    before, _ = both(cluster, suzhou, 1)
    lose_database(suzhou)
    suzhou.config.anchor_path.unlink()
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    restored = await restore(suzhou)
    assert restored == {"epoch": 2, "opened": True, "refilled": 2, "size": 1, "registered": True, "to_erase": []}
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs == before
    ours, theirs = both(cluster, suzhou, 2)
    assert ours == theirs
    assert len(ours) == 1
    # Clerks are not in the log.
    await suzhou.start()
    clerk = await cluster.enroll_at(suzhou, ("clerk", str(SUZHOU), "window-2"), tmp_path / "clerk-again")
    suzhou.clerk_credentials = clerk

    async def national() -> bool:
        repeated = await suzhou.issue(second, request_id=request_id)
        proof = repeated.proof
        assert proof.position.epoch == 1
        assert proof.hashes
        return repeated.durability == log_pb2.DURABILITY_NATIONAL and not repeated.license.provisional

    await eventually(national)
    changed = await set_status(suzhou, issued.name, add_letters=[suspension()])
    assert changed.license.revision == 2
    assert changed.proof.position.epoch == 2
    await suzhou.issue(third)
    await suzhou.replicated()
    assert cluster.registry is not None
    for license_, outcome in ((first, OUTCOME_INVALID), (second, OUTCOME_VALID), (third, OUTCOME_VALID)):
        verdict = await cluster.verify(
            police, cluster.registry.address, license_.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
        )
        assert verdict.outcome == outcome
        assert verdict.freshness.log_epoch == 2
    revisions = await call(
        suzhou.issuance().ListRevisions(pb.ListRevisionsRequest(parent=issued.name), timeout=DEADLINE_S)
    )
    assert [(each.position.epoch, each.license.revision) for each in revisions.revisions] == [(1, 1), (2, 2)]
    # Proofs from before still hold: the same leaf, the same keys, published with all others.
    proof_file = tmp_path / "proof.json"
    config = ("--config", str(cluster.folder / "registry" / "config.toml"))
    await command(registry.cli.main, "prove", str(SUZHOU), "0", "--epoch", "1", "--out", str(proof_file), *config)
    published = await command(city_node.cli.main, "keys", "--config", str(suzhou.folder / "config.toml"))
    assert f"city/{SUZHOU}/1+" in published
    assert f"city/{SUZHOU}/2+" in published
    await all_is_well(cluster, suzhou)


async def test_what_was_answered_and_is_nowhere_any_more_never_leads_to_a_fork(cluster: Cluster, suzhou: City) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.stop()
    kept = copy_database(suzhou)
    await suzhou.start()
    lost = await suzhou.issue(second)
    await suzhou.stop()
    set_back(suzhou, kept)
    await cluster.start_registry()
    restored = await restore(suzhou)
    assert (restored["epoch"], restored["opened"], restored["registered"]) == (2, True, True)
    await suzhou.start()
    await suzhou.issue(third)
    await suzhou.replicated()
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs
    assert lost.proof.position.index == len(ours)
    assert lost.proof.position.epoch == 1
    await all_is_well(cluster, suzhou)


async def test_an_anchor_that_was_set_back_with_the_database_is_no_witness(cluster: Cluster, suzhou: City) -> None:
    """The whole machine is an old copy of itself: only the registry can tell."""
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    kept, anchor = copy_database(suzhou), suzhou.config.anchor_path.read_bytes()
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.replicated()
    await suzhou.stop()
    set_back(suzhou, kept)
    suzhou.config.anchor_path.write_bytes(anchor)
    assert (await restore(suzhou))["epoch"] == 2
    await suzhou.start()
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_what_the_database_holds_beyond_the_registry_is_sent_before_the_epoch_ends(
    cluster: Cluster, suzhou: City
) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.issue(second)
    await suzhou.stop()
    suzhou.config.anchor_path.unlink()
    await cluster.start_registry()
    assert (await restore(suzhou))["epoch"] == 2
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs
    assert len(ours) == 2
    await suzhou.start()
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_an_epoch_that_ended_and_is_sent_in_parts_makes_a_city_no_fresher(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *later = drivers(SUZHOU, 4)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    for driver in later:
        await suzhou.issue(driver)
    await suzhou.stop()
    suzhou.config.anchor_path.unlink()
    assert (await restore(suzhou, "--without-registry"))["epoch"] == 2
    # An entry a call.
    assert BatchReader.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(BatchReader.__init__.__kwdefaults__, "max_entries", 1)
    heard: list[tuple[int, int, int]] = []

    def remember(before: CityState | None, **said: Any) -> CityState:
        state = state_heard(before, **said)
        heard.append((state.epoch, state.next_index, state.as_of_us - (0 if before is None else before.as_of_us)))
        return state

    monkeypatch.setattr(registry.ingest, "state_heard", remember)
    await suzhou.start()
    await cluster.start_registry()
    await suzhou.replicated()

    async def goes_on_there() -> bool:
        return any(epoch == 2 for epoch, _, _ in heard)

    await eventually(goes_on_there)
    assert [(size, fresher) for epoch, size, fresher in heard if epoch == 1] == [(2, 0), (3, 0), (4, 0)]
    await all_is_well(cluster, suzhou)


def epoch_keys(city: City, epoch: int) -> tuple[bytes, list[bytes]]:
    """Return the key of an epoch, and those that were put aside for it."""
    key = Path(unquote(urlsplit(city.config.log_key_uri(epoch)).path))
    return key.read_bytes(), [path.read_bytes() for path in key.parent.glob(f"{key.name}.before-*")]


async def show_a_fork(cluster: Cluster, city: City) -> None:
    """Show the registry another head of its first size that the city's key signed."""
    origin = city_log_origin(TRUST_DOMAIN, city.code, 1)
    note = sign_checkpoint(Checkpoint(origin, 1, bytes(32)), load_signer(city.config.log_key_uri(1)))
    request = replication_pb2.AppendEntriesRequest(checkpoint=note, epoch=1, first_index=1, tip_size=1)
    request.city_time.CopyFrom(to_timestamp(utc_micros()))
    credentials = load_credentials(city.config.credentials_dir)
    address = cluster.registry_config.node.listen
    async with secure_channel(credentials, address=address, retries=False, local_pool=True) as channel:
        stub = replication_pb2_grpc.ReplicationServiceStub(channel)
        with pytest.raises(errors.LogForked):
            await call(stub.AppendEntries(request, timeout=DEADLINE_S))


async def let_in(cluster: Cluster, code: int, folder: Path) -> None:
    """End a quarantine, as two operators."""
    for verb, name in (("release", "zhang"), ("approve", "li")):
        operator = folder / name
        await cluster.enroll_national(("operator", name), operator)
        await command(registry.cli.main, "quarantine", verb, str(code), "--credentials", str(operator))


async def test_a_city_whose_fork_was_released_is_restored_into_a_new_epoch(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.issue(second)
    await suzhou.stop()
    await cluster.start_registry()
    await show_a_fork(cluster, suzhou)
    config = config_of(suzhou)
    # As long as nobody has let it in again there is nothing to go on from.
    assert "[QUARANTINED]" in await command(city_node.cli.main, "restore", *config, status=1)
    await let_in(cluster, SUZHOU, tmp_path)
    # The same evidence once more does not undo what two operators decided.
    await show_a_fork(cluster, suzhou)
    # What the database holds beyond the registry can be brought there no more, and is not dropped in silence.
    assert "move the database aside" in await command(city_node.cli.main, "restore", *config, status=1)
    lose_database(suzhou)
    restored = await restore(suzhou)
    assert restored == {"epoch": 2, "opened": True, "refilled": 1, "size": 1, "registered": True, "to_erase": []}
    await suzhou.start()
    clerk = tmp_path / "clerk-again"
    suzhou.clerk_credentials = await cluster.enroll_at(suzhou, ("clerk", str(SUZHOU), "window-2"), clerk)
    await suzhou.issue(second)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_person_may_open_an_epoch_while_the_registry_is_away_and_it_is_registered_later(
    cluster: Cluster, suzhou: City
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.issue(second)
    await suzhou.stop()
    suzhou.config.anchor_path.unlink()
    await suzhou.start()
    with pytest.raises(errors.HistoryUnknown):
        await suzhou.issue(third)
    config = config_of(suzhou)
    assert "running" in await command(city_node.cli.main, "restore", *config, status=1)
    await suzhou.stop()
    assert (await restore(suzhou, "--without-registry"))["epoch"] == 2
    await suzhou.start()
    issued = await suzhou.issue(third)
    assert issued.durability == log_pb2.DURABILITY_LOCAL
    await cluster.start_registry()
    await suzhou.replicated()

    async def all_there() -> bool:
        return all(len(ours) == len(theirs) for ours, theirs in (both(cluster, suzhou, epoch) for epoch in (1, 2)))

    await eventually(all_there)
    await all_is_well(cluster, suzhou)


async def test_a_city_that_was_put_together_for_an_epoch_that_has_ended_does_not_start(
    cluster: Cluster, suzhou: City
) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    suzhou.config.anchor_path.unlink()
    node = await build(suzhou.config)
    assert (await restore(suzhou))["epoch"] == 2
    with pytest.raises(errors.EpochClosed, match="epoch 2 of the city's log was opened while"):
        await node.start()
    await node.stop(grace_s=0)
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_restore_that_never_reached_the_registry_keeps_the_node_from_signing_and_says_what_lets_it(
    cluster: Cluster, suzhou: City
) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await cluster.stop_registry()
    await suzhou.stop()
    config = config_of(suzhou)
    said = await command(city_node.cli.main, "restore", *config, status=1)
    assert "PEER_UNREACHABLE" in said
    assert "allow-signing" in said
    await suzhou.start()
    with pytest.raises(errors.DataLoss):
        await suzhou.issue(second)
    await suzhou.stop()
    await command(city_node.cli.main, "allow-signing", "--yes", *config)
    await suzhou.start()
    assert (await suzhou.issue(second)).durability == log_pb2.DURABILITY_LOCAL


async def test_a_key_that_may_have_begun_an_epoch_is_put_aside_and_never_begins_another(
    cluster: Cluster, suzhou: City
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    kept = copy_database(suzhou)
    await cluster.stop_registry()
    await restore(suzhou, "--without-registry")
    before, _ = epoch_keys(suzhou, 2)
    await suzhou.start()
    lost = await suzhou.issue(second)
    assert lost.proof.position.epoch == 2
    await suzhou.stop()
    # The database forgets that epoch, which the key has signed for already.
    set_back(suzhou, kept)
    await cluster.start_registry()
    assert (await restore(suzhou))["epoch"] == 2
    key, aside = epoch_keys(suzhou, 2)
    assert key != before
    assert aside == [before]
    await suzhou.start()
    await suzhou.issue(third)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_city_goes_on_when_the_registry_was_set_back_to_before_its_epoch(
    cluster: Cluster, suzhou: City
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    suzhou.config.anchor_path.unlink()
    assert (await restore(suzhou))["epoch"] == 2
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.replicated()
    await cluster.stop_registry()
    await set_registry_back(cluster, kept)
    await cluster.start_registry()

    # The registry says that another epoch is open; only a comparison tells that this one follows it.
    async def sent_again() -> bool:
        ours, theirs = await asyncio.to_thread(both, cluster, suzhou, 2)
        return len(ours) == len(theirs) == 2

    await eventually(sent_again)
    await suzhou.issue(third)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_an_epoch_opened_behind_what_the_registry_holds_is_refused_and_nothing_more_is_signed(
    cluster: Cluster, suzhou: City
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    kept = copy_database(suzhou)
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.replicated()
    await suzhou.stop()
    set_back(suzhou, kept)
    await restore(suzhou, "--without-registry")
    await suzhou.start()

    async def stopped() -> bool:
        return isinstance(suzhou.running.gate.reason, errors.LogBehind)

    await eventually(stopped)
    with pytest.raises(errors.DataLoss):
        await suzhou.issue(third)


async def test_a_call_that_arrives_during_a_restore_lets_no_epoch_begin_before_what_it_brought(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    kept = copy_database(suzhou)
    await suzhou.start()
    replicator = suzhou.running.replicator
    replicator.stop()
    issued = (await suzhou.issue(second)).license
    underway: list[replication_pb2.AppendEntriesRequest] = []

    class OnItsWay:
        async def AppendEntries(self, request: replication_pb2.AppendEntriesRequest, **_: object) -> None:  # noqa: N802
            underway.append(request)
            raise errors.PeerUnreachable("nobody has heard yet what becomes of it")

    monkeypatch.setattr(replicator, "_stub", OnItsWay())
    with pytest.raises(errors.PeerUnreachable):
        await replicator.catch_up()
    await suzhou.stop()
    set_back(suzhou, kept)
    go_on = Restore._go_on

    async def arrives(self: Restore, *, ended: bool) -> Restored:
        restored = await go_on(self, ended=ended)
        address = suzhou.config.city.registry_address
        async with secure_channel(self._keys.credentials, address=address, retries=False) as channel:
            await call(replication_pb2_grpc.ReplicationServiceStub(channel).AppendEntries(*underway))
        return restored

    config = config_of(suzhou)
    with monkeypatch.context() as late:
        late.setattr(Restore, "_go_on", arrives)
        await command(city_node.cli.main, "restore", *config, status=1)
    refused = await command(city_node.cli.main, "restore", *config, status=1)
    assert "move the database aside" in refused
    assert "revoke once more" in refused
    set_back(suzhou, kept)
    restored = await restore(suzhou)
    assert (restored["epoch"], restored["opened"], restored["registered"]) == (2, True, True)
    await suzhou.start()
    request = pb.GetLicenseRequest(name=issued.name)
    assert (await call(suzhou.issuance().GetLicense(request, timeout=DEADLINE_S))).name == issued.name
    await suzhou.issue(third)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_node_signs_in_an_epoch_that_the_registry_may_refuse_only_if_a_person_says_so(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    suzhou.config.anchor_path.unlink()
    go_on, config = Restore._go_on, config_of(suzhou)

    async def away(self: HandingIn) -> None:
        raise errors.PeerUnreachable("the registry has gone away")

    with monkeypatch.context() as gone:

        async def opens_and_loses_it(self: Restore, *, ended: bool) -> Restored:
            restored = await go_on(self, ended=ended)
            gone.setattr(HandingIn, "carry", away)
            return restored

        gone.setattr(Restore, "_go_on", opens_and_loses_it)
        await command(city_node.cli.main, "restore", *config, status=1)
    said = await command(city_node.cli.main, "allow-signing", "--yes", *config, status=1)
    assert "epoch 2" in said
    assert "--unregistered-epoch" in said
    assert verify_only_mark(suzhou.config, utc_micros).read() is not None
    await command(city_node.cli.main, "allow-signing", "--yes", "--unregistered-epoch", *config)
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_refilled_log_is_proved_entry_by_entry(cluster: Cluster, suzhou: City) -> None:
    """A registry that sends other bytes is found out, and nothing of them stays."""
    (first,) = drivers(SUZHOU, 1)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    lose_database(suzhou)
    await cluster.stop_registry()
    database = Database(cluster.registry_config.database.url, readers=1, writers=1)
    try:

        def falsify(conn: Any) -> None:
            (entry,) = RegistryStore().logs.entries(conn, LogKey(SUZHOU, 1), 0, 1)
            assert entry.record is not None
            assert entry.salt is not None
            other = entry.record[:-1] + bytes([entry.record[-1] ^ 1])
            assert leaf_hash(entry.salt, other) != entry.leaf_hash
            conn.exec_driver_sql("UPDATE log_entry SET record = ? WHERE log = ?", (other, SUZHOU))

        database.write_now(falsify)
    finally:
        database.close()
    await cluster.start_registry()
    config = config_of(suzhou)
    said = await command(city_node.cli.main, "restore", *config, status=1)
    assert "does not lead to the head" in said
    assert entries(suzhou.config.database_url, CityStore(), 1) == []


async def test_a_city_that_lost_its_whole_machine_joins_again_and_goes_on(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    """Database, anchor and every key are gone: what is left is at the registry."""
    first, second, third = drivers(SUZHOU, 3)
    issued = (await suzhou.issue(first)).license
    await suzhou.issue(second)
    await suzhou.replicated()
    await suzhou.stop()
    before = entries(cluster.registry_config.database.url, RegistryStore(), 1)
    lost = suzhou.folder.rename(tmp_path / "lost")
    listen = ("--listen", "127.0.0.1:0", "--data", str(suzhou.folder))
    token = await cluster.national_token(city_id(TRUST_DOMAIN, SUZHOU))
    # Only whoever says so takes the place of a city that is enrolled.
    said = await command(city_node.cli.main, "join", token, *listen, status=1)
    assert "--again" in said
    said = await command(city_node.cli.main, "join", token, *listen, "--again")
    assert "elicense-city restore" in said
    config = config_of(suzhou)
    assert "restore" in await command(city_node.cli.main, "status", *config, status=1)
    assert (await restore(suzhou))["epoch"] == 2
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs == before
    suzhou.config = load_city_config(suzhou.folder / "config.toml")
    await suzhou.start()
    suzhou.clerk_credentials = await cluster.enroll_at(suzhou, ("clerk", str(SUZHOU), "w2"), tmp_path / "clerk-again")
    changed = await set_status(suzhou, issued.name, add_letters=[suspension()])
    assert (changed.license.revision, changed.proof.position.epoch) == (2, 2)
    await suzhou.issue(third)
    await suzhou.replicated()
    assert lost.exists()
    await all_is_well(cluster, suzhou)
