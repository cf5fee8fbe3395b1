"""The five tables of logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, SmallInteger, Table

from elicense.log.entry import SALT_SIZE
from elicense.log.tiles import TILE_SIZE
from elicense.log.tree import HASH_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class LogTables:
    """The tables of logs, sharded by log.

    Attributes:
        head: One row a log, moved on by compare-and-set.
        entry: Records, salts and leaf hashes.
        tile: Hashes of every eighth level of the tree.
        checkpoint: The head after each commit.
        scrub: Slots that were emptied, and whose content the database's files may still hold.
    """

    head: Table
    entry: Table
    tile: Table
    checkpoint: Table
    scrub: Table


def define_log_tables(metadata: MetaData) -> LogTables:
    """Add the tables of logs to ``metadata`` and return them."""

    def table(name: str, *columns: Column[Any], key: Sequence[str] = ()) -> Table:
        return Table(
            name,
            metadata,
            Column("log", Integer, nullable=False, autoincrement=False),
            Column("epoch", BigInteger, nullable=False, autoincrement=False),
            *columns,
            PrimaryKeyConstraint("log", "epoch", *key),
            info={"dist": "log"},
            sqlite_with_rowid=False,
        )

    return LogTables(
        head=table(
            "log_head",
            Column("size", BigInteger, nullable=False),
            Column("frontier", LargeBinary, nullable=False),
            Column("root", LargeBinary(HASH_SIZE), nullable=False),
            Column("note", LargeBinary),
            Column("cosigned_size", BigInteger, nullable=False),
            Column("cosigned", LargeBinary),
            Column("recorded_us", BigInteger, nullable=False),
        ),
        entry=table(
            "log_entry",
            Column("idx", BigInteger, nullable=False),
            Column("record", LargeBinary),
            Column("salt", LargeBinary(SALT_SIZE)),
            Column("leaf_hash", LargeBinary(HASH_SIZE), nullable=False),
            key=("idx",),
        ),
        tile=table(
            "log_tile",
            Column("level", SmallInteger, nullable=False),
            Column("n", BigInteger, nullable=False),
            Column("hashes", LargeBinary(TILE_SIZE), nullable=False),
            key=("level", "n"),
        ),
        checkpoint=table(
            "log_checkpoint",
            Column("size", BigInteger, nullable=False),
            Column("root", LargeBinary(HASH_SIZE), nullable=False),
            Column("note", LargeBinary),
            Column("cosigned", LargeBinary),
            Column("recorded_us", BigInteger, nullable=False),
            key=("size",),
        ),
        scrub=table("log_scrub", Column("idx", BigInteger, nullable=False), key=("idx",)),
    )
