"""The tables of certificates and join tokens, and their queries: the only SQL over them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    insert,
    select,
    update,
)

from elicense.errors import StoreCorrupt
from elicense.sql.database import insert_for
from elicense.trust.roles import Role
from elicense.trust.spiffe import MAX_SPIFFE_ID, ActiveCertificate

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLE_LENGTH: Final = 16


class CertificateState(IntEnum):
    """Whether a certificate may be used."""

    ACTIVE = 1
    REVOKED = 2


@dataclass(frozen=True, slots=True)
class TrustTables:
    """The tables of this module."""

    certificate: Table
    join_token: Table


def define_trust_tables(metadata: MetaData) -> TrustTables:
    """Add ``certificate`` and ``join_token`` to ``metadata`` and return them."""
    certificate = Table(
        "certificate",
        metadata,
        Column("fingerprint", LargeBinary(32), primary_key=True),
        Column("subject", String(MAX_SPIFFE_ID), nullable=False),
        Column("role", String(ROLE_LENGTH), nullable=False),
        # Division code; 0 for national bearers.
        Column("city", Integer, nullable=False),
        Column("not_after_us", BigInteger, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("issued_us", BigInteger, nullable=False),
        Column("issued_by", String(MAX_SPIFFE_ID), nullable=False),
        Index("certificate_subject", "subject"),
        info={"dist": "fingerprint"},
        sqlite_with_rowid=False,
    )
    join_token = Table(
        "join_token",
        metadata,
        Column("token_id", LargeBinary(16), primary_key=True),
        Column("fingerprint", LargeBinary(32), nullable=False),
        Column("subject", String(MAX_SPIFFE_ID), nullable=False),
        Column("expires_us", BigInteger, nullable=False),
        Column("spent_us", BigInteger),
        # Digest of the request that spent it, and the answer, to be given again.
        Column("request_digest", LargeBinary(32)),
        Column("response", LargeBinary),
        info={"dist": "token_id"},
        sqlite_with_rowid=False,
    )
    return TrustTables(certificate, join_token)


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A row of the table of certificates, whatever its state.

    Attributes:
        certificate: Whose it is.
        state: Whether it may be used.
        issued_us: When it was added, microseconds UTC.
        issued_by: SPIFFE ID of whoever had it issued.
    """

    certificate: ActiveCertificate
    state: CertificateState
    issued_us: int
    issued_by: str


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A row of the table of join tokens.

    Attributes:
        token_id: Number of the token, 16 bytes.
        fingerprint: SHA-256 of the DER of its certificate.
        subject: SPIFFE ID that its bearer gets.
        expires_us: When it ends, microseconds UTC.
        spent_us: When it was spent; None before.
        request_digest: SHA-256 of the request that spent it; None before.
        response: The serialized answer; None before.
    """

    token_id: bytes
    fingerprint: bytes
    subject: str
    expires_us: int
    spent_us: int | None = None
    request_digest: bytes | None = None
    response: bytes | None = None


class TrustStore:
    """Reads and writes certificates and join tokens inside a caller's transaction.

    Args:
        tables: Where they are.
    """

    def __init__(self, tables: TrustTables) -> None:
        self._certificate = tables.certificate
        self._token = tables.join_token
        c, t = tables.certificate.c, tables.join_token.c
        self._record = (c.fingerprint, c.subject, c.role, c.city, c.not_after_us, c.state, c.issued_us, c.issued_by)
        self._token_record = (
            t.token_id,
            t.fingerprint,
            t.subject,
            t.expires_us,
            t.spent_us,
            t.request_digest,
            t.response,
        )

    def active(self, connection: Connection, fingerprints: Sequence[bytes]) -> dict[bytes, ActiveCertificate]:
        """Return the active rows among these fingerprints; revoked and unknown ones are absent."""
        c = self._certificate.c
        query = select(c.fingerprint, c.subject, c.role, c.city, c.not_after_us).where(
            c.fingerprint.in_(fingerprints), c.state == int(CertificateState.ACTIVE)
        )
        return {row[0]: _active(*row) for row in connection.execute(query)}

    def add(self, connection: Connection, certificate: ActiveCertificate, *, issued_us: int, issued_by: str) -> None:
        """Add an active certificate; one that is there already stays as it is, revoked or not."""
        statement = insert_for(connection.dialect.name, self._certificate).on_conflict_do_nothing()
        connection.execute(
            statement,
            {
                "fingerprint": certificate.fingerprint,
                "subject": certificate.subject,
                "role": certificate.role.value,
                "city": certificate.city or 0,
                "not_after_us": certificate.not_after_us,
                "state": int(CertificateState.ACTIVE),
                "issued_us": issued_us,
                "issued_by": issued_by,
            },
        )

    def revoke(self, connection: Connection, fingerprint: bytes) -> bool:
        """Revoke a certificate for ever; False when there is none such or it was revoked before."""
        c = self._certificate.c
        done = connection.execute(
            update(self._certificate)
            .where(c.fingerprint == fingerprint, c.state == int(CertificateState.ACTIVE))
            .values(state=int(CertificateState.REVOKED))
        )
        return done.rowcount == 1

    def revoke_subject(self, connection: Connection, subject: str) -> int:
        """Revoke every certificate of a SPIFFE ID, void its unspent join tokens, and return how many there were."""
        c = self._certificate.c
        done = connection.execute(
            update(self._certificate)
            .where(c.subject == subject, c.state == int(CertificateState.ACTIVE))
            .values(state=int(CertificateState.REVOKED))
        )
        t = self._token.c
        voided = connection.execute(
            update(self._token).where(t.subject == subject, t.spent_us.is_(None), t.expires_us > 0).values(expires_us=0)
        )
        return done.rowcount + voided.rowcount

    def of_subject(self, connection: Connection, subject: str) -> list[CertificateRecord]:
        """Return every certificate of a SPIFFE ID, oldest first."""
        c = self._certificate.c
        rows = connection.execute(
            select(*self._record).where(c.subject == subject).order_by(c.issued_us, c.fingerprint)
        )
        return [
            CertificateRecord(_active(*row[:5]), CertificateState(row.state), row.issued_us, row.issued_by)
            for row in rows
        ]

    def all_certificates(self, connection: Connection) -> list[CertificateRecord]:
        """Return every certificate, in order.

        Raises:
            StoreCorrupt: A row holds a role or a state that there is not.
        """
        found = []
        for row in connection.execute(select(*self._record).order_by(self._certificate.c.fingerprint)):
            try:
                record = CertificateRecord(_active(*row[:5]), CertificateState(row.state), row.issued_us, row.issued_by)
            except ValueError as error:
                raise StoreCorrupt(f"certificate {row.fingerprint.hex()} has a role or state that is none") from error
            found.append(record)
        return found

    def all_tokens(self, connection: Connection) -> list[TokenRecord]:
        """Return every join token, in order."""
        query = select(*self._token_record).order_by(self._token.c.token_id)
        return [TokenRecord(*row) for row in connection.execute(query)]

    def create_token(self, connection: Connection, token: TokenRecord) -> None:
        """Add a token that has not been spent."""
        connection.execute(
            insert(self._token).values(
                token_id=token.token_id,
                fingerprint=token.fingerprint,
                subject=token.subject,
                expires_us=token.expires_us,
            )
        )

    def token(self, connection: Connection, token_id: bytes, *, lock: bool = False) -> TokenRecord | None:
        """Return a token; ``lock`` holds its row until the transaction ends."""
        query = select(*self._token_record).where(self._token.c.token_id == token_id)
        row = connection.execute(query.with_for_update() if lock else query).first()
        return None if row is None else TokenRecord(*row)

    def spend_token(
        self, connection: Connection, token_id: bytes, *, spent_us: int, request_digest: bytes, response: bytes
    ) -> bool:
        """Mark a token as spent, with its answer; False when it was spent before."""
        c = self._token.c
        done = connection.execute(
            update(self._token)
            .where(c.token_id == token_id, c.spent_us.is_(None))
            .values(spent_us=spent_us, request_digest=request_digest, response=response)
        )
        return done.rowcount == 1


def _active(fingerprint: bytes, subject: str, role: str, city: int, not_after_us: int) -> ActiveCertificate:
    return ActiveCertificate(fingerprint, subject, Role(role), city or None, not_after_us)
