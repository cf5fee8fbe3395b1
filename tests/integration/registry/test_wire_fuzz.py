"""Requests that are no requests, over the wire to every method: only typed errors come back."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import grpc

from elicense.cli.join import join
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import Credentials
from elicense.trust.roles import REGISTRY_METHODS, Role
from elicense.trust.token import format_token
from tests.integration.registry.world import SUZHOU, TRUST_DOMAIN, World
from tests.support.city import DEADLINE_S

RUNS = int(os.environ.get("ELICENSE_FUZZ", "12"))
METHODS = [method for method in REGISTRY_METHODS if method.startswith("/elicense.") and "Watch" not in method]
WRONG = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
PATHS = {Role.POLICE: "verifier/police/p", Role.HOLDER: "verifier/holder/h", Role.OPERATOR: "operator/o"}


def noise(chance: random.Random) -> bytes:
    """Bytes that look like fields of a message, often enough to get behind the parser."""
    parts = []
    for _ in range(chance.randrange(8)):
        field = chance.randrange(1, 13)
        if chance.random() < 0.5:
            parts.append(bytes([field << 3, chance.randrange(128)]))
        else:
            value = chance.randbytes(chance.choice([0, 1, 16, 32, 64]))
            parts.append(bytes([field << 3 | 2, len(value)]) + value)
    return b"".join(parts) if chance.random() < 0.9 else chance.randbytes(chance.randrange(60))


async def answered(channel: grpc.aio.Channel, method: str, request: Any) -> grpc.StatusCode:
    try:
        await channel.unary_unary(method)(request, timeout=DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_only_typed_errors_answer_what_is_no_request(world: World) -> None:
    city = await world.city(SUZHOU)
    city.issue("11010519491231002X")
    await city.replicate()
    callers: dict[Role, Credentials] = {Role.CITY: city.credentials}
    for role, path in PATHS.items():
        token = await world.token(f"spiffe://{TRUST_DOMAIN}/{path}")
        callers[role] = await asyncio.to_thread(join, format_token(token), world.folder / role.value)
    chance = random.Random(RUNS)
    for method in METHODS:
        caller = next((callers[role] for role in callers if role in REGISTRY_METHODS[method]), None)
        if caller is None:
            continue  # enrolment, which has a test of its own
        async with secure_channel(caller, retries=False, local_pool=True) as channel:
            for _ in range(RUNS):
                request = noise(chance)
                code = await answered(channel, method, request)
                assert code not in WRONG, (method, request.hex())
    assert not world.fsck().findings
