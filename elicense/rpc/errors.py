"""The one table between domain errors and gRPC status codes, in both directions.

A status carries ``google.rpc.ErrorInfo`` with the stable reason (AIP-193), every
violation, and ``RetryInfo`` where the call may be sent again as it is.  The client
rebuilds the class that the server raised from the reason.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from elicense import errors
from elicense.errors import Error, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from google.protobuf.message import Message

DOMAIN: Final = "elicense"
INTERNAL_TEXT: Final = "internal error; its details are in the server's log"
"""The only text that an unexpected exception is answered with: its own may hold personal data."""

DETAILS_KEY: Final = "grpc-status-details-bin"
"""Trailer that carries the serialized ``google.rpc.Status`` (gRPC richer error model)."""

MAX_VIOLATIONS: Final = 64
"""Violations that one status carries: trailers must stay below the metadata limit of common clients, 8 KiB or so."""

MAX_VIOLATION_TEXT: Final = 80
"""Beyond :data:`FULL_TEXT_VIOLATIONS` violations each text is cut to this many characters, for the same reason."""

FULL_TEXT_VIOLATIONS: Final = 20

RETRY_AFTER_S: Final = 1
"""When a call refused for now may come again, unless the error says otherwise."""

RETRY_AFTER_KEY: Final = "retryAfterSeconds"
"""Metadata of an error that knows better."""

RETRY_AFTER_DIGITS: Final = 6
"""Digits of the longest time that an error may state: eleven days; a quota is full again after one."""

CODES: Mapping[type[Error], grpc.StatusCode] = MappingProxyType(
    {
        errors.Malformed: grpc.StatusCode.INVALID_ARGUMENT,
        errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
        errors.CallerNotAllowed: grpc.StatusCode.PERMISSION_DENIED,
        errors.NotFound: grpc.StatusCode.NOT_FOUND,
        errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
        errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
        errors.Aborted: grpc.StatusCode.ABORTED,
        errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
        errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    }
)
"""Code of each family of errors; a class below belongs to the family of its nearest ancestor."""

_FAMILY: Mapping[int, type[Error]] = MappingProxyType({code.value[0]: cls for cls, code in CODES.items()})
_STATUS_CODE: Mapping[int, grpc.StatusCode] = MappingProxyType({code.value[0]: code for code in grpc.StatusCode})


def _subclasses(cls: type[Error]) -> Iterator[type[Error]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


# Only classes of the domain's own tree are rebuilt: a subclass that a module
# keeps for itself crosses the wire as the ancestor whose reason it bears.
_BY_REASON: Mapping[str, type[Error]] = MappingProxyType(
    {cls.reason: cls for cls in _subclasses(Error) if cls.__module__ == errors.__name__ and "reason" in vars(cls)}
)


def code_of(error: Error) -> grpc.StatusCode:
    """Return the status code of an error's family; INTERNAL for one that belongs to none."""
    for cls in type(error).__mro__:
        if (code := CODES.get(cls)) is not None:
            return code
    return grpc.StatusCode.INTERNAL


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _violations(code: grpc.StatusCode, violations: Sequence[Violation]) -> any_pb2.Any:
    kept = violations[:MAX_VIOLATIONS]
    width = None if len(kept) <= FULL_TEXT_VIOLATIONS else MAX_VIOLATION_TEXT
    packed = any_pb2.Any()
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        failures = error_details_pb2.PreconditionFailure()
        for v in kept:
            failures.violations.add(type=v.reason, subject=v.field, description=v.message[:width])
        packed.Pack(failures)
    else:
        request = error_details_pb2.BadRequest()
        for v in kept:
            request.field_violations.add(field=v.field, reason=v.reason, description=v.message[:width])
        packed.Pack(request)
    return packed


def _retry_after_s(error: Error) -> int:
    # Of an error that a peer raised the metadata is the peer's, and may hold anything.
    text = error.metadata.get(RETRY_AFTER_KEY, "")
    stated = text.isascii() and text.isdigit() and len(text) <= RETRY_AFTER_DIGITS
    return int(text) if stated else RETRY_AFTER_S


def to_status(error: Error) -> status_pb2.Status:
    """Return the ``google.rpc.Status`` that stands for an error."""
    code = code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        return internal_status()
    status = status_pb2.Status(code=code.value[0], message=error.message)
    status.details.append(
        _pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    )
    if error.violations:
        status.details.append(_violations(code, error.violations))
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=_retry_after_s(error)))
        status.details.append(_pack(retry))
    return status


def internal_status() -> status_pb2.Status:
    """Return the status for anything unexpected: fixed text, nothing of the exception."""
    status = status_pb2.Status(code=code_pb2.INTERNAL, message=INTERNAL_TEXT)
    status.details.append(_pack(error_details_pb2.ErrorInfo(reason=Error.reason, domain=DOMAIN)))
    return status


def status_code(status: status_pb2.Status) -> grpc.StatusCode:
    """Return gRPC's code of a status message; UNKNOWN for a number that gRPC does not have."""
    return _STATUS_CODE.get(status.code, grpc.StatusCode.UNKNOWN)


def from_status(status: status_pb2.Status) -> Error | None:
    """Return the error that a status stands for, of the class that was raised; None for OK.

    A reason that this version does not know gives the class of the code's family, and a
    detail that can not be read is left out.
    """
    if status.code == code_pb2.OK:
        return None
    info = error_details_pb2.ErrorInfo()
    violations: list[Violation] = []
    for detail in status.details:
        match _unpacked(detail):
            case error_details_pb2.ErrorInfo() as found:
                info = found
            case error_details_pb2.BadRequest() as request:
                violations += [Violation(v.field, v.reason, v.description) for v in request.field_violations]
            case error_details_pb2.PreconditionFailure() as failure:
                violations += [Violation(v.subject, v.type, v.description) for v in failure.violations]
    family = _FAMILY.get(status.code)
    cls = _BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    # Code and reason must agree; a peer that mixes them up is trusted in its code.
    if cls is None or (family is not None and not issubclass(cls, family)):
        cls = family or Error
    error = cls(status.message, violations=violations)
    error.metadata.update(info.metadata)
    return error


def _unpacked(detail: any_pb2.Any) -> Message | None:
    """Return a detail of a kind that is read here; None for another kind, and for bytes that are no message."""
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.PreconditionFailure):
        if detail.Is(kind.DESCRIPTOR):
            try:
                unpacked: Message = kind.FromString(detail.value)
            except DecodeError:
                return None
            return unpacked
    return None


def from_rpc_error(error: grpc.RpcError) -> Error:
    """Return the domain error behind a failed call, for ``raise ... from error``.

    Failures that gRPC itself reports (nobody answered, time ran out, the call was
    cut off) carry no reason and become :class:`~elicense.errors.PeerUnreachable`.
    """
    code, text = error.code(), error.details() or ""
    # The type stubs know only half of what metadata may be.
    trailers: Iterable[tuple[str, str | bytes]] = cast("Any", error.trailing_metadata()) or ()
    for key, value in trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            status = _parse_status(value)
            if status is not None and status.code == code.value[0]:
                return from_status(status) or Error(text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.PeerUnreachable("the server did not answer in time; try again")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return errors.PeerUnreachable(f"the server can not be reached; check address and certificate ({text})")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Error("the server does not offer this call; is it of an older version?")
    return _FAMILY.get(code.value[0], Error)(text or code.name)


def _parse_status(serialized: bytes) -> status_pb2.Status | None:

    try:
        return status_pb2.Status.FromString(serialized)
    except DecodeError:
        return None
