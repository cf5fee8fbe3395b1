"""Turning a verdict into evidence: what a node states of an answer that it gives. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from elicense.clock import from_timestamp
from elicense.license.verdict import Outcome
from elicense.log.verifier_key import VerifierKey
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import CityFreshness
from elicense.verification.evidence import OPENING_SIZE, Place, Statement, answers_verifier_key, commit, sign

if TYPE_CHECKING:
    from elicense.trust.signer import Signer
    from elicense.verification.past import PastLicense
    from elicense.view.model import ViewRow


class Judged(NamedTuple):
    """What a node concludes of one question.

    Attributes:
        verdict: Its verdict.
        row: The licence as it was judged, out of which fields may be given; None when there is none.
        place: Where the verdict comes from; None where it is not going to be signed.
        own: Whether this node has the last word; otherwise another one is asked.
    """

    verdict: pb.Verdict
    row: ViewRow | None
    place: Place | None
    own: bool = True


class Attestor:
    """Signs answers with a node's answer key, which signs nothing else.

    Args:
        node: SPIFFE ID of the node.
        signer: The answer key.
        random: Gives that many random bytes.
    """

    def __init__(self, *, node: str, signer: Signer, random: Callable[[int], bytes]) -> None:
        self.key: VerifierKey = answers_verifier_key(node, signer.public_key())
        self._signer = signer
        self._random = random

    def evidence(self, query: pb.LicenseQuery, verdict: pb.Verdict, place: Place | None) -> pb.Evidence:
        """Return a verdict on a normalized query as evidence."""
        opening = self._random(OPENING_SIZE)
        document = query.document
        matched = verdict.outcome != pb.OUTCOME_NO_MATCH
        statement = Statement(
            issuer=self.key.name,
            question=commit(opening, document.type, document.number, query.holder_name),
            outcome=Outcome(verdict.outcome),
            reasons=tuple(int(reason) for reason in verdict.reasons),
            classes=tuple(verdict.drivable_classes),
            letters=tuple(letter.letter for letter in verdict.letters),
            given_us=from_timestamp(verdict.verdict_time),
            at_us=from_timestamp(verdict.at_time) if verdict.HasField("at_time") else None,
            known_us=from_timestamp(verdict.as_known_time) if verdict.HasField("as_known_time") else None,
            # What did not match must not tell which city was looked into.
            place=place if matched else None,
        )
        return pb.Evidence(statement=sign(statement, self._signer), opening=opening)


def place_of(row: ViewRow, freshness: CityFreshness) -> Place:
    """Return where the row that speaks for a person comes from."""
    return Place(
        city=row.city,
        epoch=row.epoch,
        index=row.idx,
        revision=row.revision,
        entry_hash=row.entry_hash,
        license_id=row.license_id,
        known_city=row.city,
        known_epoch=freshness.log_epoch,
        known_size=freshness.log_size,
        as_of_us=freshness.as_of_us,
    )


def past_place_of(past: PastLicense | None, freshness: CityFreshness) -> Place | None:
    """Return where the revision in force at a past moment comes from."""
    if past is None or past.state.revision is None:
        return None
    revision = past.state.revision
    return Place(
        city=revision.city,
        epoch=revision.epoch,
        index=revision.idx,
        revision=revision.revision,
        entry_hash=past.entry_hash,
        license_id=revision.license_id,
        known_city=past.row.city,
        known_epoch=freshness.log_epoch,
        known_size=freshness.log_size,
        as_of_us=freshness.as_of_us,
    )
