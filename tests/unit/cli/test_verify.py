"""What `elicense verify` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elicense.cli.main import main
from elicense.cli.verify import to_json, to_text
from elicense.client import (
    Freshness,
    LastKnown,
    LetterStanding,
    Outcome,
    Question,
    SignedVerdict,
    Source,
    Verdict,
    VerdictReason,
)

NOON = datetime(2021, 6, 1, 4, tzinfo=UTC)
STALE = Verdict(
    outcome=Outcome.INDETERMINATE,
    reasons=(VerdictReason.CITY_STALE, 99),
    drivable_classes=(),
    letters=(LetterStanding("D", "暂扣", "Driving is forbidden.", True, date(2021, 12, 1)),),
    summary="The city has not been heard.",
    freshness=Freshness(Source.REGISTRY, NOON, 320500, 7, 1),
    last_known=LastKnown(Outcome.VALID, NOON),
    given_at=NOON,
)


def test_a_person_reads_outcome_reasons_letters_and_freshness() -> None:
    assert to_text(STALE).splitlines() == [
        "INDETERMINATE: The city has not been heard.",
        "reasons: CITY_STALE, 99",
        "letter D 暂扣: Driving is forbidden. (until 2021-12-01)",
        "as of 2021-06-01T04:00:00.000+00:00, by the registry; city 320500",
        "last known: VALID as of 2021-06-01T04:00:00.000+00:00",
    ]


def test_a_machine_reads_every_field_with_enums_by_name() -> None:
    value = json.loads(to_json(STALE))
    assert value["outcome"] == "INDETERMINATE"
    assert value["reasons"] == ["CITY_STALE", "99"]
    assert value["letters"][0]["until"] == "2021-12-01"
    assert value["freshness"] == {
        "source": "REGISTRY",
        "as_of": "2021-06-01T04:00:00+00:00",
        "city": 320500,
        "log_size": 7,
        "log_epoch": 1,
    }
    assert value["last_known"] == {"outcome": "VALID", "as_of": "2021-06-01T04:00:00+00:00"}


def test_an_unknown_purpose_is_a_usage_error_that_lists_what_there_is(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["verify", "1", "--credentials", str(tmp_path), "--purpose", "curiosity"])
    assert done.exit_code == 2
    assert "roadside-check" in done.output


def test_a_folder_without_credentials_is_one_line_and_exit_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["verify", "1", "--credentials", str(tmp_path), "--purpose", "roadside-check"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_damaged_token_is_one_line_and_exit_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["join", "EL1.xxxx", "--into", str(tmp_path / "new")])
    assert done.exit_code == 1
    assert "MALFORMED" in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_demo_does_not_touch_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class FakeClient:
    """Answers what it was made with, and keeps how it was asked."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.asked: dict[str, object] = {}

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None: ...

    def verify(self, number: str, **asked: object) -> Verdict:
        self.asked = asked
        return self.verdicts[0]

    def verify_signed(self, question: Question, **asked: object) -> SignedVerdict:
        return SignedVerdict(self.verdicts[0], b"statement", bytes(32))

    def watch(self, number: str, **asked: object) -> Iterator[Verdict]:
        yield from self.verdicts


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: FakeClient, *words: str) -> Result:
    monkeypatch.setattr("elicense.cli.verify.connect", lambda *_, **__: client)
    asked = ["verify", "x", "--credentials", str(tmp_path), "--purpose", "insurance", *words]
    return CliRunner().invoke(main, asked)


def test_a_moment_is_in_china_time_unless_it_says_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = FakeClient(STALE)
    asked = run(monkeypatch, tmp_path, client, "--at", "2021-06-01T12:00", "--known-at", "2021-06-01T04:00Z")
    assert asked.exit_code == 0, asked.output
    assert client.asked["at"] == client.asked["as_known_at"] == NOON
    assert run(monkeypatch, tmp_path, client, "--at", "yesterday").exit_code == 2


def test_each_verdict_of_a_watch_is_printed_with_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = run(monkeypatch, tmp_path, FakeClient(STALE, STALE), "--watch")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("[2021-06-01 12:00:00.000000] INDETERMINATE") == 2
    assert run(monkeypatch, tmp_path, FakeClient(STALE), "--watch", "--at", "2021-06-01").exit_code == 2


def test_evidence_is_kept_apart_from_what_opens_it_and_never_overwritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "evidence"
    assert run(monkeypatch, tmp_path, FakeClient(STALE), "--sign", str(path)).exit_code == 0
    assert path.read_bytes() == b"statement"
    assert (tmp_path / "evidence.opening").read_text() == "00" * 32 + "\n"
    again = run(monkeypatch, tmp_path, FakeClient(STALE), "--sign", str(path))
    assert again.exit_code == 1
    assert "never overwritten" in again.output
