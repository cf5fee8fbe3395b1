"""What `elicense verify` prints."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

from click.testing import CliRunner

from elicense.cli.main import main
from elicense.cli.verify import to_json, to_text
from elicense.client import Freshness, LastKnown, LetterStanding, Outcome, Source, Verdict, VerdictReason

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
