"""Past moments, evidence and watches on a city node: its own licences, and those that it asks the registry about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from city_node.keys import load_keys as load_city_keys
from elicense import errors
from elicense.client import AsyncClient, Purpose, Question, Verdict, VerdictReason, connect, connect_async
from elicense.license.verdict import Outcome
from elicense.trust.spiffe import city_id
from elicense.verification.evidence import answers_verifier_key, open_evidence, opens
from registry.keys import load_keys as load_registry_keys
from tests.integration.city.test_issuance import set_status, suspension
from tests.support.cluster import (
    DEADLINE_S,
    SUZHOU,
    TIANJIN,
    TRUST_DOMAIN,
    City,
    Cluster,
    drivers,
    eventually,
    run_cluster,
)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with run_cluster(tmp_path, SUZHOU, TIANJIN) as running:
        yield running


@pytest.fixture
async def suzhou(cluster: Cluster) -> City:
    return cluster.cities[SUZHOU]


@pytest.fixture
async def window(cluster: Cluster, suzhou: City) -> AsyncIterator[AsyncClient]:
    """A traffic window of Suzhou."""
    path = ("city", str(SUZHOU), "verifier", "traffic-window", "w1")
    credentials = await cluster.enroll_at(suzhou, path, cluster.folder / "window")
    async with connect_async(credentials, address=suzhou.running.address, timeout_s=DEADLINE_S) as client:
        yield client


async def issued(city: City) -> tuple[str, str]:
    """Issue a licence; return its number and its name as a resource."""
    (wanted,) = drivers(city.code, 1)
    name = (await city.issue(wanted)).license.name
    await city.replicated()
    return wanted.holder.document.number, name


def now() -> datetime:
    return datetime.now(UTC)


async def next_of(watched: AsyncIterator[Verdict]) -> Verdict:
    async with asyncio.timeout(DEADLINE_S):
        return await anext(watched)


async def test_a_city_answers_for_its_own_past_with_the_registry_away(
    cluster: Cluster, suzhou: City, window: AsyncClient
) -> None:
    number, name = await issued(suzhou)
    valid = now()
    await set_status(suzhou, name, add_letters=[suspension()])
    suspended = now()
    await cluster.stop_registry()
    for at, outcome in ((valid, Outcome.VALID), (suspended, Outcome.INVALID)):
        verdict = await window.verify(number, purpose=Purpose.WINDOW_SERVICE, at=at)
        assert verdict.outcome is outcome
        assert verdict.at == at
    known = await window.verify(number, purpose=Purpose.WINDOW_SERVICE, at=valid, as_known_at=valid)
    assert known.outcome is Outcome.VALID


async def test_the_past_of_another_citys_licence_is_the_registrys_to_tell(
    cluster: Cluster, suzhou: City, window: AsyncClient
) -> None:
    tianjin = cluster.cities[TIANJIN]
    number, name = await issued(tianjin)
    valid = now()
    await set_status(tianjin, name, add_letters=[suspension()])
    await tianjin.replicated()

    async def told() -> bool:
        asked = [Question(number)] * 2
        verdicts = await window.verify_batch(asked, purpose=Purpose.WINDOW_SERVICE, at=valid)
        return all(verdict.outcome is Outcome.VALID for verdict in verdicts)

    await eventually(told)
    assert (await window.verify(number, purpose=Purpose.WINDOW_SERVICE)).outcome is Outcome.INVALID
    await cluster.stop_registry()
    verdict = await window.verify(number, purpose=Purpose.WINDOW_SERVICE, at=valid)
    assert verdict.reasons == (VerdictReason.REGISTRY_UNREACHABLE,)


async def test_each_node_signs_what_it_says_itself(cluster: Cluster, suzhou: City, window: AsyncClient) -> None:
    own, _ = await issued(suzhou)
    foreign, _ = await issued(cluster.cities[TIANJIN])
    city_key = answers_verifier_key(
        str(city_id(TRUST_DOMAIN, SUZHOU)), load_city_keys(suzhou.config, random=bytes).answers.public_key()
    )
    registry_key = answers_verifier_key(
        f"spiffe://{TRUST_DOMAIN}/registry",
        load_registry_keys(cluster.registry_config, random=bytes).answers.public_key(),
    )
    for number, key in ((own, city_key), (foreign, registry_key)):
        signed = await window.verify_signed(Question(number), purpose=Purpose.WINDOW_SERVICE)
        statement = open_evidence(signed.statement, [city_key, registry_key])
        assert statement.issuer == key.name
        assert statement.outcome is signed.verdict.outcome is Outcome.VALID
        assert opens(statement, signed.opening, 1, number, "")
        assert number.encode() not in signed.statement


async def test_an_own_licence_is_followed_with_the_registry_away(
    cluster: Cluster, suzhou: City, window: AsyncClient
) -> None:
    number, name = await issued(suzhou)
    await cluster.stop_registry()
    async with aclosing(window.watch(number, purpose=Purpose.WINDOW_SERVICE)) as watched:
        assert (await next_of(watched)).outcome is Outcome.VALID
        await set_status(suzhou, name, add_letters=[suspension()])
        assert (await next_of(watched)).outcome is Outcome.INVALID
        await set_status(suzhou, name, lift_letters=["D"])
        assert (await next_of(watched)).outcome is Outcome.VALID


async def test_another_citys_licence_is_followed_through_the_registry_and_over_its_outage(
    cluster: Cluster, suzhou: City, window: AsyncClient
) -> None:
    tianjin = cluster.cities[TIANJIN]
    number, name = await issued(tianjin)
    async with aclosing(window.watch(number, purpose=Purpose.WINDOW_SERVICE)) as watched:
        assert (await next_of(watched)).outcome is Outcome.VALID
        await set_status(tianjin, name, add_letters=[suspension()])
        assert (await next_of(watched)).outcome is Outcome.INVALID
        await cluster.stop_registry()
        assert (await next_of(watched)).reasons == (VerdictReason.REGISTRY_UNREACHABLE,)
        await set_status(tianjin, name, lift_letters=["D"])
        await cluster.start_registry()
        seen = await next_of(watched)
        while seen.outcome is not Outcome.VALID:
            seen = await next_of(watched)


async def test_a_licence_that_the_city_issues_is_its_own_word_from_then_on(
    cluster: Cluster, suzhou: City, window: AsyncClient
) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    number = wanted.holder.document.number
    async with aclosing(window.watch(number, purpose=Purpose.WINDOW_SERVICE)) as watched:
        assert (await next_of(watched)).outcome is Outcome.NO_MATCH
        await suzhou.issue(wanted)
        assert (await next_of(watched)).outcome is Outcome.VALID


async def test_a_node_that_ends_is_news_only_when_it_stays_away(
    cluster: Cluster, suzhou: City, window: AsyncClient
) -> None:
    number, name = await issued(suzhou)
    async with aclosing(window.watch(number, purpose=Purpose.WINDOW_SERVICE)) as watched:
        assert (await next_of(watched)).outcome is Outcome.VALID
        await suzhou.stop()
        await suzhou.start()
        await set_status(suzhou, name, add_letters=[suspension()])
        # The stream was opened anew; the verdict that was shown already is not shown again.
        assert (await next_of(watched)).outcome is Outcome.INVALID


async def test_the_sync_client_follows_too_and_ends_with_its_loop(cluster: Cluster, suzhou: City) -> None:
    number, _ = await issued(suzhou)
    path = ("city", str(SUZHOU), "verifier", "traffic-window", "w2")
    credentials = await cluster.enroll_at(suzhou, path, cluster.folder / "w2")

    def first() -> Verdict:
        with connect(credentials, address=suzhou.running.address) as client:
            for verdict in client.watch(number, purpose=Purpose.WINDOW_SERVICE):
                return verdict
        raise AssertionError("the watch ended by itself")

    assert (await asyncio.to_thread(first)).outcome is Outcome.VALID


async def test_a_refusal_ends_the_watch(suzhou: City, window: AsyncClient) -> None:
    with pytest.raises(errors.Malformed):
        await next_of(window.watch("11010519491231002X", purpose=Purpose.CAR_RENTAL))


async def test_a_moment_without_a_time_zone_is_refused_before_anything_is_sent(window: AsyncClient) -> None:
    with pytest.raises(errors.Malformed) as refusal:
        await window.verify(
            "11010519491231002X",
            purpose=Purpose.WINDOW_SERVICE,
            at=datetime(2026, 1, 1),  # noqa: DTZ001
        )
    assert refusal.value.violations[0].reason == "TIME_ZONE_REQUIRED"
