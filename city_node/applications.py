"""What is asked of every application for a licence, at the counter and in an import alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from city_node.drafts import Draft
from city_node.holding import refusals
from city_node.store import CityStore, Request
from elicense.clock import china_date
from elicense.errors import Error, NotEligible
from elicense.rpc.coalesce import Coalescer
from elicense.sql.database import Database
from elicense.uuids import ordered_uuids

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Applications:
    """Looks up and judges applications; writes nothing.

    Args:
        city: Division code.
        database: The city's database.
        store: Its tables.
        clock: UTC microseconds.
        random: Gives this many random bytes.
    """

    def __init__(
        self,
        *,
        city: int,
        database: Database,
        store: CityStore,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._city = city
        self._database = database
        self._store = store
        self._clock = clock
        self._random = random
        self._lookups: Coalescer[Draft, tuple[Request | None, Error | None]] = Coalescer(self._look_up, lanes=1)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()

    async def known(self, draft: Draft) -> tuple[Request | None, Error | None]:
        """Return what the request came to before, if anything, and why the person may have no licence here."""
        return await self._lookups.submit(draft)

    async def known_of(self, drafts: Sequence[Draft]) -> list[tuple[Request | None, Error | None]]:
        """Return the same for many, in order, from one snapshot."""

        def read(conn: Connection) -> list[tuple[Request | None, Error | None]]:
            requests = self._store.requests(conn, [draft.request_id for draft in drafts])
            rows = self._store.view.by_document(conn, {draft.person_key for draft in drafts})
            taken = refusals(rows, china_date(self._clock()), city=self._city)
            return [(requests.get(draft.request_id), taken.get(draft.person_key)) for draft in drafts]

        return await self._database.read(read) if drafts else []

    async def _look_up(self, drafts: list[Draft]) -> list[tuple[Request | None, Error | None]]:
        """Return the same by two queries, where no thread and no transaction has to be waited for."""
        database, view = self._database, self._store.view
        keys = list({draft.person_key for draft in drafts})
        # The persons first: whose request is written in between is found to have been dealt with, not refused.
        rows = view.persons.by_person(keys, await database.query(view.persons.query(database.dialect, keys)))
        ids = [draft.request_id for draft in drafts]
        requests = self._store.requests_in(await database.query(self._store.requests_query(database.dialect, ids)))
        taken = refusals(rows, china_date(self._clock()), city=self._city)
        return [(requests.get(draft.request_id), taken.get(draft.person_key)) for draft in drafts]

    def refusal(self, draft: Draft, taken: Error | None) -> Error | None:
        """Return why a licence may not be issued, with every broken rule; None when it may.

        Args:
            draft: The licence.
            taken: Why the person may have none here, from :meth:`known`.
        """
        if draft.broken:
            return NotEligible("the license may not be issued; every broken rule is named", violations=draft.broken)
        return taken

    def new_license_ids(self, count: int) -> Sequence[bytes]:
        """Return fresh UUIDs, 16 bytes each."""
        return ordered_uuids(count, now_us=self._clock(), random=self._random)
