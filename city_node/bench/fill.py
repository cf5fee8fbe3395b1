"""Filling the log of a city that has joined and does not run, as if it had issued for weeks with nobody listening.

Every person is claimed at the registry over the wire, and every record cites its
grant.  Commits are as large as the wire takes and their heads are signed by the
city's key; what rests on the records is written by the code that restores a city.
Only the counter is left out: no clerk asked, and several commits share a flush.

Persons come in the order of the city's own keys, so that its tables grow at their
right end.  The registry has other keys: to it they come in no order, as in life.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from city_node.cli.options import CONFIG
from city_node.config import CityConfig, load_city_config
from city_node.epochs import Epochs
from city_node.keys import CityKeys, load_keys
from city_node.progress import own_head
from city_node.rebuild import Rebuild
from city_node.store import CityStore
from elicense.cli.bench.granted import GrantedRecords
from elicense.cli.bench.people import MAX_PEOPLE, number_of
from elicense.clock import utc_micros
from elicense.errors import AlreadyExists
from elicense.license.model import DocumentType
from elicense.log.anchor import create_anchor
from elicense.log.entry import leaf_hashes
from elicense.log.model import Head, NewEntry
from elicense.rpc.channel import secure_channel
from elicense.sql.database import Database
from elicense.v1 import replication_pb2_grpc

if TYPE_CHECKING:
    from sqlalchemy import Connection

COMMIT: Final = 2_048
"""Entries of a commit: as many as one may hold."""

COMMITS_A_FLUSH: Final = 8


class Filler:
    """Fills the log of one city.

    Args:
        config: The city's configuration.
        keys: Its keys.
        database: Its database; nobody else may use it.
    """

    def __init__(self, *, config: CityConfig, keys: CityKeys, database: Database) -> None:
        self._config = config
        self._keys = keys
        self._database = database
        self._store = CityStore()
        self._rebuild = Rebuild(store=self._store, persons=keys.persons)
        self._epochs = Epochs(config.node.trust_domain, config.city.code, keys.log.of)

    async def fill(self, holders: Sequence[int]) -> None:
        """Write a licence for each of these holders, and say after every flush how many there are.

        Raises:
            AlreadyExists: The log holds something.
            ExpectationFailed: The registry did not grant a person.
        """
        city = self._config.city
        head = await self._database.read(lambda conn: own_head(conn, self._store, city.code))
        if head.size:
            raise AlreadyExists("this city has licences; a city that is only measured must be empty")
        channel = secure_channel(self._keys.credentials, address=city.registry_address, retries=False)
        try:
            granted = GrantedRecords(city.code, replication_pb2_grpc.ReplicationServiceStub(channel))
            ordered = self._in_key_order(holders)
            part = COMMIT * COMMITS_A_FLUSH
            for start in range(0, len(ordered), part):
                records = await granted.make(ordered[start : start + part])
                head = await self._database.write(partial(self._append, head=head, records=records))
                click.echo(f"filled {head.size}")
        finally:
            await channel.close()
        create_anchor(self._config.anchor_path, self._epochs.sign(head.key, head.size, head.root))

    def _in_key_order(self, holders: Sequence[int]) -> list[int]:
        persons = self._keys.persons
        return sorted(holders, key=lambda each: persons.person_key(DocumentType.RESIDENT_ID, number_of(each)))

    def _append(self, conn: Connection, *, head: Head, records: Sequence[bytes]) -> Head:
        for start in range(0, len(records), COMMIT):
            part = records[start : start + COMMIT]
            salts = [secrets.token_bytes(32) for _ in part]
            hashes = leaf_hashes(zip(salts, part, strict=True))
            entries = [NewEntry(*each) for each in zip(part, salts, hashes, strict=True)]
            first, frontier = head.size, head.frontier.append_leaves(hashes)
            note = self._epochs.sign(head.key, frontier.size, frontier.root())
            head = self._store.logs.advance(conn, head, entries, recorded_us=utc_micros(), note=note)
            self._rebuild.apply(conn, first, entries, head.size)
        return head


@click.command()
@CONFIG
@click.option("--first", type=click.IntRange(0, MAX_PEOPLE - 1), required=True, help="Ordinal of the first holder.")
@click.option("--licenses", type=click.IntRange(1, MAX_PEOPLE), required=True, help="How many.")
def fill(config_path: Path, first: int, licenses: int) -> None:
    """Fill the empty log of a city that does not run; its registry must."""
    config = load_city_config(config_path)
    database = Database(config.database_url, readers=1, writers=1)
    try:
        keys = load_keys(config, random=secrets.token_bytes)
        filler = Filler(config=config, keys=keys, database=database)
        asyncio.run(filler.fill(range(first, first + licenses)))
    finally:
        database.close()
