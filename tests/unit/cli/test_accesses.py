"""What `elicense accesses` prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner

from elicense.cli.accesses import to_json, to_text
from elicense.cli.main import main
from elicense.client import Access, Accesses, Completeness, Outcome, Purpose
from elicense.license.fields import EVERY_FIELD, LicenseField

NOON = datetime(2021, 6, 1, 4, tzinfo=UTC)
LATER = datetime(2021, 6, 1, 5, tzinfo=UTC)
DOMAIN = "spiffe://test.elicense.example"
SEALED = "looks that the police sealed follow when their delay is over"


def look(**changes: object) -> Access:
    values: dict[str, object] = {
        "at": NOON,
        "verifier": f"{DOMAIN}/verifier/police/highway",
        "via": "",
        "node": "registry",
        "role": "police",
        "purpose": Purpose.CASE_HANDLING,
        "case_number": "",
        "method": "VerifyLicense",
        "outcome": Outcome.VALID,
        "fields": tuple(EVERY_FIELD),
        "was_sealed": False,
    }
    return Access(**{**values, **changes})  # type: ignore[arg-type]


def listed(*until: datetime | None) -> Accesses:
    return Accesses(tuple(Completeness(f"city-{n}", each) for n, each in enumerate(until)), (_ for _ in ()))


def test_a_holder_reads_when_who_where_why_and_what() -> None:
    looks = [
        look(case_number="苏公交一号", was_sealed=True),
        look(
            verifier=f"{DOMAIN}/city/320500/verifier/rental/wheels",
            via=f"{DOMAIN}/city/320500",
            role="rental",
            purpose=Purpose.CAR_RENTAL,
            outcome=Outcome.NO_MATCH,
            fields=(),
        ),
        look(purpose=99, fields=(LicenseField.PHOTO, 99), node="city-120000"),
    ]
    shown = to_text(listed(LATER, NOON), looks, more=True).splitlines()
    assert shown[0] == f"complete up to 2021-06-01 12:00:00, China time; {SEALED}"
    assert [" ".join(line.split()) for line in shown[2:5]] == [
        "2021-06-01 12:00:00 police highway registry case-handling, case 苏公交一号 (was sealed) valid every field",
        "2021-06-01 12:00:00 rental wheels (city 320500) registry, asked by city 320500 car-rental no-match none",
        "2021-06-01 12:00:00 police highway city-120000 99 valid photo, 99",
    ]
    assert shown[5] == "older looks are left out; --limit 6 shows more"


def test_columns_stand_below_each_other_also_when_a_case_has_wide_characters() -> None:
    wide, plain = to_text(listed(NOON), [look(case_number="苏苏"), look()], more=False).splitlines()[2:]
    assert plain.index("valid") - wide.index("valid") == len("苏苏")


def test_a_list_of_which_a_node_has_told_nothing_names_the_node() -> None:
    assert to_text(listed(NOON, None), [], more=False).splitlines() == [
        f"not complete: nothing is known yet of the looks at city-1; {SEALED}",
        "nobody looked",
    ]
    assert listed(NOON, None).complete_until is None
    assert listed().complete_until is None


def test_a_case_number_can_not_steer_the_holders_terminal() -> None:
    shown = to_text(listed(NOON), [look(case_number="\x1b[2J\n\u202e7")], more=False)
    assert len(shown.splitlines()) == 3
    assert "case \ufffd[2J\ufffd\ufffd7" in shown


def test_a_machine_reads_every_part_of_a_look() -> None:
    value = json.loads(to_json(listed(NOON, None), [look(fields=(LicenseField.PHOTO,))], more=True))
    assert value == {
        "complete_until": None,
        "completeness": {"city-0": "2021-06-01T04:00:00+00:00", "city-1": None},
        "accesses": [
            {
                "at": "2021-06-01T04:00:00+00:00",
                "verifier": f"{DOMAIN}/verifier/police/highway",
                "via": "",
                "node": "registry",
                "role": "police",
                "purpose": "CASE_HANDLING",
                "case_number": "",
                "method": "VerifyLicense",
                "outcome": "VALID",
                "fields": ["PHOTO"],
                "was_sealed": False,
            }
        ],
        "more": True,
    }


def test_a_list_is_asked_for_with_the_name(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["accesses", "1", "--credentials", str(tmp_path)])
    assert done.exit_code == 2
    assert "--name" in done.output
