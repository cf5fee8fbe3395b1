"""A value whose fields are the columns of its table."""

from __future__ import annotations

from dataclasses import fields
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
