"""What the registry states of a city's log, once a minute: a head that the city never signed does not go unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import city_node.cli
from city_node.mirroring import REGISTRY_LOG_HEALTH
from elicense.log.model import Head
from elicense.log.tree import EMPTY_RANGE, CompactRange
from registry import decider, head_vector
from tests.integration.city.test_anchor import copy_database, set_back
from tests.integration.city.test_mirror import convicted, mirrored
from tests.integration.city.test_restore import all_is_well, command, restore
from tests.support.cluster import DEADLINE_S, SUZHOU, TRUST_DOMAIN, City, Cluster, drivers, eventually


def stated(head: Head, size: int) -> Head:
    """A head of another log of that size."""
    frontier: CompactRange = EMPTY_RANGE.append_leaves([bytes([n]) * 32 for n in range(size)])
    return replace(head, frontier=frontier, root=frontier.root())


LIES: dict[str, Callable[[Head], Head]] = {
    "another root": lambda head: stated(head, head.size),
    "an earlier one": lambda head: stated(head, 1),
    "more than there is": lambda head: stated(head, head.size + 3),
    "less than nothing": lambda head: cast("Head", SimpleNamespace(key=head.key, size=-1, root=bytes(32))),
}


def lying(monkeypatch: pytest.MonkeyPatch, lie: Callable[[Head], Head]) -> None:
    """Have the registry state another head of Suzhou's log than it holds."""
    honest = head_vector.due_vector

    def due(*arguments: Any, **named: Any) -> head_vector.DueVector | None:
        vector = honest(*arguments, **named)
        if vector is None:
            return None
        heads = [lie(head) if head.key.log == SUZHOU else head for head in vector.heads]
        return replace(vector, heads=heads)

    monkeypatch.setattr(decider, "due_vector", due)


def disputed(city: City) -> float | None:
    return city.running.metrics.get_sample_value("elicense_mirror_heads_disputed")


def kept(city: City) -> list[Path]:
    return sorted(city.config.evidence_dir.glob("*"))


async def sound(city: City) -> bool:
    request = health_pb2.HealthCheckRequest(service=REGISTRY_LOG_HEALTH)
    answer = await health_pb2_grpc.HealthStub(city.channel()).Check(request, timeout=DEADLINE_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def published(cluster: Cluster, city: City) -> None:
    """Have a vector written, and wait until the city holds it."""
    before = len(mirrored(city)[1])
    assert cluster.registry is not None
    await city.replicated()
    assert await cluster.registry.publish_heads()

    async def held() -> bool:
        return len(mirrored(city)[1]) > before

    await eventually(held)


async def issued(cluster: Cluster, city: City, count: int, from_: int = 0) -> None:
    for wanted in list(drivers(SUZHOU, count))[from_:]:
        await city.issue(wanted)
    await city.replicated()


@pytest.mark.parametrize("lie", LIES)
async def test_a_head_that_the_city_never_signed_alarms_and_convicts_the_registry_where_that_can_be_proved(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    await issued(cluster, suzhou, 2)
    assert (disputed(suzhou), await sound(suzhou)) == (0, True)
    lying(monkeypatch, LIES[lie])
    await published(cluster, suzhou)
    # A receipt over what the vector misstates is what convicts; whoever asks again finds the same.
    await suzhou.running.mirror.catch_up()
    assert (disputed(suzhou), await sound(suzhou)) == (1, False)
    assert [path.name.startswith("vector-1-") for path in kept(suzhou)] == [True] * (
        lie in ("another root", "an earlier one")
    )
    if kept(suzhou):
        confirmed = await convicted(cluster, suzhou)
        assert confirmed.exit_code == 3, confirmed.output
        assert f"CONFIRMED: {TRUST_DOMAIN}/registry signed two histories" in confirmed.output
    status = await command(city_node.cli.main, "status", "--config", str(suzhou.folder / "config.toml"))
    assert f"evidence         {len(kept(suzhou))}" in status
    # The city's own log does not rest on the registry's: it issues on, and the alarm outlives a restart.
    await issued(cluster, suzhou, 3, 2)
    await suzhou.stop()
    await suzhou.start()

    async def alarms() -> bool:
        return disputed(suzhou) == 1

    await eventually(alarms)


async def test_what_the_registry_states_truly_alarms_nobody_also_while_the_city_is_set_back(
    cluster: Cluster, suzhou: City
) -> None:
    await suzhou.stop()
    earlier, anchor = copy_database(suzhou), suzhou.config.anchor_path.read_bytes()
    await suzhou.start()
    await issued(cluster, suzhou, 2)
    await published(cluster, suzhou)
    await suzhou.running.mirror.catch_up()
    assert disputed(suzhou) == 0
    await suzhou.stop()
    # Mirror, anchor and log: nothing here knows of the head that the registry states.
    set_back(suzhou, earlier)
    suzhou.config.anchor_path.write_bytes(anchor)
    await suzhou.start()
    await suzhou.running.mirror.catch_up()
    assert len(mirrored(suzhou)[1]) > 2
    assert (disputed(suzhou), await sound(suzhou)) == (0, True)
    await suzhou.stop()
    await restore(suzhou)
    await suzhou.start()
    await suzhou.running.mirror.catch_up()
    assert (disputed(suzhou), await sound(suzhou)) == (0, True)
    assert kept(suzhou) == []
    await all_is_well(cluster, suzhou)
