"""A licence moves from city to city: what clerks, verifiers and checks see at every step, and after every fault."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.type.date_pb2 import Date

import city_node.cli
import registry.cli
from city_node.store import CityStore
from elicense import errors
from elicense.clock import to_timestamp, utc_micros
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials
from elicense.v1 import issuance_pb2, license_pb2, transfer_pb2_grpc, verification_pb2, verification_pb2_grpc
from elicense.v1 import transfer_pb2 as pb
from elicense.v1.verification_pb2 import (
    OUTCOME_INDETERMINATE,
    OUTCOME_INVALID,
    OUTCOME_UNSPECIFIED,
    OUTCOME_VALID,
    PURPOSE_ROADSIDE_CHECK,
    PURPOSE_WINDOW_SERVICE,
    VERDICT_REASON_REGISTRY_UNREACHABLE,
    Outcome,
)
from registry.store import RegistryStore
from tests.integration.city.test_anchor import set_back
from tests.integration.city.test_restore import (
    copy_registry,
    let_in,
    lose_database,
    restore,
    set_registry_back,
    show_a_fork,
)
from tests.support.cluster import (
    CHENGDU,
    DEADLINE_S,
    SUZHOU,
    TIANJIN,
    City,
    Cluster,
    call,
    drivers,
    eventually,
    run_cluster,
)

BASIS = "机动车驾驶证申领和使用规定第六十四条"
OFFICE = pb.LicenseOffice(
    archive_number="510112345678", issuing_authority="四川省成都市公安局交通管理局", division_code="510100"
)


@dataclass
class Nation:
    """A registry, Suzhou and Chengdu, and somebody who asks at each."""

    cluster: Cluster
    police: Credentials
    windows: dict[int, Credentials] = field(default_factory=dict)
    people: Any = None

    @property
    def suzhou(self) -> City:
        return self.cluster.cities[SUZHOU]

    @property
    def chengdu(self) -> City:
        return self.cluster.cities[CHENGDU]

    async def issued(self) -> license_pb2.License:
        """A licence of Suzhou that the registry holds."""
        license_ = (await self.suzhou.issue(next(self.people))).license
        await self.suzhou.replicated()
        return license_

    async def outcome(self, license_: license_pb2.License, city: City | None = None) -> Outcome:
        """How a licence is verified at the registry, or at a city's window."""
        document = license_.holder.document
        if city is None:
            address = self.cluster.registry_config.node.listen
            given = await self.cluster.verify(self.police, address, document, purpose=PURPOSE_ROADSIDE_CHECK)
        else:
            window = self.windows[city.code]
            given = await self.cluster.verify(
                window, city.running.address, document, purpose=PURPOSE_WINDOW_SERVICE, case_number=""
            )
        return given.outcome

    async def was(self, license_: license_pb2.License, city: City, moment_us: int, outcome: Outcome) -> None:
        """Ask a city's window about a past moment, until its records are complete up to then."""
        request = verification_pb2.VerifyLicenseRequest(
            query=verification_pb2.LicenseQuery(document=license_.holder.document),
            context=verification_pb2.LookContext(purpose=PURPOSE_WINDOW_SERVICE),
            at_time=to_timestamp(moment_us),
        )
        channel = city.channel(self.windows[city.code])

        async def known() -> Outcome:
            service = verification_pb2_grpc.VerificationServiceStub(channel)
            answer = await call(service.VerifyLicense(request, timeout=DEADLINE_S))
            given: Outcome = answer.verdict.outcome
            return OUTCOME_UNSPECIFIED if given == OUTCOME_INDETERMINATE else given

        assert await eventually(known) == outcome

    async def everywhere(self, license_: license_pb2.License, outcome: Outcome) -> None:
        for place in (None, self.suzhou, self.chengdu):
            assert await self.outcome(license_, place) == outcome, place

    async def enroll(self, city: City, name: str) -> None:
        """Give a city a clerk and a window."""
        folder = self.cluster.folder
        path: tuple[str, ...] = ("clerk", str(city.code), name)
        city.clerk_credentials = await self.cluster.enroll_at(city, path, folder / f"clerk-{city.code}-{name}")
        path = ("city", str(city.code), "verifier", "traffic-window", name)
        self.windows[city.code] = await self.cluster.enroll_at(city, path, folder / f"window-{city.code}-{name}")

    async def restart(self, city: City) -> None:
        await city.stop()
        await city.start()

    async def sound(self) -> None:
        """Views, feeds and lists are what the logs say, on every node."""
        for city in self.cluster.cities.values():
            await city.replicated()
        for city in self.cluster.cities.values():
            await check(city_node.cli.main, city.folder / "config.toml")
        await check(registry.cli.main, Path(self.cluster.registry_config.node.data_dir) / "config.toml")


async def check(main: Any, config: Path) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, main, ["fsck", "--config", str(config)])
    assert result.exit_code == 0, result.output


@pytest.fixture
async def nation(tmp_path: Path) -> AsyncIterator[Nation]:
    async with run_cluster(tmp_path, SUZHOU, CHENGDU) as cluster:
        police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
        made = Nation(cluster, police, people=drivers(SUZHOU, 20))
        for city in cluster.cities.values():
            await made.enroll(city, "hall")
        yield made


def stub(city: City) -> transfer_pb2_grpc.TransferServiceStub:
    return transfer_pb2_grpc.TransferServiceStub(city.channel())


def same(license_: license_pb2.License, city: int) -> str:
    """The name of a licence in another city's custody."""
    return f"cities/{city}/licenses/{license_.name.rpartition('/')[2]}"


async def offer(city: City, name: str, to_city: int, **fields: Any) -> pb.OfferTransferResponse:
    request = pb.OfferTransferRequest(
        **{"name": name, "to_city": to_city, "legal_basis": BASIS, "request_id": str(uuid.uuid4()), **fields}
    )
    return await call(stub(city).OfferTransfer(request, timeout=DEADLINE_S))


async def withdraw(city: City, name: str) -> pb.WithdrawTransferResponse:
    request = pb.WithdrawTransferRequest(name=name, legal_basis="本人放弃", request_id=str(uuid.uuid4()))
    return await call(stub(city).WithdrawTransfer(request, timeout=DEADLINE_S))


async def accept(city: City, name: str, **fields: Any) -> pb.AcceptTransferResponse:
    request = pb.AcceptTransferRequest(
        **{
            "parent": city.parent, "license": name, "legal_basis": BASIS, "request_id": str(uuid.uuid4()), **fields
        }
    )  # fmt: skip
    return await call(stub(city).AcceptTransfer(request, timeout=DEADLINE_S))


async def set_letter(city: City, name: str, letter: str) -> issuance_pb2.SetStatusResponse:
    now = datetime.now(UTC)
    request = issuance_pb2.SetStatusRequest(name=name, request_id=str(uuid.uuid4()))
    request.add_letters.add(
        letter=letter, legal_basis=BASIS, start_date=Date(year=now.year, month=now.month, day=now.day)
    )
    return await call(city.issuance().SetStatus(request, timeout=DEADLINE_S))


async def listed(city: City) -> list[tuple[int, int, int]]:
    """Direction, state and other city of what a city lists, the newest first."""
    page = await call(stub(city).ListTransfers(pb.ListTransfersRequest(parent=city.parent), timeout=DEADLINE_S))
    return [(each.direction, each.state, each.other_city) for each in page.transfers]


async def incoming(city: City) -> list[str]:
    request = pb.ListIncomingOffersRequest(parent=city.parent)
    page = await call(stub(city).ListIncomingOffers(request, timeout=DEADLINE_S))
    return [each.license.name for each in page.offers]


async def moved(city: City, name: str) -> None:
    """Wait until a city has heard that a licence has moved away."""

    async def gone() -> bool:
        try:
            await call(city.issuance().GetLicense(issuance_pb2.GetLicenseRequest(name=name), timeout=DEADLINE_S))
        except errors.LicenseMoved:
            return True
        return False

    await eventually(gone)


async def history(city: City, name: str) -> list[tuple[int, int, int]]:
    """Revision, city and event of every revision that a city shows, page by page."""
    found: list[tuple[int, int, int]] = []
    request = issuance_pb2.ListRevisionsRequest(parent=name, page_size=2)
    while True:
        page = await call(city.issuance().ListRevisions(request, timeout=DEADLINE_S))
        found += [(each.revision, each.position.city, each.event) for each in page.revisions]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def test_a_license_moves_and_its_history_with_it(nation: Nation) -> None:
    license_ = await nation.issued()
    name, there = license_.name, same(license_, CHENGDU)
    checked = await offer(nation.suzhou, name, CHENGDU, validate_only=True)
    assert checked.license.offered_to_city == CHENGDU
    request_id = str(uuid.uuid4())
    offered = await offer(nation.suzhou, name, CHENGDU, etag=license_.etag, request_id=request_id)
    assert (offered.license.revision, offered.license.offered_to_city) == (2, CHENGDU)
    again = await offer(nation.suzhou, name, CHENGDU, etag=license_.etag, request_id=request_id)
    assert again.license == offered.license
    await nation.suzhou.replicated()
    # The offer changes nothing about whether it is valid, wherever one asks.
    await nation.everywhere(license_, OUTCOME_VALID)
    assert await incoming(nation.chengdu) == [name]
    assert await incoming(nation.suzhou) == []

    checked_there = await accept(nation.chengdu, name, office=OFFICE, validate_only=True)
    assert (checked_there.license.name, checked_there.license.revision, checked_there.state) == (there, 3, 0)
    fields: dict[str, Any] = {"office": OFFICE, "request_id": str(uuid.uuid4())}
    taken = await accept(nation.chengdu, name, **fields)
    assert taken.state == pb.TRANSFER_STATE_DONE, taken.detail
    assert (taken.license.name, taken.license.revision, taken.license.offered_to_city) == (there, 3, 0)
    assert taken.license.archive_number == OFFICE.archive_number
    assert (await accept(nation.chengdu, name, **fields)).license == taken.license
    with pytest.raises(errors.RequestIdReused):
        await accept(nation.chengdu, name, request_id=fields["request_id"])

    await moved(nation.suzhou, name)
    await nation.everywhere(license_, OUTCOME_VALID)
    for refused in (
        set_letter(nation.suzhou, name, "D"),
        offer(nation.suzhou, name, TIANJIN),
        history(nation.suzhou, name),
    ):
        with pytest.raises(errors.LicenseMoved, match=str(CHENGDU)) as raised:
            await refused
        assert raised.value.metadata["city"] == str(CHENGDU)
    assert await incoming(nation.chengdu) == []
    with pytest.raises(errors.OfferNotFound):
        await accept(nation.chengdu, name)

    suspended = await set_letter(nation.chengdu, there, "D")
    assert suspended.license.revision == 4
    await nation.chengdu.replicated()
    await nation.everywhere(license_, OUTCOME_INVALID)
    assert await history(nation.chengdu, there) == [
        (1, SUZHOU, license_pb2.LICENSE_EVENT_ISSUED),
        (2, SUZHOU, license_pb2.LICENSE_EVENT_TRANSFERRED_OUT),
        (3, CHENGDU, license_pb2.LICENSE_EVENT_TRANSFERRED_IN),
        (4, CHENGDU, license_pb2.LICENSE_EVENT_STATUS_CHANGED),
    ]
    out, in_, done = pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_DIRECTION_IN, pb.TRANSFER_STATE_DONE
    assert (await listed(nation.suzhou), await listed(nation.chengdu)) == (
        [(out, done, CHENGDU)],
        [(in_, done, SUZHOU)],
    )
    # The person holds a licence in Chengdu now, and can get no other in either city.
    anew = license_pb2.License()
    anew.CopyFrom(license_)
    with pytest.raises(errors.PersonClaimed):
        await nation.suzhou.issue(anew)
    await nation.sound()


async def test_while_the_registry_is_away_an_offered_license_is_valid_nowhere_and_moves_nowhere(nation: Nation) -> None:
    stays, goes = await nation.issued(), await nation.issued()
    await offer(nation.suzhou, goes.name, CHENGDU)
    await nation.suzhou.replicated()
    await nation.cluster.stop_registry()
    assert await nation.outcome(stays, nation.suzhou) == OUTCOME_VALID
    document = goes.holder.document
    given = await nation.cluster.verify(
        nation.windows[SUZHOU], nation.suzhou.running.address, document, purpose=PURPOSE_WINDOW_SERVICE, case_number=""
    )
    assert given.outcome == OUTCOME_INDETERMINATE
    assert list(given.reasons) == [VERDICT_REASON_REGISTRY_UNREACHABLE]
    size = nation.chengdu.running.replicator.backlog
    for refused in (accept(nation.chengdu, goes.name), incoming(nation.chengdu)):
        with pytest.raises(errors.RegistryUnreachable):
            await refused
    assert nation.chengdu.running.replicator.backlog == size
    # Local control: the old city suspends and withdraws with the registry unplugged.
    await set_letter(nation.suzhou, goes.name, "H")
    back = await withdraw(nation.suzhou, goes.name)
    assert back.license.offered_to_city == 0
    # It may have been taken up meanwhile: only the registry knows, and no restart makes the city forget that.
    assert await nation.outcome(goes, nation.suzhou) == OUTCOME_INDETERMINATE
    assert await listed(nation.suzhou) == [(pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_RECALLED, CHENGDU)]
    await check(city_node.cli.main, nation.suzhou.folder / "config.toml")
    await nation.restart(nation.suzhou)
    assert await nation.outcome(goes, nation.suzhou) == OUTCOME_INDETERMINATE
    await nation.cluster.start_registry()
    await nation.suzhou.replicated()

    async def confirmed() -> bool:
        return await listed(nation.suzhou) == [
            (pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_WITHDRAWN, CHENGDU)
        ]  # fmt: skip

    await eventually(confirmed)
    with pytest.raises(errors.OfferNotFound):
        await accept(nation.chengdu, goes.name)
    await nation.sound()
    # What the registry has confirmed, the city says again on its own.
    await nation.cluster.stop_registry()
    assert await nation.outcome(goes, nation.suzhou) == OUTCOME_VALID


async def test_a_city_that_is_cut_off_does_not_vouch_for_an_offer_that_it_withdrew_too_late(
    nation: Nation,
) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    nation.suzhou.running.replicator.stop()
    taken = await accept(nation.chengdu, license_.name)
    assert taken.state == pb.TRANSFER_STATE_DONE
    await set_letter(nation.chengdu, same(license_, CHENGDU), "D")
    await nation.chengdu.replicated()
    await withdraw(nation.suzhou, license_.name)
    # Suzhou asks instead of answering: the suspension is seen through it too.
    await nation.everywhere(license_, OUTCOME_INVALID)
    await nation.restart(nation.suzhou)
    await moved(nation.suzhou, license_.name)
    await nation.everywhere(license_, OUTCOME_INVALID)
    assert await listed(nation.suzhou) == [(pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_DONE, CHENGDU)]
    await nation.sound()


async def test_what_the_old_city_wrote_too_late_has_no_effect_and_is_shown_to_the_new_one(nation: Nation) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    # Suzhou is cut off, and suspends and withdraws while Chengdu takes over.
    nation.suzhou.running.replicator.stop()
    taken = await accept(nation.chengdu, license_.name)
    assert taken.state == pb.TRANSFER_STATE_DONE
    await set_letter(nation.suzhou, license_.name, "D")
    await withdraw(nation.suzhou, license_.name)
    await nation.restart(nation.suzhou)
    await moved(nation.suzhou, license_.name)
    await nation.everywhere(license_, OUTCOME_VALID)
    late, open_ = pb.TRANSFER_DIRECTION_LATE, pb.TRANSFER_STATE_OPEN

    async def told() -> bool:
        return (await listed(nation.chengdu)).count((late, open_, SUZHOU)) == 2

    await eventually(told)
    request = pb.ListTransfersRequest(parent=nation.chengdu.parent)
    page = await call(stub(nation.chengdu).ListTransfers(request, timeout=DEADLINE_S))
    first = min((each for each in page.transfers if each.direction == late), key=lambda each: each.position.index)
    there = same(license_, CHENGDU)
    read = pb.GetLateRevisionRequest(license=there, position=first.position)
    shown = await call(stub(nation.chengdu).GetLateRevision(read, timeout=DEADLINE_S))
    assert [letter.letter for letter in shown.license.status_letters] == ["D"]
    assert shown.event == license_pb2.LICENSE_EVENT_STATUS_CHANGED
    # Only the city in custody may read it, and only of this licence.
    other = await nation.issued()
    for city, name in ((nation.suzhou, license_.name), (nation.suzhou, other.name)):
        read = pb.GetLateRevisionRequest(license=name, position=first.position)
        with pytest.raises(errors.LicenseNotFound):
            await call(stub(city).GetLateRevision(read, timeout=DEADLINE_S))
    assert [revision for revision, _, _ in await history(nation.chengdu, there)] == [1, 2, 3]
    assert await listed(nation.suzhou) == [(pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_DONE, CHENGDU)]
    await nation.sound()


async def test_a_city_that_licensed_somebody_whose_license_it_was_taking_over_is_sound(nation: Nation) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    nation.chengdu.running.replicator.stop()
    await accept(nation.chengdu, license_.name)
    await nation.chengdu.running.replicator.catch_up()
    await moved(nation.suzhou, license_.name)
    await nation.cluster.stop_registry()
    # Nobody has told it yet that the other one is its own.
    applies = next(iter(drivers(CHENGDU, 1)))
    applies.holder.CopyFrom(license_.holder)
    again = (await nation.chengdu.issue(applies)).license
    assert again.provisional
    await nation.cluster.start_registry()
    await nation.restart(nation.chengdu)

    async def in_conflict() -> bool:
        request = issuance_pb2.GetLicenseRequest(name=again.name)
        shown = await call(nation.chengdu.issuance().GetLicense(request, timeout=DEADLINE_S))
        return bool(shown.national_standing == license_pb2.NATIONAL_STANDING_CONFLICT)

    await eventually(in_conflict)
    await nation.sound()


async def test_a_restored_city_shows_a_licence_that_moved_as_it_left_it_with_what_it_wrote_too_late(
    nation: Nation,
) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    nation.suzhou.running.replicator.stop()
    await accept(nation.chengdu, license_.name)
    await set_letter(nation.suzhou, license_.name, "D")
    await nation.restart(nation.suzhou)
    await moved(nation.suzhou, license_.name)
    await nation.suzhou.replicated()
    await nation.suzhou.stop()
    await restore(nation.suzhou)
    await nation.suzhou.start()
    await nation.sound()


async def test_a_refused_take_over_leaves_nothing_behind_and_is_accepted_again(nation: Nation) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    # Chengdu's take-over is on its disk, but not on its way yet.
    nation.chengdu.running.replicator.stop()
    fields = {"request_id": str(uuid.uuid4())}
    waiting = await accept(nation.chengdu, license_.name, **fields)
    assert waiting.state == pb.TRANSFER_STATE_OPEN
    there = same(license_, CHENGDU)
    assert await nation.outcome(license_, nation.chengdu) == OUTCOME_VALID  # by asking the registry
    with pytest.raises(errors.LicenseNotFound):
        await set_letter(nation.chengdu, there, "D")
    with pytest.raises(errors.IllegalTransition):
        await accept(nation.chengdu, license_.name)
    await set_letter(nation.suzhou, license_.name, "M")
    await nation.suzhou.replicated()
    await nation.restart(nation.chengdu)
    refused = await accept(nation.chengdu, license_.name, **fields)
    assert refused.state == pb.TRANSFER_STATE_REFUSED
    assert "accept it again" in refused.detail
    await nation.everywhere(license_, OUTCOME_INVALID)
    with pytest.raises(errors.LicenseNotFound):
        await set_letter(nation.chengdu, there, "D")
    await nation.sound()
    taken = await accept(nation.chengdu, license_.name)
    assert (taken.state, taken.license.revision) == (pb.TRANSFER_STATE_DONE, 4)
    await nation.sound()


async def test_a_license_comes_back_through_a_restart_between_any_two_steps(nation: Nation) -> None:
    license_ = await nation.issued()
    started_us = utc_micros()
    there = same(license_, CHENGDU)
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    for city in (nation.suzhou, nation.chengdu):
        await nation.restart(city)
    await accept(nation.chengdu, license_.name)
    await nation.cluster.stop_registry()
    await nation.cluster.start_registry()
    await moved(nation.suzhou, license_.name)
    await nation.restart(nation.chengdu)
    await offer(nation.chengdu, there, SUZHOU)
    await nation.restart(nation.chengdu)
    await nation.chengdu.replicated()
    back = await accept(nation.suzhou, there)
    assert (back.state, back.license.name, back.license.revision) == (pb.TRANSFER_STATE_DONE, license_.name, 5)
    await nation.restart(nation.suzhou)
    await moved(nation.chengdu, there)
    # Suzhou speaks for it again, and shows what Chengdu wrote meanwhile.
    await set_letter(nation.suzhou, license_.name, "D")
    await nation.suzhou.replicated()
    await nation.everywhere(license_, OUTCOME_INVALID)
    assert [(revision, city) for revision, city, _ in await history(nation.suzhou, license_.name)] == [
        (1, SUZHOU), (2, SUZHOU), (3, CHENGDU), (4, CHENGDU), (5, SUZHOU), (6, SUZHOU),
    ]  # fmt: skip
    await nation.cluster.stop_registry()
    assert await nation.outcome(license_, nation.suzhou) == OUTCOME_INVALID
    await nation.cluster.start_registry()
    # It moves away once more, and the way back was not the last word.
    assert started_us < utc_micros()
    await nation.sound()


async def test_a_city_that_lost_its_database_knows_again_what_it_gave_away_and_what_it_got_back(nation: Nation) -> None:
    gone, back = await nation.issued(), await nation.issued()
    for license_ in (gone, back):
        await offer(nation.suzhou, license_.name, CHENGDU)
        await nation.suzhou.replicated()
        await accept(nation.chengdu, license_.name)
        await moved(nation.suzhou, license_.name)
    await offer(nation.chengdu, same(back, CHENGDU), SUZHOU)
    await nation.chengdu.replicated()
    await accept(nation.suzhou, same(back, CHENGDU))
    await set_letter(nation.suzhou, back.name, "H")
    for city in (nation.suzhou, nation.chengdu):
        await city.replicated()
        await city.stop()
        set_back(city, {})
        await restore(city)
        await city.start()
        await nation.enroll(city, "again")
        await city.replicated()
    await moved(nation.suzhou, gone.name)
    await nation.everywhere(gone, OUTCOME_VALID)
    await set_letter(nation.suzhou, back.name, "D")
    await set_letter(nation.chengdu, same(gone, CHENGDU), "D")
    for city in (nation.suzhou, nation.chengdu):
        await city.replicated()
    for license_ in (gone, back):
        await nation.everywhere(license_, OUTCOME_INVALID)
    await nation.sound()


async def test_a_city_that_is_restored_after_its_fork_was_released_knows_what_it_wrote_of_a_licence_that_it_took_over(
    nation: Nation, tmp_path: Path
) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    await accept(nation.chengdu, license_.name)
    await set_letter(nation.chengdu, same(license_, CHENGDU), "D")
    await nation.chengdu.replicated()
    await show_a_fork(nation.cluster, nation.chengdu)
    await let_in(nation.cluster, CHENGDU, tmp_path)
    # The registry says nothing to what is sent of the old epoch, so that its word on the take-over comes last.
    await nation.chengdu.stop()
    lose_database(nation.chengdu)
    await restore(nation.chengdu)
    await nation.chengdu.start()
    await nation.enroll(nation.chengdu, "again")
    assert await nation.outcome(license_, nation.chengdu) == OUTCOME_INVALID
    await nation.sound()


async def test_a_restored_city_answers_for_a_licence_whose_withdrawn_offer_was_confirmed(
    nation: Nation,
) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await withdraw(nation.suzhou, license_.name)
    await nation.suzhou.replicated()
    await nation.suzhou.stop()
    await restore(nation.suzhou)
    await nation.suzhou.start()
    await nation.suzhou.replicated()
    await nation.sound()
    await nation.cluster.stop_registry()
    assert await nation.outcome(license_, nation.suzhou) == OUTCOME_VALID
    await nation.cluster.start_registry()


async def test_the_past_is_answered_across_the_hand_over_in_every_city(nation: Nation) -> None:
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    in_suzhou_us = utc_micros()
    await accept(nation.chengdu, license_.name)
    await moved(nation.suzhou, license_.name)
    there = same(license_, CHENGDU)
    in_chengdu_us = utc_micros()
    await offer(nation.chengdu, there, SUZHOU)
    await nation.chengdu.replicated()
    await accept(nation.suzhou, there)
    await moved(nation.chengdu, there)
    await set_letter(nation.suzhou, license_.name, "D")
    suspended_us = utc_micros()
    await nation.suzhou.replicated()
    # Suzhou lacks the revisions in between, so it does not answer for them by itself.
    expected = {in_suzhou_us: OUTCOME_VALID, in_chengdu_us: OUTCOME_VALID, suspended_us: OUTCOME_INVALID}
    for city in (nation.suzhou, nation.chengdu):
        for moment_us, outcome in expected.items():
            await nation.was(license_, city, moment_us, outcome)


async def test_an_offer_is_read_by_the_city_that_it_is_made_to_alone(nation: Nation) -> None:
    tianjin = await nation.cluster.add_city(TIANJIN)
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    assert await incoming(tianjin) == []
    for name in (license_.name, f"cities/{SUZHOU}/licenses/{uuid.uuid4()}"):
        with pytest.raises(errors.OfferNotFound, match="no open offer"):
            await accept(tianjin, name)
    with pytest.raises(errors.IllegalTransition):
        await offer(nation.suzhou, license_.name, TIANJIN)
    cancelled = issuance_pb2.CancelLicenseRequest(
        name=license_.name, legal_basis="本人申请", request_id=str(uuid.uuid4())
    )
    await call(nation.suzhou.issuance().CancelLicense(cancelled, timeout=DEADLINE_S))
    await nation.suzhou.replicated()
    with pytest.raises(errors.OfferNotFound):
        await accept(nation.chengdu, license_.name)
    out = pb.TRANSFER_DIRECTION_OUT
    assert await listed(nation.suzhou) == [(out, pb.TRANSFER_STATE_CANCELLED, CHENGDU)]
    await nation.sound()


async def test_a_city_takes_over_no_license_that_has_the_id_of_another_persons_here(nation: Nation) -> None:
    license_ = await nation.issued()
    own = (await nation.chengdu.issue(next(drivers(CHENGDU, 1)))).license
    await nation.chengdu.replicated()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    taken, kept = (uuid.UUID(each.name.rpartition("/")[2]).bytes for each in (license_, own))
    await nation.chengdu.stop()
    # Ids are each city's own choice: as if Suzhou had chosen the one that Chengdu had given before.
    with closing(sqlite3.connect(nation.chengdu.folder / "city.db")) as database, database:
        for table in ("license_view", "license_revision"):
            database.execute(f"UPDATE {table} SET license_id = ? WHERE license_id = ?", (taken, kept))
    await nation.chengdu.start()
    with pytest.raises(errors.LicenseExists, match="another person"):
        await accept(nation.chengdu, license_.name)
    assert await nation.outcome(license_) == OUTCOME_VALID


@pytest.mark.parametrize("first", [SUZHOU, CHENGDU])
async def test_a_registry_set_back_to_before_hand_overs_comes_to_the_same_again_whoever_sends_first(
    nation: Nation, first: int
) -> None:
    goes, returns = await nation.issued(), await nation.issued()
    kept = await registry_copy(nation)
    for license_ in (goes, returns):
        await offer(nation.suzhou, license_.name, CHENGDU)
        await nation.suzhou.replicated()
        await accept(nation.chengdu, license_.name)
        await moved(nation.suzhou, license_.name)
    await set_letter(nation.chengdu, same(goes, CHENGDU), "D")
    await offer(nation.chengdu, same(returns, CHENGDU), SUZHOU)
    await nation.chengdu.replicated()
    await accept(nation.suzhou, same(returns, CHENGDU))
    await moved(nation.chengdu, same(returns, CHENGDU))
    await set_letter(nation.suzhou, returns.name, "D")
    for city in (nation.suzhou, nation.chengdu):
        await city.replicated()
    told = [sorted(await listed(city)) for city in (nation.suzhou, nation.chengdu)]
    last = nation.chengdu if first == SUZHOU else nation.suzhou
    await last.stop()
    await nation.cluster.stop_registry()
    await set_registry_back(nation.cluster, kept)
    await nation.cluster.start_registry()
    await all_sent(nation, nation.cluster.cities[first])
    await last.start()
    await all_sent(nation, last)
    await all_decided(nation)
    # Custody and letters are what they were, and no city lists a hand-over twice.
    for license_ in (goes, returns):
        await nation.everywhere(license_, OUTCOME_INVALID)
    assert [sorted(await listed(city)) for city in (nation.suzhou, nation.chengdu)] == told
    await set_letter(nation.chengdu, same(goes, CHENGDU), "H")
    await set_letter(nation.suzhou, returns.name, "H")
    await nation.sound()


async def test_a_take_over_that_a_registry_set_back_refuses_leaves_one_answer_everywhere(nation: Nation) -> None:
    license_ = await nation.issued()
    kept = await registry_copy(nation)
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    nation.suzhou.running.replicator.stop()
    await accept(nation.chengdu, license_.name)
    # Too late, as the registry decided; it will have forgotten that.
    await set_letter(nation.suzhou, license_.name, "D")
    await nation.restart(nation.suzhou)
    await moved(nation.suzhou, license_.name)
    await nation.everywhere(license_, OUTCOME_VALID)
    await nation.chengdu.stop()
    await nation.cluster.stop_registry()
    await set_registry_back(nation.cluster, kept)
    await nation.cluster.start_registry()
    await all_sent(nation, nation.suzhou)
    await nation.chengdu.start()
    await all_sent(nation, nation.chengdu)

    async def refused() -> bool:
        return (pb.TRANSFER_DIRECTION_IN, pb.TRANSFER_STATE_REFUSED, SUZHOU) in await listed(nation.chengdu)

    await eventually(refused)
    await nation.everywhere(license_, OUTCOME_INVALID)
    await nation.sound()


async def registry_copy(nation: Nation) -> dict[Path, bytes]:
    """Stop the registry for a moment and copy its database."""
    await nation.cluster.stop_registry()
    kept = copy_registry(nation.cluster)
    await nation.cluster.start_registry()
    return kept


async def all_decided(nation: Nation) -> None:
    """Wait until no take-over waits for the registry's decision."""
    url = nation.cluster.registry_config.database.url

    def waiting() -> int:
        database = Database(url, readers=1)
        try:
            return len(database.read_now(lambda conn: RegistryStore().transfers.arrivals(conn, limit=1)))
        finally:
            database.close()

    async def decided() -> bool:
        return not await asyncio.to_thread(waiting)

    await eventually(decided)


async def all_sent(nation: Nation, city: City) -> None:
    """Wait until the registry holds a city's whole log."""

    url = nation.cluster.registry_config.database.url

    def held() -> bool:
        ours = log_size(city.config.database_url, CityStore(), city.code)
        return ours == log_size(url, RegistryStore(), city.code)

    async def sent() -> bool:
        return await asyncio.to_thread(held)

    await eventually(sent)


def log_size(url: str, store: CityStore | RegistryStore, code: int) -> int:
    database = Database(url, readers=1)
    try:
        head = database.read_now(lambda conn: store.logs.head(conn, LogKey(code, 1)))
    finally:
        database.close()
    assert head is not None
    return head.size
