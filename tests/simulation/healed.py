"""What comes to be once everything is healed.

1. The registry has decided whatever it can.
2. Both sides name the same custodian of each licence, but for one that a hand-over is lost of for ever.
3. Of an erased licence nothing is left anywhere, but for one that a hand-over is lost of for ever: a city that has
   lost the word that it gave the licence away erases it upon nobody else's.
4. ``fsck`` finds nothing on any side: the national view is the fold of the logs. But for a licence whose ERASED entry
   both sides have lost, which its city has to erase anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from city_node import fsck as city_fsck
from city_node.mirror import RegistryHistory
from elicense.log.check import Finding
from elicense.log.verifier_key import parse_vkey
from registry import fsck as registry_fsck
from registry.conflict_model import ConflictState
from registry.model import ClaimState
from tests.simulation.city import CityNode
from tests.simulation.decided import Decisions
from tests.simulation.registry import RegistryNode
from tests.simulation.template import CITIES, Template
from tests.simulation.written import CityWritings, Place, Watch

_UNDECIDED: Final = {
    "conflict": f"SELECT COUNT(*) FROM conflict WHERE state = {int(ConflictState.DECIDED)} AND :now",
    "pending_transfer": "SELECT COUNT(*) FROM pending_transfer WHERE :now",
    "pending_decision": "SELECT COUNT(*) FROM pending_decision AS waiting LEFT JOIN claim USING (person_key)"
    f" WHERE claim.city IS NULL OR claim.city = waiting.city OR claim.state <> {int(ClaimState.LEASED)}"
    " OR claim.lease_end_us < :now",
}


@dataclass
class Healed:
    """Tells what of it is not so yet.

    Attributes:
        registry: The registry's database.
        cities: Those of the cities.
        writings: What cities wrote.
        decisions: What the registry decided.
    """

    registry: Watch
    cities: dict[int, Watch]
    writings: CityWritings
    decisions: Decisions

    def undecided(self, now_us: int) -> str | None:
        """Return the table of what the registry has not decided (yet) though nothing keeps it; None when that is none.

        What may yet be decided by a grant that another city has not used waits for the end of that.
        """
        for table, query in _UNDECIDED.items():
            if self.registry.connection.execute(query, {"now": now_us}).fetchone()[0]:
                return table
        return None

    def disagreement(self) -> str | None:
        """Return on whose custody a city and the registry do not agree (yet); None when they agree on all licences."""
        held = dict(self.registry.connection.execute("SELECT license_id, city FROM license_view"))
        for code, watch in self.cities.items():
            own = dict(watch.connection.execute("SELECT license_id, city FROM license_view"))
            if not self._erased().isdisjoint(own):
                return f"{code} has a license in its view that was erased"
            for license_id, city in own.items():
                if license_id in self.decisions.lost:
                    continue  # what a city was told of it, nobody can tell the registry any more
                if license_id in self._back():
                    continue  # the city has it back, which erases it anew; the registry has had it emptied already
                if held.get(license_id) != city:
                    there = held.get(license_id)
                    return f"{code} says that {city} has a license, and the registry says {there}"
        if not self._erased().isdisjoint(held):
            return "the registry has a license in its view that was erased"
        return None

    def not_erased(self) -> str | None:
        """Return where something of an erased licence is left (yet); None when nothing is."""
        for license_id in self._erased():
            for code, city in self.cities.items():
                for source, whose in ((city, str(code)), (self.registry, "the registry")):
                    if (left := self.left_of(license_id, source, code)) is not None:
                        return f"{whose} holds {left}, of a licence that was erased"
        return None

    def is_excused(self, finding: Finding) -> bool:
        """Whether what a self-check finds is of a licence that its city has back and the registry has had emptied."""
        for license_id in self._back():
            places = (each.place for each in self.writings.of_license[license_id])
            names = {str(UUID(bytes=license_id)), *(f"{at.city}/{at.epoch}/{at.idx}" for at in places)}
            if not names.isdisjoint(finding.where.split(" ")):
                return True
        return False

    def _back(self) -> set[bytes]:
        """Return the licences that were erased by an entry which both sides have lost."""
        return self.writings.ever_erased - self.writings.erased

    def _erased(self) -> set[bytes]:
        return self.writings.erased - self.decisions.lost

    def left_of(self, license_id: bytes, source: Watch, code: int) -> Place | None:
        """Return a record that a database holds of a licence, from the log of a city; not that which erases it."""
        for each in self.writings.of_license[license_id]:
            if each.place.city == code and not each.erases and source.record(each.place) is not None:
                return each.place
        return None


def findings(template: Template, registry: RegistryNode, cities: dict[int, CityNode]) -> list[Finding]:
    """Return what the self-checks of all nodes find."""
    domain = template.registry.node.trust_domain
    keys = template.registry_keys
    report = registry_fsck.Fsck(
        database=registry.database,
        store=template.registry_store,
        persons=keys.persons,
        trust_domain=domain,
        log_key=keys.log.public_key(),
        cosigner_key=keys.cosigner.public_key(),
        progress=lambda _: None,
    ).run()
    found = list(report.findings)
    for code in CITIES:
        own = template.city_keys[code]
        check = city_fsck.Fsck(
            database=cities[code].database,
            store=template.city_store,
            persons=own.persons,
            trust_domain=domain,
            city=code,
            cosigner=own.cosigner,
            registry=RegistryHistory(parse_vkey(template.cities[code].city.registry_log_key)),
            progress=lambda _: None,
        )
        found += check.run().findings
    return found
