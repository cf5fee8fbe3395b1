"""Bars from applying anew over real mTLS: what a clerk of another city is told, and what an import does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from city_node.cli import main
from elicense import errors
from elicense.clock import china_date, utc_micros
from elicense.license.bans import last_day
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from elicense.v1.verification_pb2 import OUTCOME_INVALID, OUTCOME_VALID, PURPOSE_WINDOW_SERVICE
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_lifecycle import change
from tests.support.cluster import DEADLINE_S, SUZHOU, TIANJIN, Cluster, call, drivers, eventually, run_cluster


def in_tianjin(license_: license_pb2.License) -> license_pb2.License:
    """The same driver, applying in Tianjin."""
    (local,) = drivers(TIANJIN, 1, seed=3)
    moved = license_pb2.License()
    moved.CopyFrom(license_)
    moved.division_code, moved.archive_number = local.division_code, local.archive_number
    moved.issuing_authority = local.issuing_authority
    del moved.status_letters[:]
    moved.points = 0
    return moved


@pytest.fixture
async def nation(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with run_cluster(tmp_path, SUZHOU, TIANJIN) as cluster:
        yield cluster


async def revoked(nation: Cluster) -> license_pb2.License:
    """A driver whom Suzhou revoked for drunk driving, known nationwide."""
    suzhou = nation.cities[SUZHOU]
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    await set_status(suzhou, issued.name, add_letters=[suspension("F")])
    await suzhou.replicated()
    return issued


async def test_another_city_is_told_until_when_and_by_whom_and_nothing_of_the_person(nation: Cluster) -> None:
    issued = await revoked(nation)
    with pytest.raises(errors.PersonBanned) as refused:
        await nation.cities[TIANJIN].issue(in_tianjin(issued))
    until = last_day(china_date(utc_micros()), 5)
    assert until is not None
    assert refused.value.metadata == {"recordedByCity": str(SUZHOU), "untilDate": until.isoformat()}
    assert issued.holder.document.number not in str(refused.value)
    # Its own city knows without asking.
    await nation.stop_registry()
    with pytest.raises(errors.PersonBanned):
        await nation.cities[SUZHOU].issue(in_suzhou(issued))


def in_suzhou(license_: license_pb2.License) -> license_pb2.License:
    again = license_pb2.License()
    again.CopyFrom(license_)
    for field in ("name", "etag", "revision", "status_letters"):
        again.ClearField(field)
    return again


async def test_an_import_refuses_the_row_of_a_barred_driver_and_takes_the_others(nation: Cluster) -> None:
    barred = in_tianjin(await revoked(nation))
    rows = [*drivers(TIANJIN, 2, seed=8), barred]
    request = pb.ImportLicensesRequest(
        parent=nation.cities[TIANJIN].parent,
        items=[pb.ImportItem(request_id=str(uuid.uuid4()), license=row) for row in rows],
    )
    answer = await call(nation.cities[TIANJIN].issuance().ImportLicenses(request, timeout=DEADLINE_S))
    assert [result.HasField("status") for result in answer.results] == [False, False, True]
    assert "barred" in answer.results[2].status.message


async def test_a_city_that_was_cut_off_finds_its_license_of_a_barred_person_void_and_cancels_it(
    nation: Cluster, tmp_path: Path
) -> None:
    issued = await revoked(nation)
    tianjin = nation.cities[TIANJIN]
    await nation.stop_registry()
    void = (await tianjin.issue(in_tianjin(issued))).license
    assert void.provisional
    await nation.start_registry()
    await tianjin.replicated()
    window = await nation.enroll_at(
        tianjin, ("city", str(TIANJIN), "verifier", "traffic-window", "w"), tmp_path / "window"
    )

    async def settled() -> bool:
        verdict = await nation.verify(
            window, tianjin.running.address, issued.holder.document, purpose=PURPOSE_WINDOW_SERVICE
        )
        assert verdict.outcome != OUTCOME_VALID
        # The license that Suzhou revoked speaks for the person, not the void one.
        return verdict.outcome == OUTCOME_INVALID and verdict.freshness.city == SUZHOU

    await eventually(settled)
    cancelled = await change(tianjin, "CancelLicense", void.name, legal_basis="void")
    assert [letter.letter for letter in cancelled.license.status_letters] == ["G"]


async def test_the_clerk_names_the_ground_at_the_counter(nation: Cluster) -> None:
    suzhou = nation.cities[SUZHOU]
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    where = ["--credentials", str(suzhou.clerk), "--address", suzhou.running.address]
    given = ["set-status", issued.name, "--add", "F", "--basis", "道路交通安全法 第九十一条", *where]
    bare = await asyncio.to_thread(CliRunner().invoke, main, given)
    assert bare.exit_code == 1
    assert "ban" in bare.output
    done = await asyncio.to_thread(CliRunner().invoke, main, [*given, "--ban-ground", "COMMERCIAL_DRUNK_DRIVING"])
    assert done.exit_code == 0, done.output
    held = await call(suzhou.issuance().GetLicense(pb.GetLicenseRequest(name=issued.name), timeout=DEADLINE_S))
    until = last_day(china_date(utc_micros()), 10)
    assert until is not None
    assert (held.status_letters[0].ban.ground, held.status_letters[0].ban.until_date.year) == (
        "COMMERCIAL_DRUNK_DRIVING",
        until.year,
    )
