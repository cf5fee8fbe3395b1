"""Every parser that meets bytes from outside, each with an input that it takes.

What is signed is also changed *before* it is signed: else no change gets behind the
signature, and what lies there is only ever met by a signer who errs, or lies.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import astuple
from datetime import date
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc.aio import AioRpcError, Metadata

from city_node.import_file import DriverFile
from city_node.mirror_page import check_page, recorded_us
from city_node.page_tokens import PageTokens
from elicense.auditor.state import AuditState, format_state, parse_state
from elicense.cli.demo.drivers import generate
from elicense.cli.log.verify import describe, describe_head
from elicense.clock import to_timestamp
from elicense.errors import Malformed, NotEligible, QuotaExceeded, Violation
from elicense.license.bans import ban_of
from elicense.license.codec import license_to_message
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.license.csv_line import read_line
from elicense.license.document import normalize_number
from elicense.license.plain_rows import PlainRows
from elicense.license.standing import decode_standing
from elicense.license.verdict import Outcome, assess
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.model import LogKey
from elicense.log.note import open_note, parse_note, sign_note
from elicense.log.proof_file import EntryProof, check_proof, format_proof, parse_proof
from elicense.log.tiles import parse_tile_path
from elicense.log.tlog_proof import TlogProof, check_tlog_proof, format_tlog_proof, parse_tlog_proof
from elicense.log.tree import EMPTY_RANGE
from elicense.log.verifier_key import format_vkey, parse_vkey
from elicense.presentation import cbor, cose
from elicense.rpc.errors import DETAILS_KEY, from_rpc_error, from_status, to_status
from elicense.rpc.validation import RequestRules
from elicense.trust.csr import build_request, parse_request
from elicense.trust.spiffe import city_id, identify, parse_spiffe_id
from elicense.trust.token import format_token, make_token, parse_token
from elicense.trust.x509 import (
    chain_from_pem,
    from_der,
    generate_key,
    not_after_us,
    public_key_matches,
    spiffe_id_of,
    to_der,
    to_pem,
    verify_chain,
)
from elicense.v1 import license_pb2, log_pb2, recovery_pb2, replication_pb2
from elicense.verification import evidence
from elicense.verification.cited import cited
from elicense.verification.contradiction import RevealedQuestion
from elicense.verification.custody_evidence import CustodyEvidence
from elicense.verification.evidence import Place, Statement, answers_verifier_key, commit, open_evidence
from elicense.verification.evidence_file import VerdictEvidence, confirm, format_evidence, parse_evidence
from elicense.verification.head_evidence import HeadEvidence, NoteStatement, VectorStatement
from elicense.verification.told import Told, open_told, sign_told
from elicense.view.fold import flags_of, links_of, person_key_of, read_record, revision_of, row_of
from elicense.view.opening import Opening, binds, opening_record
from elicense.view.person import PersonIndex
from registry.acknowledged import acknowledgements_in
from tests.support.authority import TRUST_DOMAIN, TestAuthority, spiffe
from tests.support.histories import COSIGNER, DOMAIN, History, keys_of, origin_of, signer, vector_of
from tests.unit.license.test_plain_rows import DAY as IMPORT_DAY
from tests.unit.license.test_plain_rows import the_general_way

NOW_US: Final = 1_800_000_000_000_000
TODAY: Final = date(2027, 1, 15)
CITY_CODE: Final = 320500
NUMBER: Final = "11010519491231002X"
LICENSE_ID: Final = bytes(range(16))

CITY = History(LogKey(CITY_CODE, 1)).grow(9)
FORKED = CITY.branch(4).grow(7, "y")
REGISTRY_KEY = LogKey(0, 1)
KEYS = list(keys_of(CITY, History(LogKey(510100, 1)), History(REGISTRY_KEY)))
CITY_KEY, REGISTRY_LOG_KEY = KEYS[0], KEYS[2]
NOTE = CITY.note()
PROOF = CITY.proof(4)
TOLD = Told(origin_of(CITY.key), 1, 1, 0)
PERSONS = PersonIndex(b"k" * 32)
RULES = RequestRules()
TOKENS = PageTokens(b"k" * 32)
PKI = TestAuthority(now_us=NOW_US)
LEAF_KEY = generate_key()
LEAF = PKI.registry.issue_leaf(
    subject=spiffe("/city/320500"), public_key=LEAF_KEY.public_key(), validity=PKI.validity, dns_names=("a.test",)
)
ANSWERS = signer("answers")
ANSWERS_KEY = answers_verifier_key(f"spiffe://{DOMAIN}/registry", ANSWERS.public_key())


class Parser(NamedTuple):
    """A parser, and an input that it takes."""

    parse: Callable[[bytes], Any]
    valid: bytes


def text(data: bytes) -> str:
    """What a file or an argument of a command may hold: bytes that are no UTF-8 too."""
    return data.decode("utf-8", errors="surrogateescape")


def sent_text(data: bytes) -> str:
    """A text as it comes over the wire, where nothing but UTF-8 gets through."""
    return data.decode("utf-8", errors="replace")


# -- certificates and tokens -------------------------------------------------------------------------------------------


def certificate(data: bytes) -> None:
    leaf = from_der(data)
    not_after_us(leaf)
    public_key_matches(leaf, LEAF_KEY)
    identify(spiffe_id_of(leaf))
    verify_chain([leaf, PKI.registry.certificate], PKI.root.certificate, at_us=NOW_US)


def certificates(data: bytes) -> None:
    for each in chain_from_pem(data):
        public_key_matches(each, LEAF_KEY)
        spiffe_id_of(each)


def join_token() -> bytes:
    subject = city_id(TRUST_DOMAIN, CITY_CODE)
    made = make_token(
        authority=PKI.registry,
        root=PKI.root.certificate,
        address="registry.test:7443",
        subject=subject,
        token_id=bytes(16),
        validity=PKI.validity,
    )
    return format_token(made).encode()


# -- drivers -----------------------------------------------------------------------------------------------------------

ROW = next(iter(generate(CITY_CODE, 1, seed=1, on=IMPORT_DAY)))[0]
LINE = ",".join(ROW.values())


def drivers_file(data: bytes) -> None:
    """A whole file, as an import reads it."""
    file = DriverFile(io.BytesIO(data))
    plain = PlainRows(file.columns, on=IMPORT_DAY, city=CITY_CODE)
    faults = []
    for row in file.rows(1, 0):
        if row.error is not None:
            faults.append(row.error)
        elif plain.read(row.line) is None:
            try:
                read_line(row.line, file.columns)
            except Malformed as error:
                faults.append(error)
    if faults:
        raise faults[0]


def plain_row(data: bytes) -> None:
    """One row: what is plain comes to the same bytes as in the general way, and anything else is left to it."""
    line = sent_text(data)
    found = PlainRows(COLUMNS, on=IMPORT_DAY, city=CITY_CODE).read(line)
    if found is not None:
        assert found == the_general_way(line)
        return
    read_line(line, COLUMNS)
    raise Malformed("the row is not plain")


# -- records -----------------------------------------------------------------------------------------------------------


def license_record(**changes: Any) -> license_pb2.LicenseRecord:
    message = license_pb2.LicenseRecord(
        city=CITY_CODE,
        epoch=1,
        license_id=LICENSE_ID,
        revision=1,
        event=license_pb2.LICENSE_EVENT_ISSUED,
        actor=f"spiffe://{DOMAIN}/clerk/320500/li",
        license=license_to_message(parse_row(ROW)),
        record_time=to_timestamp(NOW_US),
        effective_time=to_timestamp(NOW_US),
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


RECORD = license_record().SerializeToString(deterministic=True)


def record(data: bytes) -> None:
    """What is read can be folded, stored and judged."""
    message = read_record(data)
    key = person_key_of(message, PERSONS)
    links_of(message, PERSONS, index=3)
    row = row_of(message, index=3, leaf_hash=b"h" * 32, flags=flags_of(message), persons=PERSONS, person_key=key)
    revision = revision_of(message, index=3, received_us=NOW_US, person_key=key)
    assert all(-(2**63) <= value < 2**63 for value in (*astuple(row), *astuple(revision)) if type(value) is int)
    standing = decode_standing(row.standing)
    ban_of(standing.status_letters)
    assess(standing, row.flags, TODAY)


PREVIOUS = parse_checkpoint(parse_note(NOTE).text)
OPENING_RECORD = opening_record(Opening(CITY_CODE, 2, PREVIOUS, NOTE, NOW_US), actor=f"spiffe://{DOMAIN}/city/320500")


def opening(data: bytes) -> None:
    """Anything is refused by saying that it does not bind; a caller goes on from there."""
    if not binds(data, city=CITY_CODE, epoch=2, previous=PREVIOUS):
        raise Malformed("the record opens no epoch")


# -- what was signed: changed before, so that the change gets behind the signature -------------------------------------


def head(data: bytes) -> None:
    note = sign_note(text(data), CITY_KEY.name, signer(CITY_KEY.name))
    describe_head(note, KEYS)


def told(data: bytes) -> None:
    open_told(sign_note(text(data), CITY_KEY.name, signer(CITY_KEY.name)), key=CITY_KEY)


STATEMENT = Statement(
    issuer=ANSWERS_KEY.name,
    question=commit(bytes(32), 1, NUMBER, ""),
    outcome=Outcome.VALID,
    reasons=(1,),
    classes=("C1",),
    letters=("H",),
    given_us=NOW_US,
    at_us=NOW_US - 2,
    known_us=NOW_US - 1,
    place=Place(CITY_CODE, 1, 7, 2, b"h" * 32, LICENSE_ID, CITY_CODE, 1, 9, NOW_US - 3),
)
SIGNED_STATEMENT = evidence.sign(STATEMENT, ANSWERS)


def sign_payload(data: bytes) -> bytes:
    return cose.sign(data, content_type=evidence.CONTENT_TYPE, key_id=ANSWERS_KEY.key_id, signer=ANSWERS)


def payload(data: bytes) -> None:
    describe(open_evidence(sign_payload(data), [ANSWERS_KEY]))


def entry_of(key: LogKey, data: bytes) -> EntryProof:
    """A proof of an entry with these bytes."""
    return History(key, [b"first", data]).proof(1)


def registry_record(**decision: Any) -> log_pb2.RegistryRecord:
    return log_pb2.RegistryRecord(
        epoch=1, record_time=to_timestamp(NOW_US - 2), actor=f"spiffe://{DOMAIN}/registry", **decision
    )


FOLLOWED = license_record(city=510100).SerializeToString(deterministic=True)
FOREIGN = entry_of(LogKey(510100, 1), FOLLOWED)
FOREIGN_HASH = check_proof(FOREIGN, KEYS).leaf_hash
UPON_FOREIGN = license_record(
    revision=2, event=license_pb2.LICENSE_EVENT_STATUS_CHANGED, previous_entry_hash=FOREIGN_HASH
).SerializeToString(deterministic=True)
GIVEN_AWAY = registry_record(
    transfer_decided=log_pb2.TransferDecided(
        license_id=LICENSE_ID,
        position=log_pb2.LogPosition(city=510100, epoch=1, index=5),
        source=log_pb2.LogPosition(city=CITY_CODE, epoch=1, index=0),
        source_entry_hash=FOREIGN_HASH,
    )
).SerializeToString(deterministic=True)
CUSTODY = CustodyEvidence(entry_of(CITY.key, UPON_FOREIGN), FOREIGN)
KNOWING = CustodyEvidence(
    entry_of(CITY.key, UPON_FOREIGN), entry_of(REGISTRY_KEY, GIVEN_AWAY), sign_told(TOLD, signer(TOLD.origin))
)


def confirmed(found: CustodyEvidence | HeadEvidence | VerdictEvidence) -> None:
    """Through its file and back, as a stranger reads it."""
    confirm(parse_evidence(format_evidence(found)), [*KEYS, ANSWERS_KEY])


def written_without_custody(data: bytes) -> None:
    confirmed(CustodyEvidence(entry_of(CITY.key, data), FOREIGN))


def decision_against(data: bytes) -> None:
    confirmed(CustodyEvidence(KNOWING.record, entry_of(REGISTRY_KEY, data), KNOWING.told))


def told_against(data: bytes) -> None:
    confirmed(CustodyEvidence(KNOWING.record, KNOWING.follows, sent_text(data).encode()))


HEADS = HeadEvidence(
    NoteStatement(NOTE), NoteStatement(FORKED.note()), FORKED.root(9), tuple(FORKED.consistency(9, FORKED.size))
)
VECTOR = vector_of(FORKED.branch(9))


def vector(data: bytes) -> None:
    stated = VectorStatement(entry_of(REGISTRY_KEY, data), CITY_CODE, 1)
    confirmed(HeadEvidence(NoteStatement(NOTE), stated))


NO_MATCH = evidence.sign(
    Statement(ANSWERS_KEY.name, commit(bytes(32), 1, ROW["document_number"], ""), Outcome.NO_MATCH, (), (), (), NOW_US),
    ANSWERS,
)
VERDICT = VerdictEvidence(
    NO_MATCH, entry_of(CITY.key, RECORD), RevealedQuestion(bytes(32), 1, ROW["document_number"], "")
)


def verdict_against(data: bytes) -> None:
    confirmed(VerdictEvidence(NO_MATCH, entry_of(CITY.key, data), VERDICT.question))


# -- the registry's log, as a city's mirror and a registry that lost it read it ----------------------------------------

ACKNOWLEDGED = registry_record(
    custody_acknowledged=log_pb2.CustodyAcknowledged(
        acknowledgements=[log_pb2.Acknowledgement(city=CITY_CODE, epoch=1, note=KNOWING.told)]
    )
).SerializeToString(deterministic=True)
QUARANTINED = registry_record(
    city_quarantined=log_pb2.CityQuarantined(city=CITY_CODE, evidence_digest=b"d" * 32)
).SerializeToString(deterministic=True)


def page_of(*records: bytes) -> recovery_pb2.ReadRegistryLogResponse:
    shown = History(REGISTRY_KEY, list(records))
    return recovery_pb2.ReadRegistryLogResponse(
        entries=[log_pb2.LogEntry(record=each, salt=shown.salt(i)) for i, each in enumerate(records)],
        heads=[recovery_pb2.SignedHead(size=size + 1, note=shown.note(size + 1)) for size in range(len(records))],
        head=shown.note(),
        open_epoch=1,
        evidence=[b"evidence"],
    )


def mirrored(data: bytes) -> None:
    """A page, as the mirror takes it in."""
    try:
        answer = recovery_pb2.ReadRegistryLogResponse.FromString(data)
    except DecodeError:
        raise Malformed("the peer's answer is no message") from None  # what gRPC makes of it
    parts = check_page(answer, EMPTY_RANGE, REGISTRY_LOG_KEY)
    assert all(0 <= recorded_us(part) < 2**63 for part, _ in parts)
    cited(entry.record for entry in answer.entries)


def decided(data: bytes) -> None:
    """One entry that the registry signed."""
    mirrored(page_of(QUARANTINED, data).SerializeToString())


def acknowledged(data: bytes) -> None:
    try:
        decision = log_pb2.RegistryRecord.FromString(data)
    except DecodeError:
        raise Malformed("the entry is no decision") from None
    acknowledgements_in(decision.custody_acknowledged, REGISTRY_KEY, 3)


# -- requests and answers of peers -------------------------------------------------------------------------------------

BATCH = replication_pb2.AppendEntriesRequest(
    checkpoint=NOTE, epoch=1, first_index=3, tip_size=9, city_time=to_timestamp(NOW_US), told=[KNOWING.told or b""]
)
REFUSAL = to_status(NotEligible("it may not be issued", violations=[Violation("license", "TOO_YOUNG", "wait")]))
EXHAUSTED = to_status(QuotaExceeded("come again later", retryAfterSeconds=300))


def request(data: bytes) -> None:
    try:
        message = replication_pb2.AppendEntriesRequest.FromString(data)
    except DecodeError:
        raise Malformed("the request is no message") from None  # what the server's interceptor makes of it
    RULES.check(message)


def error_details(code: grpc.StatusCode) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        """A peer's error; a city hands it on to its own caller."""
        trailers = Metadata((DETAILS_KEY, data))
        to_status(from_rpc_error(AioRpcError(code, Metadata(), trailers, details="text")))

    return read


def row_status(data: bytes) -> None:
    """What became of a row of an import."""
    try:
        status = status_pb2.Status.FromString(data)
    except DecodeError:
        raise Malformed("the answer is no message") from None
    error = from_status(status)
    if error is not None:
        to_status(error)


QUERY: Final = b"licenses of the city"

PARSERS: dict[str, Parser] = {
    "note": Parser(lambda data: open_note(data, KEYS), NOTE),
    "checkpoint": Parser(lambda data: parse_checkpoint(text(data)), parse_note(NOTE).text.encode()),
    "head under its signature": Parser(head, parse_note(NOTE).text.encode()),
    "verifier key": Parser(lambda data: parse_vkey(text(data)), format_vkey(CITY_KEY).encode()),
    "proof file": Parser(lambda data: check_proof(parse_proof(data), KEYS), format_proof(PROOF)),
    "tlog-proof": Parser(
        lambda data: check_tlog_proof(parse_tlog_proof(data), CITY.leaves()[4], KEYS),
        format_tlog_proof(TlogProof(4, PROOF.hashes, NOTE)),
    ),
    "tile path": Parser(lambda data: parse_tile_path(text(data)), b"tile/0/x001/067.p/40"),
    "word of a city": Parser(lambda data: open_told(data, key=CITY_KEY), sign_told(TOLD, signer(TOLD.origin))),
    "word of a city under its signature": Parser(told, TOLD.text().encode()),
    "words of cities in the registry's log": Parser(acknowledged, ACKNOWLEDGED),
    "evidence of two heads": Parser(lambda data: confirm(parse_evidence(data), KEYS), format_evidence(HEADS)),
    "evidence of a vector": Parser(vector, VECTOR),
    "evidence of a verdict": Parser(
        lambda data: confirm(parse_evidence(data), [*KEYS, ANSWERS_KEY]), format_evidence(VERDICT)
    ),
    "record against a verdict": Parser(verdict_against, RECORD),
    "evidence of custody": Parser(lambda data: confirm(parse_evidence(data), KEYS), format_evidence(CUSTODY)),
    "evidence of custody that was known": Parser(
        lambda data: confirm(parse_evidence(data), KEYS), format_evidence(KNOWING)
    ),
    "record without custody": Parser(written_without_custody, UPON_FOREIGN),
    "decision against a record": Parser(decision_against, GIVEN_AWAY),
    "word of a city against it": Parser(told_against, KNOWING.told or b""),
    "signed verdict": Parser(lambda data: describe(open_evidence(data, [ANSWERS_KEY])), SIGNED_STATEMENT),
    "verdict under its signature": Parser(payload, cose.parse(SIGNED_STATEMENT).payload),
    "COSE": Parser(lambda data: cose.parse(data).verify(ANSWERS.public_key()), SIGNED_STATEMENT),
    "CBOR": Parser(lambda data: cbor.decode(data, max_size=4_096), cbor.encode({1: [1, b"x", "y"]})),
    "state of an auditor": Parser(
        lambda data: parse_state(format_state(parse_state(data))),
        format_state(AuditState({origin_of(CITY.key): NOTE, COSIGNER: NOTE})),
    ),
    "record": Parser(record, RECORD),
    "opening of an epoch": Parser(opening, OPENING_RECORD),
    "page of the registry's log": Parser(mirrored, page_of(QUARANTINED, ACKNOWLEDGED).SerializeToString()),
    "entry of the registry's log": Parser(decided, QUARANTINED),
    "certificate": Parser(certificate, to_der(LEAF)),
    "certificates": Parser(certificates, to_pem([LEAF, PKI.registry.certificate])),
    "certificate request": Parser(parse_request, build_request(LEAF_KEY, dns_names=("suzhou.test",))),
    "join token": Parser(lambda data: parse_token(text(data)), join_token()),
    "SPIFFE ID": Parser(lambda data: identify(parse_spiffe_id(text(data))), b"spiffe://elicense.test/city/320500"),
    "drivers file": Parser(drivers_file, f"{','.join(COLUMNS)}\r\n{LINE}\r\n{LINE}\r\n".encode()),
    "row of a drivers file": Parser(lambda data: read_line(sent_text(data), COLUMNS), LINE.encode()),
    "plain row of a drivers file": Parser(plain_row, LINE.encode()),
    "document number": Parser(lambda data: normalize_number(text(data)), NUMBER.encode()),
    "page token": Parser(
        lambda data: TOKENS.open(QUERY, sent_text(data), 16), TOKENS.seal(QUERY, bytes(range(16))).encode()
    ),
    "request": Parser(request, BATCH.SerializeToString()),
    "error of a peer": Parser(error_details(grpc.StatusCode.FAILED_PRECONDITION), REFUSAL.SerializeToString()),
    "error of a peer that is busy": Parser(
        error_details(grpc.StatusCode.RESOURCE_EXHAUSTED), EXHAUSTED.SerializeToString()
    ),
    "error of an imported row": Parser(row_status, REFUSAL.SerializeToString()),
}
