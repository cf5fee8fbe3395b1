"""A registry with something in every table, and which of its columns the self-check must watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from elicense import errors
from elicense.log.check_run import Report
from elicense.sql.database import Database
from registry.fsck import Fsck
from registry.store import RegistryStore, metadata
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, TRUST_DOMAIN, World, running_world
from tests.support.flips import Filled, Flips, copy_database

NUMBERS = [f"11010519900101{number:04d}" for number in range(12)]
WAITING, OTHER, RENUMBERED = "44052418800101001X", "11010519491231002X", "110101199003074514"

_OWN = "nothing else states it, and nothing that is signed or answered rests on it"
_BEAT = "the city's next heartbeat, seconds later, writes it anew; only its bounds are checked"
_MARK = "one that is too low has words looked at once more; that none is ahead of its feed is checked"
_DAY = "a count of today, which nothing repeats; a wrong one is gone tomorrow"
_FLAGS = "the flags that decisions give are checked, not those beside them"
UNCHECKED = {
    "certificate.issued_by": "who asked for a certificate stands nowhere else; its form is checked",
    "city.enrolled_us": _OWN,
    "city_state.city_clock_us": _BEAT,
    "city_state.received_us": _BEAT,
    "disposition.seq": "a feed leaves numbers out after a restore; one that is ahead of its feed is found",
    "disposition.kind": "that there is such a kind is checked; the decision behind it is checked with the view",
    "disposition.detail": "a sentence for a clerk; what counts is in the other columns",
    "disposition_feed.seq": "a feed may be ahead of its words after a restore; one that is behind them is found",
    "evidence.noted_us": _OWN,
    "feed_mark.what": _MARK,
    "feed_mark.city": _MARK,
    "feed_mark.epoch": _MARK,
    "feed_mark.seq": _MARK,
    "join_token.request_digest": "of a request that is not kept; a wrong one refuses to repeat an answer",
    "join_token.response": "the certificate in it is checked; the rest is given out once more and checked by its taker",
    "license_revision.received_us": "when a record arrived is the one thing that no log tells",
    "license_ruling.before": _FLAGS,
    "license_ruling.after": _FLAGS,
    "log_checkpoint.recorded_us": "that commits follow each other in time is checked, not the microsecond",
    "quota.scope": _DAY,
    "quota.day": _DAY,
    "quota.leased": _DAY,
}
"""Columns in which a flipped bit may go unnoticed, and why that is borne."""

ONLY = {"join_token.subject": "spent_us IS NOT NULL"}
"""Rows of a column that are flipped: for whom a token is made stands nowhere else until it is spent."""

EMPTY = {
    "lease": "only several processes have one, and write it anew every few seconds",
    "log_scrub": "a mark is gone once the files are scrubbed; a wrong one has them scrubbed once more",
    "postponed_erasure": "only a registry that was set back has any; the tests of that change it",
    "pending_transfer": "a take-over is decided within a commit",
    "conflict_statement": "the tests of conflicts change it",
    "conflict.standing_license": "the tests of conflicts change it",
    "conflict.void_license": "the tests of conflicts change it",
    "conflict.basis": "the tests of conflicts change it",
    "person_ban.ground": "the tests of bars change it",
    "quarantine.asked_by": "the tests of quarantines change it",
    "quarantine.ended_by": "the tests of quarantines change it",
}
"""Tables and columns in which the filled registry has nothing, and why."""

FLIPS = Flips(metadata, UNCHECKED, EMPTY, ONLY)


@asynccontextmanager
async def filled_registry(folder: Path) -> AsyncIterator[Filled]:
    """Fill a registry and copy its database; it runs until the block ends."""
    async with running_world(folder) as world:
        await fill(world)
        copy_database(Path(world.config.database.url.removeprefix("sqlite:///")), folder / "filled.db")

        def check(database: Database) -> Report:
            return Fsck(
                database=database,
                store=RegistryStore(),
                persons=world.keys.persons,
                trust_domain=TRUST_DOMAIN,
                log_key=world.keys.log.public_key(),
                cosigner_key=world.keys.cosigner.public_key(),
                progress=lambda _: None,
            ).run()

        yield Filled(folder / "filled.db", FLIPS, check)


async def told(world: World) -> int:
    return await world.database.read(lambda conn: sum(1 for _ in world.store.told.all(conn)))


async def fill(world: World) -> None:
    suzhou, tianjin, chengdu = [await world.city(code) for code in (SUZHOU, TIANJIN, CHENGDU)]
    claims = await suzhou.claim(*NUMBERS)
    licenses = [suzhou.issue(number, claim=claim) for number, claim in zip(NUMBERS, claims, strict=True)]
    await suzhou.replicate()
    suzhou.change(licenses[0], ["D"])
    suzhou.change(licenses[1], ["F"])
    suzhou.offer(licenses[2], CHENGDU)
    suzhou.renumber(licenses[3], RENUMBERED, (await suzhou.claim(RENUMBERED))[0])
    # A licence that goes to another city, which Suzhou signs that it knows.
    suzhou.offer(licenses[5], CHENGDU)
    await suzhou.replicate()
    chengdu.take_over(licenses[5], suzhou)
    await chengdu.replicate()
    await chengdu.decided(1)
    await suzhou.decided(1)
    while suzhou.told or not await told(world):
        await suzhou.send(suzhou.batch(suzhou.size))
    # A full tile, of records that cost little to fold.
    while suzhou.size < 258:
        suzhou.append(b"unreadable %d" % suzhou.size)
    await suzhou.replicate()
    # A person held, one free, one that Suzhou may still issue to.
    await suzhou.claim(WAITING)
    for number in (NUMBERS[4], OTHER, WAITING):
        chengdu.issue(number)
    await chengdu.replicate()
    await chengdu.decided(3)
    tianjin.issue(f"{TIANJIN}199001010000")
    await tianjin.replicate()
    await tianjin.decided(1)
    tianjin.salts[0] = bytes(32)
    with pytest.raises(errors.LogForked):
        await tianjin.send(tianjin.batch(1))
    await suzhou.send(suzhou.batch(suzhou.size))
    police = await world.verifier()
    await police.ask(NUMBERS[0])
    await police.channel.close()
    await world.token(f"spiffe://{TRUST_DOMAIN}/auditor/a1")
    await world.node.breaches.look()
    await world.node.publish_heads()
