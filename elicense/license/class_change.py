"""Withdrawing, downgrading and adding single classes (降级, 增驾)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Final

from elicense.errors import Malformed, Violation
from elicense.license.change import Changed
from elicense.license.model import License, LicenseEvent, VehicleClass
from elicense.license.periods import anniversary
from elicense.license.points import cycles_since
from elicense.license.transitions import NOT_OFFERED, Action, missing, require
from elicense.license.vehicle_classes import CLASSES, age_rule, completed_years


@dataclass(frozen=True, slots=True)
class UpgradeRule:
    """What an upgrade to a class asks for.

    Attributes:
        years: Classes of which one must be held, and for how many years.
        clean_cycles: Running point cycles without twelve points, the present one included.
    """

    years: Mapping[str, int]
    clean_cycles: int


def _rule(clean_cycles: int, **years: int) -> UpgradeRule:
    return UpgradeRule(MappingProxyType(years), clean_cycles)


UPGRADES: Mapping[str, UpgradeRule] = MappingProxyType(
    {
        "A1": _rule(3, A3=2, B1=2, B2=3, A2=1),
        "A2": _rule(2, B1=2, B2=2),
        "B1": _rule(2, A3=2, B2=2, C1=2, C2=2, C3=2, C4=2),
        "C6": _rule(1, C1=1, C2=1),
    }
)
"""Classes that are reached by upgrade only, under Order 162 as it is recalled; correct them here."""

ANY_CLASS: Final = _rule(1)
"""What any other class asks for besides the age."""


@dataclass(frozen=True, slots=True)
class AddedClass:
    """A class to add.

    Attributes:
        code: Its code.
        limits: Its limits.
    """

    code: str
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A change of classes in one revision.

    Attributes:
        withdraw: Classes that the holder loses.
        add: Classes that the holder gets: downgrades, upgrades, and held ones with other limits.
        basis: Law and decision.
    """

    withdraw: tuple[str, ...]
    add: tuple[AddedClass, ...]
    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence with its new classes."""
        faults = self._faults()
        if faults:
            raise Malformed("the change of classes contradicts itself; correct the fields named", violations=faults)
        held = {each.code: each for each in license_.vehicle_classes}
        upgrades = [each for each in self.add if each.code not in held and not self._covers(each.code)]
        broken = list(missing(Action.ADD_CLASS if upgrades else Action.WITHDRAW_CLASS, license_, on))
        if license_.offered_to_city and not upgrades and any(each.code in held for each in self.add):
            # Other limits for a class that is held may be fewer.
            broken.append(Violation("add_classes", NOT_OFFERED.reason, NOT_OFFERED.advice))
        for position, code in enumerate(self.withdraw):
            if code not in held:
                advice = "Read the licence again: it does not carry the class."
                broken.append(Violation(f"withdraw_classes[{position}]", "CLASS_NOT_HELD", advice))
        for position, each in enumerate(self.add):
            if each in upgrades:
                broken.extend(_upgrade_gaps(license_, each.code, on, f"add_classes[{position}]"))
        after = [each for each in license_.vehicle_classes if each.code not in self.withdraw]
        if not after and not self.add:
            broken.append(Violation("withdraw_classes", "LAST_CLASS", "Cancel the licence: no class would remain."))
        require(tuple(broken))
        for each in self.add:
            kept = held.get(each.code)
            if kept is not None:
                after = [replace(one, limits=each.limits) if one is kept else one for one in after]
            else:
                after.append(VehicleClass(each.code, on, None, each.limits))
        return Changed(replace(license_, vehicle_classes=tuple(after)), LicenseEvent.UPDATED)

    def _covers(self, code: str) -> bool:
        return any(code in CLASSES[lost].covers for lost in self.withdraw if lost in CLASSES)

    def _faults(self) -> list[Violation]:
        faults: list[Violation] = []
        if not self.withdraw and not self.add:
            faults.append(Violation("", "NOTHING_TO_CHANGE", "Name at least one class to withdraw or to add."))
        if len(set(self.withdraw)) != len(self.withdraw):
            faults.append(Violation("withdraw_classes", "CLASS_REPEATED", "List each class once."))
        codes = [each.code for each in self.add]
        for position, code in enumerate(codes):
            field = f"add_classes[{position}].code"
            if code not in CLASSES:
                faults.append(Violation(field, "CLASS_UNKNOWN", "Give a class of the law."))
            if code in codes[:position] or code in self.withdraw:
                faults.append(Violation(field, "CLASS_REPEATED", "Either add the class or withdraw it, once."))
        return faults


def _upgrade_gaps(license_: License, code: str, on: date, field: str) -> list[Violation]:
    """Return what a holder lacks for a class that is neither held nor covered by one withdrawn."""
    gaps: list[Violation] = []
    info, ages = CLASSES[code], age_rule(code, on)
    age = completed_years(license_.holder.birth_date, on)
    if info.since is not None and on < info.since:
        gaps.append(Violation(field, "CLASS_NOT_INTRODUCED", "Add the class once the law knows it."))
    if age < ages.youngest:
        gaps.append(Violation(field, "CLASS_TOO_YOUNG", "Wait until the holder has reached the age of the class."))
    if ages.oldest and age > ages.oldest:
        gaps.append(Violation(field, "CLASS_TOO_OLD", "Leave the class out: the holder is above its highest age."))
    rule = UPGRADES.get(code, ANY_CLASS)
    long_enough = any(
        each.code in rule.years and anniversary(each.from_date, rule.years[each.code]) <= on
        for each in license_.vehicle_classes
    )
    if rule.years and not long_enough:
        needed = ", ".join(f"{each} for {years} years" for each, years in rule.years.items())
        gaps.append(Violation(field, "CLASS_HELD_TOO_SHORT", f"The upgrade needs one of: {needed}."))
    full = license_.points_limit_date
    if full is not None and cycles_since(license_.first_issue_date, full, on) < rule.clean_cycles:
        advice = f"Wait: twelve points were reached within the last {rule.clean_cycles} point cycles."
        gaps.append(Violation(field, "POINTS_REACHED_LATELY", advice))
    return gaps
