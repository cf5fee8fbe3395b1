"""Which certificates are in force, as a node's table has it, at most a second old."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.errors import Error
from elicense.rpc.coalesce import Coalescer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from elicense.trust.spiffe import ActiveCertificate

MAX_AGE_US: Final = 1_000_000
"""Age beyond which a cached answer is not used: a revocation is felt within a second."""

REFRESH_AGE_US: Final = 500_000
"""Age from which an answer in use is fetched anew in the background, so that busy callers never wait for it."""

MAX_HELD: Final = 20_000
"""Certificates held; more callers than that do not call one process within a second."""


@dataclass(slots=True)
class _Held:
    certificate: ActiveCertificate | None
    checked_us: int
    refresh: asyncio.Task[None] | None = None


class ActiveCertificates:
    """A short-lived cache over the table of active certificates.

    Args:
        fetch: Reads the rows of these fingerprints; those that are not active are absent.
        clock: UTC microseconds.
        max_age_us: How old an answer may be, microseconds.
    """

    def __init__(
        self,
        *,
        fetch: Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, ActiveCertificate]]],
        clock: Callable[[], int],
        max_age_us: int = MAX_AGE_US,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._max_age_us = max_age_us
        self._refresh_age_us = min(REFRESH_AGE_US, max_age_us)
        self._held: dict[bytes, _Held] = {}
        self._lookups: Coalescer[bytes, ActiveCertificate | None] = Coalescer(self._look_up)

    async def find(self, fingerprint: bytes) -> ActiveCertificate | None:
        """Return the active row of a certificate, or None.

        Raises:
            Unavailable: The table can not be read and the cached answer is too old.
        """
        held = self._held.get(fingerprint)
        if held is not None:
            age_us = self._clock() - held.checked_us
            # A clock that was set back makes the age negative: ask again.
            if 0 <= age_us < self._max_age_us:
                if age_us >= self._refresh_age_us and held.refresh is None:
                    held.refresh = asyncio.create_task(self._renew(fingerprint))
                return held.certificate
        return await self._lookups.submit(fingerprint)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()

    async def _renew(self, fingerprint: bytes) -> None:
        try:
            await self._lookups.submit(fingerprint)
        except Error:
            # The held answer stays good until it is too old; then callers see the error.
            held = self._held.get(fingerprint)
            if held is not None:
                held.refresh = None

    async def _look_up(self, fingerprints: list[bytes]) -> Sequence[ActiveCertificate | None]:
        # Taken before the read: the answer may be older than its arrival.
        checked_us = self._clock()
        distinct = list(dict.fromkeys(fingerprints))
        rows = await self._fetch(distinct)
        if len(self._held) + len(distinct) > MAX_HELD:
            self._held.clear()
        for fingerprint in distinct:
            self._held[fingerprint] = _Held(rows.get(fingerprint), checked_us)
        return [rows.get(fingerprint) for fingerprint in fingerprints]
