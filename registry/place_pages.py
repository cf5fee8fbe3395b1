"""Tables whose rows are of records in cities' logs, read page by page in the order of those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Integer, bindparam, select, tuple_

from elicense.sql.direct import FixedStatement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

#: Before every place: no city has a number below 1.
_BEFORE_ALL: Final = (0, 0, 0)


class PlacePages:
    """Pages of one table.

    Args:
        columns: What to read, all of one table, which has the columns ``city``, ``epoch`` and ``idx``.
    """

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        c = columns[0].table.c
        place = (c.city, c.epoch, c.idx)
        behind = (
            bindparam("after_city", type_=Integer),
            bindparam("after_epoch", type_=BigInteger),
            bindparam("after_idx", type_=BigInteger),
        )
        self._page = FixedStatement(
            select(*columns)
            .where(tuple_(*place) > tuple_(*behind))
            .order_by(*place)
            .limit(bindparam("most", type_=Integer))
        )

    def read(self, conn: Connection, *, after: tuple[int, int, int] | None, limit: int) -> list[tuple[Any, ...]]:
        """Return up to ``limit`` rows behind a city, epoch and index; from the first on with None."""
        city, epoch, idx = after or _BEFORE_ALL
        return self._page.all(conn, {"after_city": city, "after_epoch": epoch, "after_idx": idx, "most": limit})
