"""A check that is stopped goes on where it was, whatever it was doing, and holds no more of a large store in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elicense.log.check
import elicense.log.survey
import registry.check_parts
import registry.sweeps
from elicense.errors import Unavailable
from elicense.log.check_run import CheckRun, Report
from elicense.sql.scratch import Scratch
from registry.fsck import Fsck
from tests.integration.registry.world import CHENGDU, SUZHOU, TRUST_DOMAIN, World

OTHER = "11010519491231002X"
NUMBERS = [f"11010519900101{number:04d}" for number in range(400)]


class Stopped(BaseException):
    """As by a signal."""


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take little at a time, so that a small store has many pages."""
    monkeypatch.setattr(elicense.log.check, "_CHUNK", 16)
    monkeypatch.setattr(elicense.log.survey.Survey.step, "__kwdefaults__", {"limit": 32})
    monkeypatch.setattr(registry.check_parts, "_LICENSES", 16)
    monkeypatch.setattr(registry.sweeps, "_PAGE", 16)


def check(world: World, path: Path | None, **options: Any) -> Report:
    given: dict[str, Any] = {"progress": lambda _: None, **options}
    return Fsck(
        database=world.database,
        store=world.store,
        persons=world.keys.persons,
        trust_domain=TRUST_DOMAIN,
        log_key=world.keys.log.public_key(),
        cosigner_key=world.keys.cosigner.public_key(),
        path=path,
        **given,
    ).run()


async def fill(world: World, numbers: list[str]) -> None:
    city = world.joined[0] if world.joined else await world.city(SUZHOU)
    for number, claim in zip(numbers, await city.claim(*numbers), strict=True):
        city.issue(number, claim=claim)
    await city.replicate()


def execute(world: World, statement: str) -> int:
    return world.database.write_now(lambda conn: conn.exec_driver_sql(statement).rowcount)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Have a run stop within one of its steps, once that has done its work."""
    original, done = CheckRun.step, 0

    def counted(run: CheckRun, fn: Callable[[Any], Any]) -> Any:
        def stopping(conn: Any) -> Any:
            nonlocal done
            done += 1
            result = fn(conn)
            if done == step:
                raise Stopped
            return result

        return original(run, stopping)

    monkeypatch.setattr(CheckRun, "step", counted)


@pytest.mark.usefixtures("pages")
async def test_a_run_stopped_in_any_step_is_gone_on_with_and_finds_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world, NUMBERS[:20])
    chengdu = await world.city(CHENGDU)
    chengdu.issue(NUMBERS[0])
    await chengdu.replicate()
    await chengdu.decided(1)
    for damage in (
        "UPDATE log_entry SET salt = zeroblob(32) WHERE log = 320500 AND idx = 3",
        "UPDATE license_view SET revision = 9 WHERE idx = 2",
        "DELETE FROM license_revision WHERE idx = 9",
        "UPDATE license_ruling SET decided_us = decided_us + 1",
        "DELETE FROM license_view WHERE idx = 13",
    ):
        assert execute(world, damage)
    path = tmp_path / "progress"
    whole = check(world, None)
    assert len(whole.findings) >= 5
    step = 0
    while True:
        step += 1
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            try:
                check(world, path)
            except Stopped:
                assert path.stat().st_mode & 0o777 == 0o600
            else:
                break
        told: list[str] = []
        again: list[int] = []
        report = check(world, path, tell=told.append, progress=again.append)
        assert set(report.findings) == set(whole.findings)
        assert (report.logs, report.entries, report.licenses) == (whole.logs, whole.entries, whole.licenses)
        assert not path.exists()
        if step > 2:
            assert told[0].startswith("goes on with an earlier run, behind")
            assert sum(again) < whole.entries  # what was checked before is not checked again
    assert step > 15


async def test_a_run_that_can_not_be_gone_on_with_says_why(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world, NUMBERS[:4])
    path = tmp_path / "progress"

    def stop() -> None:
        with monkeypatch.context() as patch:
            stop_at(patch, 2)
            with pytest.raises(Stopped):
                check(world, path)

    def told(**options: Any) -> str:
        said: list[str] = []
        assert check(world, path, tell=said.append, **options).entries > 4
        (only,) = said
        return only

    path.write_bytes(b"no such file" * 1_000)
    assert "damaged" in told()
    stop()
    assert told(anew=True) == "starts anew: it was asked for"
    stop()
    execute(world, "UPDATE log_checkpoint SET root = zeroblob(32) WHERE log = 320500")
    assert told().startswith("starts anew: log 320500/1 is not the one any more that was checked up to")
    holding = Scratch(path)
    with pytest.raises(Unavailable, match="in use"):
        check(world, path)
    holding.remove()


@pytest.mark.parametrize("stage", ["check_decided", "check_trust"])
async def test_what_is_damaged_of_a_licence_that_is_written_to_late_is_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    await fill(world, NUMBERS[:4])
    suzhou = world.joined[0]
    (claim,) = await suzhou.claim(OTHER)
    late = suzhou.issue(OTHER, claim=claim)
    await suzhou.replicate()

    def stop(*_: object) -> None:
        raise Stopped

    where = registry.sweeps.Sweeps if stage == "check_decided" else registry.check_parts
    with monkeypatch.context() as patch:
        patch.setattr(where, stage, stop)
        with pytest.raises(Stopped):
            check(world, tmp_path / "progress")
    suzhou.change(late, ["D"])
    await suzhou.replicate()
    assert execute(world, "UPDATE license_view SET revision = 9 WHERE idx = 5")
    assert check(world, tmp_path / "progress").findings


@pytest.mark.usefixtures("pages")
async def test_a_store_four_times_as_large_takes_no_more_memory(world: World, tmp_path: Path) -> None:
    def peak() -> int:
        tracemalloc.start()
        try:
            assert check(world, tmp_path / "progress").findings == ()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await fill(world, NUMBERS[:100])
    check(world, None)  # what is made once, and kept, is made
    small = peak()
    await fill(world, NUMBERS[100:])
    assert peak() < small * 1.2 + 100_000


@pytest.mark.usefixtures("pages")
async def test_what_a_registry_takes_in_while_it_is_checked_is_no_difference(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world, NUMBERS[:40])
    suzhou = world.joined[0]
    path = tmp_path / "progress"
    told: list[str] = []
    (claim,) = await suzhou.claim(OTHER)
    changed = suzhou.issue(OTHER, claim=claim)
    for step in range(2, 30, 3):
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            try:
                check(world, path, tell=told.append)
            except Stopped:
                suzhou.change(changed, ["D"] if step % 2 else [])
                await suzhou.replicate()
            else:
                break
    report = check(world, path, tell=told.append)
    assert report.findings == ()
    assert any(said.startswith("goes on") for said in told)
