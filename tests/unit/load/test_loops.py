"""Open and closed loops: what is counted, from when, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from elicense.cli.load.curve import steady
from elicense.cli.load.loops import NOT_ANSWERED, Call, CutShort, Loop
from elicense.cli.load.report import Report, check_thresholds, error_rate
from elicense.cli.load.scenario import Scenario, Thresholds
from elicense.cli.load.tally import Second, Tally
from elicense.errors import QuotaExceeded


class Test:
    """A loop over a call of the test's choice."""

    __test__ = False

    def __init__(self, call: Call, **options: Any) -> None:
        self.tally = Tally()
        self.stop = asyncio.Event()
        self.seconds: list[Second] = []
        self.loop = Loop(
            call,
            self.tally,
            **{"seconds": 0.2, "max_calls": None, "in_flight": 4} | options,
            stop=self.stop,
            each_second=self.seconds.append,
        )


async def at_once(_: int) -> int:
    return 3


async def test_an_open_loop_makes_each_call_that_is_due() -> None:
    test = Test(at_once, max_calls=20, seconds=60)
    await test.loop.open(steady(100))
    assert (test.tally.calls, test.tally.units, test.tally.failed) == (20, 60, 0)
    assert sum(second.calls for second in test.seconds) == 20


async def test_calls_that_wait_for_a_slow_server_count_the_waiting() -> None:
    async def slow(number: int) -> int:
        # The first call holds the only place; what is due meanwhile is made late.
        await asyncio.sleep(0.1 if number == 0 else 0)
        return 1

    test = Test(slow, in_flight=1, max_calls=20, seconds=60)
    await test.loop.open(steady(100))
    assert test.tally.calls == 20
    assert test.tally.latency.percentile(90) > test.tally.service.percentile(90)


async def test_calls_that_were_never_made_are_failures_with_the_time_that_they_waited() -> None:
    async def stuck(_: int) -> int:
        await asyncio.sleep(0.15)
        return 1

    test = Test(stuck, in_flight=1)
    await test.loop.open(steady(100))
    assert test.tally.calls + test.tally.not_made == 20
    assert test.tally.not_made > 10
    assert test.tally.latency.count == 20
    assert error_rate(test.tally) > 0.5


async def test_a_closed_loop_ends_after_the_calls_that_it_may_make() -> None:
    test = Test(at_once, max_calls=50, seconds=60)
    await test.loop.closed()
    assert test.tally.calls == 50


@pytest.mark.parametrize("kind", ["open", "closed"])
async def test_a_test_that_has_made_its_calls_before_its_time_was_cut_short(kind: str) -> None:
    for stopped, reason in ((False, CutShort.MAX_CALLS), (True, CutShort.INTERRUPTED)):
        test = Test(at_once, max_calls=20, seconds=60)
        if stopped:
            test.stop.set()
        await (test.loop.open(steady(100)) if kind == "open" else test.loop.closed())
        assert test.loop.cut_short is reason


async def test_a_test_whose_calls_are_all_made_in_its_time_was_not_cut_short() -> None:
    for most in (20, None):
        test = Test(at_once, max_calls=most, seconds=0.2)
        took = await test.loop.open(steady(100))
        assert (test.tally.calls, test.loop.cut_short) == (20, None)
        assert took >= 0.2
    test = Test(at_once, seconds=0.05)
    await test.loop.closed()
    assert test.loop.cut_short is None


async def test_refusals_are_counted_by_reason() -> None:
    async def refused(number: int) -> int:
        if number % 2:
            raise QuotaExceeded("enough for today")
        return 1

    test = Test(refused, max_calls=10, seconds=60)
    await test.loop.closed()
    assert test.tally.errors == {QuotaExceeded.reason: 5}
    assert (test.tally.calls, test.tally.units) == (10, 5)


async def test_calls_without_an_answer_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(_: int) -> int:
        await asyncio.Event().wait()
        return 1

    monkeypatch.setattr("elicense.cli.load.loops.DRAIN_S", 0.01)
    test = Test(hangs, seconds=0.05)
    await test.loop.closed()
    assert test.tally.errors == {NOT_ANSWERED: 4}


async def test_a_stopped_test_gives_what_it_has_and_blames_nobody() -> None:
    test = Test(at_once, seconds=60)

    async def some(number: int) -> int:
        if number == 9:
            test.stop.set()
            await asyncio.Event().wait()
        return 1

    test.loop._call = some
    await test.loop.open(steady(1_000))
    assert test.tally.calls >= 9
    assert test.tally.failed == 0


async def test_a_fault_of_the_test_itself_ends_it() -> None:
    async def broken(_: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Test(broken, seconds=60).loop.open(steady(100))


def tally_of(*durations_us: int, failed: int = 0) -> Tally:
    tally = Tally()
    for place, duration in enumerate(durations_us):
        if place < failed:
            tally.failed_with("X", latency_us=duration, service_us=duration)
        else:
            tally.ended(latency_us=duration, service_us=duration, units=1)
    return tally


@pytest.mark.parametrize(
    ("thresholds", "held"),
    [
        (Thresholds(), True),
        (Thresholds(p50_ms=1.01, p99_ms=5, error_rate=0.5, min_rate=1), True),
        (Thresholds(p50_ms=0.5), False),
        (Thresholds(p99_ms=3), False),
        (Thresholds(error_rate=0.1), False),
        (Thresholds(min_rate=3), False),
    ],
)
def test_each_threshold_can_be_missed(thresholds: Thresholds, held: bool) -> None:
    scenario = Scenario(name="x", kind="verify", thresholds=thresholds)
    tally = tally_of(1_000, 1_000, 1_000, 4_000, failed=1)
    report = Report(scenario, "t", 2.0, tally, check_thresholds(scenario, tally, 2.0), cut_short=None)
    assert report.held is held
    assert ("**missed**" in report.as_markdown()) is not held
    assert report.as_json()["held"] is held


@pytest.mark.parametrize("cut_short", CutShort)
def test_a_report_of_a_test_that_was_cut_short_says_so_and_holds_nothing(cut_short: CutShort) -> None:
    scenario = Scenario(name="x", kind="verify", thresholds=Thresholds(p50_ms=60_000))
    tally = tally_of(1_000)
    report = Report(scenario, "t", 2.0, tally, check_thresholds(scenario, tally, 2.0), cut_short=cut_short)
    assert not report.held
    assert f"**cut short ({cut_short}) after 2.0 of 30 s**" in report.as_markdown()
    assert (report.as_json()["held"], report.as_json()["cut_short"]) == (False, cut_short)


def test_a_test_without_an_answer_keeps_no_threshold() -> None:
    scenario = Scenario(name="x", kind="verify", thresholds=Thresholds(p99_ms=1_000))
    assert not check_thresholds(scenario, Tally(), 2.0)[0].held
