"""Requests that are nearly right, over mutual TLS to every method of the registry: only typed errors come back."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable

from elicense.cli.join import join
from elicense.trust.credentials import Credentials
from elicense.trust.roles import REGISTRY_METHODS, Role
from elicense.trust.token import format_token
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID, IdentityDocument, LicenseRecord
from elicense.v1.log_pb2 import LogEntry
from elicense.v1.verification_pb2 import PURPOSE_ROADSIDE_CHECK, LicenseQuery, LookContext
from tests.integration.registry.world import SUZHOU, TRUST_DOMAIN, World
from tests.support.city import City
from tests.support.fuzzing import FUZZED, requests, seed
from tests.support.wire_fuzz import Requests, attack_all

METHODS = {path: roles for path, roles in REGISTRY_METHODS.items() if path.startswith("/elicense.")}
COUNT = requests(6)
NUMBERS = ("11010519491231002X", "110105199001019999", "110105199001018888")
PATHS = {Role.POLICE: "verifier/police/p", Role.HOLDER: "verifier/holder/h", Role.OPERATOR: "operator/o"}


async def callers(world: World, city: City) -> dict[Role, Credentials]:
    found: dict[Role, Credentials] = {}
    for role, path in PATHS.items():
        token = await world.token(f"spiffe://{TRUST_DOMAIN}/{path}")
        found[role] = await asyncio.to_thread(join, format_token(token), world.folder / role.value)
    bearer = await world.token(f"spiffe://{TRUST_DOMAIN}/verifier/police/q")
    return found | {Role.CITY: city.credentials, Role.ENROLLEE: bearer.credentials()}


def known_values(city: City) -> dict[str, list[object]]:
    """What callers of that registry may say with sense, by name of the field."""
    documents = [IdentityDocument(type=DOCUMENT_TYPE_RESIDENT_ID, number=number) for number in NUMBERS]
    pairs = zip(city.records, city.salts, strict=True)
    return {
        "name": [f"conflicts/{uuid.UUID(int=1)}"],
        "query": [LicenseQuery(document=each) for each in documents],
        "queries": [LicenseQuery(document=each) for each in documents],
        "context": [LookContext(purpose=PURPOSE_ROADSIDE_CHECK, case_number="case-1")],
        "document": [*documents],
        "number": [*NUMBERS],
        "holder_name": ["", "张伟"],
        "purpose": [PURPOSE_ROADSIDE_CHECK],
        "case_number": ["case-1"],
        "on_behalf_of": [""],
        "request_id": [*(uuid.UUID(int=n).bytes for n in range(50)), *(str(uuid.UUID(int=n)) for n in range(50))],
        "license_id": [LicenseRecord.FromString(record).license_id for record in city.records],
        "entries": [LogEntry(record=record, salt=salt) for record, salt in pairs],
        "checkpoint": [city.note(), city.note(1)],
        "epoch": [1],
        "first_index": [0, 1, city.size],
        "city": [SUZHOU],
        "page_token": [""],
    }


async def test_only_typed_errors_answer_what_is_nearly_a_request_and_memory_stays_bounded(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    city = await world.city(SUZHOU)
    for number in NUMBERS:
        city.issue(number)
    await city.replicate()
    roles = await callers(world, city)
    made = Requests(random.Random(seed()), known_values(city))
    outcomes = await attack_all(METHODS, roles, made, COUNT)
    record_property(FUZZED, ("methods", len(METHODS), outcomes.requests, outcomes.refused))
    assert not world.fsck().findings
