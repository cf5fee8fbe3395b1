"""Which fields a verdict carries: pure, and the same for every node."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError

from elicense.license.fields import EVERY_FIELD, IN_STANDING, LicenseField, copy_fields, known_fields
from elicense.license.license_bytes import varint
from elicense.license.standing import license_part
from elicense.trust.roles import VerifierRule
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Look

#: Field number and wire type (https://protobuf.dev/programming-guides/encoding/).
_LICENSE_TAG: Final = varint(pb.Verdict.DESCRIPTOR.fields_by_name["license"].number << 3 | 2)

_TO_OFFICIALS: Final = frozenset({pb.OUTCOME_VALID, pb.OUTCOME_INVALID, pb.OUTCOME_INDETERMINATE})
_TO_OTHERS: Final = frozenset({pb.OUTCOME_VALID, pb.OUTCOME_INVALID})


def gives_with(rule: VerifierRule, outcome: int) -> bool:
    """Whether a role gets fields of a licence that matches when that is the outcome.

    Whoever must know the name gets them only with a plain answer; officials also
    when nobody can say now, since they must decide all the same.
    """
    return outcome in (_TO_OTHERS if rule.requires_name else _TO_OFFICIALS)


def reads_record(look: Look) -> bool:
    """Whether what a look gets lies in the record, and not in the licence view alone."""
    return look.with_record or not look.fields <= IN_STANDING


def add_fields(verdict: pb.Verdict, source: license_pb2.License, fields: frozenset[LicenseField]) -> None:
    """Put these fields of ``source`` into a verdict, and say which."""
    if not fields:
        return
    verdict.license.SetInParent()
    copy_fields(source, verdict.license, fields)
    verdict.fields.extend(_in_order(fields))


@lru_cache(maxsize=256)
def _in_order(fields: frozenset[LicenseField]) -> tuple[pb.LicenseField, ...]:
    return tuple(sorted(fields))  # type: ignore[arg-type]  # same numbers


def add_standing(verdict: pb.Verdict, standing: bytes, fields: frozenset[LicenseField]) -> None:
    """Put those of these fields into a verdict that the licence view holds itself.

    Nothing of a standing that is damaged.
    """
    shown = fields & IN_STANDING
    if not shown:
        return
    try:
        # Merged as they are serialized: the licence, and which fields of it were given.
        verdict.MergeFromString(_as_license(license_part(standing, shown)) + _named(shown))
    except DecodeError:
        verdict.ClearField("license")
        verdict.ClearField("fields")


def _as_license(part: bytes) -> bytes:
    """Return a serialized verdict of nothing but this serialized licence."""
    return _LICENSE_TAG + varint(len(part)) + part


@lru_cache(maxsize=256)
def _named(fields: frozenset[LicenseField]) -> bytes:
    return pb.Verdict(fields=_in_order(fields)).SerializeToString()


def restrict(verdict: pb.Verdict, fields: frozenset[LicenseField]) -> None:
    """Take out of a verdict that another node gave whatever this node's own table does not allow."""
    given = EVERY_FIELD.intersection(verdict.fields)
    if given <= fields and len(verdict.fields) == len(given):
        return
    kept = known_fields(verdict.fields) & fields
    source = license_pb2.License()
    source.CopyFrom(verdict.license)
    verdict.ClearField("license")
    verdict.ClearField("fields")
    add_fields(verdict, source, kept)
