"""How the requests of one commit are answered."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, TypeVar, cast

from elicense.log.decision import Committed, CommittedBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elicense.log.appender import Outcome
    from elicense.log.decision import SignedHead
    from elicense.log.request_queue import Request

C = TypeVar("C")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)


def answer(group: Sequence[Request[C, R]], outcome: Outcome[R], signed: SignedHead) -> None:
    """Tell each caller what its command came to.

    Args:
        group: The requests of the commit, in order.
        outcome: What the commit did.
        signed: Its head, durable and signed.
    """
    index = outcome.before.size
    batch = CommittedBatch(outcome.before.frontier, outcome.leaf_hashes)
    for request, decision in zip(group, outcome.decisions, strict=True):
        count = 0 if decision.error is not None else len(decision.records)
        if request.done.done():
            pass  # the caller has gone; what was decided for it stands
        elif decision.error is not None:
            request.done.set_exception(decision.error)
        else:
            request.done.set_result(
                Committed(
                    # Without an error the result is of the decider's type, which may itself be optional.
                    result=cast("R", decision.result),
                    first_index=index if count else None,
                    count=count,
                    size=signed.size,
                    checkpoint=signed.note,
                    batch=batch if count else None,
                )
            )
        index += count


def refuse(group: Sequence[Request[C, R]], error: Exception) -> None:
    """Tell each caller why its command was not carried out."""
    for request in group:
        if not request.done.done():
            request.done.set_exception(fresh(error))


def fresh(error: E) -> E:
    """Return an equal error for one more caller.

    An exception that is raised again keeps, and lengthens, the traceback of everyone before.
    """
    again = copy(error).with_traceback(None)
    again.__cause__ = error.__cause__
    return again
