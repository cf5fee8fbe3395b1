"""Following a licence: what is asked again, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

from elicense.clock import china_date, china_midnight, to_timestamp
from elicense.rpc.watch_hub import WatchHub
from elicense.rpc.watching import Relay, Watching
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Look
from elicense.view.person import PersonIndex

DEADLINE_S = 10
SECOND_US = 1_000_000
MIDNIGHT_US = china_midnight(china_date(1_622_505_600 * SECOND_US)) + 86_400 * SECOND_US
LOOK = cast("Look", SimpleNamespace(verifier="v", rule=SimpleNamespace(watches=1, freshness_limit_us=0)))
QUERY = pb.LicenseQuery(
    document=license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number="320500199003070134")
)


class LastDay:
    """A licence on its last day; midnight passes while it is judged for the second time."""

    def __init__(self) -> None:
        self.now_us = MIDNIGHT_US - SECOND_US
        self.judged = 0

    def clock(self) -> int:
        return self.now_us

    async def judge(self, _look: Look, _query: pb.LicenseQuery) -> pb.Verdict | None:
        outcome = pb.OUTCOME_VALID if self.now_us < MIDNIGHT_US else pb.OUTCOME_INVALID
        given = pb.Verdict(outcome=outcome, verdict_time=to_timestamp(self.now_us))
        self.judged += 1
        if self.judged == 2:
            self.now_us = MIDNIGHT_US + 1
        return given

    def relay(self, look: Look, query: pb.LicenseQuery, wake: Callable[[], None]) -> Relay:
        raise AssertionError("nobody else is asked")


async def test_a_verdict_that_was_given_as_the_day_ended_is_looked_at_again() -> None:
    day = LastDay()

    async def positions() -> Hashable:
        return 1

    async def marks(keys: Sequence[bytes]) -> Mapping[bytes, Hashable]:
        return dict.fromkeys(keys, 1)

    hub = WatchHub(positions=positions, marks=marks, as_of=None, clock=day.clock, poll_s=0.01)
    watching = Watching(judging=cast("Any", day), hub=hub, persons=PersonIndex(bytes(32)))
    hub.start()
    outcomes = []
    async with asyncio.timeout(DEADLINE_S), aclosing(watching.follow(LOOK, QUERY)) as pushed:
        async for given, _ in pushed:
            outcomes.append(given.outcome)
            if len(outcomes) == 2:
                break
    assert outcomes == [pb.OUTCOME_VALID, pb.OUTCOME_INVALID]
    await hub.close()
