"""The registry's migrations make exactly the tables that its code knows."""

from __future__ import annotations

import pytest

from elicense.errors import StoreUnavailable
from elicense.sql.migrations import differences, upgrade
from elicense.sql.schema import check_rules, create_tables
from elicense.sql.schema_version import is_current, require_current
from registry.store import access_metadata, metadata


def test_migrations_lead_to_the_schema_of_the_code(database_url: str) -> None:
    upgrade(database_url, "registry")
    assert differences(database_url, metadata) == []
    assert is_current(database_url, "registry")


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url, "registry")
    upgrade(database_url, "registry")
    assert is_current(database_url, "registry")


def test_a_database_that_says_nothing_of_its_schema_is_refused(database_url: str) -> None:
    create_tables(database_url, metadata)
    with pytest.raises(StoreUnavailable, match="no release has set up this database"):
        require_current(database_url, "registry")


def test_the_schema_keeps_the_rules_of_portable_tables() -> None:
    assert check_rules(metadata) == []
    assert check_rules(access_metadata) == []
