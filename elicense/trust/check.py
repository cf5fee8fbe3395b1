"""Check the tables of trust against the certificates and answers that they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from elicense.clock import SECOND_US
from elicense.errors import Error, StoreCorrupt
from elicense.log.check import Finding
from elicense.trust.enrollment import TOKEN_GRACE_US, active_certificate
from elicense.trust.spiffe import ActiveCertificate, identify, parse_spiffe_id
from elicense.trust.store import CertificateRecord, TokenRecord, TrustStore
from elicense.trust.x509 import from_der
from elicense.v1 import enrollment_pb2

if TYPE_CHECKING:
    from sqlalchemy import Connection


def check_trust(conn: Connection, store: TrustStore, found: Callable[[Finding], None]) -> None:
    """Compare certificates with the tokens that they were given for, and both with what they say of themselves.

    Args:
        conn: Transaction in which everything is read.
        store: The tables.
        found: Called with each finding.
    """
    try:
        certificates = {record.certificate.fingerprint: record for record in store.all_certificates(conn)}
    except StoreCorrupt as error:
        found(Finding("table of certificates", error.message))
        return
    given: dict[bytes, tuple[ActiveCertificate, int]] = {}
    for token in store.all_tokens(conn):
        _check_token(token, certificates, given, found)
    for fingerprint, (certificate, spent_us) in given.items():
        record = certificates.get(fingerprint)
        if record is None or record.certificate != certificate or record.issued_us != spent_us:
            what = "the certificate differs from the one that was given out for its token"
            found(Finding(f"certificate {fingerprint.hex()}", what))
    for record in certificates.values():
        _check_certificate(record, found)


def _check_token(
    token: TokenRecord,
    certificates: dict[bytes, CertificateRecord],
    given: dict[bytes, tuple[ActiveCertificate, int]],
    found: Callable[[Finding], None],
) -> None:
    where = f"join token {token.token_id.hex()}"
    bearer = certificates.get(token.fingerprint)
    # The bearer's certificate names the token and ends with it; an ended token has no time left.
    if bearer is None or bearer.certificate.subject.rpartition("/")[2] != token.token_id.hex():
        found(Finding(where, "the certificate of its bearer is missing, or is that of another token"))
    elif token.expires_us and not _ends_with(token.expires_us, bearer):
        found(Finding(where, "it does not end with the certificate of its bearer"))
    spent = [token.spent_us is not None, token.request_digest is not None, token.response is not None]
    if any(spent) != all(spent):
        found(Finding(where, "it is neither spent nor unspent"))
    if token.spent_us is None or token.response is None:
        return
    try:
        answer = enrollment_pb2.EnrollResponse.FromString(token.response)
        certificate = active_certificate(from_der(answer.tls_chain[0]))
    except (DecodeError, Error, IndexError):
        found(Finding(where, "the answer that it was spent for can not be read"))
        return
    if certificate.subject != token.subject:
        found(Finding(where, "it was made for somebody else than it was spent for"))
    given[certificate.fingerprint] = certificate, token.spent_us


def _ends_with(expires_us: int, bearer: CertificateRecord) -> bool:
    """Whether a token ends when the certificate of its bearer says; tokens last for whole seconds."""
    grace_us = bearer.certificate.not_after_us - expires_us - TOKEN_GRACE_US
    return abs(grace_us) <= SECOND_US and (expires_us - bearer.issued_us) % SECOND_US == 0


def _check_certificate(record: CertificateRecord, found: Callable[[Finding], None]) -> None:
    where = f"certificate {record.certificate.fingerprint.hex()}"
    try:
        identity = identify(parse_spiffe_id(record.certificate.subject))
        parse_spiffe_id(record.issued_by)
    except Error as error:
        found(Finding(where, error.message))
        return
    if record.certificate.not_after_us % SECOND_US:
        found(Finding(where, "its end is no time that a certificate can state"))
    if (identity.role, identity.city) != (record.certificate.role, record.certificate.city):
        found(Finding(where, "its role or city is not that of its subject"))
