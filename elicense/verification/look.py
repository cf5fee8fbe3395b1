"""Who looks, why, and at whom: what must hold before any licence is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from elicense.errors import CallerNotAllowed, Malformed, Violation
from elicense.license.fields import EVERY_FIELD, LicenseField, known_fields
from elicense.trust.roles import MAX_SEALING_US, VERIFIER_RULES, Purpose, Role, VerifierRule
from elicense.trust.spiffe import Caller, identify, parse_spiffe_id
from elicense.v1 import verification_pb2 as pb

#: What callers stated last, kept with the look that it admits: some megabytes.
_MAX_STATED: Final = 4_096

#: Stands for the number of a case in what is kept: no number of a case stays in memory.
_SOME_CASE: Final = "*"


@dataclass(frozen=True, slots=True)
class Look:
    """An admitted request to look at licences.

    Attributes:
        verifier: SPIFFE ID of the verifier, also when a city node asks for it.
        via: SPIFFE ID of the city node that forwarded the request; empty when the verifier asked itself.
        role: The verifier's role.
        rule: What the role must state and accepts.
        purpose: Why it looks.
        case_number: Case under which it looks; may be empty.
        fields: Fields that it gets: those that its role may see, as far as they are wanted.
        with_record: Whether it gets the record with its proof.
        sealed_us: How long the look stays out of the holder's list, in microseconds; 0 for not at all.
    """

    verifier: str
    via: str
    role: Role
    rule: VerifierRule
    purpose: Purpose
    case_number: str
    fields: frozenset[LicenseField]
    with_record: bool = False
    sealed_us: int = 0


def _verifier(caller: Caller, on_behalf_of: str) -> tuple[str, str, Role]:
    """Return (verifier, via, role) of a request."""
    if caller.role is not Role.CITY:
        if on_behalf_of:
            raise CallerNotAllowed("only a city node may ask on behalf of a verifier")
        return str(caller.spiffe_id), "", caller.role
    if not on_behalf_of:
        raise Malformed(
            "a city node must name the verifier for whom it asks",
            violations=[Violation("context.on_behalf_of", "REQUIRED", "name the verifier's SPIFFE ID")],
        )
    # A city's word counts only for verifiers that it enrolled itself: their
    # IDs lie below its own, in its own trust domain.
    verifier = parse_spiffe_id(on_behalf_of)
    below = verifier.path[: len(caller.spiffe_id.path)] == caller.spiffe_id.path
    if verifier.trust_domain != caller.spiffe_id.trust_domain or not below:
        raise CallerNotAllowed("a city node may ask only for verifiers that it enrolled")
    return on_behalf_of, str(caller.spiffe_id), identify(verifier).role


def admit(
    caller: Caller,
    context: pb.LookContext,
    queries: Sequence[tuple[str, pb.LicenseQuery]],
    *,
    with_record: bool = False,
) -> Look:
    """Check a request against the rule of the verifier's role.

    Args:
        caller: Who calls.
        context: Why.
        queries: Each query with its path in the request.
        with_record: Whether the record is asked for.

    Raises:
        CallerNotAllowed: The caller is no verifier, asks for one that is not its own, or asks for a
            record of which it may not see every field.
        Malformed: Purpose, case number or a name is missing or not one that the role may state; all are named.
    """
    verifier, via, role = _verifier(caller, context.on_behalf_of)
    rule = VERIFIER_RULES.get(role)
    if rule is None:
        raise CallerNotAllowed("this role may not verify licenses")
    fields = rule.fields
    if context.HasField("fields"):
        fields &= known_fields(context.fields.fields)
    if with_record and fields != EVERY_FIELD:
        raise CallerNotAllowed("a record is given only with every field, to roles that may see every field")
    sealed_us = context.sealed.delay.ToMicroseconds() if context.HasField("sealed") else 0
    if violations := [*_violations(rule, context, sealed_us), *_unnamed(rule, queries)]:
        raise Malformed("the request lacks what this role must state", violations=violations)
    purpose = Purpose(context.purpose)
    return Look(verifier, via, role, rule, purpose, context.case_number, fields, with_record, sealed_us)


class Admission:
    """Admits like :func:`admit`, and keeps what callers stated last: most state the same again and again."""

    __slots__ = ("_admitted",)

    def __init__(self) -> None:
        # With the caller itself, so that nobody else gets its identity meanwhile.
        self._admitted: dict[tuple[int, bytes, bool], tuple[Caller, Look]] = {}

    def admit(
        self,
        caller: Caller,
        context: pb.LookContext,
        queries: Sequence[tuple[str, pb.LicenseQuery]],
        *,
        with_record: bool = False,
    ) -> Look:
        """Check a request as :func:`admit` does."""
        case_number = context.case_number
        key = id(caller), _without_case(context).SerializeToString(), with_record
        known = self._admitted.get(key)
        if known is None or known[0] is not caller or _unnamed(known[1].rule, queries):
            look = admit(caller, context, queries, with_record=with_record)
            if len(self._admitted) >= _MAX_STATED:
                self._admitted.clear()
            self._admitted[key] = caller, replace(look, case_number="") if case_number else look
            return look
        return replace(known[1], case_number=case_number) if case_number else known[1]


def _without_case(context: pb.LookContext) -> pb.LookContext:
    if not context.case_number:
        return context
    stated = pb.LookContext()
    stated.CopyFrom(context)
    stated.case_number = _SOME_CASE
    return stated


def _unnamed(rule: VerifierRule, queries: Sequence[tuple[str, pb.LicenseQuery]]) -> list[Violation]:
    if not rule.requires_name:
        return []
    return [
        Violation(f"{path}.holder_name", "REQUIRED", "give the holder's name as printed")
        for path, query in queries
        if not query.holder_name
    ]


def _violations(rule: VerifierRule, context: pb.LookContext, sealed_us: int) -> list[Violation]:
    violations: list[Violation] = []
    if int(context.purpose) not in rule.purposes:
        allowed = ", ".join(sorted(purpose.name for purpose in rule.purposes))
        violations.append(Violation("context.purpose", "PURPOSE_NOT_ALLOWED", f"state one of {allowed}"))
    if rule.requires_case_number and not context.case_number:
        violations.append(Violation("context.case_number", "REQUIRED", "give the number of the case"))
    if context.HasField("sealed"):
        if int(context.purpose) not in rule.sealable:
            violations.append(
                Violation("context.sealed", "SEALING_NOT_ALLOWED", "only a case of the police can be sealed")
            )
        if not 0 < sealed_us <= MAX_SEALING_US:
            days = MAX_SEALING_US // 86_400_000_000
            violations.append(Violation("context.sealed.delay", "OUT_OF_RANGE", f"seal for {days} days at most"))
    return violations
