"""A licence is erased: nobody can tell any more what was there, and every proof holds."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

import city_node.cli
from city_node.store import CityStore, metadata
from elicense import errors
from elicense.cli.main import main as elicense_main
from elicense.license.retention import RETENTION_DAYS
from elicense.log.entry import SALT_SIZE, leaf_hash
from elicense.log.merkle import verify_inclusion
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from elicense.v1.verification_pb2 import OUTCOME_NO_MATCH, OUTCOME_VALID, PURPOSE_ROADSIDE_CHECK
from registry.store import metadata as registry_metadata
from tests.integration.city.test_anchor import copy_database, set_back
from tests.integration.city.test_identity import applying, renumbered
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_lifecycle import change, experienced
from tests.integration.city.test_restore import (
    all_is_well,
    both,
    command,
    copy_registry,
    lose_database,
    restore,
    set_registry_back,
)
from tests.support.cluster import DEADLINE_S, SUZHOU, City, Cluster, call, drivers, eventually, run_cluster
from tests.support.postgres import PostgresServer
from tests.support.remains import confirmed, opened, stored

#: Runs a city until it would scrub what a clerk has erased, and is killed there.
KILLED_SCRUB: Final = """
import asyncio, os, signal, sys
import city_node.app, elicense.log.scrubber
from city_node.config import load_city_config
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import load_credentials
from elicense.v1 import issuance_pb2, issuance_pb2_grpc
from pathlib import Path

config, clerk, name, request_id = sys.argv[1:]
elicense.log.scrubber.scrub = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

async def main():
    held = load_city_config(Path(config))
    limits = held.limits.model_copy(update={"retention_days": 0})
    node = held.node.model_copy(update={"listen": "127.0.0.1:0", "advertise": "127.0.0.1:0"})
    city = await city_node.app.build(held.model_copy(update={"limits": limits, "node": node}))
    await city.start()
    channel = secure_channel(load_credentials(Path(clerk)), address=city.address, retries=False)
    request = issuance_pb2.EraseLicenseRequest(name=name, legal_basis=%r, request_id=request_id)
    await issuance_pb2_grpc.IssuanceServiceStub(channel).EraseLicense(request, timeout=30)

asyncio.run(main())
"""
BASIS: Final = "Personal Information Protection Law, Article 47"


EITHER: Final = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
"""On each kind of store, registry and city alike."""


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "sqlite")


@asynccontextmanager
async def running(folder: Path, registry_url: str | None = None, city_url: str | None = None) -> AsyncIterator[Cluster]:
    async with run_cluster(folder, database_url=registry_url) as cluster:
        await cluster.add_city(SUZHOU, retention_days=0, database_url=city_url)
        yield cluster


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, tmp_path: Path, engine: str) -> AsyncIterator[Cluster]:
    """A registry and Suzhou, where the law lets a cancelled licence go at once."""
    if engine == "sqlite":
        async with running(tmp_path) as made:
            yield made
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as one, server.database() as two:
        async with running(tmp_path, one, two) as made:
            yield made


@pytest.fixture
async def lenient(cluster: Cluster) -> City:
    return cluster.cities[SUZHOU]


async def cancel(city: City, name: str) -> None:
    request = pb.CancelLicenseRequest(name=name, legal_basis="on request", request_id=str(uuid.uuid4()))
    await call(city.issuance().CancelLicense(request, timeout=DEADLINE_S))


async def erase(
    city: City, name: str, *, request_id: str | None = None, validate_only: bool = False
) -> pb.EraseLicenseResponse:
    request = pb.EraseLicenseRequest(
        name=name,
        legal_basis=BASIS,
        request_id=request_id or str(uuid.uuid4()),
        validate_only=validate_only,
    )
    return await call(city.issuance().EraseLicense(request, timeout=DEADLINE_S))


async def cancelled(city: City, license_: license_pb2.License) -> str:
    """Issue a licence, suspend it, cancel it; three records that the registry holds."""
    issued = (await city.issue(license_)).license
    await set_status(city, issued.name, add_letters=[suspension()])
    await set_status(city, issued.name, lift_letters=["D"])
    await cancel(city, issued.name)
    await city.replicated()
    return issued.name


def contents(folder: Path) -> list[bytes]:
    """Every file below a folder."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def store_files(cluster: Cluster, city: City) -> list[Path]:
    """Every file of every store of both sides."""
    folders = (city.folder, cluster.folder / "registry")
    return [path for folder in folders for path in folder.iterdir() if ".db" in path.name]


def attack(files: list[Path], records: list[StoredEntry]) -> int:
    """Try whatever stands in the files as the salt of the true records; return how many it opens."""
    candidates = set()
    for path in files:
        content = path.read_bytes()
        for record in records:
            assert record.salt is not None
            assert record.salt not in content, path.name
        candidates |= {content[i : i + SALT_SIZE] for i in range(0, len(content) - SALT_SIZE, 1) if content[i]}
    return sum(
        any(leaf_hash(salt, record.record or b"") == record.leaf_hash for salt in candidates) for record in records
    )


@EITHER
async def test_an_erased_license_leaves_its_leaf_hashes_and_nothing_else(
    cluster: Cluster, lenient: City, tmp_path: Path, engine: str
) -> None:
    first, second = drivers(SUZHOU, 2)
    kept = (await lenient.issue(second)).license
    name = await cancelled(lenient, first)
    before, _ = both(cluster, lenient, 1)
    mine = [entry for entry in before if entry.index > 0]
    root_before = _root(lenient, len(before))
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    await erase(lenient, name, validate_only=True)
    request_id = str(uuid.uuid4())
    answer = await erase(lenient, name, request_id=request_id)
    # A database server frees its own space.
    assert answer.traces_gone == (engine == "sqlite")
    assert answer.proof.position.index == len(before)
    again = await erase(lenient, name, request_id=request_id)
    assert again.proof.position.index == answer.proof.position.index
    await lenient.replicated()
    with pytest.raises(errors.LicenseNotFound):
        await erase(lenient, name)
    with pytest.raises(errors.LicenseNotFound):
        await call(lenient.issuance().GetLicense(pb.GetLicenseRequest(name=name), timeout=DEADLINE_S))
    ours, theirs = both(cluster, lenient, 1)
    assert ours == theirs
    assert [entry.leaf_hash for entry in ours[: len(before)]] == [entry.leaf_hash for entry in before]
    assert all(entry.record is None and entry.salt is None for entry in ours[1 : len(before)])
    assert ours[0] == before[0]
    # What was proved before is proved still.
    _prove_all(lenient, before, root_before)
    assert cluster.registry is not None
    verdict = await cluster.verify(
        police, cluster.registry.address, first.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
    )
    assert verdict.outcome == OUTCOME_NO_MATCH
    await all_is_well(cluster, lenient)
    files = store_files(cluster, lenient)
    assert attack(files, mine) == 0
    number, holder = first.holder.document.number.encode(), first.holder.full_name.encode()
    for path in files:
        content = path.read_bytes()
        assert number not in content, path.name
        assert holder not in content or holder == second.holder.full_name.encode(), path.name
    assert kept.name


def _root(city: City, size: int) -> bytes:
    database = Database(city.config.database_url, readers=1)
    try:

        def read(conn: object) -> bytes:
            head = CityStore().logs.head(conn, LogKey(SUZHOU, 1))  # type: ignore[arg-type]
            assert head is not None
            return CityStore().logs.root_at(conn, head, size)  # type: ignore[arg-type]

        return database.read_now(read)
    finally:
        database.close()


def _prove_all(city: City, entries: list[StoredEntry], root: bytes) -> None:
    """Prove the true entries, as whoever kept them can, with paths from the log as it is now."""
    database, size = Database(city.config.database_url, readers=1), len(entries)
    try:
        proofs = database.read_now(
            lambda conn: CityStore().logs.inclusion_proofs(conn, LogKey(SUZHOU, 1), range(size), size)
        )
    finally:
        database.close()
    for entry, proof in zip(entries, proofs, strict=True):
        computed = leaf_hash(entry.salt or b"", entry.record or b"")
        verify_inclusion(leaf_hash=computed, index=entry.index, size=size, proof=proof, root=root)


@EITHER
async def test_a_person_whose_license_was_erased_may_apply_anew(
    cluster: Cluster, lenient: City, tmp_path: Path
) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    name = await cancelled(lenient, wanted)
    await erase(lenient, name)
    await lenient.replicated()
    issued = await lenient.issue(wanted)
    assert issued.license.name != name
    assert not issued.license.provisional
    await lenient.replicated()
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    assert cluster.registry is not None
    verdict = await cluster.verify(
        police, cluster.registry.address, wanted.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
    )
    assert verdict.outcome == OUTCOME_VALID
    await all_is_well(cluster, lenient)


@EITHER
async def test_the_numbers_of_an_erased_license_still_lead_to_its_holder_and_to_a_bar(
    cluster: Cluster, lenient: City, tmp_path: Path
) -> None:
    """A number that was changed twice, and one more behind a licence that was issued anew."""
    (old,) = experienced(SUZHOU, 1)
    numbers = [renumbered(old, by) for by in (0, 2, 4, 6)]
    name = (await lenient.issue(old)).license.name
    for license_ in numbers[1:3]:
        await change(lenient, "ChangeIdentity", name, document=license_.holder.document, legal_basis="一")
    await cancel(lenient, name)
    await lenient.replicated()
    await erase(lenient, name)
    await lenient.replicated()
    again = (await lenient.issue(applying(numbers[1]))).license.name
    await lenient.replicated()
    await change(lenient, "ChangeIdentity", again, document=numbers[3].holder.document, legal_basis="一")
    await lenient.replicated()
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    assert cluster.registry is not None
    for license_ in numbers:
        verdict = await cluster.verify(
            police, cluster.registry.address, license_.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
        )
        assert verdict.outcome == OUTCOME_VALID
    await set_status(lenient, again, add_letters=[suspension("F")])
    await lenient.replicated()
    for license_ in numbers:
        with pytest.raises(errors.PersonBanned):
            await lenient.issue(applying(license_))
    await all_is_well(cluster, lenient)


async def test_what_the_law_keeps_is_not_erased(cluster: Cluster, suzhou: City) -> None:
    await suzhou.stop()
    limits = suzhou.config.limits.model_copy(update={"retention_days": RETENTION_DAYS})
    suzhou.config = suzhou.config.model_copy(update={"limits": limits})
    await suzhou.start()
    first, second = drivers(SUZHOU, 2)
    name = await cancelled(suzhou, first)
    with pytest.raises(errors.IllegalTransition) as refused:
        await erase(suzhou, name)
    assert [each.reason for each in refused.value.violations] == ["RETENTION_RUNS"]
    standing = (await suzhou.issue(second)).license.name
    await suzhou.replicated()
    with pytest.raises(errors.IllegalTransition) as refused:
        await erase(suzhou, standing)
    assert [each.reason for each in refused.value.violations] == ["LICENSE_NOT_CANCELLED"]
    await cluster.stop_registry()
    await set_status(suzhou, standing, add_letters=[suspension()])
    with pytest.raises(errors.IllegalTransition) as refused:
        await erase(suzhou, standing)
    assert {each.reason for each in refused.value.violations} == {"LICENSE_NOT_CANCELLED", "NOT_NATIONAL"}


async def test_a_restore_brings_back_no_erased_license(cluster: Cluster, lenient: City) -> None:
    """Neither from a backup that still has it, nor from the registry, which refills the log with its leaf hashes."""
    first, second = drivers(SUZHOU, 2)
    name = await cancelled(lenient, first)
    await lenient.stop()
    kept = copy_database(lenient)
    before, _ = both(cluster, lenient, 1)
    await lenient.start()
    await erase(lenient, name)
    await lenient.issue(second)
    await lenient.replicated()
    await lenient.stop()
    erased, theirs = both(cluster, lenient, 1)
    assert erased == theirs
    set_back(lenient, kept)
    await restore(lenient)
    ours, _ = both(cluster, lenient, 1)
    assert ours == erased
    assert attack([lenient.folder / "city.db"], before) == 0
    lose_database(lenient)
    await restore(lenient)
    ours, _ = both(cluster, lenient, 1)
    assert ours == erased
    await lenient.start()
    await lenient.replicated()
    await all_is_well(cluster, lenient)


async def test_an_erased_log_fills_a_registry_that_was_set_back(cluster: Cluster, lenient: City) -> None:
    first, second = drivers(SUZHOU, 2)
    await lenient.issue(second)
    await lenient.replicated()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    name = await cancelled(lenient, first)
    await erase(lenient, name)
    await lenient.replicated()
    await cluster.stop_registry()
    await set_registry_back(cluster, kept)
    await cluster.start_registry()

    async def all_there() -> bool:
        ours, theirs = await asyncio.to_thread(both, cluster, lenient, 1)
        return ours == theirs

    await eventually(all_there)
    await all_is_well(cluster, lenient)


@pytest.mark.parametrize("records", [1, 2], ids=["an issued licence", "a suspended licence"])
async def test_a_registry_set_back_to_before_an_erasure_erases_again(
    cluster: Cluster, lenient: City, tmp_path: Path, records: int
) -> None:
    (first,) = drivers(SUZHOU, 1)
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    name = (await lenient.issue(first)).license.name
    if records == 2:
        await set_status(lenient, name, add_letters=[suspension()])
    await lenient.replicated()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    if records == 2:
        await set_status(lenient, name, lift_letters=["D"])
    await cancel(lenient, name)
    await lenient.replicated()
    await erase(lenient, name)
    await lenient.replicated()
    await cluster.stop_registry()
    await set_registry_back(cluster, kept)
    await cluster.start_registry()

    async def erased() -> bool:
        ours, theirs = await asyncio.to_thread(both, cluster, lenient, 1)
        return ours == theirs

    await eventually(erased)
    ours, _ = both(cluster, lenient, 1)
    assert [entry.record is None for entry in ours] == [True] * (len(ours) - 1) + [False]
    document = first.holder.document
    address = cluster.registry_config.node.listen
    given = await cluster.verify(police, address, document, purpose=PURPOSE_ROADSIDE_CHECK)
    assert given.outcome == OUTCOME_NO_MATCH
    # The person is free again.
    anew = await lenient.issue(first)
    assert not anew.license.provisional
    await lenient.replicated()
    await all_is_well(cluster, lenient)


async def test_a_clerk_erases_by_command(cluster: Cluster, lenient: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    name = await cancelled(lenient, wanted)
    options = ("--credentials", str(lenient.clerk), "--address", lenient.running.address, "--basis", "on request")
    assert "nothing was erased" in await command(city_node.cli.main, "erase", name, *options, "--check-only")
    assert "no trace is left" in await command(city_node.cli.main, "erase", name, *options)


async def test_a_scrub_that_was_killed_is_done_at_the_next_start_and_by_asking_again(
    cluster: Cluster, lenient: City
) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    name = await cancelled(lenient, wanted)
    before, _ = both(cluster, lenient, 1)
    request_id, config = str(uuid.uuid4()), lenient.folder / "config.toml"
    await lenient.stop()
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED_SCRUB % BASIS, *map(str, (config, lenient.clerk, name, request_id))],
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    files = [lenient.folder / "city.db", lenient.folder / "city.db-wal"]
    assert _salts_left(files, before)
    await lenient.start()
    # The entry stands, and so does the mark that the files still hold something.
    answer = await erase(lenient, name, request_id=request_id)
    assert answer.traces_gone
    assert not _salts_left(files, before)
    await lenient.replicated()
    await all_is_well(cluster, lenient)
    assert not _salts_left(store_files(cluster, lenient), before)
    assert attack(store_files(cluster, lenient), before) == 0


def _salts_left(files: list[Path], records: list[StoredEntry]) -> bool:
    return any((record.salt or b"") in path.read_bytes() for path in files if path.exists() for record in records)


@EITHER
async def test_nobody_with_the_true_records_of_a_driver_of_three_numbers_can_confirm_them(
    cluster: Cluster, lenient: City, tmp_path: Path
) -> None:
    """By no earlier number and no later one, through no revision, in nothing that either side stores or gives out."""
    (first,) = experienced(SUZHOU, 1)
    name = (await lenient.issue(first)).license.name
    await lenient.replicated()
    for by in (2, 4):
        document = renumbered(first, by).holder.document
        await change(lenient, "ChangeIdentity", name, document=document, legal_basis="公民身份号码更正")
        await set_status(lenient, name, add_letters=[suspension()])
        await set_status(lenient, name, lift_letters=["D"])
    await cancel(lenient, name)
    await lenient.replicated()
    known, _ = both(cluster, lenient, 1)
    urls = [(lenient.config.database_url, metadata), (cluster.registry_config.database.url, registry_metadata)]
    remains = [value for url, tables in urls for value in stored(url, tables)]
    assert opened(remains, known) == len(known) == 8
    assert {"name", "number", "earlier number", "record", "salt", "photo"} <= set(confirmed(remains, known))
    await erase(lenient, name)
    await lenient.replicated()
    await all_is_well(cluster, lenient)
    for side, (url, _) in zip(("city", "registry"), urls, strict=True):
        await command(
            elicense_main, "log", "export", str(tmp_path / f"given-{side}"), "--city", "320500", "--database", url
        )
    given = [content for side in ("city", "registry") for content in contents(tmp_path / f"given-{side}")]
    assert given
    remains = [value for url, tables in urls for value in stored(url, tables)]
    assert opened([*remains, *given], known) == 0
    # Databases, access logs, anchors and whatever else the nodes keep in their folders.
    assert confirmed([*remains, *contents(tmp_path)], known) == []
