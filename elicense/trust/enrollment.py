"""Enrolment: a join token and certificate requests in, certificates out.

The registry enrols cities, national verifiers, operators and auditors; a city
node enrols its own clerks and verifiers.  Keys are made by the joiner and never
travel.  A token is spent by the first request; the same request may be repeated
until the token ends, in case the answer was lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from elicense.errors import (
    CallerNotAllowed,
    CheckpointInvalid,
    Malformed,
    TokenExpired,
    TokenSpent,
    Unauthenticated,
    Violation,
)
from elicense.log.checkpoint import open_checkpoint
from elicense.log.model import FIRST_EPOCH
from elicense.log.verifier_key import ED25519, VerifierKey, parse_vkey
from elicense.trust.csr import parse_request
from elicense.trust.hostnames import check_server_names
from elicense.trust.roles import VERIFIERS, Role
from elicense.trust.spiffe import ActiveCertificate, SpiffeId, authority_id, identify, parse_spiffe_id, server_name
from elicense.trust.store import TokenRecord
from elicense.trust.token import TOKEN_ID_BYTES, JoinToken, make_token, token_id_of
from elicense.trust.x509 import CITY_PATH_LENGTH, Validity, fingerprint, not_after_us, spiffe_id_of, to_der
from elicense.v1 import enrollment_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509
    from sqlalchemy import Connection

    from elicense.sql.database import Database
    from elicense.trust.csr import CertificateRequest
    from elicense.trust.spiffe import Caller
    from elicense.trust.store import TrustStore
    from elicense.trust.x509 import Authority

_DAY_US: Final = 86_400 * 1_000_000
LEAF_LIFETIME_US: Final = 365 * _DAY_US
AUTHORITY_LIFETIME_US: Final = 5 * 365 * _DAY_US
TOKEN_LIFETIME_US: Final = _DAY_US
MAX_TOKEN_LIFETIME_US: Final = 30 * _DAY_US
"""Longest time for which a token may be made: one that was lost must end by itself."""

TOKEN_GRACE_US: Final = _DAY_US
"""How much longer than a token its certificate holds: its bearer then hears why, not just a failed handshake."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """What a city learns of the registry when it joins.

    Attributes:
        log_key: Key of the registry's log, C2SP vkey form.
        cosigner_key: Key of its cosignatures, C2SP vkey form.
        subject_key: Key of the person tags in access logs, 32 bytes.
    """

    log_key: str
    cosigner_key: str
    subject_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewCity:
    """A city that has just been enrolled.

    Attributes:
        city: Division code.
        log_key: Key of its log, epoch 1.
        log_verifier_key: The same in C2SP vkey form.
        again: Whether the city says that it is enrolled and its keys are lost.
    """

    city: int
    log_key: VerifierKey = field(repr=False)
    log_verifier_key: str
    again: bool = False


def city_log_origin(trust_domain: str, city: int, epoch: int) -> str:
    """Return the origin of a city's log, which is also the name of its key."""
    return f"{trust_domain}/city/{city}/{epoch}"


class Enrollment:
    """Makes join tokens and turns them into certificates.

    Args:
        database: Where certificates and tokens are.
        store: Their queries.
        authority: The node's certificate authority.
        node: The node's own SPIFFE ID.
        root: The national root.
        clock: UTC microseconds.
        random: Gives that many random bytes.
        keys: What cities learn of the registry; None on a city node.
        on_city: Called in the transaction that enrols a city; may run again, must not commit.  Tells whether a log of
            that city, signed with another key, is held already.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: TrustStore,
        authority: Authority,
        node: SpiffeId,
        root: x509.Certificate,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        keys: NodeKeys | None = None,
        on_city: Callable[[Connection, NewCity], bool] | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._authority = authority
        self._node = node
        self._root = root
        self._clock = clock
        self._random = random
        self._keys = keys
        self._on_city = on_city

    def check_subject(self, subject: SpiffeId) -> None:
        """Check that this node enrols bearers of that ID.

        Raises:
            CallerNotAllowed: Another node does, or nobody.
            Malformed: The ID is none that a caller may carry.
        """
        identity, own = identify(subject), identify(self._node)
        if own.role is Role.CITY:
            allowed = identity.city == own.city and (identity.role is Role.CLERK or identity.role in VERIFIERS)
        elif identity.role is Role.CITY:
            allowed = True
        else:
            allowed = identity.city is None and identity.role in {Role.OPERATOR, Role.AUDITOR, *VERIFIERS}
        if not allowed or subject.trust_domain != self._node.trust_domain:
            raise CallerNotAllowed(f"{self._node} does not enrol {subject}; ask the node that does")

    async def create_token(
        self, *, subject: SpiffeId, address: str, issued_by: str, lifetime_us: int = TOKEN_LIFETIME_US
    ) -> JoinToken:
        """Return a new token, durable on return.

        Args:
            subject: Who its bearer will be.
            address: Where the bearer reaches this node, host:port.
            issued_by: SPIFFE ID of whoever asks for it.
            lifetime_us: How long it may be spent, microseconds.

        Raises:
            CallerNotAllowed: This node does not enrol such bearers.
            Malformed: The ID is none that a caller may carry.
        """
        if lifetime_us > MAX_TOKEN_LIFETIME_US:
            days = MAX_TOKEN_LIFETIME_US // _DAY_US
            raise Malformed(
                f"a join token is good for {days} days at most",
                violations=[Violation("valid", "TOO_LONG", f"give at most {days}d")],
            )
        self.check_subject(subject)
        now_us = self._clock()
        token = make_token(
            authority=self._authority,
            root=self._root,
            address=address,
            subject=subject,
            token_id=self._random(TOKEN_ID_BYTES),
            validity=Validity.starting(now_us, lifetime_us + TOKEN_GRACE_US),
        )
        bootstrap = active_certificate(token.chain[0])
        record = TokenRecord(token.token_id, bootstrap.fingerprint, str(subject), now_us + lifetime_us)

        def write(connection: Connection) -> None:
            self._store.create_token(connection, record)
            self._store.add(connection, bootstrap, issued_us=now_us, issued_by=issued_by)

        await self._database.write(write)
        return token

    async def enroll(self, caller: Caller, request: enrollment_pb2.EnrollRequest) -> enrollment_pb2.EnrollResponse:
        """Return certificates for the joiner's keys, active on return.

        Raises:
            CsrInvalid: A certificate request can not be used.
            Malformed: Something that cities must send is missing, or others sent it.
            CheckpointInvalid: The possession note is not one over the empty log.
            SignatureInvalid: The possession note is not signed by the log's key.
            TokenExpired: The token is too old.
            TokenSpent: The token was spent by another request.
        """
        token_id = token_id_of(caller.spiffe_id)
        digest = sha256(request.SerializeToString(deterministic=True)).digest()
        response: bytes = await self._database.write(
            lambda connection: self._spend(connection, caller, token_id, digest, request)
        )
        return enrollment_pb2.EnrollResponse.FromString(response)

    def _spend(
        self,
        connection: Connection,
        caller: Caller,
        token_id: bytes,
        digest: bytes,
        request: enrollment_pb2.EnrollRequest,
    ) -> bytes:
        # 1. The token exists and is the caller's; its row is held to the end.
        token = self._store.token(connection, token_id, lock=True)
        if token is None or token.fingerprint != caller.fingerprint:
            raise Unauthenticated("there is no such join token; ask for a new one")
        # 2. It is still good, and new; or this is the request that spent it.
        now_us = self._clock()
        if now_us >= token.expires_us:
            raise TokenExpired("the join token has expired; ask for a new one")
        if token.response is not None:
            if token.request_digest != digest:
                raise TokenSpent("the join token has been used; ask for a new one")
            return token.response
        # 3. The request proves its keys.
        subject = parse_spiffe_id(token.subject)
        self.check_subject(subject)
        response, certificate, city = self._certify(subject, request, now_us)
        # 4. Certificates are in force, and the token is spent, in one transaction.
        if city is not None and self._on_city is not None:
            response.enrolled_before = self._on_city(connection, city)
        self._store.add(connection, active_certificate(certificate), issued_us=now_us, issued_by=str(caller.spiffe_id))
        serialized = response.SerializeToString()
        if not self._store.spend_token(
            connection, token_id, spent_us=now_us, request_digest=digest, response=serialized
        ):
            raise TokenSpent("the join token has been used; ask for a new one")
        return serialized

    def _certify(
        self, subject: SpiffeId, request: enrollment_pb2.EnrollRequest, now_us: int
    ) -> tuple[enrollment_pb2.EnrollResponse, x509.Certificate, NewCity | None]:
        is_city = identify(subject).role is Role.CITY
        _check_parts(request, is_city=is_city)
        tls = parse_request(request.tls_csr)
        city = _check_city(subject, tls, request) if is_city else None
        own_name = server_name(subject) if is_city else ""
        certificate = self._authority.issue_leaf(
            subject=subject,
            public_key=tls.public_key,
            validity=self._validity(now_us, LEAF_LIFETIME_US),
            dns_names=(own_name, *(name for name in tls.dns_names if name != own_name)) if is_city else (),
            addresses=tls.addresses if is_city else (),
        )
        response = enrollment_pb2.EnrollResponse(
            subject=str(subject), tls_chain=[to_der(c) for c in self._authority.chain_of(certificate)]
        )
        if is_city:
            own = self._authority.issue_authority(
                subject=authority_id(subject),
                public_key=parse_request(request.authority_csr).public_key,
                validity=self._validity(now_us, AUTHORITY_LIFETIME_US),
                path_length=CITY_PATH_LENGTH,
            )
            response.authority_chain.extend(to_der(c) for c in self._authority.chain_of(own))
            if self._keys is not None:
                response.registry_log_key = self._keys.log_key
                response.registry_cosigner_key = self._keys.cosigner_key
                response.subject_key = self._keys.subject_key
        return response, certificate, city

    def _validity(self, now_us: int, lifetime_us: int) -> Validity:
        # Nothing outlives what signed it: chains would break without a warning.
        end_us = not_after_us(self._authority.certificate)
        return Validity.starting(now_us, min(lifetime_us, end_us - now_us))


def active_certificate(certificate: x509.Certificate) -> ActiveCertificate:
    """Return the table row that puts a certificate into force.

    Raises:
        Malformed: The certificate is not that of a caller.
    """
    subject = spiffe_id_of(certificate)
    identity = identify(subject)
    return ActiveCertificate(
        fingerprint=fingerprint(certificate),
        subject=str(subject),
        role=identity.role,
        city=identity.city,
        not_after_us=not_after_us(certificate),
    )


def _check_parts(request: enrollment_pb2.EnrollRequest, *, is_city: bool) -> None:
    parts = {
        "authority_csr": request.authority_csr,
        "log_verifier_key": request.log_verifier_key,
        "log_possession_note": request.log_possession_note,
    }
    if is_city:
        wrong = [Violation(name, "REQUIRED", "a city must send this") for name, value in parts.items() if not value]
    else:
        wrong = [Violation(name, "NOT_ALLOWED", "cities alone send this") for name, value in parts.items() if value]
    if wrong:
        raise Malformed(f"wrong for this bearer: {', '.join(v.field for v in wrong)}", violations=wrong)


def _check_city(subject: SpiffeId, tls: CertificateRequest, request: enrollment_pb2.EnrollRequest) -> NewCity:
    city = identify(subject).city
    if city is None:
        raise Malformed("a city's SPIFFE ID names its division code")
    check_server_names(subject, tls, parse_request(request.authority_csr))
    origin = city_log_origin(subject.trust_domain, city, FIRST_EPOCH)
    key = parse_vkey(request.log_verifier_key)
    if key.name != origin or key.algorithm != ED25519:
        raise Malformed(f"the log's key must be an Ed25519 key named {origin}")
    if open_checkpoint(request.log_possession_note, origin=origin, key=key).size != 0:
        raise CheckpointInvalid("the possession note must be over the empty log")
    return NewCity(city, key, request.log_verifier_key, request.again)
