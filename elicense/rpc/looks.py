"""One look from its admission to its answer: counted, answered, recorded, in this order, for every RPC that shows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from elicense.access.entry import AccessEntry
from elicense.errors import Malformed, Violation
from elicense.license.document import normalize_number
from elicense.license.fields import to_mask
from elicense.quota.leases import Quotas
from elicense.rpc.crowd import Asked, Crowd, JudgingTogether, RecordingTogether
from elicense.rpc.watching import Watching
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.given import reads_record
from elicense.verification.look import Look
from elicense.verification.moment import PLAIN, Wish, read_wish
from elicense.view.person import PersonIndex

#: What the proto allows before normalizing holds after it as well, so that a city and the registry say the same.
MAX_NUMBER: Final = 32


class Answering(Protocol):
    """What a node knows of licences: the national view, or one city's and the way to the rest."""

    async def answer(self, look: Look, queries: Sequence[pb.LicenseQuery], wish: Wish) -> Answers:
        """Return one verdict a query, in order; about the moment and with the evidence that are wished for.

        Raises:
            StoreUnavailable: The database is away.
        """


class Recording(RecordingTogether, Protocol):
    """Where looks are made durable."""

    async def record(self, entry: AccessEntry) -> object:
        """Return once the look is durable; only then may it be answered.

        Raises:
            StoreFull: It can not be recorded.
            StoreUnavailable: The log can not be reached.
        """


class Answers:
    """Verdicts, and which of them this node gave itself.

    Args:
        verdicts: One a query, in order.
        own: For each, whether this node judged it, and so must record the look; what was
            forwarded is recorded by the registry.
        record: The record with its proof, where the look gets one.
        evidence: One a query, in order; empty unless wished for.
    """

    __slots__ = ("evidence", "own", "record", "verdicts")

    def __init__(
        self,
        verdicts: Sequence[pb.Verdict],
        own: Sequence[bool],
        record: pb.ProvedRecord | None = None,
        evidence: Sequence[pb.Evidence] = (),
    ) -> None:
        self.verdicts = verdicts
        self.own = own
        self.record = record
        self.evidence = evidence


class Looks:
    """Makes looks that have been admitted.

    Args:
        answering: Judges queries.
        watching: Follows licences.
        quotas: Counts looks, before any is answered.
        recorder: Makes each look durable before it is answered.
        subjects: Computes the tags by which access logs name persons, the same on every node.
        clock: UTC microseconds.
        together: Judges single looks that wait together; None for a node that answers each by itself.
    """

    def __init__(
        self,
        *,
        answering: Answering,
        watching: Watching,
        quotas: Quotas,
        recorder: Recording,
        subjects: PersonIndex,
        clock: Callable[[], int],
        together: JudgingTogether | None = None,
    ) -> None:
        self._crowd = (
            Crowd(judging=together, recorder=recorder, entry_of=_entry_of_one, clock=clock) if together else None
        )
        self._answering = answering
        self._watching = watching
        self._quotas = quotas
        self._recorder = recorder
        self._subjects = subjects
        self._clock = clock

    def subject(self, document: license_pb2.IdentityDocument) -> bytes:
        """Return the tag under which looks at whoever has a document are recorded; the number must be normalized."""
        return self._subjects.person_key(document.type, document.number)

    def wish(self, request: pb.VerifyLicenseRequest | pb.BatchVerifyLicensesRequest) -> Wish:
        """Return how a request is to be answered.

        Raises:
            Malformed: The moments that it names make no sense; all faults are named.
        """
        return read_wish(request, self._clock())

    async def make(self, method: str, look: Look, queries: Sequence[pb.LicenseQuery], wish: Wish = PLAIN) -> Answers:
        """Answer a look, once it has been counted, and recorded durably.

        Raises:
            Malformed: A number is blank, or too long once it is in normal form.
            QuotaExceeded: The verifier has had its looks of the day.
            StoreFull: The look can not be recorded.
            StoreUnavailable: A database is away.
        """
        _normalize(queries)
        tags = [self.subject(query.document) for query in queries]
        await self._quotas.spend(look.verifier, look.role, tags)
        if self._crowd is not None and len(queries) == 1 and wish == PLAIN and not reads_record(look):
            return Answers((await self._crowd.look(Asked(look, queries[0], tags[0], method)),), (True,))
        answers = await self._answering.answer(look, queries, wish)
        seen = [(tag, given) for tag, given, own in zip(tags, answers.verdicts, answers.own, strict=True) if own]
        if seen:
            await self._record(method, look, seen)
        return answers

    async def follow(self, method: str, look: Look, query: pb.LicenseQuery) -> AsyncGenerator[pb.Verdict, None]:
        """Yield the verdict of now and each later one that differs: each a look, counted and recorded before.

        Raises:
            QuotaExceeded: The verifier has had its looks of the day.
            WatchesExhausted: The verifier, or this server, follows as many licences as it may.
            StoreFull: A look can not be recorded.
            StoreUnavailable: A database is away.
            ShuttingDown: The server ends.
        """
        _normalize([query])
        tag = self.subject(query.document)
        async with aclosing(self._watching.follow(look, query)) as pushed:
            async for given, own in pushed:
                await self._quotas.spend(look.verifier, look.role, [tag])
                if own:
                    await self._record(method, look, [(tag, given)])
                yield given

    async def close(self) -> None:
        """Wait for looks that were accepted."""
        if self._crowd is not None:
            await self._crowd.close()

    async def _record(self, method: str, look: Look, seen: Sequence[tuple[bytes, pb.Verdict]]) -> None:
        # Read in the same step in which the recorder learns of it: see AccessRecorder.complete_until.
        await self._recorder.record(_entry_of(self._clock(), method, look, seen))


def _entry_of_one(at_us: int, asked: Asked, given: pb.Verdict) -> AccessEntry:
    return _entry(at_us, asked.method, asked.look, asked.subject, bytes((given.outcome,)), to_mask(given.fields))


def _entry_of(at_us: int, method: str, look: Look, seen: Sequence[tuple[bytes, pb.Verdict]]) -> AccessEntry:
    subjects = b"".join([tag for tag, _ in seen])
    outcomes = bytes([given.outcome for _, given in seen])
    return _entry(at_us, method, look, subjects, outcomes, b"".join([to_mask(given.fields) for _, given in seen]))


def _entry(at_us: int, method: str, look: Look, subjects: bytes, outcomes: bytes, fields: bytes) -> AccessEntry:
    return AccessEntry(
        at_us,
        look.verifier,
        look.via,
        look.role.value,
        int(look.purpose),
        look.case_number,
        method,
        subjects,
        outcomes,
        fields,
        at_us + look.sealed_us if look.sealed_us else 0,
    )


def _normalize(queries: Sequence[pb.LicenseQuery]) -> None:
    violations = []
    for position, query in enumerate(queries):
        number = query.document.number = normalize_number(query.document.number)
        if not 1 <= len(number) <= MAX_NUMBER:
            field = "query" if len(queries) == 1 else f"queries[{position}]"
            text = f"give the document's number: 1 to {MAX_NUMBER} characters that are not blank"
            violations.append(Violation(f"{field}.document.number", "DOCUMENT_NUMBER_INVALID", text))
    if violations:
        raise Malformed("a document number can not be one", violations=violations)
