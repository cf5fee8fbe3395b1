"""What a clerk can do, over real mTLS."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import grpc
import pytest
from google.type.date_pb2 import Date

from city_node.store import CityStore
from elicense import errors
from elicense.clock import china_date, utc_micros
from elicense.license.codec import date_to_message
from elicense.log.checkpoint import log_verifier_key, open_checkpoint
from elicense.log.merkle import verify_inclusion
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import load_signer
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import issuance_pb2_grpc, license_pb2, log_pb2
from tests.support.cluster import DEADLINE_S, SUZHOU, TRUST_DOMAIN, City, Cluster, call, drivers


def suspension(letter: str = "D", basis: str = "道路交通安全法 第九十一条") -> license_pb2.StatusLetter:
    return license_pb2.StatusLetter(
        letter=letter,
        legal_basis=basis,
        start_date=date_to_message(china_date(utc_micros())),
        authority="苏州市公安局",
        ban=license_pb2.ReapplicationBan(ground="DRUNK_DRIVING") if letter == "F" else None,
    )


async def set_status(city: City, name: str, *, request_id: str | None = None, **fields: object) -> pb.SetStatusResponse:
    request = pb.SetStatusRequest(name=name, request_id=request_id or str(uuid.uuid4()), **fields)  # type: ignore[arg-type]
    return await call(city.issuance().SetStatus(request, timeout=DEADLINE_S))


async def test_an_issued_license_can_be_read_back_as_it_was_issued(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    issued = await suzhou.issue(wanted)
    read = await call(suzhou.issuance().GetLicense(pb.GetLicenseRequest(name=issued.license.name), timeout=DEADLINE_S))
    assert read == issued.license
    assert read.holder == wanted.holder
    assert read.revision == 1
    assert not read.provisional
    assert issued.durability == log_pb2.DURABILITY_LOCAL


async def test_the_proof_leads_from_the_record_to_a_head_that_the_city_signed(suzhou: City) -> None:
    for wanted in drivers(SUZHOU, 3):
        issued = await suzhou.issue(wanted)
    origin = city_log_origin(TRUST_DOMAIN, SUZHOU, 1)
    key = log_verifier_key(origin, load_signer(suzhou.config.log_key_uri(1)).public_key())
    head = open_checkpoint(issued.proof.checkpoint, origin=origin, key=key)
    assert head.size == issued.proof.position.index + 1
    database = Database(suzhou.config.database_url)
    index = issued.proof.position.index
    entry = database.read_now(lambda conn: CityStore().logs.entries_at(conn, LogKey(SUZHOU, 1), [index]))[index]
    database.close()
    verify_inclusion(
        leaf_hash=entry.leaf_hash, index=index, size=head.size, proof=list(issued.proof.hashes), root=head.root
    )


async def test_the_same_request_sent_again_answers_with_the_first_result(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    request_id = str(uuid.uuid4())
    first = await suzhou.issue(wanted, request_id=request_id)
    again = await suzhou.issue(wanted, request_id=request_id.upper())
    assert again.license == first.license
    assert again.proof.position == first.proof.position


async def test_the_same_request_sent_many_times_at_once_makes_one_license(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(*(suzhou.issue(wanted, request_id=request_id) for _ in range(12)))
    assert len({answer.license.name for answer in answers}) == 1
    assert len({answer.proof.position.index for answer in answers}) == 1
    listed = await call(
        suzhou.issuance().ListLicenses(pb.ListLicensesRequest(parent=suzhou.parent), timeout=DEADLINE_S)
    )
    assert len(listed.licenses) == 1


async def test_one_person_asked_for_by_many_clerks_at_once_gets_one_license(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    answers = await asyncio.gather(*(suzhou.issue(wanted) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, errors.LicenseExists) for answer in answers) == 7
    assert sum(isinstance(answer, pb.CreateLicenseResponse) for answer in answers) == 1


async def test_a_request_id_with_another_body_is_refused(suzhou: City) -> None:
    first, second = drivers(SUZHOU, 2)
    request_id = str(uuid.uuid4())
    await suzhou.issue(first, request_id=request_id)
    with pytest.raises(errors.RequestIdReused):
        await suzhou.issue(second, request_id=request_id)


async def test_output_only_fields_are_ignored_and_change_no_meaning(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    request_id = str(uuid.uuid4())
    first = await suzhou.issue(wanted, request_id=request_id)
    wanted.etag, wanted.revision, wanted.provisional = "x", 7, True
    assert (await suzhou.issue(wanted, request_id=request_id)).license == first.license


async def test_validate_only_checks_everything_and_writes_nothing(suzhou: City) -> None:
    good, held = drivers(SUZHOU, 2)
    await suzhou.issue(held)
    checked = await suzhou.issue(good, validate_only=True)
    assert checked.license.name == ""
    assert not checked.HasField("proof")
    assert checked.durability == log_pb2.DURABILITY_UNSPECIFIED
    with pytest.raises(errors.LicenseExists):
        await suzhou.issue(held, validate_only=True)
    listed = await call(
        suzhou.issuance().ListLicenses(pb.ListLicensesRequest(parent=suzhou.parent), timeout=DEADLINE_S)
    )
    assert len(listed.licenses) == 1


async def test_every_broken_rule_is_named_at_once(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    wanted.photo.capture_date.CopyFrom(Date(year=2015, month=1, day=1))
    wanted.points = 12
    wanted.status_letters.append(suspension("L"))
    with pytest.raises(errors.NotEligible) as refused:
        await suzhou.issue(wanted)
    fields = {violation.field for violation in refused.value.violations}
    assert {"license.photo.capture_date", "license.points"} <= fields
    assert any(field.startswith("license.status_letters") for field in fields)


async def test_every_malformed_field_is_named_at_once(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    wanted.archive_number = "12"
    wanted.holder.nationality = "china"
    with pytest.raises(errors.Malformed) as refused:
        await suzhou.issue(wanted)
    assert {violation.field for violation in refused.value.violations} == {
        "license.archive_number",
        "license.holder.nationality",
    }


async def test_a_license_in_the_wrong_form_or_none_at_all_is_refused_by_every_field(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    wanted.holder.full_name = ""
    wanted.vehicle_classes[0].code = "c"
    wanted.ClearField("photo")
    with pytest.raises(errors.Malformed) as caught:
        await suzhou.issue(wanted)
    assert {violation.field for violation in caught.value.violations} == {
        "license.holder.full_name",
        "license.vehicle_classes[0].code",
        "license.photo.sha256",
        "license.photo.capture_date",
    }
    with pytest.raises(errors.Malformed):
        await suzhou.issue(license_pb2.License())


async def test_a_clerk_can_not_issue_for_another_city(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    request = pb.CreateLicenseRequest(parent="cities/120000", license=wanted, request_id=str(uuid.uuid4()))
    with pytest.raises(errors.CallerNotAllowed):
        await call(suzhou.issuance().CreateLicense(request, timeout=DEADLINE_S))


async def test_a_verifier_can_not_issue(cluster: Cluster, suzhou: City, tmp_path: Path) -> None:
    window = await cluster.enroll_at(suzhou, ("city", str(SUZHOU), "verifier", "traffic-window", "w3"), tmp_path / "w")
    (wanted,) = drivers(SUZHOU, 1)
    request = pb.CreateLicenseRequest(parent=suzhou.parent, license=wanted, request_id=str(uuid.uuid4()))
    with pytest.raises(errors.CallerNotAllowed):
        await call(suzhou.issuance(window).CreateLicense(request, timeout=DEADLINE_S))


async def test_letters_are_added_and_lifted_revision_by_revision(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    suspended = (await set_status(suzhou, issued.name, add_letters=[suspension()], etag=issued.etag)).license
    assert [letter.letter for letter in suspended.status_letters] == ["D"]
    assert suspended.revision == 2
    restored = (await set_status(suzhou, issued.name, lift_letters=["D"], etag=suspended.etag)).license
    assert not restored.status_letters
    page = await call(suzhou.issuance().ListRevisions(pb.ListRevisionsRequest(parent=issued.name), timeout=DEADLINE_S))
    assert [revision.revision for revision in page.revisions] == [1, 2, 3]
    assert [revision.license.etag for revision in page.revisions] == [issued.etag, suspended.etag, restored.etag]
    assert {revision.actor for revision in page.revisions} == {f"spiffe://{TRUST_DOMAIN}/clerk/{SUZHOU}/window-1"}


async def test_a_license_that_changed_since_it_was_read_is_not_changed(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    await set_status(suzhou, issued.name, add_letters=[suspension()])
    with pytest.raises(errors.EtagMismatch):
        await set_status(suzhou, issued.name, lift_letters=["D"], etag=issued.etag)


async def test_a_revoked_license_can_not_be_reinstated(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    await set_status(suzhou, issued.name, add_letters=[suspension("F")])
    with pytest.raises(errors.IllegalTransition) as refused:
        await set_status(suzhou, issued.name, lift_letters=["F"])
    assert [violation.reason for violation in refused.value.violations] == ["TERMINAL_LETTER"]


async def test_a_status_change_is_idempotent_and_its_preview_writes_nothing(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    preview = await set_status(suzhou, issued.name, add_letters=[suspension()], validate_only=True)
    assert [letter.letter for letter in preview.license.status_letters] == ["D"]
    request_id = str(uuid.uuid4())
    first = await set_status(suzhou, issued.name, request_id=request_id, add_letters=[suspension()])
    assert first.license.revision == 2
    again = await set_status(suzhou, issued.name, request_id=request_id, add_letters=[suspension()])
    assert again.license == first.license
    with pytest.raises(errors.RequestIdReused):
        await set_status(suzhou, issued.name, request_id=request_id, lift_letters=["D"])


async def test_changes_of_one_license_at_once_follow_one_another(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    issued = (await suzhou.issue(wanted)).license
    letters = [suspension(letter) for letter in "DHILU"]
    await asyncio.gather(*(set_status(suzhou, issued.name, add_letters=[letter]) for letter in letters))
    page = await call(suzhou.issuance().ListRevisions(pb.ListRevisionsRequest(parent=issued.name), timeout=DEADLINE_S))
    assert [revision.revision for revision in page.revisions] == [1, 2, 3, 4, 5, 6]
    assert {letter.letter for letter in page.revisions[-1].license.status_letters} == set("DHILU")


async def test_an_unknown_license_is_not_found(suzhou: City) -> None:
    name = f"{suzhou.parent}/licenses/{uuid.uuid4()}"
    with pytest.raises(errors.LicenseNotFound):
        await call(suzhou.issuance().GetLicense(pb.GetLicenseRequest(name=name), timeout=DEADLINE_S))
    with pytest.raises(errors.LicenseNotFound):
        await call(suzhou.issuance().ListRevisions(pb.ListRevisionsRequest(parent=name), timeout=DEADLINE_S))
    with pytest.raises(errors.LicenseNotFound):
        await set_status(suzhou, name, add_letters=[suspension()])


async def test_lists_come_in_pages_and_a_token_of_another_list_is_refused(suzhou: City) -> None:
    issued = await asyncio.gather(*(suzhou.issue(wanted) for wanted in drivers(SUZHOU, 5)))
    stub = suzhou.issuance()
    names: list[str] = []
    token = ""
    while True:
        request = pb.ListLicensesRequest(parent=suzhou.parent, page_size=2, page_token=token)
        page = await call(stub.ListLicenses(request, timeout=DEADLINE_S))
        names += [license_.name for license_ in page.licenses]
        if not (token := page.next_page_token):
            break
        kept = token
    assert sorted(names) == sorted(answer.license.name for answer in issued)
    for wrong in (kept[:-4] + "AAAA", "nonsense", "0"):
        with pytest.raises(errors.Malformed) as refused:
            await call(
                stub.ListLicenses(pb.ListLicensesRequest(parent=suzhou.parent, page_token=wrong), timeout=DEADLINE_S)
            )
        assert [violation.field for violation in refused.value.violations] == ["page_token"]


async def test_a_call_without_a_certificate_gets_nothing(suzhou: City) -> None:
    channel = grpc.aio.insecure_channel(suzhou.running.address)
    stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListLicenses(pb.ListLicensesRequest(parent=suzhou.parent), timeout=DEADLINE_S)
    await channel.close()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
