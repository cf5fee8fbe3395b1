"""From rows of the licence view to a verdict: pure, and the same for every node.

Unknown number, wrong name, and wrong name of a licence whose city is stale all
take the same path: the best row, or that of nobody, is matched; what does
not match is assessed as nobody's, whatever the row holds, and answered with
the one NO_MATCH.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, NamedTuple

from elicense.clock import china_date, to_timestamp
from elicense.errors import Malformed
from elicense.license.finding import find
from elicense.license.verdict import NO_MATCH, UNREADABLE, Finding, LastKnown, ViewFlags, apply_freshness
from elicense.v1 import verification_pb2 as pb
from elicense.view.model import NOBODY, ViewRow


class Question(NamedTuple):
    """One query, reduced to tags.

    Attributes:
        person_key: Tag of the document asked about.
        name_tag: Tag of the name asked about; empty when no name was given.
    """

    person_key: bytes
    name_tag: bytes


@dataclass(frozen=True, slots=True)
class CityFreshness:
    """How current a city's records are on this node.

    Attributes:
        source: ``elicense.v1.Source`` number of who vouches.
        as_of_us: Up to when the city's records are complete here; 0 when it was never heard.
        log_size: Entries of its log behind the answer.
        log_epoch: Epoch of that log.
    """

    source: int
    as_of_us: int
    log_size: int
    log_epoch: int


#: Wordings kept: findings with status letters are no two the same.
_MAX_WORDINGS: Final = 1_024

_DOUBTFUL: Final = int(ViewFlags.CONFLICT | ViewFlags.PROVISIONAL)

NEVER_HEARD: Final = CityFreshness(source=pb.SOURCE_REGISTRY, as_of_us=0, log_size=0, log_epoch=0)


def effective_row(rows: Sequence[ViewRow]) -> ViewRow:
    """Return the row that speaks for a person.

    One at its end (void, cancelled or revoked) only when there is no other, then
    the latest; one in conflict only when there is none that counts or was revoked.
    """
    # Nearly everybody has one, and nobody has one as well.
    return rows[0] if len(rows) == 1 else min(rows, key=_rank, default=NOBODY)


def _rank(row: ViewRow) -> tuple[int, int]:
    rank = rank_of(row.flags)
    return rank, -row.recorded_us if rank else 0


def rank_of(flags: int) -> int:
    """Return the place of a licence among those that could speak for its person, by its flags; the lowest speaks."""
    for place, ended in enumerate((ViewFlags.VOID, ViewFlags.CANCELLED, _DOUBTFUL, ViewFlags.REVOKED)):
        if flags & ended:
            return 4 - place
    return 0


def matches(row: ViewRow, question: Question) -> bool:
    """Whether ``row`` is what was asked about; takes the same time for any answer."""
    same_name = compare_digest(row.name_tag, question.name_tag or row.name_tag)
    return same_name & (not compare_digest(row.license_id, NOBODY.license_id))


class Wordings:
    """Findings in the wire's form, serialized, without their time; equal ones are made once.

    Most licences are found to be the same few things, and what a city says of its
    freshness stays as it is for a second.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        # With the finding and the freshness themselves, so that nothing else gets their identity meanwhile.
        self._made: dict[tuple[int, int], tuple[Finding, CityFreshness | None, bytes]] = {}

    def of(self, finding: Finding, *, city: int, freshness: CityFreshness | None) -> bytes:
        """Return a verdict without its time."""
        made = self._made.get((id(finding), city))
        if made is not None and made[0] is finding and made[1] is freshness:
            return made[2]
        words = as_message(finding, city=city, freshness=freshness).SerializeToString()
        if len(self._made) >= _MAX_WORDINGS:
            self._made.clear()
        self._made[id(finding), city] = finding, freshness, words
        return words


class Verdicts:
    """Puts findings of one moment into the wire's form.

    Args:
        now_us: Verdict time.
        wordings: Those of a node; those of this moment alone, when left out.
    """

    __slots__ = ("_time", "_wordings", "now_us")

    def __init__(self, now_us: int, wordings: Wordings | None = None) -> None:
        self.now_us = now_us
        self._wordings = wordings or Wordings()
        self._time = pb.Verdict(verdict_time=to_timestamp(now_us)).SerializeToString()

    def of(self, finding: Finding, *, city: int = 0, freshness: CityFreshness | None = None) -> pb.Verdict:
        """Return a verdict."""
        # Serialized messages behind each other are the message with the fields of both.
        return pb.Verdict.FromString(self._wordings.of(finding, city=city, freshness=freshness) + self._time)


def verdict(
    row: ViewRow, question: Question, *, freshness: CityFreshness, limit_us: int, verdicts: Verdicts
) -> pb.Verdict:
    """Judge one question.

    Args:
        row: The row that speaks for the person, or :data:`~elicense.view.model.NOBODY`.
        question: What was asked.
        freshness: How current the row's city is here.
        limit_us: Age of a city's records beyond which the role gets no VALID.
        verdicts: Those of the verdict time.
    """
    now_us = verdicts.now_us
    matched = matches(row, question)
    # A person with many classes and letters takes longer to assess than one with
    # few, and a stale one longer than a fresh one: who did not match must not
    # learn even that.
    held = row if matched else NOBODY
    fresh = freshness if matched else NEVER_HEARD
    try:
        finding = find(held.standing, held.flags, china_date(now_us))
    except Malformed:
        # A damaged row is no fault of the question, nor of those asked along with it.
        finding = UNREADABLE
    finding, last_known = apply_freshness(finding, as_of_us=fresh.as_of_us, now_us=now_us, limit_us=limit_us)
    if not matched:
        return verdicts.of(NO_MATCH)
    if last_known is None:
        return verdicts.of(finding, city=held.city, freshness=freshness)
    return as_message(finding, now_us=now_us, last_known=last_known, city=held.city, freshness=freshness)


def as_message(
    finding: Finding,
    *,
    now_us: int | None = None,
    last_known: LastKnown | None = None,
    city: int = 0,
    freshness: CityFreshness | None = None,
) -> pb.Verdict:
    """Put a finding into the wire's form; without ``freshness`` nothing tells where the answer came from.

    Without ``now_us`` the verdict has no time yet.
    """
    message = pb.Verdict(
        outcome=finding.outcome,  # type: ignore[arg-type]
        reasons=finding.reasons,  # type: ignore[arg-type]
        drivable_classes=finding.drivable,
        summary=finding.summary,
        verdict_time=None if now_us is None else to_timestamp(now_us),
    )
    for letter in finding.letters:
        message.letters.add(
            letter=letter.letter,
            name=letter.name,
            meaning=letter.meaning,
            forbids_driving=letter.forbids_driving,
            until="" if letter.until is None else letter.until.isoformat(),
        )
    if freshness is not None:
        message.freshness.source = freshness.source  # type: ignore[assignment]
        message.freshness.city = city
        message.freshness.log_size = freshness.log_size
        message.freshness.log_epoch = freshness.log_epoch
        if freshness.as_of_us:
            message.freshness.as_of_time.CopyFrom(to_timestamp(freshness.as_of_us))
    if last_known is not None:
        message.last_known.outcome = last_known.outcome  # type: ignore[assignment]
        if last_known.as_of_us:
            message.last_known.as_of_time.CopyFrom(to_timestamp(last_known.as_of_us))
    return message
