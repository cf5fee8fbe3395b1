"""Who looks, why, and at whom: what must hold before any licence is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elicense.errors import CallerNotAllowed, Malformed, Violation
from elicense.trust.roles import VERIFIER_RULES, Purpose, Role, VerifierRule
from elicense.trust.spiffe import Caller, identify, parse_spiffe_id
from elicense.v1 import verification_pb2 as pb


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
    """

    verifier: str
    via: str
    role: Role
    rule: VerifierRule
    purpose: Purpose
    case_number: str


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


def admit(caller: Caller, context: pb.LookContext, queries: Sequence[tuple[str, pb.LicenseQuery]]) -> Look:
    """Check a request against the rule of the verifier's role.

    Args:
        caller: Who calls.
        context: Why.
        queries: Each query with its path in the request.

    Raises:
        CallerNotAllowed: The caller is no verifier, or asks for one that is not its own.
        Malformed: Purpose, case number or a name is missing or not one that the role may state; all are named.
    """
    verifier, via, role = _verifier(caller, context.on_behalf_of)
    rule = VERIFIER_RULES.get(role)
    if rule is None:
        raise CallerNotAllowed("this role may not verify licenses")
    violations: list[Violation] = []
    if int(context.purpose) not in rule.purposes:
        allowed = ", ".join(sorted(purpose.name for purpose in rule.purposes))
        violations.append(Violation("context.purpose", "PURPOSE_NOT_ALLOWED", f"state one of {allowed}"))
    if rule.requires_case_number and not context.case_number:
        violations.append(Violation("context.case_number", "REQUIRED", "give the number of the case"))
    if rule.requires_name:
        violations.extend(
            Violation(f"{path}.holder_name", "REQUIRED", "give the holder's name as printed")
            for path, query in queries
            if not query.holder_name
        )
    if violations:
        raise Malformed("the request lacks what this role must state", violations=violations)
    return Look(verifier, via, role, rule, Purpose(context.purpose), context.case_number)
