"""What a registry is filled with to be measured."""

from __future__ import annotations

from elicense.view.model import NOBODY
from registry.bench.load import license_id_of


def test_no_synthetic_licence_has_the_id_that_stands_for_none() -> None:
    ids = [license_id_of(holder) for holder in range(300)]
    assert NOBODY.license_id not in ids
    assert ids == sorted(set(ids))
