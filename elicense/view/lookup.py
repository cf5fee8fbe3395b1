"""Looking many persons up at once, in as much time for those without a licence as for those with one.

The persons asked about stand on the outer side of one outer join, so that the
database gives a row of the same shape for each, whatever it holds of them.  One
statement does for any number of persons: SQLite cuts the keys out of one value,
PostgreSQL takes an array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from elicense.sql.single import Query
from elicense.view.model import NOBODY, ViewRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Table

_KEY_BYTES: Final = 16


class PersonLookup:
    """The licences of persons, and :data:`NOBODY` for a person without one.

    Args:
        view: The table ``license_view``.
        link: The table ``person_link``, which every key is looked up in, linked or not.
    """

    def __init__(self, view: Table, link: Table) -> None:
        # The place of the next key is counted in bytes from 1, as substr does.
        self._cut = (
            f"WITH RECURSIVE asked(place, person_key) AS (SELECT 1, substr(?1, 1, {_KEY_BYTES})"  # noqa: S608  # our own names, no data
            f" UNION ALL SELECT place + {_KEY_BYTES}, substr(?1, place + {_KEY_BYTES}, {_KEY_BYTES})"
            f" FROM asked WHERE place + {_KEY_BYTES} <= length(?1)) {_outer_join(view, link, 'asked', _sqlite_literal)}"
        )
        self._array = _outer_join(view, link, "unnest(%b::bytea[]) AS asked(person_key)", _postgres_literal)

    def query(self, dialect: str, keys: Sequence[bytes]) -> Query:
        """Return the query for these persons.

        Args:
            dialect: Name of the dialect.
            keys: At least one person key, 16 bytes each and each once.
        """
        return Query(self._cut, (b"".join(keys),)) if dialect == "sqlite" else Query(self._array, (list(keys),))

    def by_person(self, keys: Sequence[bytes], rows: Iterable[Sequence[Any]]) -> dict[bytes, list[ViewRow]]:
        """Return the rows that the query gave, by person."""
        found: dict[bytes, list[ViewRow]] = {key: [] for key in keys}
        for row in rows:
            found[row[0]].append(ViewRow(*row))
        return found


def _outer_join(view: Table, link: Table, asked: str, literal: Any) -> str:
    columns = ", ".join(
        f"coalesce(held.{name}, {literal(value)})" for name, value in NOBODY.as_dict().items() if name != "person_key"
    )
    return (
        f"SELECT asked.person_key, {columns} FROM {asked} "  # noqa: S608  # our own names and NOBODY's values, no data
        f"LEFT JOIN {link.name} AS link ON link.person_key = asked.person_key "
        f"LEFT JOIN {view.name} AS held ON held.person_key = coalesce(link.first_key, asked.person_key)"
    )


def _sqlite_literal(value: bytes | int | str) -> str:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else str(int(value))


def _postgres_literal(value: bytes | int | str) -> str:
    return f"'\\x{value.hex()}'::bytea" if isinstance(value, bytes) else str(int(value))
