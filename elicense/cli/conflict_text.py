"""Conflicts in words, for clerks and operators alike."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from elicense.clock import CHINA, from_timestamp
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import log_pb2


def summary(conflict: pb.Conflict) -> str:
    """Return one conflict in one line."""
    sides = f"{conflict.counting.city} counts, {conflict.waiting.city} waits"
    return f"{conflict.name.partition('/')[2]}  {state(conflict):9}  until {_time(conflict.deadline_time)}  {sides}"


def state(conflict: pb.Conflict) -> str:
    """Return how far a conflict has come."""
    if conflict.overdue:
        return "OVERDUE"
    return pb.ConflictState.Name(conflict.state).removeprefix("CONFLICT_STATE_").lower()


def lines(conflict: pb.Conflict, city: int | None) -> list[str]:
    """Return one conflict with both sides' evidence; ``city`` is whose side is called one's own."""
    shown = [
        f"conflict  {conflict.name.partition('/')[2]}",
        f"state     {state(conflict)}",
        f"opened    {_time(conflict.open_time)}, to be settled by {_time(conflict.deadline_time)}",
        f"entry     {conflict.opened_at.index} of the registry's log",
        *_side("counts   ", conflict.counting, city),
        *_side("waits    ", conflict.waiting, city),
    ]
    for statement in conflict.statements:
        word = log_pb2.ConflictPosition.Name(statement.position).removeprefix("CONFLICT_POSITION_").lower()
        shown.append(f"said      {_time(statement.state_time)}  city {statement.city}: {word}: {statement.grounds}")
    if conflict.end:
        end = log_pb2.ConflictEnd.Name(conflict.end).removeprefix("CONFLICT_END_").lower()
        shown.append(f"decided   {_time(conflict.decide_time)} by {end}: {conflict.basis}")
        shown.append(f"stands    {conflict.standing_license or 'neither'}")
        if conflict.void_license:
            shown.append(f"void      {conflict.void_license}: to be cancelled by its city")
    if conflict.state == pb.CONFLICT_STATE_DECIDED:
        shown.append("          it counts once the other city has stored that its own is void")
    return shown


def _side(label: str, side: pb.ConflictSide, city: int | None) -> list[str]:
    own = ", your own" if side.city == city else ""
    where = side.position
    proved = "proved under the registry's receipt" if side.HasField("proof") else "no receipt covers it yet"
    how = "without the registry's grant" if side.provisional else "with the registry's grant"
    return [
        f"{label} license {side.license} of city {side.city}{own}",
        f"          issued {_time(side.record_time)} {how}",
        f"          entry {where.index} of log {where.city}/{where.epoch}, hash {side.entry_hash.hex()[:16]}, {proved}",
    ]


def _time(timestamp: Timestamp) -> str:
    return datetime.fromtimestamp(from_timestamp(timestamp) / 1_000_000, tz=CHINA).strftime("%Y-%m-%d %H:%M")
