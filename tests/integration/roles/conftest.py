"""A registry with Suzhou and Tianjin, one licence in each, and a caller of every role; one for all tests here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.type.date_pb2 import Date

from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import Credentials
from elicense.trust.roles import VERIFIER_RULES, VERIFIERS, Role
from elicense.v1 import license_pb2, verification_pb2_grpc
from elicense.v1 import verification_pb2 as pb
from tests.support.cluster import DEADLINE_S, SUZHOU, TIANJIN, Cluster, call, drivers, run_cluster


def demanding(city: int) -> license_pb2.License:
    """An eligible driver with something in every field that the registry can give away."""
    (wanted,) = drivers(city, 1, seed=city)
    wanted.points = 3
    del wanted.status_letters[:]
    start = Date(year=2021, month=6, day=1)
    wanted.status_letters.add(letter="H", legal_basis="a law", start_date=start, authority="an office")
    if not wanted.holder.family_name_latin:
        wanted.holder.family_name_latin = "WANG"
    return wanted


@dataclass
class Stage:
    """What the tests here ask.

    Attributes:
        cluster: Registry and cities.
        local: A licence of Suzhou.
        foreign: A licence of Tianjin.
        national: Callers whom the registry enrolled, by role.
        at_suzhou: Callers whom Suzhou enrolled, by role.
        verdicts: Answers that were got already, by role and path.
    """

    cluster: Cluster
    local: license_pb2.License
    foreign: license_pb2.License
    national: dict[Role, Credentials] = field(default_factory=dict)
    at_suzhou: dict[Role, Credentials] = field(default_factory=dict)
    verdicts: dict[tuple[Role, str], pb.Verdict] = field(default_factory=dict)
    channels: dict[tuple[bool, Role], grpc.aio.Channel] = field(default_factory=dict)

    def channel(self, role: Role, *, registry: bool) -> grpc.aio.Channel:
        if (registry, role) not in self.channels:
            assert self.cluster.registry is not None
            address = self.cluster.registry.address if registry else self.cluster.cities[SUZHOU].running.address
            who = (self.national if registry else self.at_suzhou)[role]
            self.channels[registry, role] = secure_channel(who, address=address, retries=False, local_pool=True)
        return self.channels[registry, role]

    def verifier(self, role: Role, *, registry: bool) -> verification_pb2_grpc.VerificationServiceStub:
        return verification_pb2_grpc.VerificationServiceStub(self.channel(role, registry=registry))

    async def verdict(self, role: Role, path: str) -> pb.Verdict:
        """Ask along one of PATHS, once."""
        if (role, path) not in self.verdicts:
            at, what, how = path.split(" ")
            asked = self.local if what == "local" else self.foreign
            stub = self.verifier(role, registry=at == "registry")
            self.verdicts[role, path] = await ask(stub, role, asked, batch=how == "batch")
        return self.verdicts[role, path]


def context(role: Role) -> pb.LookContext:
    """What a role must state."""
    rule = VERIFIER_RULES[role]
    purpose = min(rule.purposes)
    return pb.LookContext(
        purpose=int(purpose),  # type: ignore[arg-type]  # same numbers
        case_number="case 1" if rule.requires_case_number else "",
    )


def query(role: Role, asked: license_pb2.License, *, name: str | None = None) -> pb.LicenseQuery:
    held = asked.holder.full_name if VERIFIER_RULES[role].requires_name else ""
    return pb.LicenseQuery(document=asked.holder.document, holder_name=held if name is None else name)


async def ask(
    stub: verification_pb2_grpc.VerificationServiceStub,
    role: Role,
    asked: license_pb2.License,
    *,
    batch: bool = False,
    name: str | None = None,
) -> pb.Verdict:
    question = query(role, asked, name=name)
    if batch:
        many = pb.BatchVerifyLicensesRequest(queries=[question], context=context(role))
        answers: pb.BatchVerifyLicensesResponse = await call(stub.BatchVerifyLicenses(many, timeout=DEADLINE_S))
        (verdict,) = answers.verdicts
        return verdict
    one = pb.VerifyLicenseRequest(query=question, context=context(role))
    answer: pb.VerifyLicenseResponse = await call(stub.VerifyLicense(one, timeout=DEADLINE_S))
    return answer.verdict


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("roles")
    async with run_cluster(folder, SUZHOU, TIANJIN) as cluster:
        stage = Stage(cluster, demanding(SUZHOU), demanding(TIANJIN))
        for code, license_ in ((SUZHOU, stage.local), (TIANJIN, stage.foreign)):
            await cluster.cities[code].issue(license_)
            await cluster.cities[code].replicated()
        suzhou = cluster.cities[SUZHOU]
        for role in sorted(VERIFIERS):
            stage.national[role] = await cluster.enroll_national(("verifier", role.value, "n"), folder / f"n-{role}")
            path = ("city", str(SUZHOU), "verifier", role.value, "s")
            stage.at_suzhou[role] = await cluster.enroll_at(suzhou, path, folder / f"s-{role}")
        for role in (Role.OPERATOR, Role.AUDITOR):
            stage.national[role] = await cluster.enroll_national((role.value, "n"), folder / f"n-{role}")
        stage.at_suzhou[Role.CLERK] = suzhou.clerk_credentials
        stage.national[Role.CITY] = await asyncio.to_thread(_own, suzhou.config.credentials_dir)
        try:
            yield stage
        finally:
            for channel in stage.channels.values():
                await channel.close()


def _own(folder: Path) -> Credentials:
    from elicense.trust.credentials import load_credentials

    return load_credentials(folder)
