"""Conflicts in words, for clerks and operators alike."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from elicense.clock import CHINA, from_timestamp
from elicense.errors import Malformed
from elicense.license.divisions import divisions
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import log_pb2


def summary(conflict: pb.Conflict) -> str:
    """Return one conflict in one line."""
    name = conflict.name.partition("/")[2]
    if not conflict.end:
        sides = f"{city_name(conflict.counting.city)} counts, {city_name(conflict.waiting.city)} waits"
        return f"{name}  {state(conflict):9}  until {_time(conflict.deadline_time)}  {sides}"
    standing = [
        f"{city_name(side.city)} stands"
        for side in (conflict.counting, conflict.waiting)
        if side.license == conflict.standing_license
    ]
    return f"{name}  {state(conflict):9}  on    {_time(conflict.decide_time)}  {''.join(standing) or 'neither stands'}"


def tally(conflicts: pb.ListConflictsResponse) -> str:
    """Return how many conflicts there are, in one line."""
    decided = sum(conflict.state == pb.CONFLICT_STATE_DECIDED for conflict in conflicts.conflicts)
    noted = f", {decided} decided and to be noted by the city that lost" if decided else ""
    return f"{conflicts.open_count} open, {conflicts.overdue_count} overdue{noted}"


def conflict_name(text: str) -> str:
    """Return the resource name of a conflict that may be given by its UUID alone.

    Raises:
        Malformed: It is neither.
    """
    try:
        return f"conflicts/{UUID(text.rpartition('/')[2])}"
    except ValueError:
        raise Malformed(f"{text[:60]!r} names no conflict; give its UUID, as `conflicts list` shows it") from None


def license_uuid(text: str) -> str:
    """Return the UUID of a licence that may be given by its resource name.

    Raises:
        Malformed: It is neither.
    """
    try:
        return str(UUID(text.rpartition("/")[2]))
    except ValueError:
        raise Malformed(f"{text[:60]!r} names no license; give its UUID, as `conflicts show` shows it") from None


def city_name(code: int) -> str:
    """Return a city's code, and its name where it is known."""
    known = divisions().get(code)
    return f"{code} {known.pinyin}" if known is not None else str(code)


def state(conflict: pb.Conflict) -> str:
    """Return how far a conflict has come."""
    if conflict.overdue:
        return "OVERDUE"
    return pb.ConflictState.Name(conflict.state).removeprefix("CONFLICT_STATE_").lower()


def lines(conflict: pb.Conflict, city: int | None) -> list[str]:
    """Return one conflict with both sides' evidence; ``city`` is whose side is called one's own."""
    over = bool(conflict.end)
    shown = [
        f"conflict  {conflict.name.partition('/')[2]}",
        f"state     {state(conflict)}",
        f"opened    {_time(conflict.open_time)}, to be settled by {_time(conflict.deadline_time)}",
        f"entry     {conflict.opened_at.index} of the registry's log",
        *_side("counted  " if over else "counts   ", conflict.counting, city),
        *_side("waited   " if over else "waits    ", conflict.waiting, city),
    ]
    for statement in conflict.statements:
        word = log_pb2.ConflictPosition.Name(statement.position).removeprefix("CONFLICT_POSITION_").lower()
        shown.append(
            f"said      {_time(statement.state_time)}  {city_name(statement.city)}: {word}: {statement.grounds}"
        )
    if conflict.end:
        end = log_pb2.ConflictEnd.Name(conflict.end).removeprefix("CONFLICT_END_").lower()
        shown.append(f"decided   {_time(conflict.decide_time)} by {end}: {conflict.basis}")
        later = ""
        if conflict.state == pb.CONFLICT_STATE_DECIDED:
            later = ": it counts once the other city has stored that its own is void"
        shown.append(f"stands    {conflict.standing_license or 'neither'}{later}")
        if conflict.void_license:
            shown.append(f"void      {conflict.void_license}: to be cancelled by its city")
    return shown


def _side(label: str, side: pb.ConflictSide, city: int | None) -> list[str]:
    own = ", your own" if side.city == city else ""
    where = side.position
    proved = "proved under the registry's receipt" if side.HasField("proof") else "no receipt covers it yet"
    how = "without the registry's grant" if side.provisional else "with the registry's grant"
    return [
        f"{label} license {side.license} of {city_name(side.city)}{own}",
        f"          issued {_time(side.record_time)} {how}",
        f"          entry {where.index} of log {where.city}/{where.epoch}, hash {side.entry_hash.hex()[:16]}, {proved}",
    ]


def _time(timestamp: Timestamp) -> str:
    return datetime.fromtimestamp(from_timestamp(timestamp) / 1_000_000, tz=CHINA).strftime("%Y-%m-%d %H:%M")
