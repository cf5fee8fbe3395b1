"""Evidence of two histories: what convicts, whom, and what does not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.model import LogKey
from elicense.verification.evidence_file import confirm, format_evidence, is_evidence, parse_evidence
from elicense.verification.head_evidence import HeadEvidence, NoteStatement, VectorStatement
from tests.support.histories import DOMAIN, History, keys_of, origin_of, signer, vector_of

SUZHOU, REGISTRY = LogKey(320500, 1), LogKey(0, 1)
CITY = f"{DOMAIN}/city/320500"
CENTRE = f"{DOMAIN}/registry"


def two_heads(first: History, second: History, *, cosigned: bool = False, at: int | None = None) -> HeadEvidence:
    """Evidence that the head of ``first`` is not in the history of ``second``."""
    size = first.size if at is None else at
    one, other = NoteStatement(first.note(size, cosigned=cosigned)), NoteStatement(second.note(cosigned=cosigned))
    if size == second.size:
        return HeadEvidence(one, other)
    return HeadEvidence(one, other, second.root(size), tuple(second.consistency(size, second.size)))


def reread(evidence: HeadEvidence) -> HeadEvidence:
    data = format_evidence(evidence)
    assert is_evidence(data)
    again = parse_evidence(data)
    assert again == evidence
    assert isinstance(again, HeadEvidence)
    return again


@pytest.mark.parametrize("shared", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("sizes", [(7, 7), (7, 9), (8, 9), (8, 21), (16, 17), (7, 64)])
def test_two_histories_convict_the_city_that_signed_both(shared: int, sizes: tuple[int, int]) -> None:
    one = History(SUZHOU).grow(shared).grow(sizes[0] - shared, "x")
    other = one.branch(shared).grow(sizes[1] - shared, "y")
    confirmed = confirm(reread(two_heads(one, other)), keys_of(one))
    assert confirmed.accused == (CITY,)
    assert origin_of(SUZHOU) in confirmed.what


@pytest.mark.parametrize(("first", "second"), [(3, 3), (3, 9), (4, 9), (8, 16), (0, 5)])
def test_two_heads_of_one_history_convict_nobody(first: int, second: int) -> None:
    log = History(SUZHOU).grow(second)
    with pytest.raises(Malformed):
        confirm(two_heads(log.branch(first), log), keys_of(log))


def test_two_histories_that_the_registry_cosigned_convict_it_too() -> None:
    one = History(SUZHOU).grow(5)
    other = one.branch(4).grow(3, "y")
    confirmed = confirm(two_heads(one, other, cosigned=True), keys_of(one))
    assert confirmed.accused == (CITY, CENTRE)


def test_who_signed_only_one_of_two_histories_is_not_accused() -> None:
    one = History(SUZHOU).grow(5)
    other = one.branch(4).grow(3, "y")
    evidence = two_heads(one, other)
    evidence = HeadEvidence(NoteStatement(one.note()), evidence.second, evidence.root, evidence.proof)
    assert confirm(evidence, keys_of(one)).accused == (CITY,)
    # Somebody else's key over a city's head is not the city's word.
    forged = sign_checkpoint(Checkpoint(origin_of(SUZHOU), 7, other.root()), signer("somebody"))
    with pytest.raises(Malformed):
        confirm(HeadEvidence(evidence.first, NoteStatement(forged), evidence.root, evidence.proof), keys_of(one))


def test_two_heads_of_the_registry_log_convict_the_registry() -> None:
    one = History(REGISTRY).grow(9)
    other = one.branch(2).grow(12, "y")
    assert confirm(two_heads(one, other), keys_of(one)).accused == (CENTRE,)


@pytest.mark.parametrize("grown", [0, 4])
def test_a_vector_that_contradicts_a_cosigned_head_convicts_the_registry_alone(grown: int) -> None:
    shown = History(SUZHOU).grow(6)
    hidden = shown.branch(5).grow(1 + grown, "y")
    registry = History(REGISTRY).grow(3)
    registry.records.append(vector_of(shown))
    registry.grow(2)
    vector = VectorStatement(registry.proof(3), SUZHOU.log, SUZHOU.epoch)
    note = NoteStatement(hidden.note())
    evidence = (
        HeadEvidence(vector, note, hidden.root(6), tuple(hidden.consistency(6, hidden.size)))
        if grown
        else HeadEvidence(vector, note)
    )
    assert confirm(reread(evidence), keys_of(shown, registry)).accused == (CENTRE,)
    honest = HeadEvidence(vector, NoteStatement(shown.note()))
    with pytest.raises(Malformed):
        confirm(honest, keys_of(shown, registry))


def test_evidence_against_logs_of_two_epochs_or_cities_proves_nothing() -> None:
    one, other = History(SUZHOU).grow(5), History(LogKey(320500, 2)).grow(5, "y")
    with pytest.raises(Malformed):
        confirm(HeadEvidence(NoteStatement(one.note()), NoteStatement(other.note())), keys_of(one, other))


def test_a_wrong_root_or_proof_proves_nothing() -> None:
    one = History(SUZHOU).grow(5)
    other = one.branch(4).grow(6, "y")
    right = two_heads(one, other)
    for wrong in (
        HeadEvidence(right.first, right.second, one.root(), right.proof),
        HeadEvidence(right.first, right.second, bytes(32), right.proof),
        HeadEvidence(right.first, right.second, right.root, right.proof[1:]),
        HeadEvidence(right.first, right.second),
        HeadEvidence(right.second, right.first, right.root, right.proof),
    ):
        with pytest.raises(Malformed):
            confirm(wrong, keys_of(one))


ONE = History(SUZHOU).grow(5)
OTHER = ONE.branch(4).grow(6, "y")
FILE = format_evidence(two_heads(ONE, OTHER))


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_a_file_with_one_flipped_bit_is_refused_or_says_the_same(position: int, bit: int) -> None:
    data = bytearray(FILE)
    data[position] ^= 1 << bit
    try:
        confirmed = confirm(parse_evidence(bytes(data)), keys_of(ONE))
    except Malformed:
        return
    # White space, or the letter case of an escape: what the file says has not changed.
    assert json.loads(data) == json.loads(FILE)
    assert confirmed.accused == (CITY,)
