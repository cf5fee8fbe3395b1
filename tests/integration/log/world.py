"""A log in a real database, and deciders that are simple enough to predict."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table

from elicense.clock import utc_micros
from elicense.errors import Error, LicenseNotFound
from elicense.log.checkpoint import log_verifier_key, open_checkpoint
from elicense.log.decision import Appended, Committed, Decision
from elicense.log.entry import leaf_hashes
from elicense.log.merkle import verify_inclusion
from elicense.log.store import Head, LogKey, LogStore, NewEntry, define_log_tables
from elicense.log.tree import subtree_root
from elicense.log.writer import LogWriter
from elicense.sql.bulk import BulkInsert
from elicense.sql.database import Database
from elicense.trust.signer import FileSigner

KEY = LogKey(320500, 1)
ORIGIN = "licenses.example/city/320500/1"

metadata = MetaData()
LOG_TABLES = define_log_tables(metadata)
NAMES = Table(
    "names",
    metadata,
    Column("log", Integer, nullable=False, autoincrement=False),
    Column("name", LargeBinary(64), nullable=False),
    Column("idx", Integer, nullable=False),
    PrimaryKeyConstraint("log", "name"),
    info={"dist": "log"},
)


def signer(seed: str = "city") -> FileSigner:
    return FileSigner(Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest()))


VERIFIER_KEY = log_verifier_key(ORIGIN, signer().public_key())


class NamesDecider:
    """Appends what it is told; the record is the command, and its name is kept in a table that has each name once.

    ``refuse...`` is refused, ``raise...`` raises, ``nothing...`` changes nothing, ``many:n:...`` gives n records.
    """

    def __init__(self) -> None:
        self._insert = BulkInsert(NAMES)

    def decide(self, conn: Connection, head: Head, commands: Sequence[bytes]) -> Sequence[Decision[bytes]]:
        return [self._decide(command) for command in commands]

    def _decide(self, command: bytes) -> Decision[bytes]:
        if command.startswith(b"refuse"):
            return Decision(error=LicenseNotFound("no such licence"))
        if command.startswith(b"raise"):
            raise RuntimeError("a fault in the rules")
        if command.startswith(b"nothing"):
            return Decision(result=command)
        if command.startswith(b"many:"):
            count = int(command.split(b":")[1])
            return Decision(records=tuple(command + b"#%d" % i for i in range(count)), result=command)
        return Decision(records=(command,), result=command)

    def applied(self, conn: Connection, appended: Sequence[Appended], decisions: Sequence[Decision[bytes]]) -> None:
        self._insert.execute(conn, [(KEY.log, record_name(entry.record), entry.index) for entry in appended])


def record_name(record: bytes) -> bytes:
    return sha256(record).digest()


@dataclass
class LogWorld:
    """A database with one empty log."""

    url: str
    engine: str
    databases: list[Database] = field(default_factory=list)
    writers: list[LogWriter[bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = LogStore(LOG_TABLES)
        self.database = self.open()
        self.database.write_now(lambda conn: self.store.create(conn, KEY))

    def open(self, kind: Callable[[str], Database] = Database) -> Database:
        """Connect once more, as another process would."""
        database = kind(self.url)
        self.databases.append(database)
        return database

    def writer(
        self,
        *,
        database: Database | None = None,
        seed: str = "city",
        decider: NamesDecider | None = None,
        store: LogStore | None = None,
        **arguments: object,
    ) -> LogWriter[bytes, bytes]:
        writer: LogWriter[bytes, bytes] = LogWriter(
            database=database or self.database,
            log_store=store or self.store,
            key=KEY,
            origin=ORIGIN,
            decider=decider or NamesDecider(),
            **{"signer": signer(seed), "clock": utc_micros, "random": secrets.token_bytes, **arguments},  # type: ignore[arg-type]
        )
        self.writers.append(writer)
        return writer

    async def started(self, **arguments: object) -> LogWriter[bytes, bytes]:
        writer = self.writer(**arguments)  # type: ignore[arg-type]
        await writer.start()
        return writer

    def append(self, records: Sequence[bytes], *, head: Head | None = None) -> Head:
        """Append without a writer."""

        def write(conn: Connection) -> Head:
            upon = head or self.head()
            return self.store.advance(conn, upon, entries_of(records), recorded_us=1)

        return self.database.write_now(write)

    def head(self) -> Head:
        head = self.database.read_now(lambda conn: self.store.head(conn, KEY))
        assert head is not None
        return head

    def records(self) -> list[bytes | None]:
        size = self.head().size
        entries = self.database.read_now(lambda conn: self.store.entries(conn, KEY, 0, size + 10))
        assert [entry.index for entry in entries] == list(range(size))
        return [entry.record for entry in entries]

    def check(self) -> Head:
        """Recompute the whole log from its records, and check the head and every stored note."""
        head = self.head()
        entries = self.database.read_now(lambda conn: self.store.entries(conn, KEY, 0, head.size + 10))
        hashes = leaf_hashes([(entry.salt or b"", entry.record or b"") for entry in entries])
        assert hashes == [entry.leaf_hash for entry in entries]
        assert len(entries) == head.size
        assert subtree_root(hashes) == head.root
        for size in range(1, head.size + 1):
            row = self.database.read_now(lambda conn, size=size: self.store.commits.at(conn, KEY, size))  # type: ignore[misc]
            if row is not None:
                assert row.root == subtree_root(hashes[:size])
                if row.note is not None:
                    opened = open_checkpoint(row.note, origin=ORIGIN, key=VERIFIER_KEY)
                    assert (opened.size, opened.root) == (size, row.root)
        return head

    async def close(self) -> None:
        for writer in self.writers:
            await writer.close()
        for database in self.databases:
            database.close()


def entries_of(records: Sequence[bytes]) -> list[NewEntry]:
    salts = [sha256(record).digest() for record in records]
    hashes = leaf_hashes(zip(salts, records, strict=True))
    return [NewEntry(*parts) for parts in zip(records, salts, hashes, strict=True)]


def check_answer(answer: Committed[bytes], leaf_hash: bytes) -> None:
    """The answer's checkpoint is the log's, and its proof leads from the leaf to it."""
    opened = open_checkpoint(answer.checkpoint, origin=ORIGIN, key=VERIFIER_KEY)
    assert opened.size == answer.size
    assert answer.first_index is not None
    verify_inclusion(
        leaf_hash=leaf_hash, index=answer.first_index, size=opened.size, proof=answer.proof(), root=opened.root
    )


def raised(error: BaseException | object) -> Error:
    assert isinstance(error, Error), error
    return error
