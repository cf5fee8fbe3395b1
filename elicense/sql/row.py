"""A value whose fields are the columns of its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, cast


class Row:
    """Mix-in for frozen dataclasses that are read from and written to one table.

    The dataclass lists its fields in the order in which its columns are selected,
    so that a result row can be passed to the constructor as it is.
    """

    __slots__ = ()

    def as_dict(self) -> dict[str, bytes | int | str]:
        """Return the fields by name, as parameters of a statement."""
        return {field.name: getattr(self, field.name) for field in fields(cast("Any", self))}


def values_of(kind: type[Row]) -> Callable[[Any], tuple[bytes | int | str, ...]]:
    """Return a function that gives the fields of a ``kind`` as a tuple, in the order of its columns."""
    return attrgetter(*[field.name for field in fields(cast("Any", kind))])
