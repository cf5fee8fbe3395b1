"""Answering from the national view.

Look-ups that wait together leave as one query, so that the cost of an answer
falls as the load rises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from elicense.rpc.coalesce import Coalescer
from elicense.rpc.crowd import Asked
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Answers
from elicense.rpc.watching import Relay
from elicense.sql.database import Database
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import NEVER_HEARD, Question, Verdicts, Wordings, effective_row, matches, verdict
from elicense.verification.attest import Attestor, Judged, past_place_of, place_of
from elicense.verification.given import add_standing, gives_with
from elicense.verification.look import Look
from elicense.verification.moment import Moment, Wish
from elicense.verification.past import PastLicense, verdict_then
from elicense.view.model import ViewRow
from elicense.view.past import PastReader, read_past
from elicense.view.person import PersonIndex
from registry.freshness import Freshness
from registry.national import KNOWN_EVENTS
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class NationalAnswers:
    """Judges queries over every city's licences.

    Args:
        database: The registry's database.
        store: Its tables.
        freshness: How current each city is here.
        persons: Computes person and name tags.
        fields: Gives what a role may see.
        attestor: Signs answers.
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
        attestor: Attestor,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._freshness = freshness
        self._persons = persons
        self._fields = fields
        self._attestor = attestor
        self._clock = clock
        self._wordings = Wordings()
        self._past = PastReader(store.view, store.logs, store.rulings.of, KNOWN_EVENTS)
        # One query at a time: two would share what waits between them, and a thread each.
        self._lookups: Coalescer[bytes, Sequence[ViewRow]] = Coalescer(self._look_up, lanes=1)

    async def answer(self, look: Look, queries: Sequence[pb.LicenseQuery], wish: Wish) -> Answers:
        """Return one verdict a query, in order.

        Raises:
            QueueFull: Too many look-ups wait already.
            StoreUnavailable: The database is away.
            StoreCorrupt: A record is not where the revision index says.
        """
        questions = [self._question(query) for query in queries]
        if wish.moment is not None:
            judged = await self._judge_then(questions, wish.moment)
        else:
            judged = await self._judge([(look, question) for question in questions], places=wish.sign)
        # Signed before fields are added: evidence holds none.
        evidence = (
            [
                self._attestor.evidence(query, given.verdict, given.place)
                for query, given in zip(queries, judged, strict=True)
            ]
            if wish.sign
            else ()
        )
        record = await self._give(look, judged)
        return Answers([given.verdict for given in judged], [True] * len(judged), record, evidence)

    async def judge(self, look: Look, query: pb.LicenseQuery) -> pb.Verdict:
        """Return the verdict of now; for whoever follows a licence."""
        judged = await self._judge([(look, self._question(query))], places=False)
        await self._give(look, judged)
        return judged[0].verdict

    def relay(self, look: Look, query: pb.LicenseQuery, wake: Callable[[], None]) -> Relay:  # noqa: ARG002
        """The registry asks nobody else."""
        raise AssertionError("the registry judges every license itself")

    async def judge_each(self, asked: Sequence[Asked]) -> Sequence[pb.Verdict]:
        """Return the verdicts of now on many looks that read no record, with the fields that each gets."""
        judged = await self._judge([(each.look, self._question(each.query)) for each in asked], places=False)
        for each, given in zip(asked, judged, strict=True):
            if given.row is not None and gives_with(each.look.rule, given.verdict.outcome):
                add_standing(given.verdict, given.row.standing, each.look.fields)
        return [given.verdict for given in judged]

    async def _judge(self, asked: Sequence[tuple[Look, Question]], *, places: bool) -> list[Judged]:
        # Before the rows, so that the rows hold all that it vouches for.
        cities = await self._freshness.of_cities()
        rows = await self._rows([question.person_key for _, question in asked])
        verdicts = Verdicts(self._clock(), self._wordings)
        judged = []
        for look, question in asked:
            row = effective_row(rows[question.person_key])
            freshness = cities.get(row.city, NEVER_HEARD)
            given = verdict(
                row, question, freshness=freshness, limit_us=look.rule.freshness_limit_us, verdicts=verdicts
            )
            place = place_of(row, freshness) if places else None
            judged.append(Judged(given, row if matches(row, question) else None, place))
        return judged

    async def _judge_then(self, questions: Sequence[Question], moment: Moment) -> list[Judged]:
        cities = await self._freshness.of_cities()

        def read(conn: Connection) -> list[PastLicense | None]:
            rows = self._store.view.of_persons(conn, {question.person_key for question in questions})
            return read_past(self._past, conn, rows, questions, moment)

        found = await self._database.read(read)
        now_us = self._clock()
        judged = []
        for past in found:
            freshness = cities.get(past.row.city, NEVER_HEARD) if past is not None else NEVER_HEARD
            given = verdict_then(past, moment, freshness=freshness, now_us=now_us)
            judged.append(Judged(given, None if past is None else past.row_then, past_place_of(past, freshness)))
        return judged

    async def _give(self, look: Look, judged: Sequence[Judged]) -> pb.ProvedRecord | None:
        return await self._fields.give(look, [(given.verdict, given.row) for given in judged if given.row is not None])

    def _question(self, query: pb.LicenseQuery) -> Question:
        return Question(
            person_key=self._persons.person_key(query.document.type, query.document.number),
            name_tag=self._persons.name_tag(query.holder_name) if query.holder_name else b"",
        )

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()
        await self._fields.close()

    async def _rows(self, keys: Sequence[bytes]) -> Mapping[bytes, Sequence[ViewRow]]:
        if len(keys) == 1:
            return {keys[0]: await self._lookups.submit(keys[0])}
        return await self._query(keys)

    async def _look_up(self, keys: list[bytes]) -> Sequence[Sequence[ViewRow]]:
        found = await self._query(keys)
        return [found[key] for key in keys]

    async def _query(self, keys: Sequence[bytes]) -> Mapping[bytes, Sequence[ViewRow]]:
        wanted = list(dict.fromkeys(keys))
        persons = self._store.view.persons
        return persons.by_person(wanted, await self._database.query(persons.query(self._database.dialect, wanted)))
