"""Answering on a city node: its own licences with full authority, all others by asking the registry.

Only a match is answered from the city's own view.  An unknown number, a wrong
name and another city's licence all take one path, so that nobody learns from a
city node who holds a licence there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import grpc

from city_node.citylog import CityLog
from city_node.gate import SigningGate
from city_node.registry_faults import as_registry_fault
from city_node.store import CityStore
from elicense.errors import Unavailable
from elicense.license.verdict import REGISTRY_UNREACHABLE, ViewFlags
from elicense.rpc.coalesce import Coalescer
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Answers
from elicense.sql.database import Database
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.verification.answer import CityFreshness, Question, as_message, effective_row, matches, verdict
from elicense.verification.given import restrict
from elicense.verification.look import Look
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: A person waits at a counter; better an honest "can not be said now" than a long silence.
FORWARD_SECONDS: Final = 5.0


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
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._persons = persons
        self._fields = fields
        self._gate = gate
        self._stub = stub
        self._clock = clock
        self._lookups: Coalescer[tuple[bytes, ...], list[ViewRow]] = Coalescer(self._look_up)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()
        await self._fields.close()

    async def answer(self, look: Look, queries: Sequence[pb.LicenseQuery]) -> Answers:
        """Return one verdict a query, in order.

        Raises:
            StoreUnavailable: The city's database is away.
            Error: The registry refused the question.
        """
        questions = [
            Question(
                self._persons.person_key(query.document.type, query.document.number),
                self._persons.name_tag(query.holder_name) if query.holder_name else b"",
            )
            for query in queries
        ]
        now_us = self._clock()
        rows = await self._lookups.submit(tuple(question.person_key for question in questions))
        freshness = CityFreshness(pb.SOURCE_CITY, now_us, self._log.size, self._log.key.epoch)
        judged: list[tuple[pb.Verdict, bool]] = [
            (
                verdict(row, question, freshness=freshness, limit_us=look.rule.freshness_limit_us, now_us=now_us),
                matches(row, question) and self._speaks_for(row),
            )
            for row, question in zip(rows, questions, strict=True)
        ]
        record = await self._fields.give(
            look, [(given, row) for (given, mine), row in zip(judged, rows, strict=True) if mine]
        )
        verdicts, own = [given for given, _ in judged], [True] * len(judged)
        asked = [position for position, (_, mine) in enumerate(judged) if not mine]
        if not asked:
            return Answers(verdicts, own, record)
        forwarded = await self._forward(look, [queries[position] for position in asked])
        if forwarded is None:
            # Nobody else has recorded these looks: they stay this node's own.
            unreachable = as_message(REGISTRY_UNREACHABLE, now_us=now_us)
            for position in asked:
                verdicts[position] = unreachable
            return Answers(verdicts, own, record)
        for position, given in zip(asked, forwarded.verdicts, strict=True):
            restrict(given, look.fields)
            verdicts[position], own[position] = given, False
        return Answers(verdicts, own, record or forwarded.record)

    def _speaks_for(self, row: ViewRow) -> bool:
        """Whether this node has the last word on a licence.

        Not in a conflict: the nation may count another city's licence.  Not of
        a cancelled licence: the person may hold a new one elsewhere.  Not while
        its own history is in doubt: its database may have been set back.
        """
        foreign = ViewFlags.CONFLICT | ViewFlags.CANCELLED
        return not row.flags & foreign and self._gate.reason is None

    async def _forward(self, look: Look, queries: Sequence[pb.LicenseQuery]) -> Answers | None:
        """Ask the registry, for no more than this node's own table allows; None when it can not judge."""
        context = pb.LookContext(
            purpose=int(look.purpose),  # type: ignore[arg-type]  # same numbers
            case_number=look.case_number,
            on_behalf_of=look.verifier,
            fields=pb.FieldSelection(fields=sorted(look.fields)),  # type: ignore[arg-type]  # same numbers
        )
        if look.sealed_us:
            context.sealed.delay.FromMicroseconds(look.sealed_us)
        try:
            if len(queries) == 1:
                one = pb.VerifyLicenseRequest(query=queries[0], context=context, with_record=look.with_record)
                answer = await self._stub.VerifyLicense(one, timeout=FORWARD_SECONDS)
                return Answers([answer.verdict], [False], answer.record if answer.HasField("record") else None)
            many = pb.BatchVerifyLicensesRequest(queries=queries, context=context)
            answered = (await self._stub.BatchVerifyLicenses(many, timeout=FORWARD_SECONDS)).verdicts
        except grpc.RpcError as error:
            raised = as_registry_fault(from_rpc_error(error))
            if isinstance(raised, Unavailable):
                return None
            raise raised from error
        return Answers(answered, [False] * len(answered)) if len(answered) == len(queries) else None

    async def _look_up(self, asked: list[tuple[bytes, ...]]) -> Sequence[list[ViewRow]]:
        def read(conn: Connection) -> dict[bytes, list[ViewRow]]:
            return self._store.view.of_persons(conn, {key for keys in asked for key in keys})

        found = await self._database.read(read)
        return [[effective_row(found[key]) for key in keys] for keys in asked]
