"""Who is convicted of writing of a licence that another city had: whoever signed that it knew, and nobody else."""

from __future__ import annotations

import secrets
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from elicense.errors import Malformed
from elicense.log.checkpoint import log_verifier_key
from elicense.log.model import LogKey
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.database import Database
from elicense.v1 import license_pb2
from elicense.verification.evidence_file import Confirmed, confirm, format_evidence, parse_evidence
from registry.breaches import CUSTODY_BROKEN
from registry.custody_proof import custody_evidence
from registry.keys import load_keys
from registry.names import registry_origin
from registry.store import RegistryStore
from registry.told_store import ToldRow
from tests.integration.city.test_transfers import Nation, accept, moved, nation, offer, set_letter
from tests.support.cluster import CHENGDU, SUZHOU, TRUST_DOMAIN, eventually

__all__ = ["nation"]

KEY = LogKey(SUZHOU, 1)
STORE = RegistryStore()


def registry_database(nation: Nation) -> Database:
    return Database(nation.cluster.registry_config.database.url, readers=1, writers=1)


async def signed(nation: Nation) -> ToldRow:
    """Wait until Suzhou has signed that it knows of the one licence that went away."""

    async def once() -> list[ToldRow]:
        with closing(registry_database(nation)) as database:
            return await database.read(lambda conn: list(STORE.told.all(conn)))

    (row,) = await eventually(once)
    return row


async def convicted(nation: Nation, index: int) -> Confirmed:
    """Judge a record of Suzhou as a stranger would, from a file and public keys.

    Raises:
        Malformed: It proves nothing.
    """
    # A later commit of the registry's log, under which its decision stands.
    await nation.issued()
    with closing(registry_database(nation)) as database:
        evidence = await database.read(lambda conn: custody_evidence(conn, STORE, KEY, index))
        cities = await database.read(STORE.cities)
    keys: list[VerifierKey] = [parse_vkey(city.log_key) for city in cities]
    public_key = load_keys(nation.cluster.registry_config, random=secrets.token_bytes).log.public_key()
    keys.append(log_verifier_key(registry_origin(TRUST_DOMAIN, 1), public_key))
    return confirm(parse_evidence(format_evidence(evidence)), keys)


async def kept(nation: Nation) -> int:
    """How many breaches the registry keeps, once it has judged everything."""
    assert nation.cluster.registry is not None
    await nation.cluster.registry.breaches.look()
    with closing(registry_database(nation)) as database:
        return len(await database.read(lambda conn: STORE.evidence.kept_for(conn, CUSTODY_BROKEN)))


async def gone(nation: Nation, *, cut_off: bool) -> license_pb2.License:
    """A licence that Chengdu takes over, while Suzhou may be cut off and write of it all the same."""
    license_ = await nation.issued()
    await offer(nation.suzhou, license_.name, CHENGDU)
    await nation.suzhou.replicated()
    if cut_off:
        nation.suzhou.running.replicator.stop()
    await accept(nation.chengdu, license_.name)
    if cut_off:
        await set_letter(nation.suzhou, license_.name, "D")
        await nation.restart(nation.suzhou)
    await moved(nation.suzhou, license_.name)
    return license_


async def test_a_city_that_was_cut_off_is_not_convicted_and_signs_once_it_knows(nation: Nation) -> None:
    await gone(nation, cut_off=True)
    row = await signed(nation)
    assert (row.of_epoch, row.of_idx, row.size) == (1, 1, 3)
    with pytest.raises(Malformed, match="do not show"):
        await convicted(nation, 2)
    assert await kept(nation) == 0
    await nation.sound()


async def test_a_city_that_had_signed_that_it_knew_is_convicted(nation: Nation) -> None:
    license_ = await gone(nation, cut_off=False)
    assert (await signed(nation)).size == 2
    await nation.suzhou.stop()
    # Whoever runs the city makes its database forget what it signed.
    with closing(sqlite3.connect(nation.suzhou.folder / "city.db")) as database, database:
        taken = uuid.UUID(license_.name.rpartition("/")[2]).bytes
        database.execute("UPDATE license_view SET city = ? WHERE license_id = ?", (SUZHOU, taken))
    await nation.suzhou.start()
    await set_letter(nation.suzhou, license_.name, "D")
    await nation.suzhou.replicated()
    what = (await convicted(nation, 2)).what
    assert "wrote entry 2" in what
    assert "though it had signed at 2 entries" in what
    assert await kept(nation) == 1


async def test_a_city_signs_anew_what_was_lost_of_its_word(nation: Nation) -> None:
    await gone(nation, cut_off=False)
    first = await signed(nation)
    await nation.suzhou.stop()
    await nation.cluster.stop_registry()
    with (
        closing(sqlite3.connect(Path(nation.cluster.registry_config.node.data_dir) / "registry.db")) as database,
        database,
    ):
        database.execute("DELETE FROM told")
        database.execute("DELETE FROM feed_mark")
    await nation.cluster.start_registry()
    await nation.suzhou.start()
    assert await signed(nation) == first
