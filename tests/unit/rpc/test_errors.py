from __future__ import annotations

import inspect
import re

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from elicense import errors
from elicense.errors import Error, Malformed, NotEligible, PeerUnreachable, StoreFull, StoreUnavailable, Violation
from elicense.rpc.errors import (
    CODES,
    DETAILS_KEY,
    DOMAIN,
    INTERNAL_TEXT,
    MAX_VIOLATIONS,
    code_of,
    from_rpc_error,
    from_status,
    internal_status,
    status_code,
    to_status,
)

EVERY_ERROR = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Error)]
DOMAIN_ERRORS = [cls for cls in EVERY_ERROR if cls is not Error]


def rpc_error(code: grpc.StatusCode, text: str, status: status_pb2.Status | bytes | None = None) -> AioRpcError:
    serialized = status.SerializeToString() if isinstance(status, status_pb2.Status) else status
    trailers = Metadata() if serialized is None else Metadata((DETAILS_KEY, serialized))
    return AioRpcError(code, Metadata(), trailers, details=text)


@pytest.mark.parametrize("cls", DOMAIN_ERRORS)
def test_every_error_has_a_code_and_comes_back_as_itself(cls: type[Error]) -> None:
    raised = cls("Sentence.", violations=[Violation("a.b", "WRONG", "Why.")], expectedIndex=7)
    status = to_status(raised)
    rebuilt = from_status(status)
    assert code_of(raised) is not grpc.StatusCode.INTERNAL
    assert type(rebuilt) is cls
    assert rebuilt.message == "Sentence."
    assert rebuilt.metadata == {"expectedIndex": "7"}
    assert rebuilt.violations == raised.violations
    over_the_wire = from_rpc_error(rpc_error(status_code(status), status.message, status))
    assert type(over_the_wire) is cls


def test_reasons_are_unique_and_in_the_form_of_aip_193() -> None:
    reasons = [cls.reason for cls in EVERY_ERROR]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]", reason) for reason in reasons)


def test_unavailable_is_the_only_code_that_clients_retry() -> None:
    assert [cls for cls, code in CODES.items() if code is grpc.StatusCode.UNAVAILABLE] == [errors.Unavailable]


def test_no_detail_comes_twice() -> None:
    status = to_status(StoreFull("Full.", violations=[Violation("a", "B", "c")]))
    urls = [detail.type_url for detail in status.details]
    assert len(urls) == len(set(urls)) == 3


def test_broken_rules_are_a_precondition_failure_and_wrong_fields_a_bad_request() -> None:
    violations = [Violation("x", "R", "m")]
    eligible = to_status(NotEligible("No.", violations=violations))
    malformed = to_status(Malformed("No.", violations=violations))
    assert any(d.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR) for d in eligible.details)
    assert any(d.Is(error_details_pb2.BadRequest.DESCRIPTOR) for d in malformed.details)


def test_a_status_stays_below_the_metadata_limit() -> None:
    violations = [Violation(f"license.vehicle_classes[{i}].from_date", "TOO_EARLY", "x" * 400) for i in range(1000)]
    status = to_status(NotEligible("No.", violations=violations))
    rebuilt = from_status(status)
    assert rebuilt is not None
    assert len(rebuilt.violations) == MAX_VIOLATIONS
    assert len(status.SerializeToString()) < 12 * 1024


def test_the_base_class_and_anything_unexpected_give_the_fixed_text() -> None:
    for status in (to_status(Error("holder Li Si, 320501199001011234")), internal_status()):
        assert status.code == code_pb2.INTERNAL
        assert status.message == INTERNAL_TEXT
        assert b"Li Si" not in status.SerializeToString()


def test_ok_is_no_error() -> None:
    assert from_status(status_pb2.Status()) is None


def test_a_class_that_a_module_keeps_for_itself_arrives_as_its_family() -> None:
    class Peculiar(errors.Aborted):
        reason = "PECULIAR"

    assert type(from_status(to_status(Peculiar("x")))) is errors.Aborted


def test_a_reason_of_a_newer_version_arrives_as_its_family() -> None:
    status = to_status(errors.EpochClosed("x"))
    info = error_details_pb2.ErrorInfo(reason="NEWER", domain=DOMAIN, metadata={"k": "v"})
    status.details[0].Pack(info)
    rebuilt = from_status(status)
    assert type(rebuilt) is errors.Refused
    assert rebuilt.metadata == {"k": "v"}


def test_a_reason_of_another_domain_is_not_taken_for_ours() -> None:
    status = to_status(errors.EpochClosed("x"))
    status.details[0].Pack(error_details_pb2.ErrorInfo(reason="EPOCH_CLOSED", domain="elsewhere"))
    assert type(from_status(status)) is errors.Refused


def test_a_peer_that_mixes_up_code_and_reason_is_trusted_in_its_code() -> None:
    status = to_status(errors.EpochClosed("x"))
    status.code = code_pb2.UNAVAILABLE
    assert type(from_status(status)) is errors.Unavailable


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, PeerUnreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, PeerUnreachable),
        (grpc.StatusCode.CANCELLED, PeerUnreachable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Exhausted),
        (grpc.StatusCode.INVALID_ARGUMENT, Malformed),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.UNIMPLEMENTED, Error),
        (grpc.StatusCode.UNKNOWN, Error),
        (grpc.StatusCode.INTERNAL, Error),
    ],
)
def test_a_status_of_grpc_itself_becomes_the_nearest_class(code: grpc.StatusCode, cls: type[Error]) -> None:
    assert type(from_rpc_error(rpc_error(code, "text"))) is cls


def test_details_that_can_not_be_read_or_do_not_fit_are_passed_over() -> None:
    fitting = to_status(StoreUnavailable("x"))
    assert type(from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "x", b"\xff\xff"))) is PeerUnreachable
    assert type(from_rpc_error(rpc_error(grpc.StatusCode.ABORTED, "x", fitting))) is errors.Aborted


def test_a_number_that_grpc_does_not_have_is_unknown() -> None:
    assert status_code(status_pb2.Status(code=99)) is grpc.StatusCode.UNKNOWN


def test_a_detail_that_is_no_message_is_left_out_and_the_error_is_of_its_codes_family() -> None:
    status = to_status(NotEligible("not yet", violations=[Violation("license", "TOO_YOUNG", "wait")]))
    for detail in status.details:
        detail.value = b"\xff" + detail.value
    rebuilt = from_rpc_error(rpc_error(grpc.StatusCode.FAILED_PRECONDITION, "not yet", status))
    assert type(rebuilt) is errors.Refused
    assert not rebuilt.violations


@pytest.mark.parametrize("stated", ["soon", "", "-1", "٣", "9" * 30])
def test_a_peers_error_that_states_no_time_to_come_again_can_be_handed_on(stated: str) -> None:
    error = errors.QuotaExceeded("later")
    error.metadata["retryAfterSeconds"] = stated
    handed_on = to_status(error)
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in handed_on.details)
