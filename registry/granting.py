"""Granting persons to a city: pure rules over what the commit knows."""

from __future__ import annotations

from elicense.errors import Quarantined
from elicense.log.decision import Decision
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
    fresh: list[Claim] = []
    lease_end_us = board.now_us + lease_us
    for wanted in command.wanted:
        ban = board.barred(wanted.person_key)
        if ban is not None:
            outcome.claims.append(Barred(ban.city, ban.until))
            continue
        claim = board.claims.get(wanted.person_key)
        standing = standing_of(
            claim,
            city=command.city,
            now_us=board.now_us,
            lease_us=lease_us,
            states=board.states,
            waiting=board.waiting(wanted.person_key),
            ended=board.ended(wanted.person_key),
        )
        disputed = board.disputed(wanted.person_key) if standing in (Standing.FREE, Standing.OVER) else None
        if disputed is not None:
            # Free only until the conflict is decided.
            outcome.claims.append(HeldBy(disputed.city))
            continue
        if claim is not None and standing is Standing.HELD:
            outcome.claims.append(HeldBy(claim.city))
            continue
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
            fresh.append(claim)
        outcome.claims.append(
            Granted(claim.license_id, claim.registry_epoch, claim.registry_index, b"", claim.lease_end_us)
        )
    records = []
    for start in range(0, len(fresh), CLAIMS_PER_ENTRY):
        record = board.record(command.actor)
        record.claims_granted.CopyFrom(claims_granted(command.city, fresh[start : start + CLAIMS_PER_ENTRY]))
        records.append(record.SerializeToString(deterministic=True))
    return Decision(tuple(records), outcome)


def _lease(wanted: WantedClaim, city: int, license_id: bytes, lease_end_us: int, epoch: int, index: int) -> Claim:
    return Claim(
        person_key=wanted.person_key,
        city=city,
        license_id=license_id,
        request_id=wanted.request_id,
        state=int(ClaimState.LEASED),
        lease_end_us=lease_end_us,
        registry_epoch=epoch,
        registry_index=index,
    )
