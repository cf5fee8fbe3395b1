"""Pages of an import as another process drafts them: what is asked, and what is answered, in plain tuples.

Working a driver out takes longer than everything else that the city does about one.  What crosses
between the two processes is numbers, texts and bytes, which cost next to nothing to take apart;
a row that can not be read is left to whoever asked, who finds out what is wrong with it.
"""

from __future__ import annotations

import gc
import marshal
import os
import sys
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from city_node.drafts import Draft, draft_of, draft_of_row, read_item
from elicense.errors import Malformed, Violation
from elicense.license.plain_rows import PlainRows
from elicense.v1 import issuance_pb2
from elicense.view.person import PersonIndex
from elicense.workers.assistants import Answering, assist

MODULE: Final = "city_node.pages"

#: Without references to what came before: finding them takes longer than writing twice.
_FORMAT: Final = 2

#: A page makes tens of thousands of objects, and none that would be in a cycle.
_OBJECTS_PER_COLLECTION: Final = 1_000_000

#: How far it stands back from the processes that answer calls.
_NICE: Final = 10


def question_of(
    items: Sequence[issuance_pb2.ImportItem], columns: Sequence[str], *, city: int, on: date, actor: str
) -> bytes:
    """Return what another process needs to know of a page.

    Args:
        items: The drivers.
        columns: Columns of those that are rows.
        city: Division code of the city that issues.
        on: Day of the application, in China.
        actor: SPIFFE ID of the caller.
    """
    page = issuance_pb2.ImportLicensesRequest(items=items).SerializeToString()
    return marshal.dumps((city, on.toordinal(), actor, list(columns), page), _FORMAT)


class Pages:
    """Drafts the pages of one city.

    Args:
        persons: Computes person and name tags.
    """

    def __init__(self, persons: PersonIndex) -> None:
        self._persons = persons
        self._file: tuple[int, int, list[str]] | None = None
        self._rows: PlainRows | None = None

    def answer(self, question: bytes) -> bytes:
        """Return the drafts of a page, in a form for :func:`drafts_from`.

        Args:
            question: From :func:`question_of`.
        """
        city, ordinal, actor, columns, page = marshal.loads(question)  # noqa: S302  # from this program's own process
        on = date.fromordinal(ordinal)
        if self._rows is None or self._file != (city, ordinal, columns):
            self._file = city, ordinal, columns
            self._rows = PlainRows(columns, on=on, city=city)
        read, persons = self._rows.read, self._persons
        drafts: list[tuple[Any, ...] | None] = []
        for item in issuance_pb2.ImportLicensesRequest.FromString(page).items:
            request_id = item.request_id
            row = None if item.HasField("license") else read(item.row)
            if row is not None:
                draft = draft_of_row(row, request_id=request_id, actor=actor, persons=persons, on=on)
                drafts.append(draft[:])
                continue
            try:
                license_ = read_item(item, columns)
                draft = draft_of(
                    license_, request_id=request_id, imported=True, actor=actor, persons=persons, city=city, on=on
                )
            except Malformed:
                drafts.append(None)
                continue
            broken = tuple([(violation.field, violation.reason, violation.message) for violation in draft.broken])
            drafts.append((*draft[:-1], broken))
        return marshal.dumps(drafts, _FORMAT)


def answering(secret: bytes) -> Answering:
    """Return what answers questions of a city, given its index key."""
    return Pages(PersonIndex(secret)).answer


def drafts_from(answer: bytes) -> list[Draft | None]:
    """Return the drafts of a page as another process has made them, in order; None for a row that it can not read."""
    return [
        None if values is None else _with_rules(Draft._make(values))
        for values in marshal.loads(answer)  # noqa: S302  # from this program's own process
    ]


def _with_rules(draft: Draft) -> Draft:
    return draft._replace(broken=tuple([Violation(*each) for each in draft.broken])) if draft.broken else draft  # type: ignore[misc]  # tuples crossed


if __name__ == "__main__":
    # Nobody at a counter waits for it.
    os.nice(_NICE)
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    assist(int(sys.argv[1]), answering)
