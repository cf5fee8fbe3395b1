"""The scene of a driver who moves from Suzhou to Chengdu, and whose licence and its history move along."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from elicense.cli.demo.figures import ExpectationFailed, expect
from elicense.cli.demo.nation import CHENGDU, SUZHOU
from elicense.cli.demo.stage import CALL_TIMEOUT_S, Stage, describe, require, until
from elicense.client import Outcome
from elicense.errors import LicenseMoved
from elicense.license.codec import license_from_message
from elicense.license.model import License
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import issuance_pb2, license_pb2, transfer_pb2

BASIS: Final = "机动车驾驶证申领和使用规定第六十四条"


async def move(stage: Stage) -> None:
    """Offer a Suzhou licence to Chengdu, take it over there, and see that Suzhou has nothing to say any more."""
    stage.display.scene("A driver moves from Suzhou to Chengdu")
    message = await _a_movable_license(stage)
    license_ = license_from_message(message)
    there = f"{CHENGDU.parent}/licenses/{message.name.rpartition('/')[2]}"
    await _offer(stage, message.name)
    await until(_offered(stage, message.name), within_s=10, what="the offer at Chengdu")
    require(await stage.ask_registry(license_), Outcome.VALID, "the offered licence at the registry")
    require(await stage.ask_suzhou(license_), Outcome.VALID, "the offered licence in Suzhou")
    stage.display.say("Suzhou offers the licence to Chengdu; until Chengdu takes it over it is Suzhou's, and VALID")
    began = time.perf_counter()
    answer = await _accept(stage, message.name)
    elapsed_ms = (time.perf_counter() - began) * 1_000
    done = answer.state == transfer_pb2.TRANSFER_STATE_DONE
    expect(done, f"the take-over came to state {answer.state}: {answer.detail}")
    stage.figures.add("transfer_ms", "Take-over asked for → decided by the registry", elapsed_ms, "ms")
    stage.display.say(f"Chengdu takes it over: decided in the registry's log after {elapsed_ms:.0f} ms")
    await until(_moved(stage, message.name), within_s=10, what="the hand-over in Suzhou")
    refused = await _refusal(stage, message.name)
    stage.figures.add("refused_after_transfer", "A change by the old city, refused with", refused.reason)
    stage.display.say(f"Suzhou wants to change it: {refused.reason}: {refused.message}")
    verdict = await stage.ask_window(stage.nation.new_window(), license_)
    require(verdict, Outcome.VALID, "the licence in Chengdu")
    require(await stage.ask_registry(license_), Outcome.VALID, "the licence at the registry")
    stage.display.say(f"in Chengdu: {describe(verdict)}, may drive {' '.join(verdict.drivable_classes)}")
    cities = await _history(stage, there)
    expect(cities == [SUZHOU.code, SUZHOU.code, CHENGDU.code], f"Chengdu shows revisions of the cities {cities}")
    stage.display.say("Chengdu shows its whole history: two revisions that Suzhou wrote, and its own")


async def _a_movable_license(stage: Stage) -> license_pb2.License:
    for message in await stage.some_licenses(SUZHOU, 50):
        if not message.status_letters and message.revision == 1:
            license_: License = license_from_message(message)
            if (await stage.ask_registry(license_)).valid:
                return message
    raise ExpectationFailed("none of the first 50 licences of Suzhou is valid and without letters")


async def _offer(stage: Stage, name: str) -> None:
    request = transfer_pb2.OfferTransferRequest(
        name=name, to_city=CHENGDU.code, legal_basis=BASIS, request_id=str(uuid.uuid4())
    )
    try:
        await stage.nation.movers[SUZHOU].OfferTransfer(request, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


async def _accept(stage: Stage, name: str) -> transfer_pb2.AcceptTransferResponse:
    request = transfer_pb2.AcceptTransferRequest(
        parent=CHENGDU.parent, license=name, legal_basis=BASIS, request_id=str(uuid.uuid4())
    )
    try:
        answer: transfer_pb2.AcceptTransferResponse = await stage.nation.movers[CHENGDU].AcceptTransfer(
            request, timeout=CALL_TIMEOUT_S
        )
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
    return answer


def _offered(stage: Stage, name: str) -> Callable[[], Awaitable[bool]]:
    async def listed() -> bool:
        request = transfer_pb2.ListIncomingOffersRequest(parent=CHENGDU.parent)
        try:
            page = await stage.nation.movers[CHENGDU].ListIncomingOffers(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return any(offer.license.name == name for offer in page.offers)

    return listed


def _moved(stage: Stage, name: str) -> Callable[[], Awaitable[bool]]:
    async def heard() -> bool:
        request = issuance_pb2.GetLicenseRequest(name=name)
        try:
            await stage.nation.clerks[SUZHOU].GetLicense(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raised = from_rpc_error(error)
            if not isinstance(raised, LicenseMoved):
                raise raised from error
            return True
        return False

    return heard


async def _refusal(stage: Stage, name: str) -> LicenseMoved:
    try:
        await stage.suspend(SUZHOU, name)
    except LicenseMoved as error:
        return error
    raise ExpectationFailed("the old city changed a licence that had moved away")


async def _history(stage: Stage, name: str) -> list[int]:
    request = issuance_pb2.ListRevisionsRequest(parent=name)
    try:
        page = await stage.nation.clerks[CHENGDU].ListRevisions(request, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
    return [revision.position.city for revision in page.revisions]
