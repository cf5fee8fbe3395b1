"""What a quarantine must keep: who comes into it, what it keeps out, and who ends it.

1. No city comes into quarantine but one whose key signed two histories, or a head that nobody could compute; and one
   whose two histories the registry has seen does.
2. Of an epoch with two histories nothing is taken in once that is decided, also when the quarantine is over, and
   nothing vouches for what is held of it any further.
3. A city in quarantine is granted nobody, and opens no epoch.
4. Two operators end it, or the city that explains its head.  What rests on two histories goes on in a later epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from elicense.errors import Error
from elicense.log.verifier_key import VerifierKey
from elicense.v1.log_pb2 import RegistryRecord
from elicense.verification.evidence_file import confirm, parse_evidence
from elicense.verification.head_evidence import party_of
from registry.quarantine_model import Kind
from tests.simulation.written import Violated, Watch


@dataclass
class _Standing:
    """A quarantine, as the registry's log has it.

    Attributes:
        kind: Why.
        size: What the registry held of the epoch when it was decided.
        as_of_us: As of when it called that complete.
        asked_by: Who asked for its end.
        is_open: Whether it is not over.
    """

    kind: Kind
    size: int
    as_of_us: int
    asked_by: str = ""
    is_open: bool = True


@dataclass
class QuarantineRules:
    """Checks the rules.

    Attributes:
        registry: The registry's database.
        at_fault: By city and epoch: for what the city may come into quarantine.
        unmended: Cities that have two histories, and were not restored since.
        decided: How many quarantines were decided.
    """

    registry: Watch
    at_fault: dict[tuple[int, int], Kind] = field(default_factory=dict)
    unmended: set[int] = field(default_factory=set)
    decided: int = 0
    _standing: dict[tuple[int, int], _Standing] = field(default_factory=dict)

    def note(self, record: RegistryRecord) -> None:
        """Note, and check, what the registry has decided."""
        if record.HasField("city_quarantined"):
            opened = record.city_quarantined
            self._opened(opened.city, opened.epoch, Kind(int(opened.kind)))
        elif record.HasField("release_asked"):
            self._standing[record.release_asked.city, record.release_asked.epoch].asked_by = record.actor
        elif record.HasField("quarantine_ended"):
            ended = record.quarantine_ended
            self._ended(ended.city, ended.epoch, record.actor)
        elif record.HasField("claims_granted"):
            self._require_free(record.claims_granted.city, "granted a person")
        elif record.HasField("epoch_opened"):
            self._require_free(record.epoch_opened.city, "let into another epoch")

    def check(self) -> None:
        """Check that nothing is taken in of what has two histories."""
        for (city, epoch), standing in self._standing.items():
            if standing.kind is not Kind.FORK:
                continue
            size, as_of_us = self._held(city, epoch)
            if size > standing.size:
                raise Violated(f"the registry takes in more of epoch {epoch} of {city}, which has two histories")
            if as_of_us > standing.as_of_us:
                raise Violated(f"the registry vouches for epoch {epoch} of {city}, which has two histories")

    def forget(self) -> None:
        """Forget what the registry's log does not hold any more, which goes on without it."""
        self._standing.clear()

    def seen(self, city: int, epoch: int) -> None:
        """Check, when somebody hears that the registry has seen two histories, that it says so in its log."""
        standing = self._standing.get((city, epoch))
        if standing is None or standing.kind is not Kind.FORK:
            raise Violated(f"the registry has seen two histories of {city}, and does not convict it")

    def convinced(self, city: int, body: bytes, keys: Iterable[VerifierKey]) -> None:
        """Check that evidence convinces whoever knows nothing but public keys."""
        try:
            accused = confirm(parse_evidence(body), list(keys)).accused
        except Error as error:
            raise Violated(f"the evidence against {city} proves nothing: {error.message}") from error
        if [party.rpartition("/")[2] for party in map(party_of, accused)] != [str(city)]:
            raise Violated(f"the evidence against {city} accuses {accused}")

    def settled(self) -> None:
        """Check, in the end, that all is over, and that no epoch with two histories goes on."""
        for (city, epoch), standing in self._standing.items():
            if standing.is_open:
                raise Violated(f"{city} is in quarantine still")
            if standing.kind is Kind.FORK and self.registry.head(city)[0] == epoch:
                raise Violated(f"{city} goes on in an epoch that has two histories")

    def _opened(self, city: int, epoch: int, kind: Kind) -> None:
        fault = self.at_fault.get((city, epoch))
        if fault is None or kind < fault:
            raise Violated(f"the registry puts {city} into quarantine ({kind.name}), which it does not deserve")
        before = self._standing.get((city, epoch))
        if before is not None and before.kind is Kind.FORK:
            raise Violated(f"the registry convicts {city} anew of what it was convicted of")
        self.decided += 1
        self._standing[city, epoch] = _Standing(kind, *self._held(city, epoch))

    def _ended(self, city: int, epoch: int, actor: str) -> None:
        standing = self._standing[city, epoch]
        standing.is_open = False
        explained = standing.kind is Kind.UNEXPLAINED and "/operator/" not in actor
        if not explained and (not standing.asked_by or standing.asked_by == actor):
            raise Violated(f"the quarantine of {city} was ended by {actor}, and asked for by {standing.asked_by}")

    def _require_free(self, city: int, what: str) -> None:
        if any(held.is_open for (code, _), held in self._standing.items() if code == city):
            raise Violated(f"{city} is in quarantine, and was {what}")

    def _held(self, city: int, epoch: int) -> tuple[int, int]:
        """Return what the registry holds of an epoch, and as of when it calls that complete."""
        sizes = {held: size for held, size, _ in self.registry.heads(city)}
        query = "SELECT as_of_us FROM city_state WHERE city = ? AND epoch = ?"
        row = self.registry.connection.execute(query, (city, epoch)).fetchone()
        return sizes.get(epoch, 0), row[0] if row else 0
