"""What the cities' logs hold, read from the databases as soon as it is committed."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from elicense.license.bans import BANNING_LETTERS
from elicense.v1 import license_pb2

#: Who suspends and revokes licences without a last day; nobody else does.
SUSPENDS: Final = "模拟公安局"
_ENDS: Final = (license_pb2.LICENSE_EVENT_CANCELLED, license_pb2.LICENSE_EVENT_ERASED)


class Violated(AssertionError):
    """A promise was broken; the message says which."""


class Place(NamedTuple):
    """Where an entry lies; of one city, in the order of its writing."""

    city: int
    epoch: int
    idx: int

    def __str__(self) -> str:
        return f"record {self.idx} of {self.city}" + (f", epoch {self.epoch}" if self.epoch > 1 else "")


@dataclass
class Watch:
    """A database that is looked at after each step; cheap while it does not change.

    Attributes:
        parted: By city and epoch: from which index on the registry holds another history than the city.
    """

    connection: sqlite3.Connection
    version: int = -1
    parted: dict[tuple[int, int], int] = field(default_factory=dict)

    def changed(self) -> bool:
        """Whether something was committed since the last call."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        before, self.version = self.version, version
        return bool(version != before)

    def heads(self, log: int) -> list[tuple[int, int, bytes]]:
        """Return epoch, size and root of each epoch of a log, the open one last."""
        return self.connection.execute(
            "SELECT epoch, size, root FROM log_head WHERE log = ? ORDER BY epoch", (log,)
        ).fetchall()

    def head(self, log: int) -> tuple[int, int, bytes]:
        """Return epoch, size and root of a log in its open epoch."""
        return self.heads(log)[-1]

    def entries(self, log: int, epoch: int, start: int) -> list[tuple[int, bytes | None]]:
        """Return index and record of each entry from ``start`` on."""
        return self.connection.execute(
            "SELECT idx, record FROM log_entry WHERE log = ? AND epoch = ? AND idx >= ? ORDER BY idx",
            (log, epoch, start),
        ).fetchall()

    def record(self, place: Place) -> bytes | None:
        """Return a record; None when there is none, or no longer."""
        found = self.connection.execute(
            "SELECT record FROM log_entry WHERE log = ? AND epoch = ? AND idx = ?", place
        ).fetchone()
        return found[0] if found else None


def watch(path: object) -> Watch:
    """Return a database to be watched."""
    return Watch(sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None))


@dataclass(frozen=True, slots=True)
class Written:
    """A record in a city's log.

    Attributes:
        place: Where.
        at_us: True time at which it was committed.
        license_id: UUID bytes.
        request_id: The request that caused it.
        numbers: Numbers of the documents that name the holder in it.
        forbids: Whether nobody may drive upon the licence as it says, today and from now on.
        is_clean: Whether it has no letter that could forbid driving on some day.
        issues: Whether it is the licence's first.
        bars: Whether its holder may have no other licence, today and from now on.
        erases: Whether the licence is erased with it.
    """

    place: Place
    at_us: int
    license_id: bytes
    request_id: str
    numbers: tuple[str, ...]
    forbids: bool
    is_clean: bool
    issues: bool
    bars: bool
    erases: bool


@dataclass
class CityWritings:
    """The records of all cities.

    Attributes:
        of_license: In the order in which they were committed.
        of_request: By city and request id.
        of_number: Those that name the holder by a number.
        shared: Numbers that have led to more than one licence.
        bars: Those that bar the holder.
        erased: Licences that were erased.
        ever_erased: Those too whose ERASED entry is lost: what they were may come back emptied all the same.
        told: Those, by city, that its operator was told to erase anew as it was restored, and when that was first.
    """

    of_license: dict[bytes, list[Written]] = field(default_factory=lambda: defaultdict(list))
    of_request: dict[tuple[int, str], list[Written]] = field(default_factory=lambda: defaultdict(list))
    of_number: dict[str, list[Written]] = field(default_factory=lambda: defaultdict(list))
    shared: set[str] = field(default_factory=set)
    bars: list[Written] = field(default_factory=list)
    erased: set[bytes] = field(default_factory=set)
    ever_erased: set[bytes] = field(default_factory=set)
    told: dict[int, dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    _sizes: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))

    def read(self, city: int, source: Watch, now_us: int) -> Iterator[Written]:
        """Read, and yield, what a city has committed since."""
        for epoch, size, _ in source.heads(city):
            if size <= self._sizes[city, epoch]:
                continue
            for index, content in source.entries(city, epoch, self._sizes[city, epoch]):
                self._sizes[city, epoch] = index + 1
                record = license_pb2.LicenseRecord.FromString(content or b"")
                if record.license_id:
                    written = _read(Place(city, epoch, index), record, now_us)
                    self._add(written)
                    yield written

    def forget(self, city: int, epoch: int, size: int) -> None:
        """Forget what a city had written from there on, which is lost."""
        self._sizes[city, epoch] = min(size, self._sizes[city, epoch])
        for key in [key for key in self._sizes if key[0] == city and key[1] > epoch]:
            del self._sizes[key]
        end = Place(city, epoch, size)
        by_key: tuple[dict[Any, list[Written]], ...] = (self.of_license, self.of_request, self.of_number)
        for records in (*(records for each in by_key for records in each.values()), self.bars):
            records[:] = [each for each in records if each.place.city != city or each.place < end]
        self.erased = {
            license_id for license_id, records in self.of_license.items() if any(each.erases for each in records)
        }

    def licenses(self, number: str) -> set[bytes]:
        """Return the licences that a number has led to."""
        return {each.license_id for each in self.of_number.get(number, ())}

    def of_person(self, number: str) -> set[bytes]:
        """Return the licences of whoever has a number, also by other numbers that records name beside it."""
        found: set[bytes] = set()
        numbers = {number}
        while fresh := {each for other in numbers for each in self.licenses(other)} - found:
            found |= fresh
            numbers = {other for license_id in fresh for each in self.of_license[license_id] for other in each.numbers}
        return found

    def records(self, number: str) -> Iterator[Written]:
        """Return the records of these licences."""
        for license_id in self.licenses(number):
            yield from self.of_license[license_id]

    def _add(self, written: Written) -> None:
        self.of_license[written.license_id].append(written)
        self.of_request[written.place.city, written.request_id].append(written)
        for number in written.numbers:
            if any(each.license_id != written.license_id for each in self.of_number[number]):
                self.shared.add(number)
            self.of_number[number].append(written)
        if written.bars:
            self.bars.append(written)
        if written.erases:
            self.erased.add(written.license_id)
            self.ever_erased.add(written.license_id)


def _read(place: Place, record: license_pb2.LicenseRecord, now_us: int) -> Written:
    letters, ended = record.license.status_letters, record.event in _ENDS
    ours = [letter.letter for letter in letters if letter.authority == SUSPENDS]
    documents = [record.license.holder.document, *record.earlier_documents]
    return Written(
        place,
        now_us,
        record.license_id,
        record.request_id,
        tuple(document.number for document in documents if document.number),
        forbids=ended or bool(ours),
        is_clean=not ended and all(letter.letter == "A" for letter in letters),
        issues=record.event == license_pb2.LICENSE_EVENT_ISSUED,
        bars=not BANNING_LETTERS.isdisjoint(ours),
        erases=record.event == license_pb2.LICENSE_EVENT_ERASED,
    )


def held(records: Iterable[Written], registry: Watch) -> list[Written]:
    """Return those that the registry holds."""
    records = list(records)
    sizes = {
        (city, epoch): size for city in {each.place.city for each in records} for epoch, size, _ in registry.heads(city)
    }
    for parted, idx in registry.parted.items():
        sizes[parted] = min(idx, sizes.get(parted, 0))
    return [each for each in records if each.place.idx < sizes.get(each.place[:2], 0)]


def leaves(source: Watch, log: int, epoch: int, size: int) -> list[bytes]:
    """Return the first leaf hashes of a log."""
    query = "SELECT leaf_hash FROM log_entry WHERE log = ? AND epoch = ? AND idx < ? ORDER BY idx"
    return [leaf for (leaf,) in source.connection.execute(query, (log, epoch, size))]


def in_common(one: Watch, other: Watch, log: int, epoch: int) -> int:
    """Return how many entries of a log two databases have in common, from the first on."""
    sizes = ({held: size for held, size, _ in source.heads(log)}.get(epoch, 0) for source in (one, other))
    size = min(sizes)
    pairs = zip(leaves(one, log, epoch, size), leaves(other, log, epoch, size), strict=True)
    return next((idx for idx, (ours, theirs) in enumerate(pairs) if ours != theirs), size)
