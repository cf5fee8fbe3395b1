"""An auditor over nodes that are honest, and over one that lies in every way it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from elicense.auditor.joining import Alarm, Kind
from elicense.auditor.rounds import Auditor
from elicense.auditor.state import AuditState, parse_state, read_state, write_state
from elicense.errors import Malformed
from elicense.log.model import LogKey
from elicense.verification.evidence_file import confirm
from tests.support.histories import DOMAIN, History, ShownHistories, keys_of, origin_of, vector_of

SUZHOU, TIANJIN, REGISTRY = LogKey(320500, 1), LogKey(120000, 1), LogKey(0, 1)


class Nation:
    """A registry with two cities, and what an auditor has seen of it."""

    def __init__(self) -> None:
        self.suzhou = History(SUZHOU).grow(5)
        self.tianjin = History(TIANJIN).grow(3)
        self.registry = History(REGISTRY).grow(2)
        self.state = AuditState()
        self.node = ShownHistories(self.suzhou, self.tianjin, self.registry)
        self.publish()

    def publish(self) -> None:
        self.registry.records.append(vector_of(self.tianjin, self.suzhou))
        self.node.vector_proof = self.registry.proof(self.registry.size - 1)

    def audit(self, *others: bytes) -> list[Alarm]:
        auditor = Auditor(self.node, keys_of(self.suzhou, self.tianjin, self.registry), others)
        done = auditor.round(self.state)
        self.state = done.state
        return list(done.alarms)

    def convicted(self, alarms: list[Alarm]) -> set[str]:
        """Who is convicted by the evidence in alarms."""
        found = [alarm.evidence for alarm in alarms if alarm.evidence is not None]
        keys = keys_of(self.suzhou, self.tianjin, self.registry)
        return {accused for evidence in found for accused in confirm(evidence, keys).accused}


def test_an_honest_nation_raises_no_alarm_however_it_grows() -> None:
    nation = Nation()
    for step in range(6):
        assert nation.audit() == []
        nation.suzhou.grow(step)
        nation.tianjin.grow(1)
        nation.publish()
        nation.suzhou.grow(3)
    assert nation.audit() == []
    assert set(nation.state.heads) == {origin_of(key) for key in (SUZHOU, TIANJIN, REGISTRY)}


@pytest.mark.parametrize("grown", [1, 2, 9])
def test_a_city_that_forks_is_convicted_and_the_head_that_was_right_is_kept(grown: int) -> None:
    nation = Nation()
    assert nation.audit() == []
    kept = nation.state.heads[origin_of(SUZHOU)]
    nation.node.histories[SUZHOU] = nation.suzhou.branch(4).grow(grown, "y")
    for _ in range(2):
        alarms = nation.audit()
        assert Kind.CONTRADICTION in {alarm.kind for alarm in alarms}
        assert f"{DOMAIN}/city/320500" in nation.convicted(alarms)
        assert nation.state.heads[origin_of(SUZHOU)] == kept
    # The others are audited all the same.
    nation.tianjin.grow(4)
    nation.audit()
    assert nation.state.heads[origin_of(TIANJIN)] == nation.tianjin.note()


def test_a_registry_that_rewrites_its_own_log_is_convicted() -> None:
    nation = Nation()
    assert nation.audit() == []
    nation.node.histories[REGISTRY] = nation.registry.branch(1).grow(7, "z")
    assert f"{DOMAIN}/registry" in nation.convicted(nation.audit())


def test_a_registry_that_shows_two_auditors_two_histories_is_convicted_when_they_compare() -> None:
    nation = Nation()
    split = nation.suzhou.branch(3).grow(2, "y")
    assert nation.audit() == []
    alarms = nation.audit(split.note())
    assert [alarm.kind for alarm in alarms] == [Kind.CONTRADICTION]
    assert f"{DOMAIN}/registry" in nation.convicted(alarms)
    # What nobody known has signed says nothing.
    assert nation.audit(b"gossip\n") == []


def test_a_vector_that_tells_another_history_than_the_cosigned_heads_convicts_the_registry() -> None:
    nation = Nation()
    nation.registry.records.append(vector_of(nation.tianjin, nation.suzhou.branch(4).grow(1, "y")))
    nation.node.vector_proof = nation.registry.proof(nation.registry.size - 1)
    alarms = nation.audit()
    assert [alarm.kind for alarm in alarms] == [Kind.CONTRADICTION]
    assert nation.convicted(alarms) == {f"{DOMAIN}/registry"}


def test_a_head_that_goes_back_or_disappears_is_reported_without_an_accusation() -> None:
    nation = Nation()
    assert nation.audit() == []
    nation.node.histories[SUZHOU] = nation.suzhou.branch(3)
    alarms = nation.audit()
    assert {alarm.kind for alarm in alarms} == {Kind.WENT_BACK, Kind.NOT_PROVED}
    del nation.node.histories[SUZHOU]
    alarms = nation.audit()
    assert [alarm.kind for alarm in alarms] == [Kind.MISSING]
    assert nation.convicted(alarms) == set()


def test_a_head_that_the_registry_has_not_cosigned_or_of_another_log_is_reported() -> None:
    nation = Nation()
    nation.node.notes[SUZHOU] = nation.suzhou.note(cosigned=False)
    assert [alarm.kind for alarm in nation.audit()] == [Kind.NOT_SIGNED]
    nation.node.notes[SUZHOU] = nation.tianjin.note()
    assert [alarm.kind for alarm in nation.audit()] == [Kind.NOT_SIGNED]


def test_a_log_whose_key_nobody_gave_the_auditor_is_reported_and_not_believed() -> None:
    nation = Nation()
    stranger = LogKey(510100, 1)
    nation.node.histories[stranger] = History(stranger).grow(1)
    alarms = nation.audit()
    assert [(alarm.kind, alarm.origin) for alarm in alarms] == [(Kind.UNKNOWN_KEY, origin_of(stranger))]
    assert origin_of(stranger) not in nation.state.heads


def test_a_state_comes_back_from_its_file_and_anything_else_is_refused(tmp_path: Path) -> None:
    nation = Nation()
    nation.audit()
    path = tmp_path / "state.json"
    assert read_state(path) == AuditState()
    write_state(path, nation.state)
    assert read_state(path) == nation.state
    # The last one is read as JSON, and could not be written again.
    no_text = b'{"audit": "elicense-audit/1", "heads": {"\\ud800": "a"}}'
    wrong = b'{"audit": "elicense-audit/1", "heads": {"a": 1}}'
    for data in (b"", b"[]", b"{}", wrong, b"[" * 100_000, no_text):
        with pytest.raises(Malformed):
            parse_state(data)
