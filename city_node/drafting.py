"""Drafts of applications: one at the counter, or thousands of an import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from city_node.drafts import Draft, draft_of, read_item, read_message
from city_node.pages import drafts_from, question_of
from elicense.clock import china_date
from elicense.errors import Error
from elicense.license.model import License
from elicense.rpc.turns import Turns
from elicense.v1 import issuance_pb2, license_pb2
from elicense.view.person import PersonIndex
from elicense.workers.assistants import Assistants

LARGE: Final = 64
"""Rows from which on a page is worth another process's while."""


class Drafting:
    """Reads and judges applications of one city.

    Args:
        city: Division code.
        persons: Computes person and name tags.
        clock: UTC microseconds.
        assistants: Draft pages of an import in processes of their own; None for none.
    """

    def __init__(
        self, *, city: int, persons: PersonIndex, clock: Callable[[], int], assistants: Assistants | None = None
    ) -> None:
        self._assistants = assistants
        self._city = city
        self._persons = persons
        self._clock = clock

    def draft(self, message: license_pb2.License, *, request_id: str, imported: bool, actor: str) -> Draft:
        """Return the draft of one application.

        Raises:
            Malformed: Some fields are not in the right form; all are named.
        """
        own = license_pb2.License()
        own.CopyFrom(message)
        return self._draft(read_message(own), request_id=request_id, imported=imported, actor=actor)

    async def drafts(
        self, items: Sequence[issuance_pb2.ImportItem], columns: Sequence[str], *, actor: str
    ) -> list[Draft | Error]:
        """Return the drafts of existing drivers in order, or why one can not be read.

        Args:
            items: The drivers; their messages may be changed.
            columns: Columns of those that are rows.
            actor: SPIFFE ID of the caller.
        """
        ready = await self._drafted_beside(items, columns, actor) if len(items) >= LARGE else None
        turns = Turns()
        drafts: list[Draft | Error] = []
        for position, item in enumerate(items):
            await turns.give_way()
            draft = None if ready is None else ready[position]
            try:
                if draft is None:
                    license_ = read_item(item, columns)
                    draft = self._draft(license_, request_id=item.request_id, imported=True, actor=actor)
                drafts.append(draft)
            except Error as error:
                drafts.append(error)
        return drafts

    async def close(self) -> None:
        """End the processes that draft."""
        if self._assistants is not None:
            await self._assistants.close()

    def _draft(self, license_: License, *, request_id: str, imported: bool, actor: str) -> Draft:
        return draft_of(
            license_,
            request_id=request_id,
            imported=imported,
            actor=actor,
            persons=self._persons,
            city=self._city,
            on=china_date(self._clock()),
        )

    async def _drafted_beside(
        self, items: Sequence[issuance_pb2.ImportItem], columns: Sequence[str], actor: str
    ) -> list[Draft | None] | None:
        if self._assistants is None:
            return None
        on = china_date(self._clock())
        return await self._assistants.ask(
            lambda: question_of(items, columns, city=self._city, on=on, actor=actor), drafts_from
        )
