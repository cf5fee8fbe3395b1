"""When a licence may be erased."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from elicense.errors import IllegalTransition
from elicense.license.model import StatusLetter
from elicense.license.retention import RETENTION_DAYS, Kept, require_erasable
from tests.unit.license.samples import a_license

CANCELLED_ON = date(2026, 3, 1)


def kept(*letters: str, national: bool = True) -> Kept:
    carried = tuple(StatusLetter(letter, CANCELLED_ON, None, "law") for letter in letters)
    return Kept(replace(a_license(), status_letters=carried), national)


def reasons(of: Kept, on: date) -> set[str]:
    with pytest.raises(IllegalTransition) as refused:
        require_erasable(of, on, retention_days=RETENTION_DAYS)
    return {violation.reason for violation in refused.value.violations}


def test_a_cancelled_license_is_kept_until_its_holder_can_not_ask_for_it_back() -> None:
    last = CANCELLED_ON + timedelta(days=RETENTION_DAYS)
    assert reasons(kept("G"), last - timedelta(days=1)) == {"RETENTION_RUNS"}
    require_erasable(kept("G"), last, retention_days=RETENTION_DAYS)


@pytest.mark.parametrize("letter", ["E", "F"])
def test_what_bars_a_person_is_kept_for_ever(letter: str) -> None:
    assert reasons(kept("G", letter), date(2099, 1, 1)) == {"LICENSE_REVOKED"}


def test_every_reason_is_named() -> None:
    on = date(2099, 1, 1)
    assert reasons(kept(), on) == {"LICENSE_NOT_CANCELLED"}
    assert reasons(kept("E", national=False), on) == {"LICENSE_REVOKED", "NOT_NATIONAL"}
