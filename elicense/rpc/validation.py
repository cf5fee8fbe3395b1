"""The shape of requests: the rules that stand beside each field in the protos (protovalidate)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import protovalidate

from elicense.errors import Malformed, Violation

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_NAMED_FIELDS: Final = 16
"""Fields that the one-line message names; the details have them all."""


class RequestRules:
    """Checks messages; rules are compiled at a message type's first use."""

    def __init__(self) -> None:
        self._violations = protovalidate.Validator().collect_violations

    def check(self, request: Message) -> None:
        """Check one message.

        Raises:
            Malformed: It breaks rules; every field that does is named. The texts quote rules, never values.
        """
        if not (found := self._violations(request)):
            return
        violations = tuple(
            Violation(_path(v.proto.field), v.proto.rule_id.upper().replace(".", "_"), v.proto.message) for v in found
        )
        fields = ", ".join(dict.fromkeys(v.field for v in violations[:MAX_NAMED_FIELDS]))
        raise Malformed(f"the request is malformed: {fields}", violations=violations)


def _path(field: protovalidate.FieldPathPb | None) -> str:
    """Return a field path as AIP-193 has it: ``queries[3].document.number``."""
    elements = () if field is None else field.elements
    return ".".join(
        element.field_name if element.subscript is None else f"{element.field_name}[{element.subscript.value}]"
        for element in elements
    )
