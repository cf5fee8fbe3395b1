"""The arithmetic and the output of ``elicense bench``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from subprocess import PIPE, Popen

import pytest

from elicense.cli.bench.counter import Counter, percentile_ms
from elicense.cli.bench.people import number_of
from elicense.cli.bench.pilot import Cost
from elicense.cli.bench.report import Report
from elicense.cli.bench.rounds import SERVER, Figure, Round, Row, measure
from elicense.cli.bench.usage import Processes
from elicense.license.document import is_resident_number


def _figure() -> Figure:
    rounds = [Round(1_000, 2.0, {SERVER: 0.2}), Round(1_000, 1.0, {SERVER: 0.4}), Round(1_000, 1.0, {SERVER: 0.3})]
    return Figure("call", "call", rounds, "echo", (0.5, 0.4, 0.6))


def test_a_figure_is_the_median_of_its_rounds_with_their_spread() -> None:
    figure = _figure()
    assert figure.cost_us == pytest.approx(300)
    assert figure.spread_us == pytest.approx((200, 400))
    assert figure.rate == pytest.approx(1_000)
    assert figure.part_us(SERVER) == pytest.approx(300)


def test_a_report_gives_the_same_figures_to_people_and_machines() -> None:
    report = Report("Calls", {"licenses": 1_000}, [_figure()])
    assert "| call | call | 300.0 (200.0 to 400.0) | 300.0 | 0.0 | 1,000 | 0.50 × echo |" in report.markdown()
    (figure,) = json.loads(report.json())["figures"]
    assert figure["reference_ratio"] == 0.5
    assert len(figure["rounds"]) == 3


async def test_each_round_is_compared_with_the_reference_of_the_same_round() -> None:
    order: list[str] = []

    def spending(name: str, turns: int) -> Row:
        async def work() -> int:
            order.append(name)
            sum(number * number for number in range(turns))
            return 1

        return Row(name, work, {SERVER: Processes(os.getpid())}, reference="" if name == "cheap" else "cheap")

    cheap, dear = await measure([spending("cheap", 600_000), spending("dear", 6_000_000)], rounds=2)
    # The first round of each warms up and does not count.
    assert order == ["cheap", "dear"] * 3
    assert len(cheap.rounds) == len(dear.rounds) == len(dear.cheaper) == 2
    assert not cheap.cheaper
    assert all(ratio < 1 for ratio in dear.cheaper)


def test_the_cost_of_a_process_counts_its_children_that_have_ended() -> None:
    before = Processes(os.getpid()).cpu_s()
    child = os.spawnlp(os.P_NOWAIT, "python3", "python3", "-c", "sum(range(10_000_000))")
    os.waitpid(child, 0)
    assert Processes(os.getpid()).cpu_s() > before
    assert Processes(os.getpid()).anonymous_bytes() > 2**20


def test_memory_is_told_of_each_process_since_none_may_have_much() -> None:
    with Popen(
        [sys.executable, "-c", "held = b'x' * 2**25; print(flush=True); input()"], stdin=PIPE, stdout=PIPE
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        own, *below = Processes(os.getpid()).anonymous_of_each()
        one.communicate(b"\n")
    assert own > 2**20
    assert max(below) > 2**25
    cost = Cost("registry", 1)
    for anonymous in ([100, 40], [90, 120], [80]):
        cost.see(anonymous)
    assert (cost.memory, cost.memory_with_assistants) == (120, 210)


def test_every_synthetic_holder_has_a_number_of_its_own_that_can_be_one() -> None:
    ordinals = [0, 1, 18_250, 18_251, 9_999_999, 17_999_999]
    numbers = [number_of(each) for each in ordinals]
    assert all(map(is_resident_number, numbers))
    assert len(set(numbers)) == len(ordinals)


async def test_what_a_row_does_besides_is_taken_off_and_said() -> None:
    async def work() -> int:
        sum(range(200_000))
        return 10

    mine = {SERVER: Processes(os.getpid(), below=False)}
    alone, both = await measure([Row("alone", work, mine), Row("both", work, mine, besides="alone")], rounds=2)
    assert alone.cost_us > 0
    assert both.cost_us < both.notes["µs with nothing taken off for “alone”"]


async def test_the_counter_counts_the_wait_of_whoever_came_while_somebody_was_served() -> None:
    served = asyncio.Event()
    come: list[int] = []

    async def call() -> None:
        come.append(1)
        if len(come) == 3:
            served.set()
        await served.wait()

    waits = await Counter(call, rate=1_000).serve(served.is_set)
    assert len(waits) >= 3
    # The first one waited for two more to come, however long the calls themselves take.
    assert waits[0] > waits[2]
    assert percentile_ms([0.001, 0.002, 0.003], 50) == 2
    assert percentile_ms([0.001, 0.002, 0.003], 99) == 3
