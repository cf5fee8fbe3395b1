"""Quotas as one process counts them: parts leased from the shared table, spent in memory.

Two things are counted a day of China time: looks of a verifier at anybody, and
looks of a verifier at one number, whether there is a licence of that number or
not.

- **A verifier's looks** are all leased before they are spent, so all processes
  together never give more than the quota.  What a process leased and did not use
  when it ended is lost for the day: at most :data:`VERIFIER_CHUNK`, and never
  more than an eighth of what was left.
- **Looks at one number**: a process gives the first :data:`NUMBER_CREDIT` on
  credit, without a lease, because nearly every number is asked about once or
  twice a day and a write each would double the cost of an answer.  All further
  ones are leased.  So N processes together may give ``(N - 1) * NUMBER_CREDIT``
  looks too many, and each restart, or each number that falls out of a process's
  memory (:data:`NUMBERS_IN_MEMORY`), another ``NUMBER_CREDIT``.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from elicense.clock import SECOND_US
from elicense.errors import QuotaExceeded
from elicense.quota.store import SCOPE_BYTES, QuotaStore
from elicense.sql.database import Database
from elicense.trust.roles import VERIFIER_RULES, Quota, Role

VERIFIER_CHUNK: Final = 1_000
"""Looks of a verifier that a process leases at a time."""

NUMBER_CREDIT: Final = 5
"""Looks of a verifier at one number that a process gives before it leases any."""

NUMBER_CHUNK: Final = 5
"""Looks of a verifier at one number that a process leases at a time after that."""

NUMBERS_IN_MEMORY: Final = 100_000
"""Numbers that a process remembers, some 20 MB; the one that was not asked about for longest goes first."""

_DAY_US: Final = 86_400 * SECOND_US
_CHINA_OFFSET_US: Final = 8 * 3_600 * SECOND_US


class _Lease:
    """What is left to spend of one scope on one day."""

    __slots__ = ("chunk", "day", "left", "limit", "lock", "scope")

    def __init__(self, scope: bytes, day: int, *, limit: int, chunk: int, left: int = 0) -> None:
        self.scope = scope
        self.day = day
        self.limit = limit
        self.chunk = chunk
        self.left = left
        self.lock: asyncio.Lock | None = None

    def spend(self, count: int) -> bool:
        """Spend so many of what is left, if there are so many."""
        if self.left < count:
            return False
        self.left -= count
        return True


class Quotas:
    """Counts the looks of verifiers in one process.

    Args:
        database: Where the shared table is; closed with this.
        store: Its queries.
        clock: UTC microseconds.
        looks: Roles whose looks a day are others than the role table says.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: QuotaStore,
        clock: Callable[[], int],
        looks: Mapping[Role, int] | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._quotas = {
            role: Quota((looks or {}).get(role, rule.quota.looks), rule.quota.looks_at_one)
            for role, rule in VERIFIER_RULES.items()
        }
        self._verifiers: dict[str, _Lease] = {}
        self._numbers: OrderedDict[bytes, _Lease] = OrderedDict()

    async def spend(self, verifier: str, role: Role, subjects: Sequence[bytes]) -> None:
        """Count looks of a verifier before they are answered; a batch counts as a whole or not at all.

        What was counted stays counted when the answer fails.

        Args:
            verifier: Its SPIFFE ID.
            role: Its role.
            subjects: Tags of the numbers asked about; one that is asked about twice counts twice.

        Raises:
            QuotaExceeded: It has had its looks of the day, at anybody or at one of these numbers.
            StoreUnavailable: The table can not be reached.
        """
        quota = self._quotas[role]
        now_us = self._clock()
        day = (now_us + _CHINA_OFFSET_US) // _DAY_US
        asked = ((subjects[0], 1),) if len(subjects) == 1 else Counter(subjects).items()
        of_verifier = b"number\n%s\n" % verifier.encode()
        for subject, count in asked:
            lease = self._number(sha256(of_verifier + subject).digest()[:SCOPE_BYTES], day, quota)
            # A refusal here must not cost the verifier looks at others.
            if not lease.spend(count):
                await self._take(lease, count, now_us)
        lease = self._verifier(verifier, day, quota)
        if not lease.spend(len(subjects)):
            await self._take(lease, len(subjects), now_us)

    async def close(self) -> None:
        """Close the table's database."""
        await asyncio.to_thread(self._database.close)

    async def housekeep(self) -> None:
        """Forget the quotas of past days."""
        day = (self._clock() + _CHINA_OFFSET_US) // _DAY_US
        # Yesterday's stay for processes whose clock is behind.
        await self._database.write(lambda conn: self._store.drop_before(conn, day - 1))

    # -- one scope -----------------------------------------------------------------------------------------------------

    def _verifier(self, verifier: str, day: int, quota: Quota) -> _Lease:
        lease = self._verifiers.get(verifier)
        if lease is None or lease.day != day:
            scope = sha256(b"verifier\n" + verifier.encode()).digest()[:SCOPE_BYTES]
            lease = self._verifiers[verifier] = _Lease(scope, day, limit=quota.looks, chunk=VERIFIER_CHUNK)
        return lease

    def _number(self, scope: bytes, day: int, quota: Quota) -> _Lease:
        lease = self._numbers.get(scope)
        if lease is None or lease.day != day:
            credit = min(NUMBER_CREDIT, quota.looks_at_one)
            # The credit of one process is part of the quota, not added to it.
            limit = quota.looks_at_one - credit
            lease = self._numbers[scope] = _Lease(scope, day, limit=limit, chunk=NUMBER_CHUNK, left=credit)
            if len(self._numbers) > NUMBERS_IN_MEMORY:
                self._numbers.popitem(last=False)
        self._numbers.move_to_end(scope)
        return lease

    async def _take(self, lease: _Lease, count: int, now_us: int) -> None:
        if lease.lock is None:
            lease.lock = asyncio.Lock()
        async with lease.lock:
            while lease.left < count:
                granted = await self._lease(lease, count - lease.left)
                if granted == 0:
                    raise _exceeded(now_us)
                lease.left += granted
            lease.left -= count

    async def _lease(self, lease: _Lease, need: int) -> int:
        return await self._database.write(
            lambda conn: self._store.lease(
                conn, scope=lease.scope, day=lease.day, limit=lease.limit, need=need, chunk=lease.chunk
            )
        )


def _exceeded(now_us: int) -> QuotaExceeded:
    rest_us = _DAY_US - (now_us + _CHINA_OFFSET_US) % _DAY_US
    return QuotaExceeded(
        "the looks of the day are used up, at this number or in all; new ones come at midnight in China",
        retryAfterSeconds=-(-rest_us // SECOND_US),
    )
