"""What a holder sees of the access log: who looked, page by page, and how complete that is."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.access.entry import AccessPosition, RecordedAccess
from elicense.errors import Malformed, Violation
from elicense.license.fields import MASK_BYTES, from_mask
from elicense.sql.database import Database
from registry.access_store import AccessIndexStore, SubjectLook
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 1_000
_TAG_BYTES: Final = 16


_Looks = dict[tuple[str, AccessPosition], RecordedAccess]
_Sources = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class ListedLook:
    """One look, as the holder sees it.

    Attributes:
        look: The look as it was recorded.
        outcome: What the verifier was told of this holder.
        fields: Numbers of the fields that it was given of this holder.
    """

    look: RecordedAccess
    outcome: int
    fields: Sequence[int]


@dataclass(frozen=True, slots=True)
class AccessPage:
    """A page of a holder's list.

    Attributes:
        looks: Newest first.
        next_token: Token of the next page; empty on the last.
        complete: Up to when each node's looks are in the list, microseconds UTC; 0 when nothing is known.
    """

    looks: Sequence[ListedLook]
    next_token: str
    complete: Sequence[tuple[str, int]]


class AccessList:
    """Lists the looks at one person.

    Args:
        database: The registry's access log.
        store: Its tables.
        registry: The registry's database, which knows the cities.
        registry_store: Its tables.
        token_key: Secret that binds page tokens to their list.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: AccessIndexStore,
        registry: Database,
        registry_store: RegistryStore,
        token_key: bytes,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._registry = registry
        self._registry_store = registry_store
        self._token_key = token_key
        self._clock = clock

    async def page(self, subjects: Sequence[bytes], page_size: int, page_token: str) -> AccessPage:
        """Return a page of the looks at a person.

        Args:
            subjects: The tags of the person's numbers.
            page_size: Most looks; 0 for a usual page.
            page_token: That of the page before; empty for the first.

        Raises:
            Malformed: The token is not one of this list.
            StoreUnavailable: A database is away.
        """
        size = min(page_size, LARGEST_PAGE) or DEFAULT_PAGE
        subject = b"".join(sorted(subjects))
        before = self._open_token(subject, page_token) if page_token else None
        now_us = self._clock()

        def read(
            conn: Connection,
        ) -> tuple[list[SubjectLook], _Looks, _Sources]:
            # In one snapshot: what is said to be complete is in the list.
            rows = self._store.of_subjects(conn, subjects, now_us=now_us, before=before, limit=size + 1)
            looks = self._store.looks.at(conn, [_place(row) for row in rows])
            sources = {s.node: (s.city, s.indexed_complete_us) for s in self._store.sources(conn)}
            return rows, looks, sources

        cities = {city.city for city in await self._registry.read(self._registry_store.cities)}
        rows, looks, sources = await self._database.read(read)
        token = ""
        if len(rows) > size:
            token = self._seal_token(subject, rows[size - 1])
        silent = cities - {city for city, _ in sources.values()}
        complete = {node: until for node, (_, until) in sources.items()} | {f"city-{city}": 0 for city in silent}
        listed = [_listed(row, looks[_place(row)]) for row in rows[:size] if _place(row) in looks]
        return AccessPage(listed, token, sorted(complete.items()))

    def _seal_token(self, subject: bytes, row: SubjectLook) -> str:
        place = json.dumps([row.at_us, row.node, row.sequence, row.place]).encode()
        return urlsafe_b64encode(self._tag(subject, place) + place).decode()

    def _open_token(self, subject: bytes, token: str) -> tuple[int, str, int, int]:
        try:
            opened = urlsafe_b64decode(token)
        except ValueError:
            opened = b""
        tag, place = opened[:_TAG_BYTES], opened[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(subject, place)):
            raise Malformed(
                "the page token is not one of this list",
                violations=[Violation("page_token", "TOKEN_INVALID", "send the token of the page before, unchanged")],
            )
        at_us, node, sequence, position = json.loads(place)
        return at_us, node, sequence, position

    def _tag(self, subject: bytes, place: bytes) -> bytes:
        return hmac.digest(self._token_key, b"accesses\n" + subject + place, "sha256")[:_TAG_BYTES]


def _place(row: SubjectLook) -> tuple[str, AccessPosition]:
    return row.node, AccessPosition(row.day, row.sequence)


def _listed(row: SubjectLook, look: RecordedAccess) -> ListedLook:
    start = row.place * MASK_BYTES
    return ListedLook(look, look.entry.outcomes[row.place], from_mask(look.entry.fields[start : start + MASK_BYTES]))
