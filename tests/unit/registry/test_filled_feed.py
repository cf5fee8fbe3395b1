"""What a city is answered of its feed where the registry has lost words of it."""

from __future__ import annotations

from dataclasses import replace

from elicense.log.model import LogKey, StoredEntry
from elicense.v1.replication_pb2 import DISPOSITION_KIND_CONFIRMED, DISPOSITION_KIND_LOST
from elicense.view.feed import fault_of, place_of
from registry.filled_feed import filled
from registry.model import NotedDisposition


def word(seq: int) -> NotedDisposition:
    return NotedDisposition(320500, seq, 1, 10 * seq, DISPOSITION_KIND_CONFIRMED, bytes(16), "it counts", 0)


def test_a_feed_that_lacks_nothing_is_answered_as_it_is() -> None:
    words = [word(4), word(5), word(6)]
    assert filled(words, after=3, limit=10) == words
    assert filled([], after=3, limit=10) == []


def test_words_that_a_registry_lost_are_filled_for_a_city_that_is_set_back_to_before_them() -> None:
    answered = filled([word(1), word(4), word(7)], after=0, limit=10)
    assert [each.seq for each in answered] == [1, 2, 3, 4, 5, 6, 7]
    lost = [each for each in answered if each.kind == DISPOSITION_KIND_LOST]
    assert [each.seq for each in lost] == [2, 3, 5, 6]
    # A check of the city looks for the entry that a word is about, and for nothing else of it.
    first = StoredEntry(0, b"record", bytes(32), bytes(32))
    assert {place_of(each) for each in lost} == {(LogKey(320500, 1), 0)}
    assert not any(fault_of(each, first) for each in lost)
    assert fault_of(replace(lost[0], idx=1), first)
    assert fault_of(replace(lost[0], epoch=2), first)
    assert fault_of(replace(lost[0], license_id=bytes(16)), first)


def test_however_many_words_are_lost_an_answer_has_no_more_than_its_limit_and_the_next_one_goes_on() -> None:
    held = [word(1), word(2**40)]
    first = filled(held, after=0, limit=5)
    assert [each.seq for each in first] == [1, 2, 3, 4, 5]
    assert [each.seq for each in filled(held[1:], after=5, limit=3)] == [6, 7, 8]
    assert [each.seq for each in filled(held[1:], after=2**40 - 2, limit=3)] == [2**40 - 1, 2**40]
