"""Answering from the national view.

Look-ups that wait together leave as one query, so that the cost of an answer
falls as the load rises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from elicense.rpc.coalesce import Coalescer
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Answers
from elicense.sql.database import Database
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import NEVER_HEARD, Question, effective_row, matches, verdict
from elicense.verification.look import Look
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.freshness import Freshness
from registry.store import RegistryStore


class NationalAnswers:
    """Judges queries over every city's licences.

    Args:
        database: The registry's database.
        store: Its tables.
        freshness: How current each city is here.
        persons: Computes person and name tags.
        fields: Gives what a role may see.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        freshness: Freshness,
        persons: PersonIndex,
        fields: LicenseFields,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._freshness = freshness
        self._persons = persons
        self._fields = fields
        self._clock = clock
        self._lookups: Coalescer[bytes, Sequence[ViewRow]] = Coalescer(self._look_up)

    async def answer(self, look: Look, queries: Sequence[pb.LicenseQuery]) -> Answers:
        """Return one verdict a query, in order.

        Raises:
            QueueFull: Too many look-ups wait already.
            StoreUnavailable: The database is away.
        """
        questions = [
            Question(
                person_key=self._persons.person_key(query.document.type, query.document.number),
                name_tag=self._persons.name_tag(query.holder_name) if query.holder_name else b"",
            )
            for query in queries
        ]
        # Before the rows, so that the rows hold all that it vouches for.
        cities = await self._freshness.of_cities()
        rows = await self._rows([question.person_key for question in questions])
        now_us = self._clock()
        verdicts: list[pb.Verdict] = []
        matching: list[tuple[pb.Verdict, ViewRow]] = []
        for question in questions:
            row = effective_row(rows[question.person_key])
            freshness = cities.get(row.city, NEVER_HEARD)
            given = verdict(row, question, freshness=freshness, limit_us=look.rule.freshness_limit_us, now_us=now_us)
            verdicts.append(given)
            if matches(row, question):
                matching.append((given, row))
        record = await self._fields.give(look, matching)
        return Answers(verdicts, [True] * len(verdicts), record)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()
        await self._fields.close()

    async def _rows(self, keys: Sequence[bytes]) -> Mapping[bytes, Sequence[ViewRow]]:
        if len(keys) == 1:
            return {keys[0]: await self._lookups.submit(keys[0])}
        return await self._database.read(lambda conn: self._store.view.of_persons(conn, set(keys)))

    async def _look_up(self, keys: list[bytes]) -> Sequence[Sequence[ViewRow]]:
        found = await self._database.read(lambda conn: self._store.view.of_persons(conn, set(keys)))
        return [found[key] for key in keys]
