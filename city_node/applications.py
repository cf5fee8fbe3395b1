"""What is asked of every application for a licence, at the counter and in an import alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from city_node.drafts import Draft
from city_node.holding import refusals
from city_node.store import CityStore, Request
from elicense.clock import china_date
from elicense.errors import Error, NotEligible
from elicense.sql.database import Database
from elicense.uuids import ordered_uuids
from elicense.view.model import ViewRow

if TYPE_CHECKING:
    from sqlalchemy import Connection


Known = tuple[Request | None, Error | None]
"""What a request came to before, if anything, and why its person may have no licence here, if so."""


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

    async def known_of(self, drafts: Sequence[Draft]) -> list[Known]:
        """Return what is known of each, in order, from one snapshot; for a page of an import."""

        def read(conn: Connection) -> list[Known]:
            requests = self._store.requests(conn, [draft.request_id for draft in drafts])
            return self._known(drafts, requests, self._store.view.by_document(conn, _persons(drafts)))

        return await self._database.read(read) if drafts else []

    async def known_now(self, drafts: Sequence[Draft]) -> list[Known]:
        """Return the same of a few by two queries, where no thread and no transaction has to be waited for."""
        database, view = self._database, self._store.view
        keys = list(_persons(drafts))
        # The persons first: whose request is written in between is found to have been dealt with, not refused.
        rows = view.persons.by_person(keys, await database.query(view.persons.query(database.dialect, keys)))
        ids = [draft.request_id for draft in drafts]
        requests = self._store.requests_in(await database.query(self._store.requests_query(database.dialect, ids)))
        return self._known(drafts, requests, rows)

    def refusal(self, draft: Draft, taken: Error | None) -> Error | None:
        """Return why a licence may not be issued, with every broken rule; None when it may.

        Args:
            draft: The licence.
            taken: Why the person may have none here, as far as is known.
        """
        if draft.broken:
            return NotEligible("the license may not be issued; every broken rule is named", violations=draft.broken)
        return taken

    def new_license_ids(self, count: int) -> Sequence[bytes]:
        """Return fresh UUIDs, 16 bytes each."""
        return ordered_uuids(count, now_us=self._clock(), random=self._random)

    def _known(
        self, drafts: Sequence[Draft], requests: Mapping[bytes, Request], rows: Mapping[bytes, Sequence[ViewRow]]
    ) -> list[Known]:
        taken = refusals(rows, china_date(self._clock()), city=self._city)
        return [(requests.get(draft.request_id), taken.get(draft.person_key)) for draft in drafts]


def _persons(drafts: Sequence[Draft]) -> set[bytes]:
    return {draft.person_key for draft in drafts}
