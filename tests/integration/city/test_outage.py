"""The registry goes away and comes back."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection

from city_node.cli import main
from city_node.store import CityStore
from elicense import errors
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.trust.spiffe import city_id
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2, log_pb2
from elicense.v1.verification_pb2 import (
    OUTCOME_INDETERMINATE,
    OUTCOME_INVALID,
    OUTCOME_VALID,
    PURPOSE_ROADSIDE_CHECK,
    PURPOSE_WINDOW_SERVICE,
    VERDICT_REASON_PROVISIONAL,
    VERDICT_REASON_REGISTRY_UNREACHABLE,
    Verdict,
)
from registry.store import RegistryStore
from tests.integration.city.test_issuance import set_status, suspension
from tests.support.cluster import (
    DEADLINE_S,
    SUZHOU,
    TIANJIN,
    TRUST_DOMAIN,
    City,
    Cluster,
    call,
    drivers,
    eventually,
    run_cluster,
)

T = TypeVar("T")


def roots(cluster: Cluster, city: City) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """Return size and root of a city's log on both sides."""

    def read(url: str, store: CityStore | RegistryStore) -> tuple[int, bytes]:
        database = Database(url, readers=1)
        try:
            head = database.read_now(lambda conn: store.logs.head(conn, LogKey(city.code, 1)))
        finally:
            database.close()
        assert head is not None
        return head.size, head.root

    return (
        read(city.config.database_url, CityStore()),
        read(cluster.registry_config.database.url, RegistryStore()),
    )


async def get(city: City, name: str) -> license_pb2.License:
    return await call(city.issuance().GetLicense(pb.GetLicenseRequest(name=name), timeout=DEADLINE_S))


async def confirmed(city: City, name: str) -> None:
    async def done() -> bool:
        return not (await get(city, name)).provisional

    await eventually(done)


async def test_what_is_issued_becomes_national_with_a_receipt(cluster: Cluster, suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    request_id = str(uuid.uuid4())
    assert (await suzhou.issue(wanted, request_id=request_id)).durability == log_pb2.DURABILITY_LOCAL
    await suzhou.replicated()
    assert (await suzhou.issue(wanted, request_id=request_id)).durability == log_pb2.DURABILITY_NATIONAL
    ours, theirs = roots(cluster, suzhou)
    assert ours == theirs


async def test_a_license_issued_while_the_registry_is_away_is_provisional_until_it_is_back(
    cluster: Cluster, suzhou: City
) -> None:
    before, meanwhile = drivers(SUZHOU, 2)
    held = (await suzhou.issue(before)).license
    await suzhou.replicated()
    await cluster.stop_registry()
    issued = await suzhou.issue(meanwhile)
    assert issued.license.provisional
    assert issued.durability == log_pb2.DURABILITY_LOCAL
    changed = await set_status(suzhou, held.name, add_letters=[suspension()])
    assert changed.license.revision == 2
    assert not changed.license.provisional
    await cluster.start_registry()
    await suzhou.replicated()
    await confirmed(suzhou, issued.license.name)
    ours, theirs = roots(cluster, suzhou)
    assert ours == theirs
    assert ours[0] == 3


async def test_a_city_may_refuse_to_issue_while_the_registry_is_away(tmp_path: Path) -> None:
    async with run_cluster(tmp_path, SUZHOU, provisional="refuse") as cluster:
        await cluster.stop_registry()
        (wanted,) = drivers(SUZHOU, 1)
        with pytest.raises(errors.RegistryUnreachable):
            await cluster.cities[SUZHOU].issue(wanted)


async def test_a_backlog_of_an_outage_is_caught_up_without_help(cluster: Cluster, suzhou: City) -> None:
    await cluster.stop_registry()
    names = [(await suzhou.issue(wanted)).license.name for wanted in drivers(SUZHOU, 30)]
    await suzhou.stop()
    await suzhou.start()
    await cluster.start_registry()
    await suzhou.replicated()
    ours, theirs = roots(cluster, suzhou)
    assert ours == theirs
    assert ours[0] == 30
    for name in names:
        await confirmed(suzhou, name)


async def test_a_person_of_another_city_is_refused_and_a_conflict_is_seen_by_the_later_city(tmp_path: Path) -> None:
    async with run_cluster(tmp_path, SUZHOU, TIANJIN) as cluster:
        suzhou, tianjin = cluster.cities[SUZHOU], cluster.cities[TIANJIN]
        for_suzhou, for_tianjin = _one_person_twice()
        assert for_suzhou.holder.document == for_tianjin.holder.document
        await suzhou.issue(for_suzhou)
        await suzhou.replicated()
        with pytest.raises(errors.PersonClaimed) as refused:
            await tianjin.issue(for_tianjin)
        assert refused.value.metadata["heldByCity"] == str(SUZHOU)
        await cluster.stop_registry()
        issued = await tianjin.issue(for_tianjin)
        assert issued.license.provisional
        await cluster.start_registry()
        await tianjin.replicated()
        police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
        window = await cluster.enroll_at(
            tianjin, ("city", str(TIANJIN), "verifier", "traffic-window", "w1"), tmp_path / "window"
        )

        async def settled() -> bool:
            return not (await get(tianjin, issued.license.name)).provisional

        await eventually(settled)
        assert cluster.registry is not None
        document = for_suzhou.holder.document
        at_registry = await cluster.verify(police, cluster.registry.address, document, purpose=PURPOSE_ROADSIDE_CHECK)
        in_tianjin = await cluster.verify(window, tianjin.running.address, document, purpose=PURPOSE_WINDOW_SERVICE)
        assert at_registry.outcome == in_tianjin.outcome == OUTCOME_VALID
        assert at_registry.freshness.city == in_tianjin.freshness.city == SUZHOU


def _one_person_twice() -> tuple[license_pb2.License, license_pb2.License]:
    (for_suzhou,), (for_tianjin,) = drivers(SUZHOU, 1), drivers(TIANJIN, 1)
    archive, authority = for_tianjin.archive_number, for_tianjin.issuing_authority
    division = for_tianjin.division_code
    for_tianjin.CopyFrom(for_suzhou)
    for_tianjin.archive_number, for_tianjin.issuing_authority = archive, authority
    for_tianjin.division_code = division
    return for_suzhou, for_tianjin


async def test_a_node_answers_its_own_licenses_alone_and_never_guesses_about_others(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    tianjin = await cluster.add_city(TIANJIN)
    window = await cluster.enroll_at(
        suzhou, ("city", str(SUZHOU), "verifier", "traffic-window", "w1"), tmp_path / "window"
    )
    (own,), (other,) = drivers(SUZHOU, 1), drivers(TIANJIN, 1)
    issued = (await suzhou.issue(own)).license
    await tianjin.issue(other)
    await suzhou.replicated()
    await tianjin.replicated()

    async def ask(license_: license_pb2.License) -> Verdict:
        return await cluster.verify(
            window, suzhou.running.address, license_.holder.document, purpose=PURPOSE_WINDOW_SERVICE
        )

    assert (await ask(own)).outcome == OUTCOME_VALID
    assert (await ask(other)).outcome == OUTCOME_VALID
    await cluster.stop_registry()
    assert (await ask(own)).outcome == OUTCOME_VALID
    away = await ask(other)
    assert away.outcome == OUTCOME_INDETERMINATE
    assert list(away.reasons) == [VERDICT_REASON_REGISTRY_UNREACHABLE]
    unknown = license_pb2.License()
    unknown.CopyFrom(other)
    unknown.holder.document.number = "110101199003074514"
    assert _plain(await ask(unknown)) == _plain(away)
    await set_status(suzhou, issued.name, add_letters=[suspension()])
    assert (await ask(own)).outcome == OUTCOME_INVALID
    (newcomer,) = list(drivers(SUZHOU, 2))[1:]
    await suzhou.issue(newcomer)
    waiting = await ask(newcomer)
    assert waiting.outcome == OUTCOME_INDETERMINATE
    assert list(waiting.reasons) == [VERDICT_REASON_PROVISIONAL]


def _plain(verdict: Verdict) -> Verdict:
    plain = Verdict()
    plain.CopyFrom(verdict)
    plain.ClearField("verdict_time")
    return plain


async def test_a_registry_that_answers_nothing_but_faults_stops_no_counter(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    window = await cluster.enroll_at(
        suzhou, ("city", str(SUZHOU), "verifier", "traffic-window", "w1"), tmp_path / "window"
    )
    (other,) = drivers(TIANJIN, 1)
    newcomers = drivers(SUZHOU, 50)
    database = Database(cluster.registry_config.database.url, readers=1, writers=1)
    try:
        revoked = database.write_now(
            lambda conn: RegistryStore().trust.revoke_subject(conn, str(city_id(TRUST_DOMAIN, SUZHOU)))
        )
    finally:
        database.close()
    assert revoked == 1

    async def refused_by_the_registry() -> bool:
        return (await suzhou.issue(next(newcomers))).license.provisional

    await eventually(refused_by_the_registry)
    answer = await cluster.verify(window, suzhou.running.address, other.holder.document, purpose=PURPOSE_WINDOW_SERVICE)
    assert answer.outcome == OUTCOME_INDETERMINATE
    assert list(answer.reasons) == [VERDICT_REASON_REGISTRY_UNREACHABLE]


async def test_a_name_that_does_not_match_is_answered_like_an_unknown_number(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    from elicense.v1.verification_pb2 import OUTCOME_NO_MATCH, PURPOSE_CAR_RENTAL

    rental = await cluster.enroll_at(suzhou, ("city", str(SUZHOU), "verifier", "rental", "cars"), tmp_path / "rental")
    (own,) = drivers(SUZHOU, 1)
    await suzhou.issue(own)
    await suzhou.replicated()

    async def ask(number: str, name: str) -> Verdict:
        document = license_pb2.IdentityDocument(type=own.holder.document.type, number=number)
        return await cluster.verify(rental, suzhou.running.address, document, purpose=PURPOSE_CAR_RENTAL, name=name)

    assert (await ask(own.holder.document.number, own.holder.full_name)).outcome == OUTCOME_VALID
    mismatch = await ask(own.holder.document.number, "无此人")
    unknown = await ask("110101199003074514", "无此人")
    assert mismatch.outcome == OUTCOME_NO_MATCH
    assert _plain(mismatch) == _plain(unknown)
    await cluster.stop_registry()
    assert _plain(await ask(own.holder.document.number, "无此人")) == _plain(await ask("110101199003074514", "无此人"))


async def test_a_blank_number_is_refused_alike_by_a_city_and_the_registry(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    window = await cluster.enroll_at(
        suzhou, ("city", str(SUZHOU), "verifier", "traffic-window", "w1"), tmp_path / "window"
    )
    assert cluster.registry is not None
    for number in ("\u3000", "㌀" * 32):
        blank = license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number=number)
        for credentials, address, purpose in (
            (police, cluster.registry.address, PURPOSE_ROADSIDE_CHECK),
            (window, suzhou.running.address, PURPOSE_WINDOW_SERVICE),
        ):
            with pytest.raises(errors.Malformed) as refused:
                await cluster.verify(credentials, address, blank, purpose=purpose)
            assert [each.field for each in refused.value.violations] == ["query.document.number"]


async def test_a_resource_name_that_is_none_names_its_field(suzhou: City) -> None:
    for text in ("11111111-2222-3333-4444-55555555555A", "x" * 36):
        with pytest.raises(errors.Malformed) as refused:
            await get(suzhou, f"{suzhou.parent}/licenses/{text}")
        assert [each.field for each in refused.value.violations] == ["name"]


async def test_a_city_whose_database_was_set_back_only_verifies(cluster: Cluster, suzhou: City) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    files = [path for path in suzhou.folder.iterdir() if path.name.startswith("city.db")]
    kept = {path: path.read_bytes() for path in files}
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.replicated()
    await suzhou.stop()
    for path in suzhou.folder.iterdir():
        if path.name.startswith("city.db"):
            path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    await suzhou.start()
    with pytest.raises(errors.DataLoss):
        await suzhou.issue(third)
    assert isinstance(suzhou.running.gate.reason, errors.LogBehind)


async def test_a_city_that_only_verifies_still_does_after_a_restart_until_a_person_allows_it_to_sign(
    cluster: Cluster, suzhou: City
) -> None:
    first, second = drivers(SUZHOU, 2)
    suzhou.running.gate.shut(errors.LogForked("two histories"))
    with pytest.raises(errors.DataLoss):
        await suzhou.issue(first)
    await suzhou.stop()
    # With the registry away nothing else could tell the node.
    await cluster.stop_registry()
    await suzhou.start()
    assert isinstance(suzhou.running.gate.reason, errors.LogForked)
    with pytest.raises(errors.DataLoss, match="two histories"):
        await suzhou.issue(first)
    config = ("--config", str(suzhou.folder / "config.toml"))
    shown = await asyncio.to_thread(CliRunner().invoke, main, ["status", *config, "--json"])
    assert json.loads(shown.output.splitlines()[-1])["verify_only"] == "two histories"
    asked = await asyncio.to_thread(CliRunner().invoke, main, ["allow-signing", *config], input="n\n")
    assert asked.exit_code == 1
    await suzhou.stop()
    allowed = await asyncio.to_thread(CliRunner().invoke, main, ["allow-signing", *config, "--yes"])
    assert "LOG_FORKED" in allowed.output
    await suzhou.start()
    assert (await suzhou.issue(second)).license.name


async def test_a_mark_that_can_not_be_read_keeps_the_city_from_signing(suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    await suzhou.stop()
    (suzhou.folder / "verify-only.json").write_bytes(b"{half a ma")
    await suzhou.start()
    with pytest.raises(errors.DataLoss, match="can not be read"):
        await suzhou.issue(wanted)


async def test_a_lost_answer_costs_nothing(cluster: Cluster, suzhou: City) -> None:
    """The registry ends while batches are under way, again and again."""
    wanted = list(drivers(SUZHOU, 24))
    for start in range(0, len(wanted), 6):
        issuing = asyncio.gather(*(suzhou.issue(license_) for license_ in wanted[start : start + 6]))
        await cluster.stop_registry()
        await issuing
        await cluster.start_registry()
    await suzhou.replicated()
    ours, theirs = roots(cluster, suzhou)
    assert ours == theirs
    assert ours[0] == len(wanted)


async def test_words_whose_commit_was_not_heard_are_stored_once(
    cluster: Cluster, suzhou: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lost the answer to a COMMIT asks again, and finds that it was done."""
    original, lost = Database.write, list[int]()

    async def unheard(database: Database, fn: Callable[[Connection], T]) -> T:
        result = await original(database, fn)
        if fn.__qualname__.startswith("Receipts.take") and not lost:
            lost.extend([number for number in [database.read_now(_last_word)] if number])
            if lost:
                raise errors.StoreUnavailable("the database did not say whether it committed")
        return result

    monkeypatch.setattr(Database, "write", unheard)
    (wanted,) = drivers(SUZHOU, 1)
    await cluster.stop_registry()
    await suzhou.issue(wanted)
    await cluster.start_registry()
    await suzhou.replicated()

    async def heard() -> bool:
        return bool(lost)

    await eventually(heard)
    await suzhou.issue(next(drivers(SUZHOU, 1, seed=4)))
    await suzhou.replicated()


def _last_word(conn: Connection) -> int:
    return CityStore().disposition_cursor(conn, SUZHOU)
