"""Granting persons to a city: pure rules over what the commit knows."""

from __future__ import annotations

from elicense.errors import Quarantined
from elicense.log.decision import Decision
from elicense.uuids import uuid_text
from registry.board import Board, Outcome
from registry.claims import CLAIMS_PER_ENTRY, Barred, GrantClaims, Granted, HeldBy, Standing, WantedClaim, standing_of
from registry.decision_records import claims_granted
from registry.model import Claim, ClaimState


def grant(board: Board, command: GrantClaims, *, lease_us: int) -> Decision[Outcome]:
    """Return what comes of a claim, and note in ``board`` who has the persons now."""
    quarantine = board.quarantines.get(command.city)
    if quarantine is not None and quarantine.open:
        return Decision(error=Quarantined("a city in quarantine may claim nobody; two operators have to end it"))
    outcome = Outcome()
    fresh: list[tuple[Claim, bytes]] = []
    lease_end_us = board.now_us + lease_us
    # Nothing is known of most persons of an import: neither claim nor bar nor conflict.
    unknown = not board.bans and not board.conflicts
    for wanted in command.wanted:
        claim = board.claims.get(wanted.person_key)
        standing = Standing.FREE
        if claim is not None or not unknown:
            verdict = _judge(board, command.city, wanted.person_key, claim, lease_us)
            if not isinstance(verdict, Standing):
                outcome.claims.append(verdict)
                continue
            standing = verdict
        if claim is None or standing is not Standing.LIVE:
            if claim is not None and standing is Standing.LAPSED:
                outcome.lapsed[wanted.person_key] = claim.city
            if claim is not None and standing is Standing.OVER:
                outcome.over[wanted.person_key] = claim.license_id
            index = board.next_index + len(fresh) // CLAIMS_PER_ENTRY
            # A city that asks again must use the licence of its first lease:
            # a record that cites it may be on its way.
            license_id = claim.license_id if claim and standing is Standing.RENEW else wanted.license_id
            claim = _lease(wanted, command.city, license_id, lease_end_us, board.key.epoch, index)
            board.claims[wanted.person_key] = outcome.taken[wanted.person_key] = claim
            fresh.append((claim, wanted.request_id))
        outcome.claims.append(
            Granted(claim.license_id, claim.registry_epoch, claim.registry_index, b"", claim.lease_end_us)
        )
    records = []
    for start in range(0, len(fresh), CLAIMS_PER_ENTRY):
        record = board.record(command.actor)
        record.claims_granted.CopyFrom(claims_granted(command.city, fresh[start : start + CLAIMS_PER_ENTRY]))
        records.append(record.SerializeToString(deterministic=True))
    return Decision(tuple(records), outcome)


def _judge(
    board: Board, city: int, person_key: bytes, claim: Claim | None, lease_us: int
) -> Standing | HeldBy | Barred:
    """Return what a person's claim means to a city that wants them, or why it can not have them."""
    ban = board.barred(person_key)
    if ban is not None:
        return Barred(ban.city, ban.until)
    standing = standing_of(
        claim,
        city=city,
        now_us=board.now_us,
        lease_us=lease_us,
        states=board.states,
        waiting=board.waiting(person_key),
        ended=board.ended(person_key),
    )
    if standing in (Standing.FREE, Standing.OVER):
        disputed = board.disputed(person_key)
        # Free only until the conflict is decided.
        return standing if disputed is None else HeldBy(disputed.city)
    return HeldBy(claim.city) if claim is not None and standing is Standing.HELD else standing


def _lease(wanted: WantedClaim, city: int, license_id: bytes, lease_end_us: int, epoch: int, index: int) -> Claim:
    return Claim(
        person_key=wanted.person_key,
        city=city,
        license_id=license_id,
        request_id=uuid_text(wanted.request_id),
        state=int(ClaimState.LEASED),
        lease_end_us=lease_end_us,
        registry_epoch=epoch,
        registry_index=index,
    )
