"""The tables of conflicts and what cities said in them: the only SQL over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    SmallInteger,
    String,
    Table,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from elicense.sql.bulk import BulkLookup
from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement
from registry.conflict_model import Conflict, ConflictState, Statement

_TEXT_LENGTH: Final = 500
_CLERK_LENGTH: Final = 200


def define_conflict_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add ``conflict`` and ``conflict_statement`` to ``metadata`` and return them."""
    conflict = Table(
        "conflict",
        metadata,
        Column("person_key", LargeBinary(16), nullable=False),
        Column("license_id", LargeBinary(16), nullable=False, index=True),
        Column("city", Integer, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("entry_hash", LargeBinary(32), nullable=False),
        Column("held_license", LargeBinary(16), nullable=False),
        Column("held_city", Integer, nullable=False),
        Column("opened_us", BigInteger, nullable=False),
        Column("deadline_us", BigInteger, nullable=False),
        Column("registry_epoch", BigInteger, nullable=False),
        Column("registry_index", BigInteger, nullable=False),
        Column("state", SmallInteger, nullable=False, index=True),
        Column("standing_license", LargeBinary(16), nullable=False),
        Column("void_license", LargeBinary(16), nullable=False),
        Column("ending", SmallInteger, nullable=False),
        Column("basis", String(_TEXT_LENGTH), nullable=False),
        Column("decided_us", BigInteger, nullable=False),
        Column("notice_city", Integer, nullable=False),
        Column("notice_seq", BigInteger, nullable=False),
        PrimaryKeyConstraint("person_key", "license_id"),
        info={"dist": "person_key"},
    )
    statement = Table(
        "conflict_statement",
        metadata,
        Column("conflict_id", LargeBinary(16), nullable=False),
        Column("seq", Integer, nullable=False, autoincrement=False),
        Column("city", Integer, nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("position", SmallInteger, nullable=False),
        Column("grounds", String(_TEXT_LENGTH), nullable=False),
        Column("clerk", String(_CLERK_LENGTH), nullable=False),
        Column("stated_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("conflict_id", "seq"),
        info={"dist": "conflict_id"},
    )
    return conflict, statement


class ConflictStore:
    """Reads and writes conflicts inside a caller's transaction.

    Args:
        conflict: The table ``conflict``.
        statement: The table ``conflict_statement``.
    """

    def __init__(self, conflict: Table, statement: Table) -> None:
        self._table = conflict
        self._statement = statement
        self._columns = [conflict.c[name] for name in Conflict.__dataclass_fields__]
        self._statement_columns = [statement.c[name] for name in Statement.__dataclass_fields__]
        self._by_person = BulkLookup(self._columns, conflict.c.person_key)
        self._by_id = select(*self._columns).where(conflict.c.license_id.in_(bindparam("ids", expanding=True)))
        self._statements = (
            select(*self._statement_columns)
            .where(statement.c.conflict_id.in_(bindparam("ids", expanding=True)))
            .order_by(statement.c.conflict_id, statement.c.seq)
        )
        state = conflict.c.state
        self._unsettled = FixedStatement(
            select(*self._columns)
            .where((state == int(ConflictState.OPEN)) | (state == int(ConflictState.DECIDED)))
            .order_by(state.desc(), conflict.c.deadline_us, conflict.c.license_id)
            .limit(bindparam("most", type_=Integer))
        )
        self._stored = FixedStatement(
            update(conflict)
            .where(
                conflict.c.state == int(ConflictState.DECIDED),
                conflict.c.notice_city == bindparam("of_city"),
                conflict.c.notice_seq > 0,
                conflict.c.notice_seq <= bindparam("up_to"),
            )
            .values(notice_seq=0)
        )
        self._counts, self._counts_of_city = (FixedStatement(each) for each in self._counting())

    def of_persons(self, conn: Connection, keys: Iterable[bytes]) -> list[Conflict]:
        """Return every conflict of these persons."""
        return [Conflict(*row) for row in self._by_person.execute(conn, keys)]

    def by_id(self, conn: Connection, ids: Sequence[bytes]) -> list[Conflict]:
        """Return the conflicts named by these licences."""
        return [Conflict(*row) for row in conn.execute(self._by_id, {"ids": list(ids)})] if ids else []

    def unsettled(self, conn: Connection, *, limit: int) -> list[Conflict]:
        """Return up to ``limit`` conflicts that are not over, those decided first, then by deadline."""
        return [Conflict(*row) for row in self._unsettled.all(conn, {"most": limit})]

    def page(self, conn: Connection, *, city: int | None, settled: bool, now_us: int, limit: int) -> list[Conflict]:
        """Return conflicts of a city, or of all with None: overdue ones first, then by deadline, those over last."""
        c = self._table.c
        late = (c.state == int(ConflictState.OPEN)) & (c.deadline_us < now_us)
        query = select(*self._columns).where(self._of(city))
        if not settled:
            query = query.where(c.state != int(ConflictState.SETTLED))
        order = (case((late, 0), else_=1), c.state, c.deadline_us, c.license_id)
        return [Conflict(*row) for row in conn.execute(query.order_by(*order).limit(limit))]

    def counts(self, conn: Connection, *, city: int | None, now_us: int) -> tuple[int, int, int]:
        """Return how many conflicts of a city, or of all, are open, how many of these overdue, and how many decided."""
        if city is None:
            ((is_open, overdue, decided),) = self._counts.all(conn, {"now": now_us})
        else:
            ((is_open, overdue, decided),) = self._counts_of_city.all(conn, {"now": now_us, "of_city": city})
        return int(is_open), int(overdue), int(decided)

    def all_page(self, conn: Connection, *, after: tuple[bytes, bytes] | None, limit: int) -> list[Conflict]:
        """Return up to ``limit`` conflicts behind a person and licence, in that order."""
        key = (self._table.c.person_key, self._table.c.license_id)
        query = select(*self._columns).order_by(*key).limit(limit)
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(*after))
        return [Conflict(*row) for row in conn.execute(query)]

    def stated(self, conn: Connection, *, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` conflicts behind one, in order, in which something was said."""
        c = self._statement.c.conflict_id
        return list(conn.execute(select(c).where(c > after).distinct().order_by(c).limit(limit)).scalars())

    def all(self, conn: Connection) -> list[Conflict]:
        """Return every conflict, for checks of small stores."""
        return [Conflict(*row) for row in conn.execute(select(*self._columns))]

    def put(self, conn: Connection, conflicts: Sequence[Conflict]) -> None:
        """Insert or replace conflicts."""
        if not conflicts:
            return
        insert = insert_for(conn.dialect.name, self._table)
        replaced = {c.name: insert.excluded[c.name] for c in self._table.c if not c.primary_key}
        upsert = insert.on_conflict_do_update(index_elements=["person_key", "license_id"], set_=replaced)
        conn.execute(upsert, [conflict.as_dict() for conflict in conflicts])

    def move(self, conn: Connection, source: bytes, target: bytes) -> None:
        """Have the conflicts of one tag stand under another."""
        held = self.of_persons(conn, [source])
        if held:
            conn.execute(self._table.delete().where(self._table.c.person_key == source))
            self.put(conn, [replace(each, person_key=target) for each in held])

    def stored_by(self, conn: Connection, city: int, up_to: int) -> bool:
        """Note that a city has stored its feed up to a number; return whether a conflict waited for that."""
        return self._stored.run(conn, {"of_city": city, "up_to": up_to}) > 0

    def move_notices(self, conn: Connection, city: int, *, behind: int, by: int) -> None:
        """Follow words of a city's feed about losers that got higher numbers, those behind number ``behind``."""
        c = self._table.c
        query = update(self._table).where(c.notice_city == city, c.notice_seq > behind)
        conn.execute(query.values(notice_seq=c.notice_seq + by))

    def statements(self, conn: Connection, ids: Sequence[bytes]) -> dict[bytes, list[Statement]]:
        """Return what was said in each conflict, oldest first; one in which nothing was said is absent."""
        found: dict[bytes, list[Statement]] = defaultdict(list)
        if ids:
            for row in conn.execute(self._statements, {"ids": list(ids)}):
                found[row[0]].append(Statement(*row))
        return dict(found)

    def add_statements(self, conn: Connection, statements: Sequence[Statement]) -> None:
        """Insert statements."""
        if statements:
            conn.execute(self._statement.insert(), [statement.as_dict() for statement in statements])

    def all_statements(self, conn: Connection) -> list[Statement]:
        """Return every statement, for checks of small stores."""
        return [Statement(*row) for row in conn.execute(select(*self._statement_columns))]

    def _counting(self) -> tuple[Select[Any], Select[Any]]:
        """Return what counts the conflicts of all cities, and those of one."""
        c = self._table.c
        is_open = c.state == int(ConflictState.OPEN)
        of_all = select(
            func.coalesce(func.sum(case((is_open, 1), else_=0)), 0),
            func.coalesce(func.sum(case((is_open & (c.deadline_us < bindparam("now")), 1), else_=0)), 0),
            func.coalesce(func.sum(case((c.state == int(ConflictState.DECIDED), 1), else_=0)), 0),
        )
        return of_all, of_all.where(self._of(bindparam("of_city", type_=Integer)))

    def _of(self, city: int | ColumnElement[int] | None) -> ColumnElement[bool]:
        c = self._table.c
        return true() if city is None else or_(c.city == city, c.held_city == city)
