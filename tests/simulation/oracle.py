"""What must hold after every step, looked up behind the nodes' backs.

1. Nothing is signed twice over one size of one log.
2. Whatever a citizen was told is in the city's database, and its proof verifies; what was erased is not, in the
   end in no city that ever had the licence, nor at the registry.
3. The registry's log of a city is a prefix of the city's own.
4. No freshness is over-claimed: what a city had committed by an as-of time is held by the registry.
5. No person has two licences that count, by whatever numbers, and who is barred gets none
   (:mod:`tests.simulation.persons`).
6. Custody is where the registry's log says it went last: one city has it, and what another writes does not count.
7. Who lost a conflict between two licences never counts again, and in the end who won it does
   (:mod:`tests.simulation.persons`).
8. No verdict says more than its node can know, or less than it must (:mod:`tests.simulation.verdicts`).
9. No honest node stops signing, and none raises what is no answer.
10. A city that was set back and restored has whatever the registry had of its log, and old proofs hold
   (:mod:`tests.simulation.kept`).
11. The registry takes nothing emptied that it has not held in full, unless it was erased
   (:mod:`tests.simulation.slots`).
12. No honest city comes into quarantine; what has two histories does, and two operators end it
   (:mod:`tests.simulation.quarantines`).

What a city with two histories acknowledged behind the point at which they part may be lost, unless it has a receipt
for it; until it is restored nothing that it says of itself is judged.

At the end, with everything healed, both sides are equal, and :mod:`tests.simulation.healed` holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from elicense.clock import SECOND_US
from elicense.errors import Error, LogBehind
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.merkle import verify_inclusion
from elicense.log.note import parse_note
from elicense.log.tree import EMPTY_ROOT
from elicense.trust.enrollment import city_log_origin
from elicense.v1 import issuance_pb2 as pb
from registry.quarantine_model import Kind
from tests.simulation.city import CityNode
from tests.simulation.decided import Decisions
from tests.simulation.healed import Healed, findings
from tests.simulation.kept import SetbackRules
from tests.simulation.persons import PersonRules
from tests.simulation.quarantines import QuarantineRules
from tests.simulation.registry import RegistryNode
from tests.simulation.signatures import Signatures
from tests.simulation.slots import SlotRules
from tests.simulation.template import START_US, Template
from tests.simulation.verdicts import VerdictOracle
from tests.simulation.written import CityWritings, Place, Violated, Watch, in_common


@dataclass
class Oracle:
    """Sees everything.

    Attributes:
        template: The nation's keys.
        now_s: Virtual seconds.
        checks: How many things it has compared.
        was_set_back: Whether the registry was; then it decides nothing until its cities have given its log back.
    """

    template: Template
    now_s: Callable[[], float]
    registry: Watch
    cities: dict[int, Watch]
    checks: int = 0
    was_set_back: bool = False
    writings: CityWritings = field(default_factory=CityWritings)
    decisions: Decisions = field(init=False)
    persons: PersonRules = field(init=False)
    verdicts: VerdictOracle = field(init=False)
    quarantines: QuarantineRules = field(init=False)
    signatures: Signatures = field(init=False)
    #: By city: at which true time the log had grown to which epoch and size.
    _grown: dict[int, list[tuple[int, tuple[int, int]]]] = field(default_factory=dict)
    setbacks: SetbackRules = field(init=False)
    healed: Healed = field(init=False)
    slots: SlotRules = field(init=False)

    def __post_init__(self) -> None:
        self.signatures = Signatures(self.template.registry_keys.cosigner.public_key())
        self.quarantines = QuarantineRules(self.registry)
        self.decisions = Decisions(self.writings, self.quarantines)
        self.persons = PersonRules(self.writings, self.decisions, self.template.registry_keys.persons)
        self.setbacks = SetbackRules(self.registry, self.cities, self.writings)
        self.slots = SlotRules(self.registry, self.writings)
        self.healed = Healed(self.registry, self.cities, self.writings, self.decisions)
        self.verdicts = VerdictOracle(self.registry, self.cities, self.writings, self.decisions, self.persons)

    @property
    def all_checks(self) -> int:
        """How many things were compared, heads that were signed among them."""
        return self.checks + self.signatures.seen

    def after_step(self) -> None:
        """Check what can have changed."""
        now_us = self.now_us()
        grown = False
        for code, watch in self.cities.items():
            if watch.changed():
                grown = True
                for written in self.writings.read(code, watch, now_us):
                    self.persons.wrote(written)
                head = watch.head(code)[:2]
                sizes = self._grown.setdefault(code, [(0, (1, 0))])
                if head < sizes[-1][1] and code not in self.setbacks.under_way:
                    raise Violated(f"the log of {code} shrank from {sizes[-1][1]} to {head}")
                if head > sizes[-1][1]:
                    sizes.append((now_us, head))
        decided = self.registry.changed()
        if self.quarantines.unmended and (decided or grown):
            self._part()
        if decided:
            self.decisions.read(self.registry)
            self.slots.check()
            self.quarantines.check()
        if decided or grown:
            self._check_registry()

    def _check_registry(self) -> None:
        self.checks += 1
        for code, watch in self.cities.items():
            if code in self.setbacks.under_way or code in self.quarantines.unmended:
                continue
            for epoch, size, root in self.registry.heads(code):
                own = watch.connection.execute(
                    "SELECT root FROM log_checkpoint WHERE log = ? AND epoch = ? AND size = ?", (code, epoch, size)
                ).fetchone()
                if (own[0] if own else EMPTY_ROOT if size == 0 else None) != root:
                    raise Violated(f"the registry's log of {code} is no prefix of the city's at {size}")
        rows = self.registry.connection.execute("SELECT city, epoch, next_index, as_of_us FROM city_state")
        for code, epoch, next_index, as_of_us in rows:
            if code not in self._grown or code in self.quarantines.unmended:
                continue
            # A commit of this very step may be the one that the answer already counts.
            had = max(head for at_us, head in self._grown[code] if at_us < as_of_us or head == (1, 0))
            if had > (epoch, next_index):
                raise Violated(
                    f"the registry holds {next_index} of {code} and calls that complete at "
                    f"{(as_of_us - START_US) / SECOND_US:.6f} s, when the city had {had}"
                )
        self.persons.check(self.registry, self.now_us())

    def acknowledged(self, code: int, request_id: str, answer: pb.CreateLicenseResponse | None) -> None:
        """Check an answer at the moment when a citizen hears it."""
        self.checks += 1
        watch = self.cities[code]
        found = self.writings.of_request.get((code, request_id), [])
        if self.setbacks.may_be_lost(code, self.now_us()):
            return
        if len(found) != 1:
            raise Violated(f"an acknowledged request stands {len(found)} times in the log of {code}")
        if answer is None:
            return
        place = found[0].place
        query = "SELECT leaf_hash FROM log_entry WHERE log = ? AND epoch = ? AND idx = ?"
        (leaf,) = watch.connection.execute(query, place).fetchone()
        proof = answer.proof
        signed = parse_checkpoint(parse_note(proof.checkpoint).text)
        try:
            verify_inclusion(leaf_hash=leaf, index=place.idx, size=signed.size, proof=proof.hashes, root=signed.root)
        except Error as error:
            raise Violated(f"a proof of {code} does not verify: {error.message}") from error
        if Place(proof.position.city, proof.position.epoch, proof.position.index) != place:
            raise Violated(f"a proof of {code} is for another record")
        self.setbacks.proved(place, leaf, signed)

    def taken_over(self, code: int, license_id: bytes) -> None:
        """Check, when a citizen hears that a city has a licence now, that the registry decided so."""
        self.checks += 1
        deciding = [taken.place.city for taken in self.decisions.accepted.get(license_id, ())]
        if code not in deciding and license_id not in self.decisions.lost:
            raise Violated(f"{code} says that it took a license over, and the registry's log does not")

    def erased(self, code: int, license_id: bytes) -> None:
        """Check, when a citizen hears that a licence was erased, that the city has nothing of it left but that."""
        self.checks += 1
        left = self.healed.left_of(license_id, self.cities[code], code)
        if left is not None and not self.setbacks.may_be_lost(code, self.now_us()):
            raise Violated(f"an erased licence has {left} still")

    def told_to_erase(self, code: int, licenses: set[bytes]) -> None:
        """Check what an operator is told to erase anew: all of it was erased, by an entry that is lost."""
        self.checks += 1
        if not licenses <= self.writings.ever_erased - self.writings.erased:
            raise Violated(f"the operator of {code} is told to erase a licence, and no entry that erased it is lost")
        for license_id in licenses:
            self.writings.told[code].setdefault(license_id, self.now_us())

    def ruled(self, conflict_id: bytes, standing: bytes) -> None:
        """Check, when somebody hears how a conflict ended, that the registry's log says the same."""
        self.checks += 1
        if self.decisions.is_whole and self.decisions.stands.get(conflict_id) != standing:
            raise Violated("a conflict was decided otherwise than the registry's log says")

    def is_whole(self) -> bool:
        """Whether nothing is set back at present."""
        return self.decisions.is_whole and not self.setbacks.under_way

    def about_to_set_back(self, code: int) -> None:
        """Note what must survive, just before a city's database is set back."""
        self.setbacks.begin(code)
        self.verdicts.setbacks += 1

    def set_back(self, code: int) -> bool:
        """Forget what is lost with a city's database; tell whether the registry holds more than the copy had."""
        copied = self.cities[code].head(code)[:2]
        held = self.registry.head(code)[:2]
        self._forget(code, max(copied, held))
        return held > copied

    def _forget(self, code: int, left: tuple[int, int]) -> None:
        """Forget what a city had written behind an epoch and size, which is lost."""
        self.writings.forget(code, *left)
        if code in self._grown:
            self._grown[code] = [each for each in self._grown[code] if each[1] <= left]

    def forks(self, code: int, kind: Kind) -> None:
        """Note that from now on somebody shows the registry two histories of a city, or an unsound head."""
        epoch, _, _ = self.cities[code].head(code)
        self.quarantines.at_fault[code, epoch] = kind
        if kind is Kind.FORK:
            self.signatures.fork(self._origin(code, epoch))
            self.quarantines.unmended.add(code)

    def set_back_as_a_whole(self, code: int) -> None:
        """Forget what a city's machine has forgotten, which goes on and nobody knows."""
        self.forks(code, Kind.FORK)
        epoch, size, _ = self.cities[code].head(code)
        self.signatures.fork(self._origin(code, epoch), by_itself=True)
        self.verdicts.setbacks += 1
        self._forget(code, (epoch, size))
        self.setbacks.lost(code, epoch, size, self.now_us())

    def moves_aside(self, code: int) -> None:
        """Forget what is lost with one of a city's two histories: nothing that it has a receipt for."""
        city = self.cities[code]
        query = "SELECT cosigned_size FROM log_head WHERE log = ? AND epoch = ?"
        for epoch, size, _ in city.heads(code):
            left = in_common(self.registry, city, code, epoch)
            (has_receipt,) = city.connection.execute(query, (code, epoch)).fetchone()
            if has_receipt > left:
                raise Violated(f"{code} loses {has_receipt - left} entries that it has a receipt for")
            if left < size:
                break
        self._forget(code, (epoch, left))
        self.setbacks.lost(code, epoch, left, self.now_us())

    def mended(self, code: int) -> None:
        """Check that a city that had two histories has the one that the registry holds."""
        self.restored(code)
        self.verdicts.setbacks += 1
        self.quarantines.unmended.discard(code)
        self.registry.parted.clear()

    def _part(self) -> None:
        """Find out where the histories of the registry and of cities part."""
        self.registry.parted = {
            (code, epoch): in_common(self.registry, self.cities[code], code, epoch)
            for code in self.quarantines.unmended
            for epoch, _, _ in self.registry.heads(code)
        }

    def put_aside(self, code: int) -> None:
        """Forget an epoch of a city that the registry has refused: its key is put aside, and another one begins it."""
        epoch, _, _ = self.cities[code].head(code)
        if epoch in [held for held, _, _ in self.registry.heads(code)]:
            raise Violated(f"the registry holds epoch {epoch} of {code}, and refused it")
        self.signatures.put_aside(self._origin(code, epoch))

    def is_mirrored(self) -> bool:
        """Whether a city holds all of the registry's own log."""
        heads = self.registry.heads(0)
        return any(watch.heads(0) == heads for watch in self.cities.values())

    def registry_set_back(self) -> None:
        """Let the registry know less than before."""
        self.was_set_back = True
        self.verdicts.setbacks += 1
        self.decisions.read(self.registry)
        self.persons.forget()
        self._check_registry()

    def gave_up(self) -> None:
        """Let the registry decide again without what is lost."""
        self.verdicts.setbacks += 1
        self.decisions.start_anew(self.registry)
        self.persons.forget()

    def restored(self, code: int) -> None:
        """Check that nothing is lost of a city's log that the registry had."""
        self.checks += 1
        self.setbacks.end(code, self.now_us())

    def honest(self, city: CityNode) -> None:
        """Check that a city has no reason to stop."""
        if city.code in self.setbacks.under_way or city.code in self.quarantines.unmended:
            return
        if city.gate.reason is not None and not city.gate.waits:
            raise Violated(f"{city.name} stopped signing: {city.gate.reason.message}")
        if city.writer.failure is not None:
            raise Violated(f"{city.name}'s log stopped: {city.writer.failure.message}")

    def honest_registry(self, registry: RegistryNode) -> None:
        """Check that the registry has no reason to stop."""
        # One that was set back waits for its cities.
        failure = registry.writer.failure
        if failure is not None and not (self.was_set_back and isinstance(failure, LogBehind)):
            raise Violated(f"the registry's log stopped: {failure.message}")

    def settled(self, registry: RegistryNode, cities: dict[int, CityNode]) -> None:
        """Check everything, once everything is healed and has arrived."""
        found = [each for each in findings(self.template, registry, cities) if not self.healed.is_excused(each)]
        for code, watch in self.cities.items():
            if self.registry.head(code) != watch.head(code):
                raise Violated(f"the registry never caught up with {code}")
        self.setbacks.settled()
        self.quarantines.settled()
        self.persons.settled(self.registry)
        if found:
            raise Violated("; ".join(f"{finding.where}: {finding.what}" for finding in found[:3]))

    def _origin(self, code: int, epoch: int) -> str:
        return city_log_origin(self.template.registry.node.trust_domain, code, epoch)

    def now_us(self) -> int:
        """Return the true time."""
        return START_US + int(self.now_s() * SECOND_US)

    def close(self) -> None:
        for watch in (self.registry, *self.cities.values()):
            watch.connection.close()
