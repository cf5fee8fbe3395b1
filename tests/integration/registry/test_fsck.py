"""The self-check: silent over what is right, and naming whatever was changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.cli import main
from tests.integration.registry.world import SUZHOU, TIANJIN, World

NUMBERS = [f"11010519900101{number:04d}" for number in range(300)]


async def filled(world: World) -> None:
    """Two cities, more than a tile of entries, a provisional licence, a conflict, a status change."""
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    licenses = [
        suzhou.issue(number, claim=claim) for number, claim in zip(NUMBERS, await suzhou.claim(*NUMBERS), strict=True)
    ]
    await suzhou.replicate()
    suzhou.change(licenses[0], ["D"])
    await suzhou.replicate()
    tianjin.issue(NUMBERS[0])
    tianjin.issue("44052418800101001X")
    await tianjin.replicate()
    await tianjin.decided(2)


async def test_a_store_that_nobody_touched_has_no_difference(world: World) -> None:
    await filled(world)
    report = world.fsck()
    assert (report.logs, report.licenses, report.findings) == (3, 302, ())
    # A slow run has a vector of city heads in the registry log too.
    assert report.entries >= 301 + 2 + 4


ENTRY = "log_entry WHERE log = 320500 AND idx"
ROW = "license_view WHERE city = 320500 AND idx"
SUZHOU_ROOT = "log_checkpoint WHERE log = 320500 AND size"

PLANTED = {
    "a record": (
        "UPDATE log_entry SET record = CAST(substr(record, 1, 40) || x'00' || substr(record, 42) AS BLOB)"
        " WHERE log = 320500 AND idx = 7",
        "record 320500/1/7",
    ),
    "a salt": ("UPDATE log_entry SET salt = zeroblob(32) WHERE log = 320500 AND idx = 270", "record 320500/1/270"),
    "a leaf hash": (
        "UPDATE log_entry SET leaf_hash = zeroblob(32) WHERE log = 120000 AND idx = 1",
        "record 120000/1/1",
    ),
    "the last entry": (f"DELETE FROM {ENTRY} = 300", "record 320500/1/300"),
    "an entry": (f"DELETE FROM {ENTRY} = 12", "record 320500/1/12"),
    "a tile of leaves": (
        "UPDATE log_tile SET hashes = zeroblob(8192) WHERE log = 320500 AND level = 0",
        "log 320500/1 tile over 0 to 128",
    ),
    "a tile above": (
        "UPDATE log_tile SET hashes = zeroblob(32) WHERE log = 320500 AND level = 1",
        "log 320500/1 tile over 0 to 256",
    ),
    "a root": (
        "UPDATE log_checkpoint SET root = zeroblob(32) WHERE log = 320500 AND size = 300",
        "log 320500/1 checkpoint 300",
    ),
    "a note": (
        "UPDATE log_checkpoint SET note = (SELECT note FROM log_checkpoint WHERE log = 320500 AND size = 301)"
        " WHERE log = 320500 AND size = 300",
        "log 320500/1 checkpoint 300",
    ),
    "a receipt": (
        "UPDATE log_head SET cosigned = note WHERE log = 320500",
        "log 320500/1 receipt",
    ),
    "a commit": (f"DELETE FROM {SUZHOU_ROOT} = 301", "log 320500/1 checkpoint 301"),
    "a head": ("UPDATE log_head SET root = zeroblob(32) WHERE log = 120000", "log 120000/1"),
    "a decision": ("UPDATE log_entry SET record = zeroblob(40) WHERE log = 0 AND idx = 0", "record 0/1/0"),
    "flags": ("UPDATE license_view SET flags = 0 WHERE flags <> 0", "(record 120000/1/0)"),
    "a standing": (
        "UPDATE license_view SET standing = x'' WHERE city = 320500 AND idx = 3",
        "(record 320500/1/3)",
    ),
    "a name": (
        "UPDATE license_view SET name_tag = zeroblob(16) WHERE city = 320500 AND idx = 3",
        "(record 320500/1/3)",
    ),
    "a license taken away": (f"DELETE FROM {ROW} = 3", "(record 320500/1/3)"),
    "a license made up": (
        "INSERT INTO license_view SELECT zeroblob(16), license_id, 999999, epoch, idx, revision, event, 0,"
        f" entry_hash, name_tag, standing, recorded_us FROM {ROW} = 3",
        "(record 999999/1/3)",
    ),
    "a revision": ("DELETE FROM license_revision WHERE idx = 9", "record 320500/1/9"),
    "a hold that nothing used": (
        "INSERT INTO claim VALUES (zeroblob(16), 320500, zeroblob(16), '', 2, 0, 0, 0)",
        "claim for license 00000000-0000-0000-0000-000000000000",
    ),
    "a claim": (
        f"UPDATE claim SET city = 120000 WHERE license_id = (SELECT license_id FROM {ROW} = 5)",
        "(record 320500/1/5)",
    ),
}


@pytest.mark.parametrize(("change", "named"), PLANTED.values(), ids=PLANTED.keys())
async def test_a_planted_change_is_found_and_named(world: World, change: str, named: str) -> None:
    await filled(world)
    touched = world.database.write_now(lambda conn: conn.exec_driver_sql(change).rowcount)
    assert touched
    findings = world.fsck().findings
    assert findings
    assert any(named in finding.where for finding in findings), findings


async def test_the_command_prints_what_it_found_and_fails(world: World) -> None:
    await filled(world)
    config = str(Path(world.config.node.data_dir) / "config.toml")
    clean = CliRunner().invoke(main, ["fsck", "--config", config])
    assert clean.exit_code == 0, clean.output
    assert "no difference" in clean.output
    world.database.write_now(lambda conn: conn.exec_driver_sql("UPDATE license_view SET revision = 9 WHERE idx = 2"))
    damaged = CliRunner().invoke(main, ["fsck", "--config", config])
    assert damaged.exit_code == 1
    assert "(record 320500/1/2): the view differs in revision" in damaged.output
    assert NUMBERS[2] not in damaged.output
