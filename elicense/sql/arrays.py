"""Whole columns of values as PostgreSQL takes them, put together at once.

The driver asks each value of a list how it wants to be sent, which for thousands of them takes longer than to
send them.  Here a column is put together as one array in the server's own binary form: a head, and for each
value its length and its bytes (``array_recv`` in PostgreSQL's ``src/backend/utils/adt/arrayfuncs.c``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, SmallInteger, String

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection
    from psycopg.abc import Buffer

    Values = Sequence[bytes | int | str | None]


class ArrayType(NamedTuple):
    """A type of arrays.

    Attributes:
        name: As SQL calls it.
        element: Number of the type of its elements; those of PostgreSQL's own types never change.
        code: How :mod:`struct` writes one of them; None for those that have no fixed size.
        is_text: Whether they are text.
    """

    name: str
    element: int
    code: str | None
    is_text: bool = False


ARRAY_TYPES: Final = {
    BigInteger: ArrayType("bigint[]", 20, "q"),
    Boolean: ArrayType("boolean[]", 16, "?"),
    Integer: ArrayType("integer[]", 23, "i"),
    LargeBinary: ArrayType("bytea[]", 17, None),
    SmallInteger: ArrayType("smallint[]", 21, "h"),
    String: ArrayType("text[]", 25, None, is_text=True),
}

_HEAD: Final = struct.Struct("!iiI")
_DIMENSION: Final = struct.Struct("!ii")
_LENGTH: Final = struct.Struct("!i")
_NULL: Final = _LENGTH.pack(-1)
#: Columns of numbers are written in pieces of so many, for each of which the form is made once.
_PIECE: Final = 256


@dataclass(frozen=True, slots=True)
class Array:
    """A column of values in PostgreSQL's binary form."""

    data: bytes


class _ArrayDumper(Dumper):
    """Hands over what is in the server's form already; what it is, the statement says by a cast."""

    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        return obj.data


def send_arrays(connection: Connection[Any]) -> None:
    """Have a connection take :class:`Array` as a parameter."""
    connection.adapters.register_dumper(Array, _ArrayDumper)


def array_of(kind: ArrayType, values: Values) -> Array | list[Any]:
    """Return a column of values as a parameter of a statement.

    Args:
        kind: The type of array.
        values: The values.

    Returns:
        The array; the values as they are when one of them does not fit the type, so that the driver says so.
    """
    if not values:
        return []
    try:
        if kind.code is not None:
            body = _numbers(kind.code, values)
        else:
            body = _bytes(_encoded(values) if kind.is_text else values)
    except (struct.error, AttributeError, TypeError, UnicodeEncodeError):
        return list(values)
    head = _HEAD.pack(1, None in values, kind.element) + _DIMENSION.pack(len(values), 1)
    return Array(head + body)


def _numbers(code: str, values: Values) -> bytes:
    each = struct.calcsize(f"!{code}")
    if None in values:
        one = struct.Struct(f"!i{code}")
        return b"".join([_NULL if value is None else one.pack(each, value) for value in values])
    parts = []
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        flat: list[Any] = [each] * (2 * len(piece))
        flat[1::2] = piece
        parts.append(struct.pack("!" + f"i{code}" * len(piece), *flat))
    return b"".join(parts)


def _encoded(values: Sequence[Any]) -> list[bytes | None]:
    return [None if value is None else value.encode() for value in values]


def _bytes(raw: Sequence[Any]) -> bytes:
    if None not in raw and len(sizes := set(map(len, raw))) == 1:
        # Keys and hashes: all of one length.
        length = _LENGTH.pack(sizes.pop())
        return length + length.join(raw)
    pack = _LENGTH.pack
    return b"".join([_NULL if value is None else pack(len(value)) + value for value in raw])
