"""What the registry must refuse, played with real keys read from the demo's own folder."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import grpc

from elicense.cli.demo.figures import ExpectationFailed, expect
from elicense.cli.demo.nation import CHENGDU, CITIES, SUZHOU, TIANJIN, TRUST_DOMAIN, City
from elicense.cli.demo.stage import CALL_TIMEOUT_S, Stage
from elicense.clock import to_timestamp, utc_micros
from elicense.errors import CallerNotAllowed, CheckpointInvalid, Error, SignatureInvalid
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.signer import generate_key_file
from elicense.v1 import license_pb2, log_pb2, replication_pb2

_SALT: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that must not succeed.

    Attributes:
        key: Name of its figure.
        story: What is tried.
        credentials: Whose certificate is shown.
        request: What is sent.
        wanted: Error that must come back.
    """

    key: str
    story: str
    credentials: Credentials
    request: replication_pb2.AppendEntriesRequest
    wanted: type[Error]


async def attempt_all(stage: Stage) -> None:
    """Play each attempt, and check afterwards that no log has grown.

    Raises:
        ExpectationFailed: One was let in, or refused for another reason.
    """
    before = {city: await stage.held(city) for city in CITIES}
    for attempt in (await _forged(stage), await _foreign(stage), _wrong_role(stage)):
        service = stage.nation.replication(attempt.credentials)
        try:
            await service.AppendEntries(attempt.request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            refusal = from_rpc_error(error)
        else:
            raise ExpectationFailed(f"{attempt.story}: the registry accepted it")
        expect(
            type(refusal) is attempt.wanted,
            f"{attempt.story}: expected {attempt.wanted.reason}, got {refusal.reason}: {refusal.message}",
        )
        stage.figures.add(attempt.key, f"Refused: {attempt.story}", refusal.reason)
        stage.display.say(f"{attempt.story}: {refusal.reason}")
    after = {city: await stage.held(city) for city in CITIES}
    expect(after == before, f"a refused record changed a log: {before} became {after}")


async def _forged(stage: Stage) -> Attempt:
    """Somebody has Chengdu's network key, but not the key that signs its log."""
    index = await stage.held(CHENGDU)
    forger = generate_key_file(stage.nation.folder / "forger.pem")
    record = license_pb2.LicenseRecord(
        city=CHENGDU.code, epoch=1, revision=1, license_id=sha256(b"forged").digest()[:16]
    )
    origin = f"{TRUST_DOMAIN}/city/{CHENGDU.code}/1"
    checkpoint = sign_checkpoint(Checkpoint(origin, index + 1, sha256(b"any root").digest()), forger)
    return Attempt(
        "refused_forged_record",
        "a record forged with Chengdu's certificate, without its log key",
        _node(stage, CHENGDU),
        _append(checkpoint, index, record.SerializeToString()),
        SignatureInvalid,
    )


async def _foreign(stage: Stage) -> Attempt:
    """Suzhou's certificate shows a head that Tianjin did sign, and wants to write under it."""
    held = await stage.state(TIANJIN)
    record = license_pb2.LicenseRecord(
        city=TIANJIN.code, epoch=1, revision=1, license_id=sha256(b"other").digest()[:16]
    )
    return Attempt(
        "refused_other_city",
        "a record for Tianjin, sent with Suzhou's certificate",
        _node(stage, SUZHOU),
        _append(held.receipt, held.next_index - 1, record.SerializeToString()),
        CheckpointInvalid,
    )


def _wrong_role(stage: Stage) -> Attempt:
    return Attempt(
        "refused_wrong_role",
        "the police tries to write into a log",
        load_credentials(stage.nation.people("police")),
        _append(b"", 0, b""),
        CallerNotAllowed,
    )


def _node(stage: Stage, city: City) -> Credentials:
    return stage.nation.nodes[city].credentials


def _append(checkpoint: bytes, index: int, record: bytes) -> replication_pb2.AppendEntriesRequest:
    return replication_pb2.AppendEntriesRequest(
        checkpoint=checkpoint,
        epoch=1,
        first_index=index,
        entries=[log_pb2.LogEntry(record=record, salt=_SALT)],
        tip_size=index + 1,
        city_time=to_timestamp(utc_micros()),
    )
