"""Copying a database that is in use."""

from __future__ import annotations

import secrets
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from elicense.errors import AlreadyExists, StoreCorrupt, StoreUnavailable
from elicense.sql.backup import BackupElsewhere, backup
from elicense.sql.engines import sqlite_url


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "live.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE pair (side TEXT PRIMARY KEY, value INTEGER)")
    connection.execute("CREATE TABLE ballast (n INTEGER PRIMARY KEY, data BLOB)")
    connection.execute("INSERT INTO pair VALUES ('a', 0), ('b', 0)")
    connection.executemany("INSERT INTO ballast VALUES (?, ?)", [(n, bytes(4_000)) for n in range(6_000)])
    connection.commit()
    connection.close()
    return path


def test_a_backup_is_of_one_moment_however_much_is_written_meanwhile(source: Path, tmp_path: Path) -> None:
    out, ended = tmp_path / "copy.db", threading.Event()
    steps: list[int] = []

    def write() -> None:
        connection = sqlite3.connect(source, timeout=30)
        value = 0
        while not ended.is_set():
            value += 1
            with connection:
                connection.execute("UPDATE pair SET value = ? WHERE side = 'a'", (value,))
                connection.execute("UPDATE pair SET value = ? WHERE side = 'b'", (value,))
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup(sqlite_url(source), out, progress=lambda done, _: steps.append(done))
    finally:
        ended.set()
        writer.join()
    assert len(steps) > 2
    assert steps == sorted(steps), "it never had to start over"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]
    connection = sqlite3.connect(out)
    (a,), (b,) = connection.execute("SELECT value FROM pair ORDER BY side").fetchall()
    assert a == b
    assert connection.execute("SELECT count(*) FROM ballast").fetchone() == (6_000,)
    connection.close()


@pytest.mark.parametrize("marked", [True, False])
def test_a_backup_holds_nothing_that_was_erased_and_not_scrubbed_yet(tmp_path: Path, marked: bool) -> None:
    """Pages are copied as they are, so what a mark stands for would outlive its scrub in every backup of that time."""
    path, out, secret = tmp_path / "city.db", tmp_path / "backup.db", secrets.token_bytes(32)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE entry (idx INTEGER PRIMARY KEY, salt BLOB)")
        db.execute("CREATE TABLE log_scrub (idx INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO entry VALUES (?, ?)", [(n, secrets.token_bytes(900)) for n in range(40)])
        db.execute("INSERT INTO entry VALUES (100, ?)", (bytes(400) + secret + bytes(400),))
        db.execute("DELETE FROM entry WHERE idx = 100")
        if marked:
            db.execute("INSERT INTO log_scrub VALUES (100)")
        backup(sqlite_url(path), out, progress=lambda *_: None)
    assert (secret in out.read_bytes()) == (not marked)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("backup")] == ["backup.db"]
    with closing(sqlite3.connect(out)) as copy:
        assert copy.execute("SELECT count(*) FROM entry").fetchone() == (40,)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_file_that_is_there_is_never_written_over(source: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(b"yesterday's")
    with pytest.raises(AlreadyExists):
        backup(sqlite_url(source), tmp_path / "copy.db", progress=lambda _done, _of: None)
    assert (tmp_path / "copy.db").read_bytes() == b"yesterday's"


def test_a_damaged_database_gives_no_backup(source: Path, tmp_path: Path) -> None:
    content = bytearray(source.read_bytes())
    content[200_000:240_000] = bytes(range(250)) * 160
    source.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        backup(sqlite_url(source), tmp_path / "copy.db", progress=lambda _done, _of: None)
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_what_can_not_be_copied_is_said(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        backup(sqlite_url(source), tmp_path / "nowhere" / "copy.db", progress=lambda _done, _of: None)
    with pytest.raises(StoreUnavailable):
        backup(sqlite_url(tmp_path / "missing.db"), tmp_path / "copy.db", progress=lambda _done, _of: None)
    with pytest.raises(BackupElsewhere, match="pg_basebackup"):
        backup("postgresql+psycopg://somebody@nowhere/db", tmp_path / "copy.db", progress=lambda _done, _of: None)
