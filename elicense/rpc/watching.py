"""Following one licence: the verdict of now, and the next one whenever it differs.

Nothing is queued.  A watcher is woken, asks again, and sends the answer if it is
another one; while a slow reader holds the stream up, whatever happens meanwhile
comes to one new question when it is through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Protocol

from elicense.clock import china_date, china_midnight, from_timestamp
from elicense.rpc.watch_hub import Subscription, WatchHub
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Look
from elicense.view.person import PersonIndex


class Relay(Protocol):
    """A licence that another node follows for this one."""

    @property
    def newest(self) -> tuple[pb.Verdict, bool] | None:
        """The newest verdict, and whether this node gave it itself; None before the first.

        Raises:
            Error: The other node refused.
        """

    async def stop(self) -> None:
        """End it."""


class Judging(Protocol):
    """What a node can say of a licence by itself, and whom it asks otherwise."""

    async def judge(self, look: Look, query: pb.LicenseQuery) -> pb.Verdict | None:
        """Return the verdict of now; None when another node must be asked."""

    def relay(self, look: Look, query: pb.LicenseQuery, wake: Callable[[], None]) -> Relay:
        """Follow a licence at another node; ``wake`` is called with each new verdict."""


class Watching:
    """Follows licences.

    Args:
        judging: Judges.
        hub: Says when to judge again.
        persons: Computes the tags that the hub goes by.
    """

    def __init__(self, *, judging: Judging, hub: WatchHub, persons: PersonIndex) -> None:
        self._judging = judging
        self._hub = hub
        self._persons = persons

    async def follow(self, look: Look, query: pb.LicenseQuery) -> AsyncGenerator[tuple[pb.Verdict, bool], None]:
        """Yield the verdict of now and each later one that differs, and whether this node gave it itself.

        Args:
            look: Who looks.
            query: The question, normalized.

        Raises:
            WatchesExhausted: The verifier or this server follows too many already.
            ShuttingDown: The server ends.
            StoreUnavailable: The database is away; the caller no longer knows, and must hear so.
        """
        key = self._persons.person_key(query.document.type, query.document.number)
        held = self._hub.subscribe(look.verifier, key, limit=look.rule.watches)
        relay: Relay | None = None
        shown: bytes | None = None
        try:
            while True:
                held.taken()
                given, own = await self._judging.judge(look, query), True
                if given is None:
                    if relay is None:
                        relay = self._judging.relay(look, query, held.wake)
                    if (relayed := relay.newest) is not None:
                        given, own = relayed
                elif relay is not None:
                    await relay.stop()
                    relay = None
                if given is not None:
                    if own:
                        self._expect(held, given, look.rule.freshness_limit_us)
                    if (face := _face(given)) != shown:
                        shown = face
                        yield given, own
                await held.wait()
        finally:
            self._hub.leave(held)
            if relay is not None:
                await relay.stop()

    def _expect(self, held: Subscription, given: pb.Verdict, limit_us: int) -> None:
        """Tell the hub when this verdict would change by the passing of time alone."""
        # Of the day that was judged: while it was, the next one may have begun.
        midnight_us = china_midnight(china_date(from_timestamp(given.verdict_time)) + timedelta(days=1))
        if not given.HasField("freshness"):
            self._hub.expect(held, due_us=midnight_us)
        elif pb.VERDICT_REASON_CITY_STALE in given.reasons:
            self._hub.expect(held, due_us=midnight_us, silent_city=given.freshness.city, recovered_us=limit_us)
        elif given.freshness.source == pb.SOURCE_CITY:
            self._hub.expect(held, due_us=midnight_us)
        else:
            silent_us = from_timestamp(given.freshness.as_of_time) + limit_us + 1
            self._hub.expect(held, due_us=min(midnight_us, silent_us))


def _face(verdict: pb.Verdict) -> bytes:
    """Return what a person would see change: all but times and how current the answer is."""
    face = pb.Verdict()
    face.CopyFrom(verdict)
    face.ClearField("verdict_time")
    face.ClearField("freshness")
    return face.SerializeToString(deterministic=True)
