"""Requests that are nearly right, over mutual TLS to every method of a city: only typed errors come back."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elicense.cli.demo.drivers import generate
from elicense.clock import china_date, utc_micros
from elicense.license.csv_format import COLUMNS
from elicense.trust.credentials import Credentials
from elicense.trust.csr import build_request
from elicense.trust.roles import CITY_METHODS, Role
from elicense.trust.token import parse_token
from elicense.trust.x509 import generate_key
from elicense.v1.verification_pb2 import PURPOSE_ROADSIDE_CHECK, LicenseQuery, LookContext
from tests.integration.city.test_restore import all_is_well
from tests.support.cluster import SUZHOU, City, Cluster, drivers
from tests.support.fuzzing import FUZZED, requests, seed
from tests.support.wire_fuzz import Requests, attack_all

METHODS = {path: roles for path, roles in CITY_METHODS.items() if path.startswith("/elicense.")}
COUNT = requests(6)


async def callers(cluster: Cluster, suzhou: City, folder: Path) -> dict[Role, Credentials]:
    police = await cluster.enroll_at(suzhou, ("city", str(SUZHOU), "verifier", "police", "p"), folder / "police")
    bearer = parse_token(await cluster.token_at(suzhou, ("city", str(SUZHOU), "verifier", "police", "q")))
    return {Role.CLERK: suzhou.clerk_credentials, Role.POLICE: police, Role.ENROLLEE: bearer.credentials()}


async def known_values(suzhou: City) -> dict[str, list[Any]]:
    """What a caller of that city may say with sense, by name of the field."""
    issued = [(await suzhou.issue(wanted)).license for wanted in drivers(SUZHOU, 12)]
    lines = [",".join(row.values()) for row, _ in generate(SUZHOU, 3, seed=4, on=china_date(utc_micros()))]
    documents = [each.holder.document for each in issued]
    return {
        "name": [*(each.name for each in issued), f"conflicts/{uuid.UUID(int=1)}"],
        "parent": [suzhou.parent, issued[0].name],
        "query": [LicenseQuery(document=each) for each in documents],
        "queries": [LicenseQuery(document=each) for each in documents],
        "context": [LookContext(purpose=PURPOSE_ROADSIDE_CHECK, case_number="case-1")],
        "request_id": [str(uuid.uuid4()) for _ in range(500)],
        "license": [*issued, *drivers(SUZHOU, 40, seed=9)],
        "etag": ["", *(each.etag for each in issued)],
        "document": documents,
        "holder_name": ["", *(each.holder.full_name for each in issued)],
        "purpose": [PURPOSE_ROADSIDE_CHECK],
        "case_number": ["case-1"],
        "on_behalf_of": [""],
        "legal_basis": ["Article 24"],
        "columns": list(COLUMNS),
        "rows": lines,
        "page_token": [""],
        "city": [SUZHOU],
        "epoch": [1],
        "certificate_request": [build_request(generate_key())],
    }


async def test_only_typed_errors_answer_what_is_nearly_a_request_and_memory_stays_bounded(
    cluster: Cluster, suzhou: City, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    roles = await callers(cluster, suzhou, tmp_path)
    made = Requests(random.Random(seed()), await known_values(suzhou))
    outcomes = await attack_all(METHODS, roles, made, COUNT, address=suzhou.running.address)
    record_property(FUZZED, ("methods", len(METHODS), outcomes.requests, outcomes.refused))
    (wanted,) = drivers(SUZHOU, 1, seed=77)
    await suzhou.issue(wanted)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)
