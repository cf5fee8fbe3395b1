"""How long the city's log is and how much of it the registry has confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.errors import NotFound
from elicense.log.model import Head, LogKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class LogProgress:
    """Where the log stands.

    Attributes:
        city: Division code.
        epoch: Open epoch.
        log_size: Entries.
        confirmed_size: Entries with a receipt of the registry.
        last_commit_us: When the last commit was written, UTC microseconds; 0 before the first.
        dispositions: Number of the last disposition that is stored.
        contested: Licences that count and that another city disputes.
        without_effect: Licences that do not count, because another city has the person.
    """

    city: int
    epoch: int
    log_size: int
    confirmed_size: int
    last_commit_us: int
    dispositions: int
    contested: int
    without_effect: int


def open_log(keys: Sequence[LogKey], city: int) -> LogKey:
    """Return the city's log in its open epoch.

    Raises:
        NotFound: There is none; ``join`` makes the first, and nothing else does.
    """
    own = [key for key in keys if key.log == city]
    if not own:
        raise NotFound(
            "this node has no log; run `elicense-city join` first, or `restore` if it joined again", city=city
        )
    return max(own)


def own_head(conn: Connection, store: CityStore, city: int) -> Head:
    """Return the head of the city's log in its open epoch.

    Raises:
        NotFound: The node has no log.
        StoreCorrupt: The head contradicts itself.
    """
    key = open_log(store.logs.keys(conn), city)
    head = store.logs.head(conn, key)
    if head is None:
        raise NotFound(
            "this node has no log; run `elicense-city join` first, or `restore` if it joined again", city=city
        )
    return head


def log_progress(conn: Connection, store: CityStore, city: int) -> LogProgress:
    """Return where the log of ``city`` stands.

    Raises:
        NotFound: The node has no log.
    """
    key = open_log(store.logs.keys(conn), city)
    head = store.logs.head(conn, key)
    cosigned = store.logs.commits.latest_cosigned(conn, key)
    contested, without_effect = store.unsettled(conn, city)
    return LogProgress(
        city=city,
        epoch=key.epoch,
        log_size=0 if head is None else head.size,
        confirmed_size=0 if cosigned is None else cosigned[0],
        last_commit_us=0 if head is None else head.recorded_us,
        dispositions=store.disposition_cursor(conn, city),
        contested=contested,
        without_effect=without_effect,
    )
