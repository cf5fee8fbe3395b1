"""Which fields a verdict carries: pure, and the same for every node."""

from __future__ import annotations

from typing import Final

from elicense.license.fields import EVERY_FIELD, IN_STANDING, LicenseField, known_fields, pick
from elicense.trust.roles import VerifierRule
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Look

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
    verdict.license.CopyFrom(pick(source, fields))
    verdict.fields.extend(sorted(fields))  # type: ignore[arg-type]  # same numbers


def from_standing(standing: bytes) -> license_pb2.License:
    """Return what the licence view holds of a licence, in the form of one."""
    held = license_pb2.LicenseStanding.FromString(standing)
    return license_pb2.License(vehicle_classes=held.vehicle_classes, validity=held.validity)


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
