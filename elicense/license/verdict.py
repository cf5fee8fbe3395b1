"""Whether a licence may be driven on: from its standing, the view's flags and a day to an outcome.

Pure, and judged at verdict time: no stored flag says "expired".  Everything that a
node does not know ends in INDETERMINATE, never in VALID.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Final

from elicense.license.model import Standing, StatusLetter, Validity, ValidityKind, VehicleClass
from elicense.license.status_letters import Effect, is_known, letter_info
from elicense.license.vehicle_classes import covered_by


class Outcome(IntEnum):
    """Outcome of a verification; numbers as in the proto."""

    VALID = 1
    INVALID = 2
    NO_MATCH = 3
    INDETERMINATE = 4


class VerdictReason(IntEnum):
    """Why an outcome is what it is; numbers as in the proto."""

    STATUS_LETTER = 1
    EXPIRED = 2
    NOT_YET_VALID = 3
    NO_CLASS = 4
    UNKNOWN_LETTER = 5
    CITY_STALE = 6
    REGISTRY_UNREACHABLE = 7
    PROVISIONAL = 8
    CONFLICT = 9
    UNKNOWN_EVENT = 10
    CANCELLED = 11
    VOID = 12
    IN_TRANSFER = 13
    NOT_RECORDED = 20


class ViewFlags(IntFlag):
    """What the view knows of a licence beyond its own record; stored as an integer."""

    PROVISIONAL = 1
    """Issued while the registry was away and not yet confirmed."""
    CONFLICT = 2
    """Another city holds a licence of this person."""
    UNKNOWN_EVENT = 4
    """Changed by an event that this node does not know."""
    CANCELLED = 8
    """Cancelled or erased; the licence holds its person no longer."""
    REVOKED = 16
    """Revoked or annulled; once the bar from applying anew is over it stands in nobody's way."""
    VOID = 32
    """Declared void by the registry: it never counts, whatever its own record says."""
    OFFERED = 64
    """Custody is offered to another city; says nothing about the right to drive."""
    RECALLED = 128
    """An offer was taken back, and the registry has not confirmed it: another city may have been faster.

    Stands in a city's own view alone.
    """
    TAKEN_UP = 256
    """The city that it is offered to has written that it takes it over, and the registry has not decided that.

    Stands in the registry's view alone: what that city has done to the licence since is not known until then.
    """


OF_LATEST_RECORD: Final = int(ViewFlags.REVOKED | ViewFlags.OFFERED)
"""Flags that the latest record alone decides: a later one takes them back, every other flag stays once set."""


@dataclass(frozen=True, slots=True)
class LetterStanding:
    """One status letter in effect, in plain words.

    Attributes:
        letter: The letter.
        name: Its name in characters.
        meaning: What follows from it, one English sentence.
        forbids_driving: Whether it forbids driving now.
        until: Last day of effect; None when open-ended.
    """

    letter: str
    name: str
    meaning: str
    forbids_driving: bool
    until: date | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a node concludes about one licence.

    Attributes:
        outcome: VALID, INVALID, NO_MATCH or INDETERMINATE.
        reasons: Why, most weighty first; empty when valid.
        drivable: Classes that may be driven now, covered ones included, sorted; empty unless valid.
        letters: Letters in effect.
        summary: One sentence for a person at a counter; no personal data.
    """

    outcome: Outcome
    reasons: tuple[VerdictReason, ...]
    drivable: tuple[str, ...]
    letters: tuple[LetterStanding, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class LastKnown:
    """What was concluded from records that are too old to rely on.

    Attributes:
        outcome: The outcome then.
        as_of_us: Up to when the records were complete, UTC microseconds.
    """

    outcome: Outcome
    as_of_us: int


NO_MATCH: Final = Finding(Outcome.NO_MATCH, (), (), (), "No licence matches what was asked.")
"""The one answer to an unknown number and to a name that does not match."""

UNREADABLE: Final = Finding(
    Outcome.INDETERMINATE,
    (VerdictReason.UNKNOWN_EVENT,),
    (),
    (),
    "Cannot be said now: what is stored of the licence can not be read here; ask the city in custody.",
)
"""The answer about a licence whose stored standing is damaged."""

REGISTRY_UNREACHABLE: Final = Finding(
    Outcome.INDETERMINATE,
    (VerdictReason.REGISTRY_UNREACHABLE,),
    (),
    (),
    "Cannot be said now: the registry is out of reach; ask again later.",
)
"""The one answer of a city node about a licence that is not its own while the registry is away."""

_SUMMARIES: Final = {
    VerdictReason.STATUS_LETTER: "a status letter forbids driving",
    VerdictReason.EXPIRED: "the licence has expired",
    VerdictReason.NOT_YET_VALID: "the licence is not valid yet",
    VerdictReason.NO_CLASS: "no class may be driven now",
    VerdictReason.UNKNOWN_LETTER: "it carries a status letter that is not known here; ask the city in custody",
    VerdictReason.CITY_STALE: "the city has not been heard for too long; see what was last known",
    VerdictReason.PROVISIONAL: "it was issued provisionally and is not confirmed nationally yet",
    VerdictReason.CONFLICT: "two cities hold a licence of this person; it is being resolved",
    VerdictReason.UNKNOWN_EVENT: "it was changed in a way that is not known here; ask the city in custody",
    VerdictReason.CANCELLED: "the licence is cancelled",
    VerdictReason.VOID: "the licence is void: the person holds another, or may not hold one",
    VerdictReason.IN_TRANSFER: "it is being handed over to another city just now; ask again in a moment",
    VerdictReason.NOT_RECORDED: "what held at that moment is not recorded here; ask the city in custody",
}

NOT_ISSUED_YET: Final = Finding(
    Outcome.INVALID, (VerdictReason.NOT_YET_VALID,), (), (), "Not valid: the licence had not been issued yet."
)
"""The answer about a moment before a licence was issued."""

NOT_RECORDED: Final = Finding(
    Outcome.INDETERMINATE,
    (VerdictReason.NOT_RECORDED,),
    (),
    (),
    f"Cannot be said: {_SUMMARIES[VerdictReason.NOT_RECORDED]}.",
)
"""The answer about a moment before the records of an existing licence begin, or whose record was erased."""

_ELSEWHERE: Final = "a status letter does not say whether driving is allowed; ask the city in custody"

_DOUBTS: Final = (
    (ViewFlags.UNKNOWN_EVENT, VerdictReason.UNKNOWN_EVENT),
    (ViewFlags.CONFLICT, VerdictReason.CONFLICT),
    (ViewFlags.PROVISIONAL, VerdictReason.PROVISIONAL),
    (ViewFlags.TAKEN_UP, VerdictReason.IN_TRANSFER),
)


def assess(standing: Standing, flags: int, on: date) -> Finding:
    """Judge a licence by what is recorded of it, leaving its age aside.

    1. What the view doubts (an unknown event, a conflict, a provisional issue, an undecided take-over) is
       INDETERMINATE.
    2. Cancellation, a forbidding letter, a date out of validity or no class is INVALID.
    3. A letter that this node does not know, or that says nothing of driving, is INDETERMINATE.
    4. Otherwise the licence is VALID for its classes and those that they cover.

    Args:
        standing: Classes, letters and validity.
        flags: :class:`ViewFlags` of the view.
        on: The day in China on which it is judged.
    """
    letters = standing.status_letters
    codes = _held(standing.vehicle_classes, on)
    if not flags and not letters and codes and (validity := standing.validity) is not None:
        # The usual licence: nothing on it but classes and dates.
        until = validity.until_date
        if validity.from_date <= on and (on <= until if until is not None else validity.kind == ValidityKind.LONG_TERM):
            return plainly_valid(codes)
    return _assess_fully(standing.validity, codes, _in_effect(letters, on), int(flags), on)


def _assess_fully(
    validity: Validity | None, codes: tuple[str, ...], letters: tuple[StatusLetter, ...], flags: int, on: date
) -> Finding:
    doubts = [reason for flag, reason in _DOUBTS if flags & flag]
    against = list(_grounds_against(validity, codes, letters, flags, on))
    unclear, unclear_text = _unclear(letters)
    shown = tuple(_plain_words(letter) for letter in letters)
    reasons = (*doubts, *against, *unclear)
    # (1) Doubt comes first: what is in doubt cannot be called invalid either.
    if doubts:
        return Finding(Outcome.INDETERMINATE, reasons, (), shown, f"Cannot be said now: {_SUMMARIES[doubts[0]]}.")
    # (2)
    if against:
        return Finding(Outcome.INVALID, reasons, (), shown, f"Not valid: {_SUMMARIES[against[0]]}.")
    # (3)
    if unclear:
        return Finding(Outcome.INDETERMINATE, reasons, (), shown, f"Cannot be said now: {unclear_text}.")
    # (4)
    plain = plainly_valid(codes)
    noted = [letter for letter in shown if letter_info(letter.letter).effect is Effect.NOTE]
    if not noted:
        return replace(plain, letters=shown)
    settle = ", ".join(f"{letter.letter} {letter.name}" for letter in noted)
    return replace(plain, letters=shown, summary=f"{plain.summary} To be settled: {settle}.")


def _grounds_against(
    validity: Validity | None, codes: tuple[str, ...], letters: tuple[StatusLetter, ...], flags: int, on: date
) -> Iterable[VerdictReason]:
    if flags & ViewFlags.VOID:
        yield VerdictReason.VOID
    if flags & ViewFlags.CANCELLED:
        yield VerdictReason.CANCELLED
    if any(letter_info(letter.letter).forbids_driving for letter in letters):
        yield VerdictReason.STATUS_LETTER
    if validity is not None:
        until = validity.until_date
        # Only a long-term licence may lack its last day; any other without one fails safe.
        if on > until if until is not None else validity.kind != ValidityKind.LONG_TERM:
            yield VerdictReason.EXPIRED
        if on < validity.from_date:
            yield VerdictReason.NOT_YET_VALID
    if validity is None or not codes:
        yield VerdictReason.NO_CLASS


def _unclear(letters: tuple[StatusLetter, ...]) -> tuple[tuple[VerdictReason, ...], str]:
    """Return why letters leave the question open, and in words."""
    if any(not is_known(letter.letter) for letter in letters):
        return (VerdictReason.UNKNOWN_LETTER,), _SUMMARIES[VerdictReason.UNKNOWN_LETTER]
    if any(letter_info(letter.letter).effect is Effect.UNDECIDED for letter in letters):
        return (VerdictReason.STATUS_LETTER,), _ELSEWHERE
    return (), ""


@lru_cache(maxsize=4_096)
def plainly_valid(codes: tuple[str, ...]) -> Finding:
    """Return the finding for a licence with these classes and nothing against it; few sets of classes exist."""
    drivable = tuple(sorted(covered_by(codes)))
    return Finding(Outcome.VALID, (), drivable, (), f"Valid for {', '.join(drivable)}.")


def _held(classes: tuple[VehicleClass, ...], on: date) -> tuple[str, ...]:
    return tuple(
        [held.code for held in classes if held.from_date <= on and ((until := held.until_date) is None or on <= until)]
    )


def _in_effect(letters: tuple[StatusLetter, ...], on: date) -> tuple[StatusLetter, ...]:
    return tuple(
        letter for letter in letters if letter.start_date <= on and (letter.end_date is None or on <= letter.end_date)
    )


def _plain_words(letter: StatusLetter) -> LetterStanding:
    info = letter_info(letter.letter)
    return LetterStanding(letter.letter, info.name, info.meaning, info.forbids_driving, letter.end_date)


def apply_freshness(finding: Finding, *, as_of_us: int, now_us: int, limit_us: int) -> tuple[Finding, LastKnown | None]:
    """Take back what rests on records that are too old.

    Within the limit the finding stands.  Beyond it nothing is certain, so the answer
    is INDETERMINATE / CITY_STALE; the reasons and letters that were known stay behind
    it, with the outcome then, so that an officer can decide.  NO_MATCH stays as it
    is: it must not tell how fresh any city is.

    Args:
        finding: What :func:`assess` concluded.
        as_of_us: Up to when the city's records are complete, UTC microseconds; ahead of ``now_us`` by more
            than the limit it is as little worth as behind it.
        now_us: Verdict time.
        limit_us: Greatest age that the caller's role accepts.

    Returns:
        The finding to answer with, and what was last known when the city is stale.
    """
    # Records can not be complete up to a time to come: a clock is wrong, and how far is not known.
    if abs(now_us - as_of_us) <= limit_us or finding.outcome is Outcome.NO_MATCH:
        return finding, None
    stale = Finding(
        Outcome.INDETERMINATE,
        (VerdictReason.CITY_STALE, *finding.reasons),
        (),
        finding.letters,
        f"Cannot be said now: {_SUMMARIES[VerdictReason.CITY_STALE]}.",
    )
    return stale, LastKnown(finding.outcome, as_of_us)
