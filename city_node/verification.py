"""Answering on a city node: its own licences with full authority, all others by asking the registry.

Only a match is answered from the city's own view.  An unknown number, a wrong
name and another city's licence all take one path, so that nobody learns from a
city node who holds a licence there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc

from city_node.citylog import CityLog
from city_node.gate import SigningGate
from city_node.registry_faults import as_registry_fault
from city_node.relay import RegistryRelay, Relays
from city_node.store import CityStore
from elicense.clock import china_date, to_timestamp
from elicense.errors import Unavailable
from elicense.license.bans import until_of
from elicense.license.verdict import REGISTRY_UNREACHABLE, ViewFlags
from elicense.rpc.coalesce import Coalescer
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Answers
from elicense.sql.database import Database
from elicense.v1 import license_pb2, verification_pb2_grpc
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import CityFreshness, Question, Verdicts, as_message, effective_row, matches, verdict
from elicense.verification.attest import Attestor, Judged, past_place_of, place_of
from elicense.verification.given import restrict
from elicense.verification.look import Look
from elicense.verification.moment import Moment, Wish
from elicense.verification.past import PastLicense, verdict_then
from elicense.view.fold import row_ban
from elicense.view.model import ViewRow
from elicense.view.past import PastReader, read_past
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: A person waits at a counter; better an honest "can not be said now" than a long silence.
FORWARD_SECONDS: Final = 5.0


_OWN_EVENTS: Final = frozenset(license_pb2.LicenseEvent.values())
"""A city knows every event of its own log."""


class CityAnswers:
    """Judges queries over one city's licences and forwards the rest.

    Args:
        log: The city's log.
        database: The city's database.
        store: Its tables.
        persons: Computes person and name tags of this city's index.
        fields: Gives what a role may see.
        gate: Shut while the city's history is in doubt.
        stub: The registry's VerificationService.
        relays: Follows at the registry what is not judged here.
        attestor: Signs this city's own answers.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        database: Database,
        store: CityStore,
        persons: PersonIndex,
        fields: LicenseFields,
        gate: SigningGate,
        stub: verification_pb2_grpc.VerificationServiceStub,
        relays: Relays,
        attestor: Attestor,
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._persons = persons
        self._fields = fields
        self._gate = gate
        self._stub = stub
        self._relays = relays
        self._attestor = attestor
        self._clock = clock
        # A licence that the registry ever ruled upon is asked for at the registry.
        self._past = PastReader(store.view, store.logs, lambda _conn, _ids: {}, _OWN_EVENTS)
        self._lookups: Coalescer[tuple[bytes, ...], list[ViewRow]] = Coalescer(self._look_up, lanes=1)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()
        await self._fields.close()

    async def answer(self, look: Look, queries: Sequence[pb.LicenseQuery], wish: Wish) -> Answers:
        """Return one verdict a query, in order.

        Raises:
            StoreUnavailable: The city's database is away.
            Error: The registry refused the question.
        """
        questions = [self._question(query) for query in queries]
        if wish.moment is not None:
            judged = await self._judge_then(questions, wish.moment)
        else:
            judged = await self._judge(questions, look, places=wish.sign)
        asked = [position for position, given in enumerate(judged) if not given.own]
        forwarded = await self._forward(look, [queries[position] for position in asked], wish) if asked else None
        if forwarded is None:
            # Nobody else has recorded these looks: they stay this node's own.
            unreachable = as_message(REGISTRY_UNREACHABLE, now_us=self._clock())
            judged = [given if given.own else Judged(unreachable, None, None) for given in judged]
            asked = []
        verdicts, own = [given.verdict for given in judged], [given.own for given in judged]
        # Signed before fields are added: evidence holds none.
        evidence = [
            self._attestor.evidence(query, given.verdict, given.place) if given.own else pb.Evidence()
            for query, given in zip(queries if wish.sign else (), judged if wish.sign else (), strict=True)
        ]
        record = await self._give(look, judged)
        if forwarded is not None:
            for place, position in enumerate(asked):
                restrict(forwarded.verdicts[place], look.fields)
                verdicts[position] = forwarded.verdicts[place]
                if wish.sign:
                    evidence[position] = forwarded.evidence[place]
            record = record or forwarded.record
        return Answers(verdicts, own, record, evidence)

    async def judge(self, look: Look, query: pb.LicenseQuery) -> pb.Verdict | None:
        """Return the verdict of now on an own licence; None when the registry must be asked."""
        judged = await self._judge([self._question(query)], look, places=False)
        await self._give(look, judged)
        return judged[0].verdict if judged[0].own else None

    def relay(self, look: Look, query: pb.LicenseQuery, wake: Callable[[], None]) -> RegistryRelay:
        """Follow a licence at the registry, for no more than this node's own table allows."""
        request = pb.WatchLicenseRequest(query=query, context=_context(look))
        return self._relays.open(request, wake, allow=lambda given: restrict(given, look.fields))

    def _question(self, query: pb.LicenseQuery) -> Question:
        return Question(
            self._persons.person_key(query.document.type, query.document.number),
            self._persons.name_tag(query.holder_name) if query.holder_name else b"",
        )

    async def _judge(self, questions: Sequence[Question], look: Look, *, places: bool) -> list[Judged]:
        # Time and size before the rows, so that the rows hold all that they vouch for.
        verdicts, limit_us = Verdicts(self._clock()), look.rule.freshness_limit_us
        complete_us, size = await self._log.recently_durable()
        rows = await self._lookups.submit(tuple(question.person_key for question in questions))
        freshness = self._freshness(complete_us, size, rows)
        return [
            Judged(
                verdict(row, question, freshness=freshness, limit_us=limit_us, verdicts=verdicts),
                row,
                place_of(row, freshness) if places else None,
                matches(row, question) and self._speaks_for(row),
            )
            for row, question in zip(rows, questions, strict=True)
        ]

    async def _judge_then(self, questions: Sequence[Question], moment: Moment) -> list[Judged]:
        now_us = self._clock()
        complete_us, size = await self._log.recently_durable()

        def read(conn: Connection) -> list[PastLicense | None]:
            rows = self._store.view.of_persons(conn, {question.person_key for question in questions})
            return read_past(self._past, conn, rows, questions, moment)

        found = await self._database.read(read)
        freshness = self._freshness(complete_us, size, [past.row for past in found if past is not None])
        return [
            Judged(
                verdict_then(past, moment, freshness=freshness, now_us=now_us),
                None if past is None else past.row_then,
                past_place_of(past, freshness),
                self._spoke_for(past),
            )
            for past in found
        ]

    def _freshness(self, complete_us: int, size: int, rows: Sequence[ViewRow]) -> CityFreshness:
        epoch = self._log.key.epoch
        # Time and size are those of before the rows, which may be younger.
        held = max((row.idx + 1 for row in rows if row.epoch == epoch), default=0)
        return CityFreshness(pb.SOURCE_CITY, complete_us, max(size, held), epoch)

    async def _give(self, look: Look, judged: Sequence[Judged]) -> pb.ProvedRecord | None:
        return await self._fields.give(
            look, [(given.verdict, given.row) for given in judged if given.own and given.row is not None]
        )

    def _speaks_for(self, row: ViewRow) -> bool:
        """Whether this node has the last word on a licence.

        Not in a conflict, nor of a void licence: the nation may count another
        city's licence.  Not of a cancelled licence, or of a revoked one whose bar
        is over: the person may hold a new one elsewhere.  Not while its own
        history is in doubt: its database may have been set back.  Not of a licence
        that is offered to another city, nor of one whose offer was withdrawn until the
        registry has confirmed that, nor of one that another city has taken over.
        """
        foreign = ViewFlags.CONFLICT | ViewFlags.CANCELLED | ViewFlags.VOID | ViewFlags.OFFERED | ViewFlags.RECALLED
        if row.city != self._log.key.log:
            return False
        if (ban := row_ban(row)) is not None and until_of(ban) < china_date(self._clock()):
            return False
        return not row.flags & foreign and self._gate.reason is None

    def _spoke_for(self, past: PastLicense | None) -> bool:
        """Whether this node has the last word on what a licence was.

        Only with the whole history at hand: written here from the first revision
        on, without a gap that another city's revisions would fill, and never subject
        to a ruling of the registry.
        """
        if past is None or past.state.first is None or not self._speaks_for(past.row):
            return False
        return not past.row.flags & ViewFlags.PROVISIONAL and past.state.whole and not past.pending_at_first

    async def _forward(self, look: Look, queries: Sequence[pb.LicenseQuery], wish: Wish) -> Answers | None:
        """Ask the registry, for no more than this node's own table allows; None when it is away."""
        context, fields = _context(look), _wish_fields(wish)
        try:
            if len(queries) == 1:
                one = pb.VerifyLicenseRequest(query=queries[0], context=context, with_record=look.with_record, **fields)
                answer = await self._stub.VerifyLicense(one, timeout=FORWARD_SECONDS)
                record = answer.record if answer.HasField("record") else None
                return Answers([answer.verdict], [False], record, [answer.evidence])
            many = pb.BatchVerifyLicensesRequest(queries=queries, context=context, **fields)
            answers = await self._stub.BatchVerifyLicenses(many, timeout=FORWARD_SECONDS)
        except grpc.RpcError as error:
            raised = as_registry_fault(from_rpc_error(error))
            if isinstance(raised, Unavailable):
                return None
            raise raised from error
        whole = len(answers.verdicts) == len(queries) and len(answers.evidence) == wish.sign * len(queries)
        return Answers(answers.verdicts, [False] * len(queries), None, answers.evidence) if whole else None

    async def _look_up(self, asked: list[tuple[bytes, ...]]) -> Sequence[list[ViewRow]]:
        wanted = list(dict.fromkeys(key for keys in asked for key in keys))
        persons = self._store.view.persons
        found = persons.by_person(wanted, await self._database.query(persons.query(self._database.dialect, wanted)))
        # A licence that moved away must not stand before one that the person got here since.
        city = self._log.key.log
        return [
            [effective_row([row for row in found[key] if row.city == city] or found[key]) for key in keys]
            for keys in asked
        ]


def _context(look: Look) -> pb.LookContext:
    """Return why the registry is asked: for no more than this node's own table allows."""
    context = pb.LookContext(
        purpose=int(look.purpose),  # type: ignore[arg-type]  # same numbers
        case_number=look.case_number,
        on_behalf_of=look.verifier,
        fields=pb.FieldSelection(fields=sorted(look.fields)),  # type: ignore[arg-type]  # same numbers
    )
    if look.sealed_us:
        context.sealed.delay.FromMicroseconds(look.sealed_us)
    return context


def _wish_fields(wish: Wish) -> dict[str, Any]:
    fields: dict[str, Any] = {"sign": wish.sign}
    if wish.moment is not None:
        fields["at_time"] = to_timestamp(wish.moment.at_us)
        if wish.moment.known_us is not None:
            fields["as_known_time"] = to_timestamp(wish.moment.known_us)
    return fields
