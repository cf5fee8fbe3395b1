"""A changed identity number over real mTLS: both numbers lead to one licence, everywhere and for good."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from city_node.claims import Grant, PersonClaims
from city_node.cli import main as city_main
from elicense import errors
from elicense.license.document import resident_check_character
from elicense.trust.credentials import Credentials
from elicense.v1 import license_pb2, replication_pb2
from elicense.v1 import transfer_pb2 as pb
from elicense.v1.verification_pb2 import (
    OUTCOME_NO_MATCH,
    OUTCOME_VALID,
    PURPOSE_CAR_RENTAL,
    PURPOSE_ROADSIDE_CHECK,
    Verdict,
)
from registry.cli import main as registry_main
from tests.integration.city.test_anchor import set_back
from tests.integration.city.test_bans import in_tianjin
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_lifecycle import change, experienced
from tests.integration.city.test_restore import copy_registry, restore, set_registry_back
from tests.integration.city.test_transfers import accept, moved, offer, same
from tests.support.cluster import SUZHOU, TIANJIN, City, Cluster, drivers, eventually, run_cluster

BASIS = "公民身份号码更正"


def renumbered(license_: license_pb2.License, by: int = 2) -> license_pb2.License:
    """The same driver under another number: birth and sex stay."""
    other = license_pb2.License()
    other.CopyFrom(license_)
    number = license_.holder.document.number
    digits = f"{number[:14]}{(int(number[14:17]) + by) % 1000:03}"
    other.holder.document.number = digits + resident_check_character(digits)
    return other


def applying(license_: license_pb2.License) -> license_pb2.License:
    """A driver's licence as an application."""
    again = license_pb2.License()
    again.CopyFrom(license_)
    for field in ("name", "etag", "revision", "status_letters"):
        again.ClearField(field)
    return again


@dataclass
class Nation:
    cluster: Cluster
    police: Credentials

    @property
    def suzhou(self) -> City:
        return self.cluster.cities[SUZHOU]

    @property
    def tianjin(self) -> City:
        return self.cluster.cities[TIANJIN]

    async def verify(self, license_: license_pb2.License) -> Verdict:
        assert self.cluster.registry is not None
        return await self.cluster.verify(
            self.police, self.cluster.registry.address, license_.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
        )

    async def change_identity(self, old: license_pb2.License, new: license_pb2.License, **fields: str) -> str:
        """Give the holder the document of ``new``; returns the request id."""
        request_id = str(uuid.uuid4())
        given = {"document": new.holder.document, "legal_basis": BASIS, "request_id": request_id, **fields}
        answer = await change(self.suzhou, "ChangeIdentity", old.name, **given)
        assert answer.license.holder.document == new.holder.document
        await self.suzhou.replicated()
        return str(given["request_id"])

    def check(self) -> None:
        """All self-checks must be silent: tables equal what the logs fold to."""
        runner = CliRunner()
        registry = self.cluster.folder / "registry" / "config.toml"
        results = [runner.invoke(registry_main, ["fsck", "--config", str(registry)])]
        configs = [city.folder / "config.toml" for city in self.cluster.cities.values()]
        results += [runner.invoke(city_main, ["fsck", "--config", str(config)]) for config in configs]
        for result in results:
            assert result.exit_code == 0, result.output


@pytest.fixture
async def nation(tmp_path: Path) -> AsyncIterator[Nation]:
    async with run_cluster(tmp_path, SUZHOU, TIANJIN) as cluster:
        police = await cluster.enroll_national(("verifier", "police", "p1"), tmp_path / "police")
        nation = Nation(cluster, police)
        yield nation
        await asyncio.gather(*(city.replicated() for city in cluster.cities.values()))
        await asyncio.to_thread(nation.check)


@pytest.fixture
async def old(nation: Nation) -> license_pb2.License:
    (wanted,) = experienced(SUZHOU, 1)
    return (await nation.suzhou.issue(wanted)).license


async def test_every_number_leads_to_the_one_license_and_none_can_be_licensed_anew(
    nation: Nation, old: license_pb2.License
) -> None:
    numbers = [old, renumbered(old), renumbered(old, 4)]
    await nation.change_identity(old, numbers[1])
    await nation.change_identity(old, numbers[2])
    for number in numbers:
        verdict = await nation.verify(number)
        assert (verdict.outcome, verdict.freshness.city) == (OUTCOME_VALID, SUZHOU)
        with pytest.raises(errors.PersonClaimed):
            await nation.tianjin.issue(in_tianjin(number))
        with pytest.raises(errors.LicenseExists):
            await nation.suzhou.issue(applying(number))
    # Back to the first: its holder need not be claimed again.
    await nation.change_identity(old, old)
    assert (await nation.verify(numbers[1])).outcome == OUTCOME_VALID
    await nation.cluster.stop_registry()
    await nation.suzhou.stop()
    await nation.cluster.start_registry()
    await nation.suzhou.start()
    assert (await nation.verify(numbers[2])).outcome == OUTCOME_VALID


async def test_a_bar_under_the_old_number_is_found_under_the_new_and_the_other_way_round(
    nation: Nation, old: license_pb2.License
) -> None:
    new, third = renumbered(old), renumbered(old, 4)
    await nation.change_identity(old, new)
    await set_status(nation.suzhou, old.name, add_letters=[suspension("F")])
    await nation.suzhou.replicated()
    for number in (old, new):
        with pytest.raises(errors.PersonBanned):
            await nation.tianjin.issue(in_tianjin(number))
    # A revoked driver does not shake the bar off with a new number.
    await nation.change_identity(old, third)
    with pytest.raises(errors.PersonBanned):
        await nation.tianjin.issue(in_tianjin(third))


async def test_a_number_under_which_somebody_holds_a_license_is_refused(
    nation: Nation, old: license_pb2.License
) -> None:
    taken = renumbered(old)
    await nation.tianjin.issue(in_tianjin(taken))
    await nation.tianjin.replicated()
    with pytest.raises(errors.PersonClaimed):
        await nation.change_identity(old, taken)
    mine = renumbered(old, 4)
    await nation.suzhou.issue(applying(mine))
    with pytest.raises(errors.LicenseExists):
        await nation.change_identity(old, mine)
    with pytest.raises(errors.LicenseExists):
        await change(
            nation.suzhou, "ChangeIdentity", old.name,
            document=mine.holder.document, legal_basis=BASIS, validate_only=True,
        )  # fmt: skip
    assert (await nation.verify(taken)).freshness.city == TIANJIN


async def test_a_grant_whose_answer_was_lost_gives_whoever_has_the_number_a_license_of_their_own(
    nation: Nation, old: license_pb2.License, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = renumbered(old)

    async def lost(claims: PersonClaims, claim: replication_pb2.PersonClaim) -> Grant:
        await claimed(claims, claim)
        raise errors.RegistryUnreachable("the answer was lost")

    claimed = PersonClaims.claim
    monkeypatch.setattr(PersonClaims, "claim", lost)
    with pytest.raises(errors.RegistryUnreachable):
        await nation.change_identity(old, new)
    monkeypatch.undo()
    other = (await nation.suzhou.issue(applying(new))).license
    assert other.name != old.name
    await nation.suzhou.replicated()
    for number in (old, new):
        assert (await nation.verify(number)).outcome == OUTCOME_VALID
    with pytest.raises(errors.LicenseExists):
        await nation.change_identity(old, new)


async def test_a_mistyped_number_is_put_right_by_a_second_change(nation: Nation, old: license_pb2.License) -> None:
    mistyped, right = renumbered(old), renumbered(old, 4)
    await nation.change_identity(old, mistyped)
    await nation.change_identity(old, right)
    await nation.change_identity(old, old)
    await nation.change_identity(old, right)
    for number in (old, right):
        assert (await nation.verify(number)).outcome == OUTCOME_VALID
    await set_status(nation.suzhou, old.name, add_letters=[suspension("F")])
    await nation.suzhou.replicated()
    for number in (old, right):
        with pytest.raises(errors.PersonBanned):
            await nation.tianjin.issue(in_tianjin(number))


async def test_a_replay_answers_the_same_and_illegal_changes_are_refused(
    nation: Nation, old: license_pb2.License
) -> None:
    new = renumbered(old)
    checked = await change(
        nation.suzhou, "ChangeIdentity", old.name,
        document=new.holder.document, legal_basis=BASIS, validate_only=True,
    )  # fmt: skip
    assert checked.license.holder.document == new.holder.document
    with pytest.raises(errors.EtagMismatch):
        await change(
            nation.suzhou, "ChangeIdentity", old.name, document=new.holder.document, legal_basis=BASIS, etag="x"
        )
    request_id = await nation.change_identity(old, new)
    await nation.change_identity(old, new, request_id=request_id)
    with pytest.raises(errors.RequestIdReused):
        await nation.change_identity(old, renumbered(old, 4), request_id=request_id)
    with pytest.raises(errors.IllegalTransition, match="identity document") as same:
        await nation.change_identity(old, new)
    assert [violation.reason for violation in same.value.violations] == ["SAME_DOCUMENT"]
    await nation.cluster.stop_registry()
    with pytest.raises(errors.RegistryUnreachable):
        await nation.change_identity(old, renumbered(old, 4))
    await nation.cluster.start_registry()


async def test_a_rental_is_told_by_the_old_number_and_the_name_that_counts(
    nation: Nation, old: license_pb2.License, tmp_path: Path
) -> None:
    await nation.change_identity(old, renumbered(old), full_name="新名")
    rental = await nation.cluster.enroll_at(
        nation.suzhou, ("city", str(SUZHOU), "verifier", "rental", "r"), tmp_path / "rental"
    )
    for license_ in (old, renumbered(old)):
        for name, matches in (("新名", True), (old.holder.full_name, False), ("别人", False)):
            verdict = await nation.cluster.verify(
                rental, nation.suzhou.running.address, license_.holder.document, purpose=PURPOSE_CAR_RENTAL, name=name
            )
            assert (verdict.outcome != OUTCOME_NO_MATCH) is matches


async def test_a_cancelled_driver_applies_anew_under_the_new_number_and_is_found_by_both(
    nation: Nation, old: license_pb2.License
) -> None:
    new = renumbered(old)
    await nation.change_identity(old, new)
    await change(nation.suzhou, "CancelLicense", old.name, legal_basis=BASIS)
    await nation.suzhou.replicated()
    issued = (await nation.tianjin.issue(in_tianjin(new))).license
    await nation.tianjin.replicated()
    for number in (old, new):
        verdict = await nation.verify(number)
        assert (verdict.outcome, verdict.freshness.city) == (OUTCOME_VALID, TIANJIN)
    # The new licence moves like any other, though its city never heard of the old number.
    await offer(nation.tianjin, issued.name, SUZHOU)
    await nation.tianjin.replicated()
    office = pb.LicenseOffice(
        archive_number=old.archive_number, issuing_authority=old.issuing_authority, division_code=old.division_code
    )
    await accept(nation.suzhou, issued.name, office=office)
    await moved(nation.tianjin, issued.name)
    for number in (old, new):
        verdict = await nation.verify(number)
        assert (verdict.outcome, verdict.freshness.city) == (OUTCOME_VALID, SUZHOU)


async def test_the_links_come_back_with_a_lost_database(
    nation: Nation, old: license_pb2.License, tmp_path: Path
) -> None:
    numbers = [old, renumbered(old), renumbered(old, 4)]
    await nation.change_identity(old, numbers[1])
    await nation.change_identity(old, numbers[2])
    await nation.suzhou.stop()
    set_back(nation.suzhou, {})
    await restore(nation.suzhou)
    await nation.suzhou.start()
    clerk = ("clerk", str(SUZHOU), "again")
    nation.suzhou.clerk_credentials = await nation.cluster.enroll_at(nation.suzhou, clerk, tmp_path / "clerk-again")
    await nation.cluster.stop_registry()
    for number in numbers:
        with pytest.raises(errors.LicenseExists):
            await nation.suzhou.issue(applying(number))
    await nation.cluster.start_registry()


async def test_the_links_come_back_to_a_registry_that_was_set_back(nation: Nation, old: license_pb2.License) -> None:
    numbers = [old, renumbered(old), renumbered(old, 4)]
    await nation.suzhou.replicated()
    await nation.cluster.stop_registry()
    kept = copy_registry(nation.cluster)
    await nation.cluster.start_registry()
    await nation.change_identity(old, numbers[1])
    await nation.change_identity(old, numbers[2])
    await nation.cluster.stop_registry()
    await set_registry_back(nation.cluster, kept)
    await nation.cluster.start_registry()

    async def known() -> bool:
        return all([(await nation.verify(number)).outcome == OUTCOME_VALID for number in numbers])

    await eventually(known)
    for number in numbers:
        with pytest.raises(errors.PersonClaimed):
            await nation.tianjin.issue(in_tianjin(number))


async def test_a_registry_that_was_set_back_decides_again_though_a_changed_number_came_back_before_its_grant(
    nation: Nation, old: license_pb2.License
) -> None:
    new, newcomers = renumbered(old), drivers(SUZHOU, 200, seed=9)
    await nation.suzhou.replicated()
    await nation.cluster.stop_registry()
    kept = copy_registry(nation.cluster)
    await nation.cluster.start_registry()
    await nation.change_identity(old, new)
    await nation.suzhou.replicated()
    mirrors = [city.running.mirror for city in nation.cluster.cities.values()]
    await mirrors[0].catch_up()
    await nation.cluster.stop_registry()
    for path in copy_registry(nation.cluster):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)

    async def linked() -> bool:
        # A registry that lacks decisions says VALID of nobody, only what it would be.
        return (await nation.verify(new)).last_known.outcome == OUTCOME_VALID

    async def decides() -> bool:
        return not (await nation.suzhou.issue(next(newcomers))).license.provisional

    async with mirrors[0]._turn, mirrors[1]._turn:
        await nation.cluster.start_registry()
        await eventually(linked)
    await eventually(decides)


async def test_a_license_that_moves_takes_its_numbers_along(nation: Nation, old: license_pb2.License) -> None:
    numbers = [old, renumbered(old), renumbered(old, 4)]
    await nation.change_identity(old, numbers[1])
    await nation.change_identity(old, numbers[2])
    await offer(nation.suzhou, old.name, TIANJIN)
    await nation.suzhou.replicated()
    with pytest.raises(errors.IllegalTransition):
        await nation.change_identity(old, numbers[1])
    (local,) = drivers(TIANJIN, 1, seed=3)
    office = pb.LicenseOffice(
        archive_number=local.archive_number,
        issuing_authority=local.issuing_authority,
        division_code=local.division_code,
    )
    await accept(nation.tianjin, old.name, office=office)
    await nation.tianjin.replicated()
    await moved(nation.suzhou, old.name)

    async def arrived() -> bool:
        try:
            await nation.tianjin.issue(in_tianjin(old))
        except errors.LicenseExists:
            return True
        except errors.PersonClaimed:
            return False
        return False

    await eventually(arrived)
    for number in numbers:
        assert (await nation.verify(number)).freshness.city == TIANJIN
        with pytest.raises(errors.LicenseExists):
            await nation.tianjin.issue(in_tianjin(number))
    await set_status(nation.tianjin, same(old, TIANJIN), add_letters=[suspension("F")])
    await nation.tianjin.replicated()
    for number in numbers:
        with pytest.raises(errors.PersonBanned):
            await nation.suzhou.issue(applying(number))
