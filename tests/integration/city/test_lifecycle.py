"""The life of a licence over real mTLS: every change at the city, and what the nation is told of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from city_node.cli import main as city_main
from elicense import errors
from elicense.clock import china_date, china_midnight, from_timestamp, utc_micros
from elicense.license.codec import date_from_message, date_to_message
from elicense.license.periods import anniversary
from elicense.trust.credentials import Credentials
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from elicense.v1.verification_pb2 import (
    OUTCOME_INDETERMINATE,
    OUTCOME_INVALID,
    OUTCOME_VALID,
    PURPOSE_ROADSIDE_CHECK,
    PURPOSE_WINDOW_SERVICE,
    VERDICT_REASON_CANCELLED,
    VERDICT_REASON_EXPIRED,
    VERDICT_REASON_STATUS_LETTER,
    Verdict,
)
from registry.cli import main as registry_main
from tests.integration.city.test_issuance import set_status, suspension
from tests.support.cluster import DEADLINE_S, SUZHOU, TIANJIN, City, Cluster, call, drivers, eventually, run_cluster

BASIS = "道路交通安全法 第二十四条"


#: Days of validity that are left to whoever is :func:`experienced`.
LEFT = timedelta(days=30)


def today() -> date:
    return china_date(utc_micros())


def experienced(city: int, count: int, *, seed: int = 5) -> list[license_pb2.License]:
    """Drivers of C1 alone of more than fourteen years, in a validity of ten years."""
    found = []
    for license_ in drivers(city, 600, seed=seed):
        first = license_.first_issue_date
        codes = [held.code for held in license_.vehicle_classes]
        if first.year <= today().year - 14 and codes == ["C1"] and license_.holder.birth_date.year > today().year - 68:
            del license_.status_letters[:]
            license_.points = 0
            found.append(in_validity(license_, today() + LEFT))
    assert len(found) >= count
    return found[:count]


def in_validity(license_: license_pb2.License, last: date) -> license_pb2.License:
    """Give a licence six years up to ``last``."""
    validity = license_.validity
    validity.kind = license_pb2.VALIDITY_KIND_SIX_YEARS
    validity.from_date.CopyFrom(date_to_message(anniversary(last, -6)))
    validity.until_date.CopyFrom(date_to_message(last))
    return license_


async def change(city: City, method: str, name: str, **fields: Any) -> Any:
    """Call a method that changes a licence; raises the domain error."""
    request = getattr(pb, f"{method}Request")(name=name, **{"request_id": str(uuid.uuid4()), **fields})
    return await call(getattr(city.issuance(), method)(request, timeout=DEADLINE_S))


async def correct_end(city: City, name: str, last: date) -> license_pb2.License:
    """Say that a licence ended on another day; its beginning goes along."""
    values = in_validity(license_pb2.License(), last)
    answer = await change(
        city,
        "CorrectLicense",
        name,
        license=values,
        update_mask={"paths": ["validity"]},
        corrects_revision=1,
        reason="taken over wrongly from the paper file",
    )
    return answer.license  # type: ignore[no-any-return]


async def daily(city: City, page_size: int = 0) -> int:
    """Run the whole daily job; returns how many revisions it wrote."""
    written, token = 0, ""
    while True:
        page: pb.ApplyDailyRulesResponse
        request = pb.ApplyDailyRulesRequest(parent=city.parent, page_size=page_size, page_token=token)
        page = await call(city.issuance().ApplyDailyRules(request, timeout=DEADLINE_S))
        written += page.revisions
        token = page.next_page_token
        if not token:
            return written


async def revisions(city: City, name: str) -> list[pb.LicenseRevision]:
    request = pb.ListRevisionsRequest(parent=name, page_size=1_000)
    return list((await call(city.issuance().ListRevisions(request, timeout=DEADLINE_S))).revisions)


def letters(license_: license_pb2.License) -> str:
    return "".join(letter.letter for letter in license_.status_letters)


@dataclass
class Nation:
    """A cluster with a policeman who asks the registry."""

    cluster: Cluster
    suzhou: City
    police: Credentials

    async def verify(self, license_: license_pb2.License, city: City | None = None) -> Verdict:
        await (city or self.suzhou).replicated()
        assert self.cluster.registry is not None
        return await self.cluster.verify(
            self.police,
            self.cluster.registry.address,
            license_.holder.document,
            purpose=PURPOSE_ROADSIDE_CHECK,
        )

    def check_both(self) -> None:
        """Both self-checks must be silent."""
        runner = CliRunner()
        registry = self.cluster.folder / "registry" / "config.toml"
        checked = [runner.invoke(registry_main, ["fsck", "--config", str(registry)])]
        checked += [
            runner.invoke(city_main, ["fsck", "--config", str(city.folder / "config.toml")])
            for city in self.cluster.cities.values()
        ]
        for result in checked:
            assert result.exit_code == 0, result.output


@pytest.fixture
async def nation(tmp_path: Path) -> AsyncIterator[Nation]:
    async with run_cluster(tmp_path, SUZHOU) as cluster:
        police = await cluster.enroll_national(("verifier", "police", "p1"), tmp_path / "police")
        nation = Nation(cluster, cluster.cities[SUZHOU], police)
        yield nation
        await asyncio.gather(*(city.replicated() for city in cluster.cities.values()))
        await asyncio.to_thread(nation.check_both)


@pytest.fixture
async def issued(nation: Nation) -> license_pb2.License:
    (wanted,) = experienced(SUZHOU, 1)
    return (await nation.suzhou.issue(wanted)).license


PHOTO = license_pb2.Photo(sha256=bytes(32), capture_date=date_to_message(today()))
#: One legal request of each kind; all of one licence, in this order.
REQUESTS: dict[str, dict[str, Any]] = {
    "UpdateLicense": {
        "license": license_pb2.License(holder=license_pb2.Holder(address="苏州市新地址1号"), photo=PHOTO),
        "update_mask": {"paths": ["holder.address", "photo"]},
    },
    "ChangeVehicleClasses": {
        "add_classes": [pb.AddedClass(code="E", limits=["glasses"])],
        "legal_basis": BASIS,
    },
    "RecordPoints": {"points": 3, "legal_basis": BASIS},
    "RenewLicense": {},
    "CorrectLicense": {
        "license": license_pb2.License(issuing_authority="江苏省苏州市公安局交通警察支队车辆管理所"),
        "update_mask": {"paths": ["issuing_authority"]},
        "corrects_revision": 1,
        "reason": "the authority was abbreviated",
    },
    "CancelLicense": {"legal_basis": BASIS},
}
EVENTS = {
    "UpdateLicense": license_pb2.LICENSE_EVENT_UPDATED,
    "ChangeVehicleClasses": license_pb2.LICENSE_EVENT_UPDATED,
    "RecordPoints": license_pb2.LICENSE_EVENT_UPDATED,
    "RenewLicense": license_pb2.LICENSE_EVENT_RENEWED,
    "CorrectLicense": license_pb2.LICENSE_EVENT_CORRECTED,
    "CancelLicense": license_pb2.LICENSE_EVENT_CANCELLED,
}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_change_is_checked_written_once_and_known_nationwide(
    nation: Nation, issued: license_pb2.License, method: str
) -> None:
    fields, name = REQUESTS[method], issued.name
    checked = await change(nation.suzhou, method, name, validate_only=True, **fields)
    assert not checked.HasField("proof")
    assert len(await revisions(nation.suzhou, name)) == 1
    with pytest.raises(errors.EtagMismatch):
        await change(nation.suzhou, method, name, etag="0" * 32, **fields)
    request_id = str(uuid.uuid4())
    first = await change(nation.suzhou, method, name, request_id=request_id, etag=issued.etag, **fields)
    again = await change(nation.suzhou, method, name, request_id=request_id, etag=issued.etag, **fields)
    assert again.license == first.license
    assert first.license.revision == 2
    with pytest.raises(errors.RequestIdReused):
        await set_status(nation.suzhou, name, request_id=request_id, add_letters=[suspension("H")])
    # What was previewed is what was written, but for the version.
    checked.license.etag, checked.license.revision = first.license.etag, first.license.revision
    assert checked.license == first.license
    assert [revision.event for revision in await revisions(nation.suzhou, name)][1:] == [EVENTS[method]]
    verdict = await nation.verify(issued)
    assert verdict.outcome == (OUTCOME_INVALID if method == "CancelLicense" else OUTCOME_VALID)


async def test_a_whole_life_revision_by_revision(nation: Nation, issued: license_pb2.License) -> None:
    name = issued.name
    for number, (method, fields) in enumerate(REQUESTS.items(), 2):
        answer = await change(nation.suzhou, method, name, **fields)
        assert answer.license.revision == number
    history = await revisions(nation.suzhou, name)
    assert [revision.event for revision in history] == [license_pb2.LICENSE_EVENT_ISSUED, *EVENTS.values()]
    last = history[-1].license
    assert last.holder.address == "苏州市新地址1号"
    assert last.holder.full_name == issued.holder.full_name
    assert last.points == 3
    assert last.validity.kind == license_pb2.VALIDITY_KIND_TEN_YEARS
    assert last.vehicle_classes[-1].code == "E"
    assert letters(last) == "G"
    assert [revision.basis for revision in history] == ["", "", BASIS, BASIS, "", "", BASIS]


async def test_the_classes_that_may_be_driven_follow_each_change(nation: Nation, issued: license_pb2.License) -> None:
    await change(
        nation.suzhou,
        "ChangeVehicleClasses",
        issued.name,
        withdraw_classes=["C1"],
        add_classes=[pb.AddedClass(code="C2")],
        legal_basis=BASIS,
    )
    drivable = set((await nation.verify(issued)).drivable_classes)
    assert "C2" in drivable
    assert "C1" not in drivable
    with pytest.raises(errors.IllegalTransition) as refused:
        await change(nation.suzhou, "ChangeVehicleClasses", issued.name, withdraw_classes=["A1"], legal_basis=BASIS)
    assert [violation.reason for violation in refused.value.violations] == ["CLASS_NOT_HELD"]


async def test_twelve_points_forbid_driving_until_the_exam(nation: Nation, issued: license_pb2.License) -> None:
    await change(nation.suzhou, "RecordPoints", issued.name, points=9, legal_basis=BASIS)
    assert (await nation.verify(issued)).outcome == OUTCOME_VALID
    full = (await change(nation.suzhou, "RecordPoints", issued.name, points=6, legal_basis=BASIS)).license
    assert (full.points, letters(full)) == (15, "B")
    verdict = await nation.verify(issued)
    assert (verdict.outcome, list(verdict.reasons)) == (OUTCOME_INVALID, [VERDICT_REASON_STATUS_LETTER])
    with pytest.raises(errors.IllegalTransition):
        await set_status(nation.suzhou, issued.name, lift_letters=["B"])
    passed = await change(nation.suzhou, "RecordPoints", issued.name, exam_passed=True, legal_basis=BASIS)
    assert (passed.license.points, letters(passed.license)) == (0, "")
    assert (await nation.verify(issued)).outcome == OUTCOME_VALID
    renewed = (await change(nation.suzhou, "RenewLicense", issued.name)).license
    assert renewed.validity.kind == license_pb2.VALIDITY_KIND_SIX_YEARS


async def test_an_illegal_change_names_what_is_missing_and_writes_nothing(
    nation: Nation, issued: license_pb2.License
) -> None:
    await set_status(nation.suzhou, issued.name, add_letters=[suspension("D"), suspension("H")])
    for validate_only in (True, False):
        with pytest.raises(errors.IllegalTransition) as refused:
            await change(nation.suzhou, "RenewLicense", issued.name, validate_only=validate_only)
        assert [violation.reason for violation in refused.value.violations] == ["LICENSE_WITHHELD", "CASES_OPEN"]
    assert len(await revisions(nation.suzhou, issued.name)) == 2


async def test_an_update_names_each_path_that_can_not_be_changed_and_each_malformed_field(
    nation: Nation, issued: license_pb2.License
) -> None:
    mask = {"paths": ["holder.document", "points"]}
    with pytest.raises(errors.Malformed) as refused:
        await change(nation.suzhou, "UpdateLicense", issued.name, license=issued, update_mask=mask)
    assert len(refused.value.violations) == 2
    issued.holder.nationality = "china"
    mask = {"paths": ["holder.nationality"]}
    with pytest.raises(errors.Malformed) as refused:
        await change(nation.suzhou, "UpdateLicense", issued.name, license=issued, update_mask=mask)
    assert [violation.field for violation in refused.value.violations] == ["license.holder.nationality"]


async def test_a_correction_names_the_revision_that_was_wrong_and_why(
    nation: Nation, issued: license_pb2.License
) -> None:
    await set_status(nation.suzhou, issued.name, add_letters=[suspension("F")])
    assert (await nation.verify(issued)).outcome == OUTCOME_INVALID
    fields = {
        "license": license_pb2.License(),
        "update_mask": {"paths": ["status_letters"]},
        "reason": "another person",
    }
    with pytest.raises(errors.Malformed) as refused:
        await change(nation.suzhou, "CorrectLicense", issued.name, corrects_revision=3, **fields)
    assert [violation.field for violation in refused.value.violations] == ["corrects_revision"]
    await change(nation.suzhou, "CorrectLicense", issued.name, corrects_revision=2, **fields)
    _, wrong, right = await revisions(nation.suzhou, issued.name)
    assert (right.correction.revision, right.correction.reason) == (2, "another person")
    assert right.correction.entry_hash[:16].hex() == wrong.license.etag
    assert right.effective_time == wrong.effective_time
    assert (await nation.verify(issued)).outcome == OUTCOME_VALID


# -- what the days bring -----------------------------------------------------------------------------------------------


async def test_the_daily_job_marks_what_is_overdue_once_and_renewal_clears_it(
    nation: Nation, issued: license_pb2.License
) -> None:
    last = today() - timedelta(days=3)
    await correct_end(nation.suzhou, issued.name, last)
    assert list((await nation.verify(issued)).reasons) == [VERDICT_REASON_EXPIRED]
    assert await daily(nation.suzhou) == 1
    assert await daily(nation.suzhou) == 0
    marked = (await revisions(nation.suzhou, issued.name))[-1]
    assert marked.actor.endswith(f"/city/{SUZHOU}")
    assert from_timestamp(marked.effective_time) == china_midnight(last + timedelta(days=1))
    (letter,) = marked.license.status_letters
    assert (letter.letter, date_from_message(letter.start_date)) == ("M", last + timedelta(days=1))
    renewed = (await change(nation.suzhou, "RenewLicense", issued.name)).license
    assert letters(renewed) == ""
    assert (await nation.verify(issued)).outcome == OUTCOME_VALID
    assert await daily(nation.suzhou) == 0


async def test_a_late_run_takes_every_step_with_its_own_day_and_ends_in_a_cancellation(
    nation: Nation, issued: license_pb2.License
) -> None:
    last = date(today().year - 4, 2, 28)
    await correct_end(nation.suzhou, issued.name, last)
    await asyncio.gather(*(daily(nation.suzhou) for _ in range(3)))
    steps = (await revisions(nation.suzhou, issued.name))[2:]
    first = last + timedelta(days=1)
    days = [first, *(date(first.year + years, 3, 1) for years in (1, 3))]
    assert [letters(step.license) for step in steps] == ["M", "R", "G"]
    assert [from_timestamp(step.effective_time) for step in steps] == [china_midnight(day) for day in days]
    assert steps[-1].event == license_pb2.LICENSE_EVENT_CANCELLED
    verdict = await nation.verify(issued)
    assert verdict.outcome == OUTCOME_INVALID
    assert VERDICT_REASON_CANCELLED in verdict.reasons


async def test_a_clerks_change_comes_after_what_the_days_brought(nation: Nation, issued: license_pb2.License) -> None:
    await correct_end(nation.suzhou, issued.name, today() - timedelta(days=500))
    checked = await set_status(nation.suzhou, issued.name, add_letters=[suspension("H")], validate_only=True)
    assert letters(checked.license) == "HR"
    await set_status(nation.suzhou, issued.name, add_letters=[suspension("H")])
    history = await revisions(nation.suzhou, issued.name)
    assert [letters(revision.license) for revision in history] == ["", "", "M", "R", "HR"]
    assert await daily(nation.suzhou) == 0


async def test_the_daily_job_goes_through_every_page_beside_clerks(nation: Nation) -> None:
    suzhou = nation.suzhou
    names = [(await suzhou.issue(wanted)).license.name for wanted in experienced(SUZHOU, 12)]
    for name in names[::2]:
        await correct_end(suzhou, name, today() - timedelta(days=400))
    await asyncio.gather(
        daily(suzhou, page_size=5),
        *(set_status(suzhou, name, add_letters=[suspension("H")]) for name in names),
    )
    assert await daily(suzhou, page_size=5) == 0
    for position, name in enumerate(names):
        history = await revisions(suzhou, name)
        assert letters(history[-1].license) == ("H" if position % 2 else "HR")
        assert [revision.revision for revision in history] == list(range(1, len(history) + 1))


async def test_a_day_to_come_and_a_token_of_another_day_are_refused(nation: Nation) -> None:
    for fields in ({"date": date_to_message(today() + timedelta(days=1))}, {"page_token": "nonsense"}):
        request = pb.ApplyDailyRulesRequest(parent=nation.suzhou.parent, **fields)
        with pytest.raises(errors.Malformed):
            await call(nation.suzhou.issuance().ApplyDailyRules(request, timeout=DEADLINE_S))


async def test_a_node_that_was_down_catches_up_with_the_days_when_it_starts(
    tmp_path: Path,
) -> None:
    shift = 0

    def clock() -> int:
        return utc_micros() + shift

    async with run_cluster(tmp_path, SUZHOU, clock=clock) as cluster:
        suzhou = cluster.cities[SUZHOU]
        (wanted,) = experienced(SUZHOU, 1)
        name = (await suzhou.issue(in_validity(wanted, today()))).license.name
        await suzhou.replicated()
        await suzhou.stop()
        shift = 2 * 86_400 * 1_000_000
        await suzhou.start(clock)

        async def marked() -> bool:
            return letters((await revisions(suzhou, name))[-1].license) == "M"

        await eventually(marked)
        history = await revisions(suzhou, name)
        assert from_timestamp(history[-1].effective_time) == china_midnight(today() + timedelta(days=1))


# -- a cancelled licence frees its person ------------------------------------------------------------------------------


async def test_whoever_cancelled_a_license_may_apply_anew_anywhere(nation: Nation) -> None:
    tianjin = await nation.cluster.add_city(TIANJIN)
    (wanted,) = experienced(SUZHOU, 1)
    elsewhere = license_pb2.License()
    elsewhere.CopyFrom(wanted)
    elsewhere.division_code, elsewhere.archive_number = "120000", "120012345678"
    first = (await nation.suzhou.issue(wanted)).license
    await nation.suzhou.replicated()
    with pytest.raises(errors.PersonClaimed):
        await tianjin.issue(elsewhere)
    await change(nation.suzhou, "CancelLicense", first.name, legal_basis=BASIS)
    verdict = await nation.verify(first)
    assert (verdict.outcome, verdict.reasons[0]) == (OUTCOME_INVALID, VERDICT_REASON_CANCELLED)
    second = (await tianjin.issue(elsewhere)).license
    assert not second.provisional
    verdict = await nation.verify(second, tianjin)
    assert (verdict.outcome, verdict.freshness.city) == (OUTCOME_VALID, TIANJIN)
    # The city of the cancelled licence does not speak for the person any more.
    window = await nation.cluster.enroll_at(
        nation.suzhou, ("city", str(SUZHOU), "verifier", "traffic-window", "w1"), nation.cluster.folder / "w1"
    )

    async def ask() -> Verdict:
        return await nation.cluster.verify(
            window,
            nation.suzhou.running.address,
            second.holder.document,
            purpose=PURPOSE_WINDOW_SERVICE,
            case_number="",
        )

    assert (await ask()).outcome == OUTCOME_VALID
    with pytest.raises(errors.PersonClaimed):
        await nation.suzhou.issue(wanted)
    await nation.cluster.stop_registry()
    assert (await ask()).outcome == OUTCOME_INDETERMINATE
    await nation.cluster.start_registry()


async def test_a_person_may_come_back_to_the_same_city_and_a_cancelled_license_stays_cancelled(
    nation: Nation, issued: license_pb2.License
) -> None:
    await change(nation.suzhou, "CancelLicense", issued.name, legal_basis=BASIS)
    await nation.suzhou.replicated()
    (wanted,) = experienced(SUZHOU, 1)
    again = (await nation.suzhou.issue(wanted)).license
    assert again.name != issued.name
    assert (await nation.verify(again)).outcome == OUTCOME_VALID
    with pytest.raises(errors.LicenseExists):
        await nation.suzhou.issue(wanted)
    for method, fields in REQUESTS.items():
        with pytest.raises(errors.IllegalTransition) as refused:
            await change(nation.suzhou, method, issued.name, **fields)
        assert "LICENSE_CANCELLED" in {violation.reason for violation in refused.value.violations}


async def test_a_license_cancelled_and_issued_anew_while_the_registry_is_away_counts_once_it_is_back(
    nation: Nation, issued: license_pb2.License
) -> None:
    await nation.suzhou.replicated()
    await nation.cluster.stop_registry()
    await change(nation.suzhou, "CancelLicense", issued.name, legal_basis=BASIS)
    (wanted,) = experienced(SUZHOU, 1)
    again = (await nation.suzhou.issue(wanted)).license
    assert again.provisional
    await nation.cluster.start_registry()

    async def counts() -> bool:
        return (await nation.verify(again)).outcome == OUTCOME_VALID

    await eventually(counts)


async def test_a_revoked_license_keeps_its_person(nation: Nation, issued: license_pb2.License) -> None:
    await set_status(nation.suzhou, issued.name, add_letters=[suspension("F")])
    await nation.suzhou.replicated()
    (wanted,) = experienced(SUZHOU, 1)
    with pytest.raises(errors.PersonBanned):
        await nation.suzhou.issue(wanted)
    with pytest.raises(errors.IllegalTransition):
        await change(nation.suzhou, "CancelLicense", issued.name, legal_basis=BASIS)
