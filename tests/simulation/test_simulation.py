"""A short run of the simulation, and that it can fail."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from city_node import batches
from city_node.refill import Refill
from city_node.verification import CityAnswers
from elicense.license.verdict import ViewFlags
from elicense.log.erased_store import Erased
from elicense.log.model import Head, LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.v1 import license_pb2, log_pb2
from elicense.view.model import ViewRow
from registry import explanation, quarantine
from registry.batch import Batch, Taken
from registry.board import Board
from registry.board import Outcome as BoardOutcome
from registry.handovers import TransferDecision
from registry.history import open_key
from registry.ingest import Ingest
from registry.quarantine import ApproveRelease, QuarantineCommand
from registry.quarantine_model import Quarantine
from registry.store import RegistryStore
from registry.transfer_decider import TransferDecider
from registry.verification import NationalAnswers
from tests.simulation import scenario
from tests.simulation.database import SimDatabase
from tests.simulation.nodes import Doubles
from tests.simulation.run import memory, tell
from tests.simulation.scenario import simulate
from tests.simulation.template import Template, make_template

T = TypeVar("T")
U = TypeVar("U")

SEEDS = int(os.environ.get("SIMULATE_SEEDS", "40"))
#: Runs side by side, one after the other in each.
PARTS = 4


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    with tempfile.TemporaryDirectory(dir=memory()) as scratch:
        yield asyncio.run(make_template(tmp_path_factory.mktemp("template"), Path(scratch)))


@pytest.mark.parametrize("part", range(PARTS))
def test_no_promise_is_broken_whatever_fails(template: Template, part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        outcome = simulate(seed, template)
        assert outcome.violation is None, tell(outcome)
        assert outcome.acknowledged
        assert outcome.checks


def test_a_seed_replays_exactly(template: Template) -> None:
    assert simulate(3, template) == simulate(3, template)


class SignsBeforeItIsDurable(SimDatabase):
    """Does what should come after the commit within it."""

    async def write_then(self, fn: Callable[[Connection], T], then: Callable[[T], U], *, gives_way: bool = False) -> U:
        return await self.write(lambda conn: then(fn(conn)))


class TrustsFastClocks(Ingest):
    """Takes a city's word for what it records while its call is under way."""

    async def append(self, batch: Batch, *, doubted: bool = False) -> Taken:
        return await super().append(replace(batch, left_us=None))


class DecidesAndMovesNothing(TransferDecider):
    """Tells the city that it has custody, and leaves the national view as it was."""

    def apply(self, conn: Connection, decided: Sequence[TransferDecision]) -> list[Erased]:
        return super().apply(conn, [replace(each, after=None) for each in decided])


class KeepsTheFirstAnswer(NationalAnswers):
    """Answers from rows of before, as though they were of now."""

    async def _query(self, keys: Sequence[bytes]) -> Mapping[bytes, Sequence[ViewRow]]:
        kept: dict[bytes, Sequence[ViewRow]] = self.__dict__.setdefault("kept", {})
        found = await super()._query(keys)
        kept.update({key: rows for key, rows in found.items() if all(row.city == 0 for row in kept.get(key, ()))})
        return {key: kept[key] for key in keys}


class SpeaksForEverybody(CityAnswers):
    """Has the last word on licences that are on their way as well."""

    def _speaks_for(self, _row: ViewRow) -> bool:
        return True


def never(*_: object) -> bool:
    return False


def always(*_: object) -> bool:
    return True


def nothing(*_: object, **__: object) -> None:
    return None


def no_slots(*_: object) -> list[object]:
    return []


def no_records(*_: object) -> list[bytes]:
    return []


async def nothing_done(*_: object) -> None:
    return None


async def none_of_them(*_: object) -> int:
    return 0


_set_flags = Board.set_flags


def voids_nothing(board: Board, outcome: BoardOutcome, row: ViewRow, flags: int) -> None:
    _set_flags(board, outcome, row, flags & ~int(ViewFlags.VOID))


def the_same_epoch(conn: Connection, logs: LogStore, **_: object) -> Head | None:
    return logs.head(conn, open_key(conn, logs))


def long_over(*_: object) -> date:
    return date.min


@pytest.mark.parametrize(
    ("double", "told"),
    [
        (Doubles(database=SignsBeforeItIsDurable), "entries that were signed"),
        (Doubles(ingest=TrustsFastClocks, clock_off_s=300.0), "calls that complete"),
        (Doubles(transfers=DecidesAndMovesNothing), "took a license over by"),
        (Doubles(national=KeepsTheFirstAnswer), "VALID"),
        (Doubles(city_answers=SpeaksForEverybody), "had custody"),
    ],
    ids=[
        "signing before it is durable",
        "trusting fast clocks",
        "deciding and moving nothing",
        "keeping the first answer",
        "speaking for everybody",
    ],
)
def test_a_planted_fault_is_found(template: Template, double: Doubles, told: str) -> None:
    assert told in found(template, double)


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ({"registry.bans.PersonBan.runs": never, "registry.bans._is_final": always}, "barred|two licences"),
        ({"city_node.holding.until_of": long_over}, "licenses somebody whom"),
        ({"registry.linking._make": nothing}, "NO_MATCH"),
        ({"registry.strays.tell": nothing, "registry.erasure.tell": nothing}, "that was erased"),
        ({"registry.erasure._remove": no_slots}, "that was erased"),
    ],
    ids=[
        "taking every bar for over",
        "forgetting whom this city barred",
        "making no links between numbers",
        "ordering no erasure elsewhere",
        "keeping a copy of what was erased",
    ],
)
def test_a_planted_fault_in_a_rule_is_found(
    template: Template, monkeypatch: pytest.MonkeyPatch, planted: Mapping[str, object], told: str
) -> None:
    assert re.search(told, found_planted(template, monkeypatch, planted))


#: Whatever would keep a registry that was set back from deciding: what it asks when it starts, what a city shows it,
#: and what each commit is compared with.
DECIDES_ON: Mapping[str, object] = {
    "tests.simulation.registry.own_doubt": nothing,
    "registry.given_back.GivenBack._doubt": nothing,
    "elicense.log.appender.Appender._check_signed_before": nothing,
}


THE_SAME_EPOCH: Mapping[str, object] = {
    "tests.simulation.setbacks.open_next": the_same_epoch,
    "tests.simulation.scenario.GIVEN_UP": 1.0,
}


async def refills_nothing(self: Refill, key: LogKey, *_: object) -> Head | None:
    return await self._database.read(lambda conn: self._store.logs.head(conn, key))


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ({"city_node.restore.may_go_on": always}, "lacks what this node signed"),
        ({"city_node.refill.Refill.run": refills_nothing}, "can not be restored"),
    ],
    ids=["going on with an epoch that was signed beyond", "refilling nothing"],
)
def test_a_planted_fault_in_a_restore_is_found(
    template: Template, monkeypatch: pytest.MonkeyPatch, planted: Mapping[str, object], told: str
) -> None:
    monkeypatch.setattr(scenario, "SET_BACK", 1.0)
    assert re.search(told, found_planted(template, monkeypatch, planted))


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        (DECIDES_ON, "two heads were signed"),
        ({"registry.replayed_grants._take": nothing}, "its city does not hold the person|two licences|answers nothing"),
        ({"registry.postponed.PostponedErasures.carry_out": none_of_them}, "that was erased"),
        (THE_SAME_EPOCH, "two heads"),
    ],
    ids=[
        "deciding on in a log that was set back",
        "giving nobody back whom a grant had given",
        "postponing erasures for ever",
        "going on in the same epoch",
    ],
)
def test_a_planted_fault_in_a_registry_that_was_set_back_is_found(
    template: Template, monkeypatch: pytest.MonkeyPatch, planted: Mapping[str, object], told: str
) -> None:
    monkeypatch.setattr(scenario, "REGISTRY_SET_BACK", 1.0)
    assert re.search(told, found_planted(template, monkeypatch, planted))


def test_a_registry_that_does_not_compare_what_it_is_sent_with_what_it_holds_is_found(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.ingest.held_of", lambda *_: 0)
    assert "stopped signing" in found(template, Doubles())


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ({"registry.board.Board.set_flags": voids_nothing}, "that lost a conflict|two licences that count"),
        ({"registry.conflicts.settle": no_records}, "conflict"),
    ],
    ids=["letting the loser count", "never letting the winner count"],
)
def test_a_planted_fault_in_a_ruling_is_found(
    template: Template, monkeypatch: pytest.MonkeyPatch, planted: Mapping[str, object], told: str
) -> None:
    monkeypatch.setattr(scenario, "RULED", 1.0)
    assert re.search(told, found_planted(template, monkeypatch, planted))


_judged = quarantine._judge


def ends_by_anybody(
    board: Board, command: QuarantineCommand, held: Quarantine | None, actor: str
) -> tuple[list[bytes], BoardOutcome]:
    if isinstance(command, ApproveRelease) and held is not None:
        return quarantine._end(board, held, command.actor)
    return _judged(board, command, held, actor)


_explained = explanation.explained_by


def lets_all_in(conn: Connection, store: RegistryStore, held: Quarantine, head: Head, fresh: Sequence[bytes]) -> int:
    return _explained(conn, store, held, head, fresh) if held.open else 0


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ({"registry.quarantine._judge": ends_by_anybody}, "was ended by|alone let"),
        ({"registry.ingest.explained_by": lets_all_in}, "takes in more of|goes on in an epoch|vouches for"),
        ({"registry.quarantine_store.QuarantineStore.put": nothing}, "takes in more of|in quarantine|goes on"),
        ({"registry.disputes.Disputes.raise_over": nothing_done}, "does not convict"),
    ],
    ids=["one operator", "the old epoch goes on", "forgetting who is in quarantine", "convicting nobody"],
)
def test_a_planted_fault_in_a_quarantine_is_found(
    template: Template, monkeypatch: pytest.MonkeyPatch, planted: Mapping[str, object], told: str
) -> None:
    monkeypatch.setattr(scenario, "FORKED", 1.0)
    assert re.search(told, found_planted(template, monkeypatch, planted))


_as_it_is = batches._to_message


def hiding_bars(entry: StoredEntry) -> log_pb2.LogEntry:
    record = license_pb2.LicenseRecord.FromString(entry.record or b"")
    if any(letter.letter == "F" for letter in record.license.status_letters):
        return log_pb2.LogEntry(leaf_hash=entry.leaf_hash)
    return _as_it_is(entry)


def test_a_city_that_hides_a_bar_as_though_it_were_erased_is_found_where_the_registry_lets_it(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("city_node.batches._to_message", hiding_bars)
    assert "emptied" not in found(template, Doubles())  # it refuses the batch, and all that follows
    monkeypatch.setattr("registry.ingest.require_held", nothing)
    assert "emptied, and had never held" in found(template, Doubles())


def found_planted(template: Template, monkeypatch: pytest.MonkeyPatch, planted: Mapping[str, object]) -> str:
    """Put what is planted in the place of what has these names, and return how the first seed fails that does."""
    for name, fault in planted.items():
        monkeypatch.setattr(name, fault)
    return found(template, Doubles())


def found(template: Template, double: Doubles) -> str:
    """Return how the first seed fails that does."""
    violations = (simulate(seed, template, doubles=double).violation for seed in range(40))
    return next(violation for violation in violations if violation is not None)
