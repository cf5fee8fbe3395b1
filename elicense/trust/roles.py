"""Who may call what, as data.

Two tables, one a side, name every method and the roles that may call it.  There
is no default: a method that is not listed does not run (a test compares the
tables with the service descriptors).  What a verifier must state, which fields it
sees, how often it may ask and how old an answer it accepts, is data as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from elicense.license.fields import EVERY_FIELD, LicenseField

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Role(StrEnum):
    """What a caller is; the value is the word in its SPIFFE ID."""

    REGISTRY = "registry"
    CITY = "city"
    CLERK = "clerk"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ENROLLEE = "enrollee"
    POLICE = "police"
    TRAFFIC_WINDOW = "traffic-window"
    RENTAL = "rental"
    INSURER = "insurer"
    RECRUITER = "recruiter"
    HOLDER = "holder"


VERIFIERS = frozenset({Role.POLICE, Role.TRAFFIC_WINDOW, Role.RENTAL, Role.INSURER, Role.RECRUITER, Role.HOLDER})
"""Roles that ask whether a licence is in force."""

OFFICIAL_VERIFIERS = frozenset({Role.POLICE, Role.TRAFFIC_WINDOW})
"""Verifiers that may ask by number alone and keep a reserve in the access log."""

EVERY_ROLE = frozenset(Role)

LATEST_HEADS = frozenset({Role.CITY, Role.AUDITOR, Role.OPERATOR})
"""Roles that see logs as they stand; to others they end at the head that was published, a minute old or more."""


class Purpose(IntEnum):
    """Why a verifier asks; the numbers are those of ``elicense.v1.Purpose``."""

    ROADSIDE_CHECK = 1
    CASE_HANDLING = 2
    WINDOW_SERVICE = 3
    CAR_RENTAL = 4
    INSURANCE = 5
    RECRUITMENT = 6
    HOLDER_VIEW = 7


FRESHNESS_LIMIT_US = 10 * 60 * 1_000_000
"""How old a city's state may be for a VALID answer, unless a role says otherwise: ten minutes."""


MAX_SEALING_US = 180 * 86_400 * 1_000_000
"""Longest time that a look may stay out of the holder's list: 180 days."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How often a verifier may look in one day of China time.

    Attributes:
        looks: At anybody; every question of a batch counts.
        looks_at_one: At one number, whether there is a licence of that number or not.
    """

    looks: int
    looks_at_one: int


@dataclass(frozen=True, slots=True)
class VerifierRule:
    """What a verifier role must state, what it sees, and what it accepts.

    Attributes:
        requires_name: Whether the holder's name must come with the number.
        requires_case_number: Whether a case number must be given.
        purposes: Purposes that the role may state.
        fields: Fields of a licence that it may see.
        quota: How often it may ask.
        sealable: Purposes under which a look may be kept out of the holder's list for a while.
        freshness_limit_us: Age of a city's state beyond which the answer is INDETERMINATE, in microseconds.
        watches: How many licences a verifier may follow at once on one server.
    """

    requires_name: bool
    requires_case_number: bool
    purposes: frozenset[Purpose]
    fields: frozenset[LicenseField]
    quota: Quota
    sealable: frozenset[Purpose] = frozenset()
    freshness_limit_us: int = FRESHNESS_LIMIT_US
    watches: int = 100


def _rule(
    *purposes: Purpose,
    fields: Iterable[LicenseField],
    quota: Quota,
    name: bool = False,
    case: bool = False,
    sealable: Iterable[Purpose] = (),
    watches: int = 100,
) -> VerifierRule:
    return VerifierRule(
        requires_name=name,
        requires_case_number=case,
        purposes=frozenset(purposes),
        fields=frozenset(fields),
        quota=quota,
        sealable=frozenset(sealable),
        watches=watches,
    )


_RENTAL_FIELDS = (
    LicenseField.FULL_NAME,
    LicenseField.PHOTO,
    LicenseField.VEHICLE_CLASSES,
    LicenseField.VALIDITY,
)
_INSURER_FIELDS = (LicenseField.VEHICLE_CLASSES, LicenseField.VALIDITY)
_RECRUITER_FIELDS = (LicenseField.VEHICLE_CLASSES, LicenseField.FIRST_ISSUE_DATE)

VERIFIER_RULES: Mapping[Role, VerifierRule] = MappingProxyType(
    {
        Role.POLICE: _rule(
            Purpose.ROADSIDE_CHECK,
            Purpose.CASE_HANDLING,
            fields=EVERY_FIELD,
            quota=Quota(looks=5_000_000, looks_at_one=1_000),
            case=True,
            sealable=(Purpose.CASE_HANDLING,),
            watches=2_000,
        ),
        Role.TRAFFIC_WINDOW: _rule(
            Purpose.WINDOW_SERVICE,
            fields=EVERY_FIELD,
            quota=Quota(looks=1_000_000, looks_at_one=1_000),
            watches=1_000,
        ),
        Role.RENTAL: _rule(
            Purpose.CAR_RENTAL, fields=_RENTAL_FIELDS, quota=Quota(looks=100_000, looks_at_one=20), name=True
        ),
        Role.INSURER: _rule(
            Purpose.INSURANCE, fields=_INSURER_FIELDS, quota=Quota(looks=200_000, looks_at_one=50), name=True
        ),
        Role.RECRUITER: _rule(
            Purpose.RECRUITMENT, fields=_RECRUITER_FIELDS, quota=Quota(looks=20_000, looks_at_one=10), name=True
        ),
        # The app shows its holder the whole licence, and asks for many holders.
        Role.HOLDER: _rule(
            Purpose.HOLDER_VIEW, fields=EVERY_FIELD, quota=Quota(looks=20_000_000, looks_at_one=500), name=True
        ),
    }
)
"""Rule of each verifier role; every verifier has one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call a node.

    Attributes:
        methods: Full method name (``/package.Service/Method``) to the roles that may call it.
        city: Division code of the city node; None on the registry.
    """

    methods: Mapping[str, frozenset[Role]]
    city: int | None = None

    def admits_city(self, role: Role, city: int | None) -> bool:
        """Whether a caller of that role who belongs to ``city`` is at home on this node.

        A city node serves its own people alone.  On the registry verifiers are
        those that were enrolled nationally; cities act there for their own.
        """
        if self.city is None:
            return role is Role.CITY or city is None
        if role in VERIFIERS or role is Role.CLERK or role is Role.CITY:
            return city == self.city
        return city is None


_HEALTH = {
    "/grpc.health.v1.Health/Check": EVERY_ROLE,
    "/grpc.health.v1.Health/Watch": EVERY_ROLE,
    "/grpc.health.v1.Health/List": EVERY_ROLE,
}
_REFLECTION = {
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": frozenset({Role.OPERATOR}),
}
_CITY = frozenset({Role.CITY})
_CLERK = frozenset({Role.CLERK})
_ENROLLEE = frozenset({Role.ENROLLEE})
_HOLDER = frozenset({Role.HOLDER})
_OPERATOR = frozenset({Role.OPERATOR})
_AUDITOR = frozenset({Role.AUDITOR})


def _transparency(callers: frozenset[Role]) -> dict[str, frozenset[Role]]:
    methods = ("ListLogs", "GetCheckpoint", "GetInclusionProof", "GetConsistencyProof", "ListEntries", "GetHeadVector")
    return {f"/elicense.v1.TransparencyService/{method}": callers for method in methods}


REGISTRY_METHODS: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        "/elicense.v1.ReplicationService/AppendEntries": _CITY,
        "/elicense.v1.ReplicationService/GetReplicationState": _CITY,
        "/elicense.v1.ReplicationService/ClaimPersons": _CITY,
        "/elicense.v1.ReplicationService/ShipAccesses": _CITY,
        "/elicense.v1.RecoveryService/ListEpochs": _CITY,
        "/elicense.v1.RecoveryService/ReadLog": _CITY,
        "/elicense.v1.RecoveryService/ListEmptiedSlots": _CITY,
        "/elicense.v1.RecoveryService/OpenEpoch": _CITY,
        "/elicense.v1.RecoveryService/ReadRegistryLog": _CITY,
        "/elicense.v1.RecoveryService/ReturnRegistryLog": _CITY,
        "/elicense.v1.CustodyService/GetOffer": _CITY,
        "/elicense.v1.CustodyService/ListOffers": _CITY,
        "/elicense.v1.CustodyService/ListHistory": _CITY,
        "/elicense.v1.CustodyService/GetHistoryRecord": _CITY,
        # A city asks for the verifiers that it enrolled itself.
        "/elicense.v1.VerificationService/VerifyLicense": VERIFIERS | _CITY,
        "/elicense.v1.VerificationService/BatchVerifyLicenses": VERIFIERS | _CITY,
        "/elicense.v1.VerificationService/StreamVerifyLicenses": VERIFIERS,
        "/elicense.v1.AccessService/ListAccesses": _HOLDER,
        "/elicense.v1.VerificationService/WatchLicense": VERIFIERS | _CITY,
        "/elicense.v1.EnrollmentService/Enroll": _ENROLLEE,
        **_transparency(VERIFIERS | LATEST_HEADS),
        "/elicense.v1.ConflictService/ListConflicts": _CITY | _OPERATOR,
        "/elicense.v1.ConflictService/GetConflict": _CITY | _OPERATOR,
        "/elicense.v1.ConflictService/StatePosition": _CITY,
        "/elicense.v1.ConflictRulingService/DecideConflict": _OPERATOR,
        "/elicense.v1.OversightService/ListQuarantines": _OPERATOR | _AUDITOR,
        "/elicense.v1.OversightService/GetEvidence": _OPERATOR | _AUDITOR,
        "/elicense.v1.OversightService/AskRelease": _OPERATOR,
        "/elicense.v1.OversightService/ApproveRelease": _OPERATOR,
        **_HEALTH,
        **_REFLECTION,
    }
)
"""Every method of the registry."""

CITY_METHODS: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        "/elicense.v1.IssuanceService/CreateLicense": _CLERK,
        "/elicense.v1.IssuanceService/ImportLicenses": _CLERK,
        "/elicense.v1.IssuanceService/GetLicense": _CLERK,
        "/elicense.v1.IssuanceService/ListLicenses": _CLERK,
        "/elicense.v1.IssuanceService/ListRevisions": _CLERK,
        "/elicense.v1.IssuanceService/SetStatus": _CLERK,
        "/elicense.v1.IssuanceService/UpdateLicense": _CLERK,
        "/elicense.v1.IssuanceService/RenewLicense": _CLERK,
        "/elicense.v1.IssuanceService/ChangeVehicleClasses": _CLERK,
        "/elicense.v1.IssuanceService/RecordPoints": _CLERK,
        "/elicense.v1.IssuanceService/CancelLicense": _CLERK,
        "/elicense.v1.IssuanceService/EraseLicense": _CLERK,
        "/elicense.v1.IssuanceService/CorrectLicense": _CLERK,
        "/elicense.v1.IssuanceService/ChangeIdentity": _CLERK,
        "/elicense.v1.IssuanceService/ApplyDailyRules": _CLERK,
        "/elicense.v1.TransferService/OfferTransfer": _CLERK,
        "/elicense.v1.TransferService/WithdrawTransfer": _CLERK,
        "/elicense.v1.TransferService/AcceptTransfer": _CLERK,
        "/elicense.v1.TransferService/ListTransfers": _CLERK,
        "/elicense.v1.TransferService/ListIncomingOffers": _CLERK,
        "/elicense.v1.TransferService/GetLateRevision": _CLERK,
        "/elicense.v1.TransferService/AcknowledgeLateRevision": _CLERK,
        "/elicense.v1.VerificationService/VerifyLicense": VERIFIERS,
        "/elicense.v1.VerificationService/BatchVerifyLicenses": VERIFIERS,
        "/elicense.v1.VerificationService/StreamVerifyLicenses": VERIFIERS,
        "/elicense.v1.VerificationService/WatchLicense": VERIFIERS,
        "/elicense.v1.EnrollmentService/Enroll": _ENROLLEE,
        **_transparency(VERIFIERS | LATEST_HEADS | _CLERK),
        "/elicense.v1.ConflictService/ListConflicts": _CLERK,
        "/elicense.v1.ConflictService/GetConflict": _CLERK,
        "/elicense.v1.ConflictService/StatePosition": _CLERK,
        **_HEALTH,
        **_REFLECTION,
    }
)
"""Every method of a city node."""


def registry_policy() -> Policy:
    """Return who may call the registry."""
    return Policy(methods=REGISTRY_METHODS)


def city_policy(city: int) -> Policy:
    """Return who may call the node of the city with that division code."""
    return Policy(methods=CITY_METHODS, city=city)
