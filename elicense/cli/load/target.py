"""Whom a load test calls: connections to nodes, and that they are on this machine unless somebody said otherwise."""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from elicense.cli.load.calls import (
    Asked,
    Call,
    Counter,
    issuing,
    mixing,
    newcomers,
    shares,
    verifying,
    verifying_batches,
)
from elicense.cli.load.scenario import Scenario
from elicense.cli.load.simulated import SimulatedCity
from elicense.client import DocumentType, Purpose, Question, connect_async
from elicense.errors import Malformed
from elicense.license.csv_format import parse_row
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import Credentials
from elicense.trust.roles import VERIFIER_RULES, Role
from elicense.trust.spiffe import identify
from elicense.v1 import issuance_pb2_grpc


@dataclass(frozen=True, slots=True)
class Target:
    """Who calls whom.

    Attributes:
        verifier: Credentials of a verifier; None when nothing is verified.
        people: Holders of licences, to be asked about.
        clerks: Credentials of one clerk a city; none when nothing is issued.
        cities: Simulated cities.
    """

    verifier: Credentials | None = None
    people: Sequence[Question] = field(default=(), repr=False)
    clerks: Sequence[Credentials] = ()
    cities: Sequence[SimulatedCity] = ()


def require_own_machine(addresses: Sequence[str], *, allowed: str) -> None:
    """Refuse addresses beyond this machine, except the one that was named as the target of a load test.

    Raises:
        Malformed: A load test would reach somebody who was not named.
    """
    for address in addresses:
        if address != allowed and not _is_loopback(address.rpartition(":")[0].strip("[]")):
            raise Malformed(
                f"{address} is not on this machine; if you may put load on it, say so: --target {address}",
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_people(file: Path) -> list[Question]:
    """Return the holders of a drivers' file.

    Raises:
        Malformed: It is not one, or has nobody.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            licenses = [parse_row(row) for row in csv.DictReader(lines)]
    except OSError as error:
        raise Malformed(f"{file}: {error.strerror}") from error
    if not licenses:
        raise Malformed(f"{file}: nobody is in it")
    return [
        Question(each.holder.document.number, each.holder.full_name, DocumentType(each.holder.document.type))
        for each in licenses
    ]


async def calls_of(scenario: Scenario, target: Target, stack: AsyncExitStack) -> Call:
    """Open the connections of a test and return its call.

    Args:
        scenario: The test.
        target: Whom it calls.
        stack: Closes the connections.

    Raises:
        Malformed: Something that the test needs is missing.
    """
    loop = scenario.loop
    if scenario.simulated:
        return _replicating(scenario, target)
    verify = batch = issue = None
    if scenario.verifies:
        if target.verifier is None or not target.people:
            raise Malformed("verifying needs --credentials of a verifier and --people, a drivers' file")
        clients = [
            await stack.enter_async_context(connect_async(target.verifier, timeout_s=loop.timeout_seconds))
            for _ in range(loop.connections)
        ]
        role = identify(target.verifier.subject).role
        asked = Asked(target.people, _purpose_of(role))
        verify, batch = verifying(clients, asked), verifying_batches(clients, asked, scenario.batch)
    if scenario.issues:
        if not target.clerks:
            raise Malformed("issuing needs --clerk, the credentials of a clerk")
        counters = [await _counter(clerk, scenario, stack) for clerk in target.clerks]
        issue = issuing(counters, timeout_s=loop.timeout_seconds)
    if scenario.kind == "mixed" and verify and batch and issue:
        return mixing(shares(scenario.mix, verify=verify, batch=batch, issue=issue), scenario.seed)
    chosen = {"verify": verify, "batch": batch}.get(scenario.kind, issue)
    if chosen is None:
        raise Malformed(f"nothing is known of {scenario.kind}")
    return chosen


def _purpose_of(role: Role) -> Purpose:
    return min(VERIFIER_RULES[role].purposes)


async def _counter(clerk: Credentials, scenario: Scenario, stack: AsyncExitStack) -> Counter:
    code = identify(clerk.subject).city
    if code is None:
        raise Malformed("--clerk takes the credentials of a city's clerk")
    channels = [
        await stack.enter_async_context(secure_channel(clerk, local_pool=True))
        for _ in range(scenario.loop.connections)
    ]
    stubs = [issuance_pb2_grpc.IssuanceServiceStub(channel) for channel in channels]
    return Counter(code, stubs, newcomers(code, scenario.seed))


def _replicating(scenario: Scenario, target: Target) -> Call:
    if not target.cities:
        raise Malformed("replicating needs --tokens, a file of `elicense-registry token city` lines")
    cities, entries, timeout_s = target.cities, scenario.batch, scenario.loop.timeout_seconds

    async def call(number: int) -> int:
        return await cities[number % len(cities)].replicate(entries, timeout_s)

    return call
