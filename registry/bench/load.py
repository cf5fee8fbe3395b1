"""Filling an empty registry with synthetic licences, through the code that takes in a city's batches.

What stands in the store afterwards is what replication would have left: logs
with signed heads, claims, the national view, the revision index.  Only the wire
is left out.  Persons come in the order of their keys, so that every table grows
at its right end: random order would take hours for ten million.

Ten million take long even so.  For verifications that read no record the view is
enough, and it alone is filled many times faster, by the same fold.

The cities are heard for as long as this process lives, as real ones are every
few seconds; without that no licence would be VALID for long.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from elicense.cli.bench.people import MAX_PEOPLE, name_of, number_of
from elicense.cli.demo.drivers import generate
from elicense.clock import china_date, to_timestamp, utc_micros
from elicense.errors import AlreadyExists
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.license.model import DocumentType
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.model import FIRST_EPOCH
from elicense.log.tree import CompactRange
from elicense.log.verifier_key import VerifierKey, format_vkey
from elicense.sql.database import Database
from elicense.trust.enrollment import NewCity, city_log_origin
from elicense.trust.signer import FileSigner
from elicense.v1 import license_pb2
from elicense.view.fold import row_of
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.batch import Batch, SentEntry
from registry.cities import CityEnrollment
from registry.cli.options import CONFIG
from registry.config import load
from registry.disputes import Disputes
from registry.ingest import Ingest
from registry.keys import load_keys
from registry.model import Claim, ClaimState
from registry.names import cosigner_name
from registry.quarantine import QuarantineCommand
from registry.readers import Readers
from registry.store import RegistryStore

CITY_CODES: Final = (320500, 120000, 510100, 110000, 310000, 440100, 440300, 330100, 420100, 610100)
BATCH: Final = 8_192
"""Licences in one batch: four times as many as the wire takes, since nothing waits behind it."""

HEARD_EVERY_S: Final = 5.0
_TEMPLATES: Final = 64
_YEAR_US: Final = 365 * 86_400 * 1_000_000


class SyntheticCity:
    """A city's log, of which only the right edge is kept.

    Args:
        code: Division code.
        trust_domain: Prefix of its origin.
        templates: Licences whose holders are replaced.
    """

    def __init__(self, code: int, trust_domain: str, templates: Sequence[license_pb2.License]) -> None:
        self.code = code
        self._signer = FileSigner(Ed25519PrivateKey.generate())
        self._origin = city_log_origin(trust_domain, code, FIRST_EPOCH)
        self._tree = CompactRange(0, ())
        self._note = b""
        self._records = [self._template(license_) for license_ in templates]

    @property
    def verifier_key(self) -> VerifierKey:
        """The key of its log."""
        return log_verifier_key(self._origin, self._signer.public_key())

    def _template(self, license_: license_pb2.License) -> license_pb2.LicenseRecord:
        now = to_timestamp(utc_micros())
        return license_pb2.LicenseRecord(
            city=self.code,
            epoch=FIRST_EPOCH,
            revision=1,
            event=license_pb2.LICENSE_EVENT_ISSUED,
            request_id="00000000-0000-4000-8000-000000000000",
            actor="spiffe://bench/clerk",
            record_time=now,
            effective_time=now,
            license=license_,
            imported=True,
        )

    def batch(self, holders: Sequence[int]) -> Batch:
        """Return the next batch of its log: the first revision of a licence for each of these holders."""
        entries = []
        for holder in holders:
            record = self._record(holder)
            entries.append(SentEntry(record.SerializeToString(), secrets.token_bytes(32)))
        first = self._tree.size
        self._tree = self._tree.append_leaves([leaf_hash(entry.salt, entry.record) for entry in entries])
        checkpoint = Checkpoint(self._origin, self._tree.size, self._tree.root())
        self._note = sign_checkpoint(checkpoint, self._signer)
        return self._as_batch(first, entries)

    def rows(self, holders: Sequence[tuple[bytes, int]], persons: PersonIndex) -> list[ViewRow]:
        """Return what the view holds of such licences: (person key, holder) each; they are in no log."""
        return [
            row_of(self._record(holder), index=holder, leaf_hash=bytes(32), flags=0, persons=persons, person_key=key)
            for key, holder in holders
        ]

    def _record(self, holder: int) -> license_pb2.LicenseRecord:
        """Return the record of a holder; the next one changes it."""
        record = self._records[holder % len(self._records)]
        record.license_id = license_id_of(holder)
        record.license.holder.full_name = name_of(holder)
        record.license.holder.document.number = number_of(holder)
        return record

    def heartbeat(self) -> Batch:
        """Return a batch without entries: all is held."""
        return self._as_batch(self._tree.size, ())

    def _as_batch(self, first: int, entries: Sequence[SentEntry]) -> Batch:
        size = self._tree.size
        return Batch(self.code, FIRST_EPOCH, first, entries, self._note, size, utc_micros(), None, 0)


def license_id_of(holder: int) -> bytes:
    """Return the licence id of a synthetic holder: rising, so that the index by licence grows at its end.

    Never that of sixteen zeros, which stands for no licence.
    """
    return (holder + 1).to_bytes(16, "big")


def templates() -> list[license_pb2.License]:
    """Return valid licences of all sorts; only their holders are to be replaced."""
    rows = generate(CITY_CODES[0], 4 * _TEMPLATES, seed=1, on=china_date(utc_micros()))
    licenses = (parse_row(row) for row, _ in rows)
    plain = (license_to_message(each) for each in licenses if not each.status_letters)
    return list(islice(plain, _TEMPLATES))


def by_key(persons: PersonIndex, count: int) -> list[tuple[bytes, int]]:
    """Return (person key, holder) of that many holders, in key order."""
    return sorted((persons.person_key(DocumentType.RESIDENT_ID, number_of(each)), each) for each in range(count))


class Loader:
    """Fills a registry's store.

    Args:
        database: Its database; must hold no city yet.
        store: Its tables.
        ingest: Takes in batches.
        persons: Computes person tags.
        trust_domain: Prefix of log origins.
    """

    def __init__(
        self, *, database: Database, store: RegistryStore, ingest: Ingest, persons: PersonIndex, trust_domain: str
    ) -> None:
        self._database = database
        self._store = store
        self._ingest = ingest
        self._persons = persons
        self._trust_domain = trust_domain
        self._cities: list[SyntheticCity] = []

    async def fill(self, licenses: int, cities: int, *, view_only: bool) -> None:
        """Write so many licences of so many cities.

        Args:
            licenses: How many.
            cities: Of how many.
            view_only: Leave out logs, claims and revisions.

        Raises:
            AlreadyExists: The store holds a city.
        """
        if await self._database.read(self._store.cities):
            raise AlreadyExists("this registry has cities; a store that is only measured must be empty")
        made = templates()
        self._cities = [SyntheticCity(code, self._trust_domain, made) for code in CITY_CODES[:cities]]
        enroll = CityEnrollment(store=self._store, clock=utc_micros).enroll
        for city in self._cities:
            enrolled = NewCity(city.code, city.verifier_key, format_vkey(city.verifier_key))
            await self._database.write(lambda conn, enrolled=enrolled: enroll(conn, enrolled))  # type: ignore[misc]
        for number, part in enumerate(_parts(by_key(self._persons, licenses), BATCH)):
            city = self._cities[number % cities]
            if view_only:
                rows = city.rows(part, self._persons)
                await self._database.write(lambda conn, rows=rows: self._store.view.put(conn, rows))  # type: ignore[misc]
                continue
            claims = [_lease(key, city.code, holder) for key, holder in part]
            await self._database.write(
                lambda conn, claims=claims: self._store.claims.acquire(conn, claims, lapsed={})  # type: ignore[misc]
            )
            await self._ingest.append(city.batch([holder for _, holder in part]))
        await self.hear()

    async def hear(self) -> None:
        """Let every city say that all is held."""
        for city in self._cities:
            await self._ingest.append(city.heartbeat())


def _parts(holders: Sequence[tuple[bytes, int]], size: int) -> Iterator[Sequence[tuple[bytes, int]]]:
    return (holders[start : start + size] for start in range(0, len(holders), size))


def _lease(key: bytes, city: int, holder: int) -> Claim:
    lease_end_us = utc_micros() + _YEAR_US
    return Claim(key, city, license_id_of(holder), "", int(ClaimState.LEASED), lease_end_us, 0, 0)


class _Trusting:
    """Puts nobody into quarantine: what is loaded is made here and never disputed."""

    async def quarantine(self, command: QuarantineCommand) -> None:  # noqa: ARG002
        return None


async def _run(config_path: Path, licenses: int, cities: int, *, view_only: bool) -> None:
    config = load(config_path)
    keys = load_keys(config, random=secrets.token_bytes)
    database = Database(config.database.url, readers=1, writers=1)
    store = RegistryStore()
    try:
        ingest = Ingest(
            database=database,
            store=store,
            readers=Readers(keys.index_key),
            persons=keys.persons,
            cosigner=keys.cosigner,
            cosigner_name=cosigner_name(config.node.trust_domain),
            trust_domain=config.node.trust_domain,
            disputes=Disputes(
                database=database,
                store=store,
                log=_Trusting(),
                trust_domain=config.node.trust_domain,
                cosigner_name=cosigner_name(config.node.trust_domain),
                metrics=CollectorRegistry(),
                clock=utc_micros,
            ),
            clock=utc_micros,
        )
        loader = Loader(
            database=database,
            store=store,
            ingest=ingest,
            persons=keys.persons,
            trust_domain=config.node.trust_domain,
        )
        began = time.monotonic()
        await loader.fill(licenses, cities, view_only=view_only)
        click.echo(f"loaded {licenses} {time.monotonic() - began:.1f}")
        done = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not done.done():
            await asyncio.wait((done,), timeout=HEARD_EVERY_S)
            await loader.hear()
    finally:
        database.close()


@click.command("load")
@CONFIG
@click.option("--licenses", type=click.IntRange(1, MAX_PEOPLE), required=True, help="How many.")
@click.option("--cities", type=click.IntRange(1, len(CITY_CODES)), default=3, show_default=True, help="Of how many.")
@click.option("--view-only", is_flag=True, help="Fill only what a verification reads.")
def load_command(config_path: Path, licenses: int, cities: int, *, view_only: bool) -> None:
    """Fill an empty registry, say so in one line, and let its cities be heard until standard input ends."""
    asyncio.run(_run(config_path, licenses, cities, view_only=view_only))
