"""``elicense log audit``: an export against heads of other times, or every log of the nation, round by round."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import click
from prometheus_client import CollectorRegistry, Counter, Gauge

from elicense.auditor.joining import Alarm, Kind
from elicense.auditor.rounds import Auditor, Round
from elicense.auditor.state import read_state, write_state
from elicense.cli.evidence_files import read_bounded, write_new
from elicense.cli.log.files import FOLDER, Progress
from elicense.cli.log.keys import KEYS, read_keys
from elicense.cli.log.verify import describe_head
from elicense.cli.options import ADDRESS, HostPort
from elicense.client.transparency import LogClient
from elicense.errors import AlreadyExists, Error, Unavailable
from elicense.log.note import MAX_NOTE_SIZE
from elicense.log.tile_folder import TileFolder, check_export, root_of_first
from elicense.log.verifier_key import VerifierKey
from elicense.rpc.telemetry import MetricsServer
from elicense.trust.credentials import load_credentials
from elicense.verification.evidence_file import confirm, format_evidence
from elicense.verification.head_evidence import HeadEvidence, NoteStatement, check_statement

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_WRONG: Final = 3


@click.command()
@click.argument("folder", type=FOLDER, required=False)
@KEYS
@click.option("--against", multiple=True, type=_FILE, help="Signed head of another time or place; with FOLDER.")
@click.option("--credentials", type=FOLDER, help="An auditor's: follow the registry and every city online.")
@ADDRESS
@click.option("--state", type=click.Path(path_type=Path, dir_okay=False), help="File with the heads of the last round.")
@click.option("--others", multiple=True, type=_FILE, help="State of another auditor, to find out split views.")
@click.option("--evidence", type=FOLDER, default=".", show_default=True, help="Folder for evidence that is found.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="One round, and end.")
@click.option("--metrics", type=HostPort(), help="Where Prometheus reads, over mTLS.")
def audit(
    folder: Path | None,
    keys: tuple[str, ...],
    against: tuple[Path, ...],
    credentials: Path | None,
    address: str | None,
    state: Path | None,
    others: tuple[Path, ...],
    evidence: Path,
    interval: float,
    once: bool,
    metrics: str | None,
) -> None:
    """Audit the export in FOLDER, or with --credentials all logs online.

    An export needs no network: every file is compared with every other, and each
    head given with --against must be of the same history.  Online, each round
    checks that every head follows the one before, that cities' heads and the
    registry's vector of them agree, and keeps evidence of any contradiction.
    Prints one JSON line a round and an alarm.  Exit status 3: something is wrong.
    """
    known = read_keys(keys)
    if (folder is None) == (credentials is None):
        raise click.UsageError("name either the FOLDER of an export or --credentials")
    evidence.mkdir(parents=True, exist_ok=True)
    if folder is not None:
        _audit_export(TileFolder(folder), known, against, evidence)
        return
    if state is None or credentials is None:
        raise click.UsageError("--credentials needs --state, the file that a round leaves to the next")
    heads = [note for path in others for note in read_state(path).heads.values()]
    follower = _Follower(state, evidence, credentials, metrics)
    with LogClient(load_credentials(credentials), address=address) as client:
        wrong = follower.run(Auditor(client, known, heads), interval, once=once)
    sys.exit(_WRONG if wrong else 0)


def _audit_export(export: TileFolder, keys: list[VerifierKey], against: tuple[Path, ...], evidence: Path) -> None:
    checked = check_export(export, Progress())
    click.echo(describe_head(export.note(), keys))
    click.echo(f"export: complete; {checked.entries:,} entries with their bytes, {checked.erased:,} erased")
    wrong = False
    for path in against:
        note = read_bounded(path, MAX_NOTE_SIZE)
        other = check_statement(NoteStatement(note), keys).head
        if other.origin != checked.head.origin or other.size > checked.head.size:
            raise Error(f"{path} is of another log, or of more entries than the export has")
        root = root_of_first(export, other.size)
        if root == other.root:
            click.echo(f"{path}: of one history with the export")
            continue
        found = HeadEvidence(NoteStatement(note), NoteStatement(export.note()))
        if other.size != checked.head.size:
            proof = export.consistency_proof(other.size)
            found = HeadEvidence(found.first, found.second, root, tuple(proof))
        confirmed = confirm(found, keys)
        kept = _keep(evidence, found)
        click.echo(f"CONFIRMED: {' and '.join(confirmed.accused)} {confirmed.what}; evidence: {kept}")
        wrong = True
    if wrong:
        sys.exit(_WRONG)


def _keep(folder: Path, evidence: HeadEvidence) -> Path:
    data = format_evidence(evidence)
    path = folder / f"evidence-{sha256(data).hexdigest()[:16]}.json"
    with suppress(AlreadyExists):  # named by its content: found before
        write_new(path, data)
    return path


class _Follower:
    """Runs rounds and reports them."""

    def __init__(self, state: Path, evidence: Path, credentials: Path, metrics: str | None) -> None:
        self._state = state
        self._evidence = evidence
        self._stop = threading.Event()
        registry = CollectorRegistry()
        self._alarms = Counter("elicense_audit_alarms", "Alarms raised.", ["kind"], registry=registry)
        self._time = Gauge("elicense_audit_round_timestamp_seconds", "When the last round ended.", registry=registry)
        self._sizes = Gauge(
            "elicense_audit_log_entries", "Entries of a log found right.", ["origin"], registry=registry
        )
        for kind in Kind:
            self._alarms.labels(kind.value)
        self._server: MetricsServer | None = None
        if metrics is not None:
            host, _, port = metrics.rpartition(":")
            self._server = MetricsServer(registry, host=host.strip("[]"), port=int(port), credentials=credentials)

    def run(self, auditor: Auditor, interval_s: float, *, once: bool) -> bool:
        """Run rounds until a signal comes; tell whether anything was wrong."""
        if not once:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self._stop.set())
        wrong = False
        try:
            while True:
                try:
                    wrong |= self._round(auditor)
                except Unavailable as error:
                    if once:
                        raise
                    self._print({"event": "unreachable", "reason": error.reason, "what": error.message})
                if once or self._stop.wait(interval_s):
                    return wrong
        finally:
            if self._server is not None:
                self._server.close()

    def _round(self, auditor: Auditor) -> bool:
        done = auditor.round(read_state(self._state))
        for alarm in done.alarms:
            self._report(alarm)
        # Kept even after an alarm: a log that is wrong keeps the head that was right.
        write_state(self._state, done.state)
        self._count(done)
        self._print({"event": "round", "logs": len(done.heads), "alarms": len(done.alarms)})
        return bool(done.alarms)

    def _report(self, alarm: Alarm) -> None:
        line: dict[str, str | int] = {"event": "alarm", "kind": alarm.kind.value}
        line |= {"origin": alarm.origin, "what": alarm.what}
        if alarm.evidence is not None:
            line["evidence"] = str(_keep(self._evidence, alarm.evidence))
        self._alarms.labels(alarm.kind.value).inc()
        self._print(line)

    def _count(self, done: Round) -> None:
        for origin, size in done.heads.items():
            self._sizes.labels(origin).set(size)
        self._time.set_to_current_time()

    @staticmethod
    def _print(line: dict[str, str | int]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        click.echo(json.dumps({"time": now, **line}, ensure_ascii=False))
