"""What a city node answers verifiers with, put together: verdicts, watches and their limits."""

from __future__ import annotations

import random as random_module

from city_node.citylog import CityLog
from city_node.ground import Ground
from city_node.registry_channels import RegistryChannels
from city_node.relay import Relays
from city_node.verification import CityAnswers
from elicense.quota.leases import Quotas
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Looks, Recording
from elicense.rpc.watch_hub import WatchHub
from elicense.rpc.watching import Watching
from elicense.v1 import verification_pb2_grpc
from elicense.verification.attest import Attestor
from elicense.view.records import RecordReader


class Answering:
    """The city's view, and the registry's where that is asked for, as verifiers see them.

    Args:
        ground: What the node stands on.
        log: The city's log.
        channels: The way to the registry.
        quotas: How many looks each caller has left.
        recorder: Where looks are recorded.

    Attributes:
        relays: Watches that are passed on to the registry.
        answers: Verdicts.
        hub: Wakes those who follow licences.
        looks: Verdicts and watches, each counted and recorded before it is given.
    """

    def __init__(
        self, ground: Ground, *, log: CityLog, channels: RegistryChannels, quotas: Quotas, recorder: Recording
    ) -> None:
        database, store, keys, clock = ground.database, ground.store, ground.keys, ground.clock
        self.relays = Relays(connect=channels.another, clock=clock, jitter=random_module.random)
        self.answers = CityAnswers(
            log=log,
            database=database,
            store=store,
            persons=keys.persons,
            fields=LicenseFields(RecordReader(database=database, logs=store.logs)),
            gate=ground.gate,
            stub=verification_pb2_grpc.VerificationServiceStub(channels.questions),
            relays=self.relays,
            attestor=Attestor(node=str(ground.identity), signer=keys.answers, random=ground.random),
            clock=clock,
        )
        self.hub = WatchHub(
            positions=lambda: database.read(lambda conn: store.position(conn, ground.city)),
            marks=lambda keys: database.read(lambda conn: store.view.marks(conn, keys)),
            as_of=None,
            clock=clock,
        )
        self.looks = Looks(
            answering=self.answers,
            watching=Watching(judging=self.answers, hub=self.hub, persons=keys.persons),
            quotas=quotas,
            recorder=recorder,
            subjects=keys.subjects,
            clock=clock,
        )
