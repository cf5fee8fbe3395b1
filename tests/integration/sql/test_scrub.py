"""What was deleted is looked for in the files, and found."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from elicense.sql import scrub as scrubbing
from elicense.sql.engines import sqlite_url
from elicense.sql.scrub import scrub


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "city.db"


def fill(path: Path, secret: bytes) -> sqlite3.Connection:
    """Write a secret and delete it the careless way: it stays in a free page, and in the write-ahead log."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("CREATE TABLE entry (idx INTEGER PRIMARY KEY, salt BLOB)")
    db.executemany("INSERT INTO entry VALUES (?, ?)", [(n, secrets.token_bytes(900)) for n in range(40)])
    db.execute("INSERT INTO entry VALUES (100, ?)", (bytes(400) + secret + bytes(400),))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.execute("DELETE FROM entry WHERE idx = 100")
    return db


def test_a_trace_in_a_free_cell_is_taken_out(path: Path) -> None:
    secret = secrets.token_bytes(32)
    db = fill(path, secret)
    assert secret in path.read_bytes()
    assert scrub(sqlite_url(path), [secret])
    assert all(secret not in file.read_bytes() for file in path.parent.iterdir())
    assert db.execute("SELECT count(*) FROM entry").fetchone() == (40,)
    db.close()


def test_a_trace_that_somebody_still_reads_is_not_said_to_be_gone(path: Path) -> None:
    secret = secrets.token_bytes(32)
    db = fill(path, secret)
    db.execute("INSERT INTO entry VALUES (101, ?)", (secret,))
    assert not scrub(sqlite_url(path), [secret])
    db.close()


def test_what_other_rows_have_too_is_no_trace_of_what_was_deleted(path: Path) -> None:
    """Many records end alike: they must neither hide what is left, nor have the files written anew for ever."""
    secret, ending = secrets.token_bytes(32), secrets.token_bytes(64)
    db = fill(path, secret)
    db.execute("INSERT INTO entry VALUES (101, ?)", (ending,))
    assert scrub(sqlite_url(path), [secrets.token_bytes(32)], [ending])
    assert all(secret not in file.read_bytes() for file in path.parent.iterdir())
    db.close()


def test_a_database_server_frees_its_own_space() -> None:
    assert not scrub("postgresql+psycopg://somebody@nowhere/db", [b"x" * 32])


@pytest.mark.parametrize("part", [1, 31, 4_096, 1 << 20])
def test_what_lies_across_two_parts_of_a_file_is_found(path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(scrubbing, "_PART", part)
    trace = secrets.token_bytes(32)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE entry (salt BLOB)")
        db.execute("INSERT INTO entry VALUES (?)", (bytes(3_000) + trace,))
    # It stands in a row, so that writing anew does not take it away.
    assert scrub(sqlite_url(path), [b"nowhere", trace]) is False
    assert scrub(sqlite_url(path), [b"nowhere", trace[::-1]]) is True
