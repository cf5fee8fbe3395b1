"""`elicense log` against a real registry: export, prove, verify and audit, online and from files alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elicense.cli.join import join
from elicense.cli.main import main as elicense
from elicense.trust.token import format_token
from registry.cli import main as registry_command
from tests.integration.registry.world import SUZHOU, TRUST_DOMAIN, World
from tests.support.city import City


@pytest.fixture
async def suzhou(world: World) -> City:
    city = await world.city(SUZHOU)
    await issue(city, 3)
    return city


async def issue(city: City, count: int) -> None:
    for _ in range(count):
        city.issue(f"{city.code}19900101{city.size:04d}")
    await city.replicate()
    await city.decided(city.size)


@pytest.fixture
async def auditor(world: World) -> Path:
    """Credentials of an auditor."""
    token = await world.token(f"spiffe://{TRUST_DOMAIN}/auditor/a1")
    folder = world.folder / "auditor"
    await asyncio.to_thread(join, format_token(token), folder)
    return folder


@pytest.fixture
def keys(world: World, suzhou: City) -> Path:
    printed = CliRunner().invoke(registry_command, ["keys", "--config", f"{world.config.node.data_dir}/config.toml"])
    path = world.folder / "keys"
    path.write_text(printed.stdout)
    return path


async def run(*arguments: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, elicense, ["log", *map(str, arguments)])


async def audit(world: World, auditor: Path, keys: Path, *more: object) -> Result:
    files = ("--state", world.folder / "state.json", "--evidence", world.folder / "evidence")
    return await run("audit", "--key", keys, "--credentials", auditor, *files, "--once", *more)


def lines(result: Result) -> list[dict[str, object]]:
    # The registry in this process logs to the same standard output.
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


async def test_an_auditor_follows_an_honest_registry_from_head_to_head(
    world: World, suzhou: City, auditor: Path, keys: Path
) -> None:
    for _ in range(3):
        await world.node.publish_heads()
        result = await audit(world, auditor, keys)
        assert result.exit_code == 0, result.output
        assert [(line["event"], line["logs"], line["alarms"]) for line in lines(result)] == [("round", 2, 0)]
        await issue(suzhou, 2)
        world.clock.advance(seconds=61)
    state = json.loads((world.folder / "state.json").read_text())
    assert set(state["heads"]) == {suzhou.origin, f"{TRUST_DOMAIN}/registry/1"}


async def test_a_registry_that_rewrote_what_an_auditor_saw_is_convicted_from_files_alone(
    world: World, suzhou: City, auditor: Path, keys: Path
) -> None:
    assert (await audit(world, auditor, keys)).exit_code == 0
    # Another history of the city, signed by the city and cosigned by the registry: what both must never do.
    world.database.write_now(lambda conn: [conn.exec_driver_sql(f"DELETE FROM {table}") for table in LOG_TABLES])
    world.database.write_now(
        lambda conn: conn.exec_driver_sql(
            "UPDATE log_head SET size = 0, frontier = x'', cosigned = NULL, cosigned_size = 0, note = NULL,"
            " root = x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' WHERE log <> 0"
        )
    )
    suzhou.salts[1] = bytes(32)
    suzhou.issue("11010519491231002X")
    await suzhou.send(suzhou.batch(0))
    result = await audit(world, auditor, keys)
    assert result.exit_code == 3, result.output
    alarm, done = lines(result)
    assert (alarm["kind"], alarm["origin"], done["alarms"]) == ("CONTRADICTION", suzhou.origin, 1)
    evidence = Path(str(alarm["evidence"]))
    confirmed = await run("verify", evidence, "--key", keys)
    assert confirmed.exit_code == 3
    assert f"{TRUST_DOMAIN}/city/320500 and {TRUST_DOMAIN}/registry signed two histories" in confirmed.output
    seen = await run("inspect", evidence)
    assert "evidence of two histories" in seen.output
    assert "not verified" in seen.output
    # The keys of another nation convict nobody.
    other = await run("verify", evidence, "--key", "other.test/city/320500/1+" + "0" * 8 + "+AAAA")
    assert other.exit_code == 1


LOG_TABLES = (
    "log_entry WHERE log <> 0",
    "log_tile WHERE log <> 0",
    "log_checkpoint WHERE log <> 0",
    "license_view",
    "license_revision",
    "pending_decision",
    "published_head",
)


async def test_an_export_from_the_database_or_the_node_is_verified_with_files_and_keys_alone(
    world: World, suzhou: City, auditor: Path, keys: Path
) -> None:
    await issue(suzhou, 300)
    early, whole, tree = world.folder / "early.note", world.folder / "export", world.folder / "tree"
    early.write_bytes(suzhou.note(2))
    from_database = await run("export", whole, "--city", SUZHOU, "--database", world.config.database.url)
    assert from_database.exit_code == 0, from_database.output
    from_node = await run("export", tree, "--city", SUZHOU, "--credentials", auditor)
    assert from_node.exit_code == 0, from_node.output
    for folder, held in ((whole, "303 entries with their bytes"), (tree, "0 entries with their bytes")):
        for verb in ("verify", "audit"):
            checked = await run(verb, folder, "--key", keys)
            assert checked.exit_code == 0, checked.output
            assert held in checked.output
    proof = world.folder / "proof"
    assert (await run("prove", whole, 17, "--out", proof)).exit_code == 0
    proved = await run("verify", proof, "--key", keys, "--leaf", suzhou.leaves()[17].hex())
    assert (proved.exit_code, "genuine: entry 17" in proved.output) == (0, True)
    assert (await run("verify", proof, "--key", keys, "--leaf", suzhou.leaves()[18].hex())).exit_code == 1
    note = await run("verify", whole / "checkpoint", "--key", keys)
    assert f"signed by {TRUST_DOMAIN}/registry/cosigner" in note.output
    same = await run("audit", whole, "--key", keys, "--against", early)
    assert (same.exit_code, "of one history" in same.output) == (0, True)
    suzhou.salts[0] = bytes(32)
    early.write_bytes(suzhou.note(2))
    forked = await run("audit", whole, "--key", keys, "--against", early, "--evidence", world.folder / "found")
    assert forked.exit_code == 3, forked.output
    (evidence,) = (world.folder / "found").iterdir()
    assert (await run("verify", evidence, "--key", keys)).exit_code == 3
    tile = whole / "tile" / "0" / "000"
    data = tile.read_bytes()
    tile.write_bytes(data[:40] + bytes([data[40] ^ 4]) + data[41:])
    assert (await run("verify", whole, "--key", keys)).exit_code == 1
