"""What the registry answers verifiers and holders with, put together: verdicts, watches and their limits."""

from __future__ import annotations

from collections.abc import Callable

from elicense.quota.leases import Quotas
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Looks, Recording
from elicense.rpc.watch_hub import WatchHub
from elicense.rpc.watching import Watching
from elicense.trust.spiffe import registry_id
from elicense.verification.attest import Attestor
from elicense.view.records import RecordReader
from registry.freshness import Freshness
from registry.ground import Ground
from registry.verification import NationalAnswers


class Answering:
    """The national view, as callers see it.

    Args:
        ground: What the registry stands on.
        quotas: How many looks each caller has left.
        recorder: Where looks are recorded.
        lacks_decisions: Whether decisions may be missing of the registry's own log.

    Attributes:
        freshness: How far behind each city the view is.
        answers: Verdicts.
        hub: Wakes those who follow licences.
        looks: Verdicts and watches, each counted and recorded before it is given.
    """

    def __init__(
        self, ground: Ground, *, quotas: Quotas, recorder: Recording, lacks_decisions: Callable[[], bool]
    ) -> None:
        database, store, keys, clock = ground.database, ground.store, ground.keys, ground.clock
        self.freshness = Freshness(database=database, store=store, clock=clock, lacks_decisions=lacks_decisions)
        self.answers = NationalAnswers(
            database=database,
            store=store,
            freshness=self.freshness,
            persons=keys.persons,
            fields=LicenseFields(RecordReader(database=database, logs=store.logs)),
            attestor=Attestor(node=str(registry_id(ground.trust_domain)), signer=keys.answers, random=ground.random),
            clock=clock,
        )
        self.hub = WatchHub(
            positions=lambda: database.read(store.logs.sizes),
            marks=lambda keys: database.read(lambda conn: store.view.marks(conn, keys)),
            as_of=self.freshness.as_of,
            clock=clock,
        )
        self.looks = Looks(
            answering=self.answers,
            watching=Watching(judging=self.answers, hub=self.hub, persons=keys.persons),
            quotas=quotas,
            recorder=recorder,
            subjects=keys.subjects,
            clock=clock,
            together=self.answers,
        )
