"""The kinds of store that the same tests run on."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import MetaData

from elicense.sql.schema import create_tables

ENGINES = ("sqlite", "postgresql", "postgresql-partitioned")

PARTITIONS = 4


@dataclass(frozen=True)
class EmptyStore:
    """An empty database.

    Attributes:
        url: Where it is.
        engine: One of :data:`ENGINES`.
    """

    url: str
    engine: str

    def create(self, metadata: MetaData) -> str:
        """Create the tables the way this kind of store has them, and return the URL."""
        create_tables(self.url, metadata, partitions=PARTITIONS if self.engine == "postgresql-partitioned" else 0)
        return self.url
