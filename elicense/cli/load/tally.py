"""What a load test counts while it runs: calls, units, errors, durations, second by second."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from elicense.cli.load.histogram import Histogram


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a test.

    Attributes:
        at: Seconds since its start.
        calls: Calls that ended in it.
        units: What they brought (licences, verdicts, entries).
        errors: Those that failed.
        p50_us: Half of the calls took no longer.
        p99_us: All but one in a hundred took no longer.
    """

    at: int
    calls: int
    units: int
    errors: int
    p50_us: int
    p99_us: int


@dataclass(slots=True)
class Tally:
    """The counts of one test.

    Attributes:
        latency: From the intended start of each call to its end; failed ones included.
        service: From the true start of each call to its end.
        units: What the calls brought.
        errors: Failed calls by reason.
        not_made: Calls whose time had come and that were never made.
        in_flight: Calls that run now.
        seconds: What was counted in each second.
    """

    latency: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    units: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    not_made: int = 0
    in_flight: int = 0
    seconds: list[Second] = field(default_factory=list)
    _now: Histogram = field(default_factory=Histogram)
    _units_before: int = 0
    _errors_before: int = 0

    @property
    def calls(self) -> int:
        """Calls that ended."""
        return self.service.count

    @property
    def failed(self) -> int:
        """Calls that failed or were never made."""
        return self.errors.total() + self.not_made

    def ended(self, *, latency_us: int, service_us: int, units: int) -> None:
        """Count a call that was answered."""
        self.latency.record(latency_us)
        self.service.record(service_us)
        self._now.record(latency_us)
        self.units += units

    def failed_with(self, reason: str, *, latency_us: int, service_us: int) -> None:
        """Count a call that failed."""
        self.ended(latency_us=latency_us, service_us=service_us, units=0)
        self.errors[reason] += 1

    def never_made(self, waited_us: int) -> None:
        """Count a call that was due and not made, with the time that it had waited: less than it would have taken."""
        self.latency.record(waited_us)
        self.not_made += 1

    def close_second(self, at: int) -> Second:
        """End a second and return it."""
        failed = self.errors.total()
        second = Second(
            at,
            self._now.count,
            self.units - self._units_before,
            failed - self._errors_before,
            self._now.percentile(50),
            self._now.percentile(99),
        )
        self._now, self._units_before, self._errors_before = Histogram(), self.units, failed
        self.seconds.append(second)
        return second
