"""Whatever bytes come from outside: a parser gives a value or a typed error, and nothing else, in bounded memory.

Short by default; ``ELICENSE_FUZZ=100000`` sets how many inputs each parser gets.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elicense.auditor.state import parse_state
from elicense.cli.demo.drivers import generate
from elicense.errors import Error
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.license.document import normalize_number
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.model import LogKey
from elicense.log.note import open_note, parse_note
from elicense.log.proof_file import check_proof, format_proof, parse_proof
from elicense.log.tile_folder import TileFolder, check_export
from elicense.log.tiles import parse_tile_path
from elicense.log.tlog_proof import TlogProof, check_tlog_proof, format_tlog_proof, parse_tlog_proof
from elicense.log.verifier_key import format_vkey, parse_vkey
from elicense.presentation import cbor, cose
from elicense.rpc.validation import RequestRules
from elicense.trust.spiffe import parse_spiffe_id
from elicense.trust.token import parse_token
from elicense.v1 import replication_pb2
from elicense.verification.evidence import open_evidence
from elicense.verification.evidence_file import confirm, format_evidence, parse_evidence
from elicense.verification.head_evidence import HeadEvidence, NoteStatement
from elicense.verification.told import Told, open_told, sign_told
from elicense.view.fold import read_record
from tests.support.histories import History, keys_of, origin_of, signer

RUNS = settings(
    max_examples=int(os.environ.get("ELICENSE_FUZZ", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="ELICENSE_FUZZ" not in os.environ,
)
CITY = History(LogKey(320500, 1)).grow(9)
FORKED = CITY.branch(4).grow(7, "y")
KEYS = list(keys_of(CITY))
NOTE = CITY.note()
PROOF = CITY.proof(4)
EVIDENCE = HeadEvidence(
    NoteStatement(NOTE), NoteStatement(FORKED.note()), FORKED.root(9), tuple(FORKED.consistency(9, FORKED.size))
)
TOLD = Told(origin_of(CITY.key), 5, 1, 2)
BATCH = replication_pb2.AppendEntriesRequest(checkpoint=NOTE, epoch=1, first_index=3, tip_size=9)
RULES = RequestRules()


def text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def request(data: bytes) -> None:
    try:
        message = replication_pb2.AppendEntriesRequest.FromString(data)
    except DecodeError:
        return  # what the server's interceptor turns into Malformed
    RULES.check(message)


PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "note": (lambda data: open_note(data, KEYS), NOTE),
    "checkpoint": (lambda data: parse_checkpoint(text(data)), parse_note(NOTE).text.encode()),
    "verifier key": (lambda data: parse_vkey(text(data)), format_vkey(KEYS[0]).encode()),
    "proof file": (lambda data: check_proof(parse_proof(data), KEYS), format_proof(PROOF)),
    "tlog-proof": (
        lambda data: check_tlog_proof(parse_tlog_proof(data), CITY.leaves()[4], KEYS),
        format_tlog_proof(TlogProof(4, PROOF.hashes, NOTE)),
    ),
    "word of a city": (lambda data: open_told(data, key=KEYS[0]), sign_told(TOLD, signer(TOLD.origin))),
    "evidence file": (lambda data: confirm(parse_evidence(data), KEYS), format_evidence(EVIDENCE)),
    "signed verdict": (lambda data: open_evidence(data, KEYS), b"\xd2\x84\x43\xa1\x01\x26\xa0\x40\x40"),
    "COSE": (cose.parse, b"\xd2\x84\x43\xa1\x01\x26\xa0\x40\x40"),
    "CBOR": (lambda data: cbor.decode(data, max_size=4_096), cbor.encode({1: [1, b"x", "y"]})),
    "tile path": (lambda data: parse_tile_path(text(data)), b"tile/0/x001/067.p/40"),
    "state of an auditor": (parse_state, b'{"audit": "elicense-audit/1", "heads": {}}'),
    "record": (read_record, b"\x0a\x10"),
    "SPIFFE ID": (lambda data: parse_spiffe_id(text(data)), b"spiffe://elicense.test/city/320500"),
    "join token": (lambda data: parse_token(text(data)), b"eyJhIjoxfQ"),
    "CSV row": (
        lambda data: parse_row(dict(zip(COLUMNS, text(data).split(","), strict=False))),
        ",".join(next(generate(320500, 1, seed=1, on=date(2021, 6, 1)))[0].values()).encode(),
    ),
    "document number": (lambda data: normalize_number(text(data)), b"11010519491231002X"),
    "request": (request, BATCH.SerializeToString()),
}


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid input with a few bytes changed, taken out, put in or repeated; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = draw(st.binary(max_size=20))
            case 3:
                data[at:at] = data[at : at + 50] * draw(st.integers(1, 60))
            case _:
                data[at:at] = draw(st.sampled_from([b"\n\n", b"\r\n", b"\x00", b"-", b"=", b"[" * 2_000, b"9" * 400]))
    return bytes(data)


@pytest.mark.parametrize("kind", PARSERS)
def test_a_parser_gives_a_value_or_a_typed_error_for_any_bytes(kind: str) -> None:
    parse, valid = PARSERS[kind]

    @RUNS
    @given(data=mutated(valid))
    @example(data=b"")
    @example(data=valid)
    def run(data: bytes) -> None:
        try:
            parse(data)
        except Error:
            return

    run()


@pytest.mark.parametrize("kind", PARSERS)
def test_a_parser_takes_little_memory_for_a_large_input(kind: str) -> None:
    parse, valid = PARSERS[kind]
    size = 1 << 20
    for data in (valid * (size // len(valid)), b"[" * size, b"\x81" * size, b"\n" * size):
        tracemalloc.start()
        try:
            parse(data)
        except Error:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        # Text of one byte a character takes four once it holds a single other one, and a copy or two is made.
        assert peak < 20 * size, kind


def test_a_file_of_an_export_may_hold_anything(tmp_path: Path) -> None:
    @RUNS
    @given(data=st.binary(max_size=300), name=st.sampled_from(["checkpoint", "tile/0/000.p/9", "tile/entries/000.p/9"]))
    def run(data: bytes, name: str) -> None:
        folder = TileFolder(tmp_path)
        folder.put("checkpoint", NOTE)
        folder.put("tile/0/000.p/9", b"".join(CITY.leaves()))
        folder.put(name, data)
        try:
            check_export(folder, lambda _: None)
        except Error:
            return

    run()
