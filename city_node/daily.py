"""The daily job: what the days bring this city's licences, written as records.

Which licences a day concerns is read from the view page by page, and decided
again in the transaction that writes: so the job may run twice, late, or beside
clerks.  It uses the bulk lane, behind everything that somebody waits for, and
begins behind a backlog that the registry is taking in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

import structlog

from city_node.citylog import CityLog
from city_node.commands import ApplyRules, Deferred, NothingDue, Written
from city_node.gate import SigningGate
from city_node.giving_way import let_backlog_go_first
from city_node.licenses import Current
from city_node.pace import wait_for
from city_node.page_tokens import PageTokens
from city_node.revisions import Latest
from city_node.store import CityStore
from elicense.clock import SECOND_US, china_date, china_midnight
from elicense.errors import Error, LicenseNotFound, Malformed, Violation
from elicense.license.daily import first_due, next_step
from elicense.license.standing import decode_standing
from elicense.rpc.telemetry import describe_exception
from elicense.sql.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = structlog.stdlib.get_logger(__name__)

DEFAULT_PAGE: Final = 1_000
LARGEST_PAGE: Final = 5_000
#: Licences of one commit; a citizen at the counter waits for one commit at most.
LICENSES_PER_COMMIT: Final = 256
#: What a record is taken to have at most, on average over a commit; a larger commit is split by the writer.
_RECORD_BYTES: Final = 8_192
#: Rounds over one commit's licences before the page is given up; far more than any licence has steps.
_ROUNDS: Final = 200
_QUERY: Final = b"daily"
#: How long after a failure the job runs again, and how often an idle one looks at the clock.
RETRY_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of the daily job came to.

    Attributes:
        licenses: Licences looked at.
        revisions: Revisions written.
        next_token: Token of the next page; empty on the last.
    """

    licenses: int
    revisions: int
    next_token: str


class DailyRules:
    """Applies what the days bring.

    Args:
        city: Division code.
        log: The city's log.
        database: The city's database.
        store: Its tables.
        gate: Whether this node may sign.
        tokens: Seals page tokens.
        backlog: How many entries lack a receipt of the registry.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        city: int,
        log: CityLog,
        database: Database,
        store: CityStore,
        gate: SigningGate,
        tokens: PageTokens,
        backlog: Callable[[], int],
        clock: Callable[[], int],
    ) -> None:
        self._city = city
        self._log = log
        self._database = database
        self._store = store
        self._gate = gate
        self._tokens = tokens
        self._backlog = backlog
        self._clock = clock
        self._stop = asyncio.Event()

    async def settle(self, current: Current) -> bool:
        """Write the next step that is due for one licence; False when nothing is due.

        For a clerk who waits, so it does not use the bulk lane.
        """
        today = china_date(self._clock())
        if next_step(Latest.read(current.row, current.entry).license, today) is None:
            return False
        command = ApplyRules(((current.row.person_key, current.row.license_id),), today)
        await self._log.submit(command, entries=1, size=len(current.entry) + _RECORD_BYTES)
        return True

    async def page(self, day: date | None, page_size: int, page_token: str) -> Page:
        """Apply the rules of every day up to ``day`` to one page of licences.

        Args:
            day: The last day that counts; today in China when None.
            page_size: Licences to look at; 1,000 when zero.
            page_token: Token of the page before.

        Raises:
            Malformed: The day is one to come, or the token one of another query.
            DataLoss: This node only verifies.
            QueueFull: Too much waits for the log.
        """
        self._gate.check()
        today = china_date(self._clock())
        until = today if day is None else day
        if until > today:
            raise Malformed(
                "what a day to come brings can not be written yet",
                violations=[Violation("date", "DATE_IN_FUTURE", "Give a day that is not after today.")],
            )
        # Not bound to the day: a job that runs over midnight goes on with the new one.
        place = self._tokens.open(_QUERY, page_token, 32)
        size = min(page_size, LARGEST_PAGE) or DEFAULT_PAGE

        def read(conn: Connection) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            after = (place[:16], place[16:]) if place else None
            rows = self._store.view.standings(conn, city=self._city, after=after, limit=size)
            due = [(person_key, license_id) for person_key, license_id, standing in rows if _is_due(standing, until)]
            last = rows[-1][0] + rows[-1][1] if len(rows) == size else b""
            return len(rows), due, last

        looked_at, due, last = await self._database.read(read)
        written = 0
        for start in range(0, len(due), LICENSES_PER_COMMIT):
            written += await self._apply(due[start : start + LICENSES_PER_COMMIT], until)
        return Page(looked_at, written, self._tokens.seal(_QUERY, last) if last else "")

    async def run(self) -> None:
        """Apply every day's rules as soon as the day begins in China, until :meth:`stop`; a failure is tried again."""
        done: date | None = None
        while not self._stop.is_set():
            await let_backlog_go_first(self._backlog, self._stop)
            today = china_date(self._clock())
            pause = self._until_tomorrow()
            if today != done and self._gate.reason is None:
                try:
                    await self._whole_day(today)
                    done = today
                except Error as error:
                    _log.warning("daily_rules_failed", reason=error.reason, detail=error.message)
                    pause = RETRY_SECONDS
                except Exception as error:  # a defect here must not end the job for good, in silence
                    _log.error("daily_rules_failed", **describe_exception(error))
                    pause = RETRY_SECONDS
            await wait_for(self._stop, pause)

    def stop(self) -> None:
        """End :meth:`run` after the page in hand."""
        self._stop.set()

    async def _whole_day(self, day: date) -> None:
        token, licenses, revisions = "", 0, 0
        while not self._stop.is_set():
            page = await self.page(day, DEFAULT_PAGE, token)
            licenses += page.licenses
            revisions += page.revisions
            token = page.next_token
            if not token:
                _log.info("daily_rules_applied", day=day.isoformat(), licenses=licenses, revisions=revisions)
                return
            await asyncio.sleep(0)

    async def _apply(self, licenses: Sequence[tuple[bytes, bytes]], day: date) -> int:
        """Write every step that is due, one round a step, and return how many were written."""
        waiting, written = tuple(licenses), 0
        for _ in range(_ROUNDS):
            if not waiting:
                return written
            command = ApplyRules(waiting, day)
            committed = await self._log.submit(
                command, entries=len(waiting), size=len(waiting) * _RECORD_BYTES, bulk=True
            )
            again = []
            for license_, outcome in zip(waiting, committed.result, strict=True):
                if isinstance(outcome, (Written, Deferred)):
                    written += isinstance(outcome, Written)
                    again.append(license_)
                elif isinstance(outcome, Error) and not isinstance(outcome, (NothingDue, LicenseNotFound)):
                    # One record that can not be read must not hold up a whole city.
                    _log.error("daily_rule_refused", reason=outcome.reason, detail=outcome.message)
            waiting = tuple(again)
        raise Deferred("other changes of some licenses keep coming first; run the job again")

    def _until_tomorrow(self) -> float:
        now_us = self._clock()
        tomorrow = china_midnight(date.fromordinal(china_date(now_us).toordinal() + 1))
        return min(IDLE_SECONDS, max(1.0, (tomorrow - now_us) / SECOND_US))


def _is_due(standing: bytes, until: date) -> bool:
    try:
        day = first_due(decode_standing(standing, classes=False))
    except Malformed:
        return False
    return day is not None and day <= until
