"""What a node does when database, anchor and registry do not show the same."""

from __future__ import annotations

from itertools import product

import pytest

from city_node.history import CASES, Course, judge
from elicense import errors
from elicense.log.witness import Seen, compare

ROOT, OTHER = b"r" * 32, b"o" * 32


@pytest.mark.parametrize(
    ("anchor", "registry", "course"),
    [
        (Seen.INSIDE, Seen.INSIDE, Course.GO_ON),
        (Seen.INSIDE, Seen.ABSENT, Course.GO_ON),
        (Seen.EARLIER_EPOCH, Seen.INSIDE, Course.GO_ON),
        (Seen.INSIDE, Seen.EARLIER_EPOCH, Course.GO_ON),
        (Seen.ABSENT, Seen.ABSENT, Course.WAIT),
        (Seen.AHEAD, Seen.ABSENT, Course.WAIT),
        (Seen.ABSENT, Seen.INSIDE, Course.WAIT),
        (Seen.AHEAD, Seen.INSIDE, Course.RESTORE),
        (Seen.INSIDE, Seen.AHEAD, Course.RESTORE),
        (Seen.ABSENT, Seen.AHEAD, Course.RESTORE),
        (Seen.LATER_EPOCH, Seen.ABSENT, Course.RESTORE),
        (Seen.INSIDE, Seen.LATER_EPOCH, Course.RESTORE),
        (Seen.INSIDE, Seen.ELSEWHERE, Course.FORK),
        (Seen.ELSEWHERE, Seen.INSIDE, Course.FORK),
        (Seen.ELSEWHERE, Seen.ABSENT, Course.FORK),
    ],
)
def test_each_case_has_its_course(anchor: Seen, registry: Seen, course: Course) -> None:
    assert judge(anchor, registry).course is course


def test_every_pair_has_a_case_and_no_case_is_idle() -> None:
    met = {judge(*pair).sentence for pair in product(Seen, Seen)}
    assert met == {case.sentence for case in CASES}


@pytest.mark.parametrize("bad", [Seen.AHEAD, Seen.ELSEWHERE, Seen.LATER_EPOCH])
@pytest.mark.parametrize("other", list(Seen))
def test_no_node_signs_while_a_witness_shows_what_the_database_lacks(bad: Seen, other: Seen) -> None:
    for pair in ((bad, other), (other, bad)):
        case = judge(*pair)
        assert case.course is not Course.GO_ON
        assert isinstance(case.error, errors.DataLoss | errors.HistoryUnknown)


@pytest.mark.parametrize(
    ("witness", "seen"),
    [
        (None, Seen.ABSENT),
        ((2, 3, ROOT), Seen.INSIDE),
        ((2, 5, ROOT), Seen.INSIDE),
        ((2, 3, OTHER), Seen.ELSEWHERE),
        ((2, 6, ROOT), Seen.AHEAD),
        ((3, 0, OTHER), Seen.LATER_EPOCH),
        ((1, 9, OTHER), Seen.EARLIER_EPOCH),
    ],
)
def test_a_witness_is_compared_with_the_log(witness: tuple[int, int, bytes] | None, seen: Seen) -> None:
    assert compare(epoch=2, size=5, root_at=lambda _: ROOT, witness=witness) is seen
