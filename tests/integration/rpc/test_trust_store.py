from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import MetaData

from elicense.errors import Malformed
from elicense.sql.database import Database
from elicense.sql.schema import check_rules
from elicense.trust.revocation import revoke
from elicense.trust.roles import Role
from elicense.trust.spiffe import ActiveCertificate
from elicense.trust.store import CertificateState, TokenRecord, TrustStore, define_trust_tables
from tests.support.stores import EmptyStore

POLICE = ActiveCertificate(b"p" * 32, "spiffe://elicense.test/verifier/police/p", Role.POLICE, None, 10**15)
CLERK = ActiveCertificate(b"c" * 32, "spiffe://elicense.test/clerk/320500/li", Role.CLERK, 320500, 10**15)
TOKEN = TokenRecord(b"t" * 16, b"f" * 32, "spiffe://elicense.test/operator/zhou", 10**15)


@pytest.fixture
def store() -> TrustStore:
    return TrustStore(define_trust_tables(MetaData()))


@pytest.fixture
def database(empty_store: EmptyStore) -> Iterator[Database]:
    metadata = MetaData()
    define_trust_tables(metadata)
    database = Database(empty_store.create(metadata))
    yield database
    database.close()


def add(database: Database, store: TrustStore, *certificates: ActiveCertificate) -> None:
    for certificate in certificates:
        database.write_now(lambda c, row=certificate: store.add(c, row, issued_us=7, issued_by="x"))  # type: ignore[misc]


def active(database: Database, store: TrustStore) -> set[ActiveCertificate]:
    fingerprints = [POLICE.fingerprint, CLERK.fingerprint, b"?" * 32]
    return set(database.read_now(lambda c: store.active(c, fingerprints)).values())


def test_the_schema_keeps_the_rules() -> None:
    metadata = MetaData()
    define_trust_tables(metadata)
    assert check_rules(metadata) == []


def test_active_certificates_come_back_as_they_were_added(database: Database, store: TrustStore) -> None:
    add(database, store, POLICE, CLERK)
    assert active(database, store) == {POLICE, CLERK}


def test_a_revoked_certificate_is_not_active_and_stays_revoked(database: Database, store: TrustStore) -> None:
    add(database, store, POLICE, CLERK)
    assert database.write_now(lambda c: store.revoke(c, POLICE.fingerprint))
    assert not database.write_now(lambda c: store.revoke(c, POLICE.fingerprint))
    add(database, store, POLICE)
    assert active(database, store) == {CLERK}
    (record,) = database.read_now(lambda c: store.of_subject(c, POLICE.subject))
    assert (record.certificate, record.state, record.issued_us) == (POLICE, CertificateState.REVOKED, 7)


def test_all_certificates_of_somebody_can_be_revoked_at_once(database: Database, store: TrustStore) -> None:
    second = replace(POLICE, fingerprint=b"q" * 32)
    add(database, store, POLICE, second, CLERK)
    assert database.write_now(lambda c: store.revoke_subject(c, POLICE.subject)) == 2
    assert active(database, store) == {CLERK}


def test_a_token_is_spent_once(database: Database, store: TrustStore) -> None:
    database.write_now(lambda c: store.create_token(c, TOKEN))
    assert database.read_now(lambda c: store.token(c, TOKEN.token_id)) == TOKEN

    def spend(digest: bytes) -> bool:
        return database.write_now(
            lambda c: store.spend_token(c, TOKEN.token_id, spent_us=9, request_digest=digest, response=b"r")
        )

    assert spend(b"1" * 32)
    assert not spend(b"2" * 32)
    spent = database.write_now(lambda c: store.token(c, TOKEN.token_id, lock=True))
    assert spent == replace(TOKEN, spent_us=9, request_digest=b"1" * 32, response=b"r")


def test_there_is_no_token_that_was_not_made(database: Database, store: TrustStore) -> None:
    assert database.read_now(lambda c: store.token(c, bytes(16))) is None


def test_revoking_somebody_voids_the_join_tokens_that_nobody_spent(database: Database, store: TrustStore) -> None:
    other = replace(TOKEN, token_id=b"o" * 16, subject=CLERK.subject)
    for token in (TOKEN, other):
        database.write_now(lambda c, token=token: store.create_token(c, token))  # type: ignore[misc]
    assert database.write_now(lambda c: store.revoke_subject(c, TOKEN.subject)) == 1
    voided = database.read_now(lambda c: store.token(c, TOKEN.token_id))
    assert voided is not None
    assert voided.expires_us == 0
    assert database.read_now(lambda c: store.token(c, other.token_id)) == other


@pytest.mark.parametrize("whom", ["", "zz" * 32, "ab" * 31, "ab " * 31 + "ab", "spiffe:/x"])
def test_whoever_is_neither_a_fingerprint_nor_a_subject_can_not_be_revoked(
    database: Database, store: TrustStore, whom: str
) -> None:
    with pytest.raises(Malformed):
        database.write_now(lambda c: revoke(c, store, whom))


def test_a_fingerprint_may_be_written_with_colons_and_in_capitals(database: Database, store: TrustStore) -> None:
    add(database, store, POLICE)
    whom = POLICE.fingerprint.hex(":").upper()
    assert database.write_now(lambda c: revoke(c, store, whom)) == 1
    assert database.write_now(lambda c: revoke(c, store, whom)) == 0
