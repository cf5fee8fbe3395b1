"""Who is calling, for the code below the interceptor."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elicense.trust.spiffe import Caller

CALLER: ContextVar[Caller] = ContextVar("CALLER")
"""Set by the interceptor for the span of one call; each call runs in a context of its own."""


def current_caller() -> Caller:
    """Return who makes the call that is being handled.

    Raises:
        LookupError: No call is being handled.
    """
    return CALLER.get()
