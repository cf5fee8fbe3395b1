"""What the logs hold, read from the databases as soon as it is committed, and who has custody by that alone."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from elicense.v1 import license_pb2
from elicense.v1.log_pb2 import RegistryRecord

#: Who suspends licences without a last day; nobody else does.
SUSPENDS: Final = "模拟公安局"
_ENDS: Final = (license_pb2.LICENSE_EVENT_CANCELLED, license_pb2.LICENSE_EVENT_ERASED)


class Violated(AssertionError):
    """A promise was broken; the message says which."""


@dataclass
class Watch:
    """A database that is looked at after each step; cheap while it does not change."""

    connection: sqlite3.Connection
    version: int = -1

    def changed(self) -> bool:
        """Whether something was committed since the last call."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        before, self.version = self.version, version
        return bool(version != before)

    def head(self, log: int) -> tuple[int, bytes]:
        """Return size and root of a log."""
        size, root = self.connection.execute("SELECT size, root FROM log_head WHERE log = ?", (log,)).fetchone()
        return size, root

    def entries(self, log: int, start: int) -> list[tuple[int, bytes]]:
        """Return index and record of each entry from ``start`` on."""
        return self.connection.execute(
            "SELECT idx, record FROM log_entry WHERE log = ? AND idx >= ? ORDER BY idx", (log, start)
        ).fetchall()


def watch(path: object) -> Watch:
    """Return a database to be watched."""
    return Watch(sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None))


@dataclass(frozen=True, slots=True)
class Written:
    """A record in a city's log.

    Attributes:
        city: Whose log.
        index: Where.
        at_us: True time at which it was committed.
        license_id: UUID bytes.
        request_id: The request that caused it.
        forbids: Whether nobody may drive upon the licence as it says, today and from now on.
        is_clean: Whether it has no letter that could forbid driving on some day.
        erases: Whether the licence is erased with it.
    """

    city: int
    index: int
    at_us: int
    license_id: bytes
    request_id: str
    forbids: bool
    is_clean: bool
    erases: bool


@dataclass
class CityWritings:
    """The records of all cities.

    Attributes:
        of_license: In the order in which they were committed.
        of_request: By city and request id.
        of_person: The licences of a document's number.
    """

    of_license: dict[bytes, list[Written]] = field(default_factory=lambda: defaultdict(list))
    of_request: dict[tuple[int, str], list[Written]] = field(default_factory=lambda: defaultdict(list))
    of_person: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _sizes: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def read(self, city: int, source: Watch, now_us: int) -> None:
        """Read what a city has committed since."""
        for index, content in source.entries(city, self._sizes[city]):
            self._sizes[city] = index + 1
            record = license_pb2.LicenseRecord.FromString(content)
            letters, ended = record.license.status_letters, record.event in _ENDS
            written = Written(
                city,
                index,
                now_us,
                record.license_id,
                record.request_id,
                forbids=ended or any(letter.authority == SUSPENDS for letter in letters),
                is_clean=not ended and all(letter.letter == "A" for letter in letters),
                erases=record.event == license_pb2.LICENSE_EVENT_ERASED,
            )
            self.of_license[record.license_id].append(written)
            self.of_request[city, record.request_id].append(written)
            if record.license.holder.document.number:
                self.of_person[record.license.holder.document.number].add(record.license_id)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A take-over that the registry accepted.

    Attributes:
        city: Who has custody from then on.
        index: Index of the take-over in that city's log.
        source: City and index of the last record that counts of the city before.
    """

    city: int
    index: int
    source: tuple[int, int]


@dataclass
class Decisions:
    """What the registry's log decided about custody."""

    accepted: dict[bytes, list[TakenOver]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    _size: int = 0

    def read(self, registry: Watch) -> None:
        """Read what the registry has decided since, and check that its view says the same."""
        for index, content in registry.entries(0, self._size):
            self._size = index + 1
            record = RegistryRecord.FromString(content)
            if record.WhichOneof("decision") != "transfer_decided":
                continue
            decided = record.transfer_decided
            if decided.refusal:
                self.refused += 1
                continue
            source = decided.source.city, decided.source.index
            taken = TakenOver(decided.position.city, decided.position.index, source)
            before = self.accepted[decided.license_id]
            if before and before[-1].city != source[0]:
                raise Violated(f"a license was taken over from {source[0]}, and {before[-1].city} had it")
            before.append(taken)
        for license_id, taken_over in self.accepted.items():
            self._check(registry, license_id, taken_over[-1])

    def _check(self, registry: Watch, license_id: bytes, last: TakenOver) -> None:
        rows = registry.connection.execute(
            "SELECT city, idx FROM license_view WHERE license_id = ?", (license_id,)
        ).fetchall()
        if len(rows) != 1:
            raise Violated(f"a license that was taken over stands {len(rows)} times in the national view")
        city, index = rows[0]
        if city != last.city or index < last.index:
            raise Violated(
                f"{last.city} took a license over at {last.index}, and what counts is record {index} of {city}"
            )

    def is_late(self, written: Written) -> bool:
        """Whether a record was written by a city that had handed the licence over before, as far as is decided."""
        return any(
            taken.source[0] == written.city and written.index > taken.source[1]
            for taken in self.accepted.get(written.license_id, ())
        )
