"""Signed answers: the one form they have, and whom they bind."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed, SignatureInvalid
from elicense.license.verdict import Outcome
from elicense.log.verifier_key import VerifierKey
from elicense.presentation import cbor, cose
from elicense.verification.evidence import (
    CONTENT_TYPE,
    Place,
    Statement,
    answers_verifier_key,
    commit,
    open_evidence,
    opens,
    sign,
)
from tests.unit.log.keys import signer

REGISTRY, SUZHOU = "spiffe://elicense.test/registry", "spiffe://elicense.test/city/320500"
SIGNER = signer("answers")
KEY = answers_verifier_key(REGISTRY, SIGNER.public_key())
NUMBER = "11010519491231002X"
OPENING = bytes(range(32))
PLACE = Place(320500, 1, 7, 2, b"h" * 32, b"l" * 16, 320500, 1, 9, 1_799_999_999_000_000)
STATEMENT = Statement(
    issuer=KEY.name,
    question=commit(OPENING, 1, NUMBER, ""),
    outcome=Outcome.VALID,
    reasons=(),
    classes=("C1", "C2"),
    letters=("H",),
    given_us=1_800_000_000_000_000,
    place=PLACE,
)
EVIDENCE = sign(STATEMENT, SIGNER)


@pytest.mark.parametrize(
    "statement",
    [
        STATEMENT,
        replace(STATEMENT, at_us=1, known_us=2),
        replace(STATEMENT, outcome=Outcome.NO_MATCH, classes=(), letters=(), place=None),
        replace(STATEMENT, outcome=Outcome.INDETERMINATE, reasons=(6, 1), classes=()),
    ],
)
def test_what_is_signed_is_read_back(statement: Statement) -> None:
    assert open_evidence(sign(statement, SIGNER), [KEY]) == statement


def test_each_flipped_bit_is_refused() -> None:
    for position in range(len(EVIDENCE)):
        for bit in range(8):
            changed = bytearray(EVIDENCE)
            changed[position] ^= 1 << bit
            with pytest.raises(Malformed):
                open_evidence(bytes(changed), [KEY])


def test_cut_or_longer_evidence_is_refused() -> None:
    for changed in (EVIDENCE[:-1], EVIDENCE + b"\0", EVIDENCE[1:], b"", EVIDENCE * 30):
        with pytest.raises(Malformed):
            open_evidence(changed, [KEY])


def test_another_key_and_another_issuers_key_do_not_open_it() -> None:
    stranger = answers_verifier_key(REGISTRY, signer("stranger").public_key())
    with pytest.raises(SignatureInvalid):
        open_evidence(EVIDENCE, [stranger])
    # A city's key must not pass as the registry's, though it signed what it signed.
    as_registry = sign(STATEMENT, signer("suzhou"))
    with pytest.raises(SignatureInvalid):
        open_evidence(as_registry, [answers_verifier_key(SUZHOU, signer("suzhou").public_key())])


def test_evidence_opens_with_the_question_and_holds_nothing_of_it() -> None:
    statement = open_evidence(EVIDENCE, [KEY])
    assert opens(statement, OPENING, 1, NUMBER, "")
    assert not opens(statement, OPENING, 1, NUMBER, "张伟")
    assert not opens(statement, bytes(32), 1, NUMBER, "")
    assert NUMBER.encode() not in EVIDENCE


def test_the_same_question_has_another_commitment_each_time() -> None:
    assert commit(bytes(32), 1, NUMBER, "") != commit(OPENING, 1, NUMBER, "")
    with pytest.raises(Malformed):
        commit(b"short", 1, NUMBER, "")


def resigned(payload: bytes) -> bytes:
    return cose.sign(payload, content_type=CONTENT_TYPE, key_id=KEY.key_id, signer=SIGNER)


def values() -> dict[int, object]:
    read: dict[int, object] = cbor2.loads(cose.parse(EVIDENCE).payload)
    return read


@pytest.mark.parametrize(
    "change",
    [
        {0: 2},
        {1: b"bytes"},
        {2: b"short"},
        {3: 0},
        {3: 9},
        {4: ["text"]},
        {4: [-1]},
        {5: [1]},
        {5: [""]},
        {5: ["C1"] * 65},
        {6: "H"},
        {7: -1},
        {7: 2**63},
        {7: True},
        {8: "now"},
        {10: []},
        {10: [1] * 10},
        {10: [320500, 1, 7, 2, b"h" * 31, b"l" * 16, 320500, 1, 9, 0]},
        {11: 1},
    ],
)
def test_a_statement_of_another_form_is_refused_though_it_is_signed(change: dict[int, object]) -> None:
    payload = cbor2.dumps({**values(), **change}, canonical=True)
    with pytest.raises(Malformed):
        open_evidence(resigned(payload), [KEY])


@pytest.mark.parametrize(
    "payload",
    [
        b"\xbf" + cbor2.dumps(values(), canonical=True)[1:] + b"\xff",  # of indefinite length
        cbor2.dumps(dict(reversed(values().items()))),  # keys out of order
        cbor2.dumps(values(), canonical=True) + b"\0",
        b"\xa2\x00\x01\x00\x01",  # a key twice
        cbor2.dumps(cbor2.CBORTag(1, 5)),
        cbor2.dumps(1.5),
        b"\x18\x01",  # a number written longer than it need be
    ],
)
def test_only_canonical_bytes_are_read(payload: bytes) -> None:
    with pytest.raises(Malformed):
        open_evidence(resigned(payload), [KEY])


def test_nothing_but_ed25519_is_accepted_and_nothing_unprotected() -> None:
    signed = cose.parse(EVIDENCE)
    for header in ({1: -7, 3: CONTENT_TYPE, 4: KEY.key_id}, {1: -8, 4: KEY.key_id}, {}, {1: -8, 3: CONTENT_TYPE}):
        protected = cbor2.dumps(header, canonical=True)
        forged = b"\xd2" + cbor2.dumps([protected, {}, signed.payload, signed.signature], canonical=True)
        with pytest.raises(Malformed):
            open_evidence(forged, [KEY])
    loose = b"\xd2" + cbor2.dumps([signed.protected, {1: -8}, signed.payload, signed.signature], canonical=True)
    with pytest.raises(Malformed):
        open_evidence(loose, [KEY])


@given(st.binary(max_size=300))
def test_only_typed_errors_escape_from_any_bytes(data: bytes) -> None:
    for attempt in (data, b"\xd2" + data, b"\xd2\x84" + data):
        with pytest.raises(Malformed):
            open_evidence(attempt, [KEY])


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 12) | st.text(max_size=3), inner, max_size=8)
    ),
    max_leaves=20,
)


@given(_PLAIN)
def test_only_typed_errors_escape_from_any_value_that_is_signed(value: object) -> None:
    for payload in (cbor2.dumps(value, canonical=True), cbor2.dumps({**values(), 10: value}, canonical=True)):
        try:
            open_evidence(resigned(payload), [KEY])
        except Malformed:
            continue


@given(st.recursive(st.integers(-(2**64), 2**64 - 1) | st.binary() | st.text(), st.lists, max_leaves=10))
def test_canonical_cbor_is_read_back(value: cbor.Plain) -> None:
    try:
        data = cbor.encode(value)
        assert cbor.decode(data, max_size=8_192) == value
    except Malformed:
        assert len(data) > 8_192 or data.count(b"\x81") > 6  # too large or too deep


def test_keys_are_published_in_the_form_of_all_keys() -> None:
    assert isinstance(KEY, VerifierKey)
    assert KEY.name == "elicense.test/registry/answers"
    assert answers_verifier_key(SUZHOU, SIGNER.public_key()).name == "elicense.test/city/320500/answers"
