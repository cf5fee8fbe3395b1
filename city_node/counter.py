"""What clerks do, put together: issue, change, read, erase and hand over licences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from city_node.admissions import Admissions
from city_node.answers import Answers
from city_node.applications import Applications
from city_node.bulk import BulkIssuance
from city_node.changes import LicenseChanges
from city_node.citylog import CityLog
from city_node.claims import PersonClaims
from city_node.daily import DailyRules
from city_node.drafting import Drafting
from city_node.erasure import Erasure
from city_node.ground import Ground
from city_node.history_reader import History
from city_node.issuance import Issuance
from city_node.licenses import Licenses
from city_node.offers import Offers
from city_node.ordered_erasures import OrderedErasures
from city_node.page_tokens import PageTokens
from city_node.pages import MODULE
from city_node.replication import Replication
from city_node.services.issuance import IssuanceServicer
from city_node.services.transfer import TransferServicer
from city_node.transfers import Transfers
from elicense.log.scrubber import Scrubber
from elicense.v1 import custody_pb2_grpc, replication_pb2_grpc
from elicense.workers.assistants import Assistants, assistants_for, available_cores

if TYPE_CHECKING:
    import grpc


class Counter:
    """The use cases of one city's clerks.

    Args:
        ground: What the node stands on.
        log: The city's log.
        replication: Its way to the registry.
        questions: Channel to the registry, for what somebody waits for.

    Attributes:
        drafting: Reads and judges what is to be issued.
        admissions: Looks up what is known of it and claims its persons.
        licenses: Reads licences.
        scrubber: Wipes what was erased from the database's files.
        daily: Writes what the days bring.
        ordered: Erases what other cities have ordered to be erased.
        issuance_service: Offers them.
        transfer_service: Offers hand-overs between cities.
    """

    def __init__(self, ground: Ground, *, log: CityLog, replication: Replication, questions: grpc.aio.Channel) -> None:
        config, keys, city, gate, clock = ground.config, ground.keys, ground.city, ground.gate, ground.clock
        database, store, receipts = ground.database, ground.store, replication.receipts
        custody = custody_pb2_grpc.CustodyServiceStub(questions)
        answers = Answers(log=log, database=database, store=store, receipts=receipts)
        tokens = PageTokens(keys.index_key)
        history = History(custody)
        self.licenses = Licenses(
            city=city, database=database, store=store, answers=answers, history=history, tokens=tokens
        )
        self.daily = DailyRules(
            city=city,
            log=log,
            database=database,
            store=store,
            gate=gate,
            tokens=tokens,
            backlog=lambda: replication.replicator.backlog,
            clock=clock,
        )
        claims = PersonClaims(
            stub=replication_pb2_grpc.ReplicationServiceStub(questions),
            city=city,
            timeout_s=config.limits.claim_seconds,
        )
        self.drafting = Drafting(
            city=city,
            persons=keys.persons,
            clock=clock,
            assistants=Assistants(MODULE, keys.index_key, count=assistants_for(ground.place, available_cores())),
        )
        applications = Applications(city=city, database=database, store=store, clock=clock, random=ground.random)
        self.admissions = Admissions(
            applications=applications,
            claims=claims,
            gate=gate,
            issue_provisional=config.city.provisional_policy == "issue",
            timeout_s=config.limits.claim_seconds,
        )
        self.scrubber = Scrubber(config.database_url, database=database, erased=store.logs.erased)
        changes = LicenseChanges(
            log=log,
            database=database,
            store=store,
            licenses=self.licenses,
            persons=keys.persons,
            claims=claims,
            daily=self.daily,
            answers=answers,
            gate=gate,
            clock=clock,
            random=ground.random,
        )
        self.issuance_service = IssuanceServicer(
            city=city,
            issuance=Issuance(
                log=log,
                applications=applications,
                drafting=self.drafting,
                admissions=self.admissions,
                answers=answers,
            ),
            bulk=BulkIssuance(
                log=log,
                applications=applications,
                drafting=self.drafting,
                claims=claims,
                backlog=replication.replicator,
                gate=gate,
                backlog_limit=config.limits.bulk_backlog,
            ),
            changes=changes,
            licenses=self.licenses,
            daily=self.daily,
            erasure=Erasure(
                log=log,
                database=database,
                scrubber=self.scrubber,
                store=store,
                receipts=receipts,
                gate=gate,
                retention_days=config.limits.retention_days,
                clock=clock,
            ),
        )
        transfers = Transfers(
            city=city,
            log=log,
            database=database,
            store=store,
            changes=changes,
            offers=Offers(
                stub=custody,
                city=city,
                trust_domain=config.node.trust_domain,
                cosigner=keys.cosigner,
                persons=keys.persons,
            ),
            answers=answers,
            gate=gate,
            tokens=tokens,
            clock=clock,
        )
        self.ordered = OrderedErasures(
            city=city, log=log, database=database, store=store, scrubber=self.scrubber, gate=gate
        )
        receipts.add_listener(self.ordered.notify)
        # A take-over waits for the registry's word.
        receipts.add_listener(transfers.notify)
        self.transfer_service = TransferServicer(transfers=transfers, history=history)
