"""Who looked, as the holder sees it: from every node, each look once, and how complete the list is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from elicense.access.entry import START, RecordedAccess
from elicense.clock import from_timestamp, utc_micros
from elicense.errors import CallerNotAllowed, LicenseNotFound, Malformed, QuotaExceeded, SequenceGap
from elicense.rpc.channel import secure_channel
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.roles import VERIFIER_RULES, Role
from elicense.v1 import (
    access_pb2,
    access_pb2_grpc,
    license_pb2,
    replication_pb2,
    replication_pb2_grpc,
    verification_pb2_grpc,
)
from elicense.v1 import verification_pb2 as pb
from registry.store import access_store
from tests.integration.city.test_identity import renumbered
from tests.integration.city.test_lifecycle import change
from tests.support.cluster import DEADLINE_S, SUZHOU, TIANJIN, City, Cluster, call, drivers, eventually, run_cluster


class SetClock:
    """The real clock, moved by as much as a test says."""

    def __init__(self) -> None:
        self.offset_us = 0

    def __call__(self) -> int:
        return utc_micros() + self.offset_us


class People:
    """Verifiers and a holder of one cluster."""

    def __init__(self, cluster: Cluster, who: dict[str, Credentials]) -> None:
        self.cluster = cluster
        self.who = who
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, name: str) -> grpc.aio.Channel:
        if name not in self._channels:
            self._channels[name] = secure_channel(self.who[name], retries=False, local_pool=True)
        return self._channels[name]

    async def look(self, name: str, asked: license_pb2.License, *, holder: str = "", sealed_s: int = 0) -> pb.Verdict:
        why = pb.LookContext(purpose=PURPOSES[name], case_number="case 1")
        if sealed_s:
            why.sealed.delay.FromSeconds(sealed_s)
        request = pb.VerifyLicenseRequest(
            query=pb.LicenseQuery(document=asked.holder.document, holder_name=holder), context=why
        )
        stub = verification_pb2_grpc.VerificationServiceStub(self.channel(name))
        answer: pb.VerifyLicenseResponse = await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
        return answer.verdict

    async def listed(
        self, asked: license_pb2.License, *, name: str | None = None, size: int = 0, token: str = ""
    ) -> access_pb2.ListAccessesResponse:
        stub = access_pb2_grpc.AccessServiceStub(self.channel("app"))
        query = pb.LicenseQuery(
            document=asked.holder.document, holder_name=asked.holder.full_name if name is None else name
        )
        request = access_pb2.ListAccessesRequest(query=query, page_size=size, page_token=token)
        answer: access_pb2.ListAccessesResponse = await call(stub.ListAccesses(request, timeout=DEADLINE_S))
        return answer

    async def looks(self, asked: license_pb2.License) -> list[access_pb2.Access]:
        """Looks by others than the holder's own app."""
        page = await self.listed(asked, size=1_000)
        return [look for look in page.accesses if look.role != "holder"]

    async def eventually_listed(self, asked: license_pb2.License, count: int) -> list[access_pb2.Access]:
        async def done() -> list[access_pb2.Access]:
            looks = await self.looks(asked)
            return looks if len(looks) >= count else []

        return await eventually(done)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()


PURPOSES: dict[str, pb.Purpose] = {
    "police": pb.PURPOSE_CASE_HANDLING,
    "rental": pb.PURPOSE_CAR_RENTAL,
    "window": pb.PURPOSE_WINDOW_SERVICE,
}


Scene = tuple[People, City, list[license_pb2.License]]


@asynccontextmanager
async def running(folder: Path, clock: SetClock | None = None) -> AsyncIterator[Scene]:
    """Suzhou and Tianjin, people, and a licence in each."""
    async with run_cluster(folder, SUZHOU, TIANJIN, clock=clock or utc_micros) as cluster:
        suzhou = cluster.cities[SUZHOU]
        licenses = []
        for code in (SUZHOU, TIANJIN):
            (wanted,) = drivers(code, 1, seed=code)
            licenses.append((await cluster.cities[code].issue(wanted)).license)
            await cluster.cities[code].replicated()
        window = ("city", str(SUZHOU), "verifier", "traffic-window", "w")
        people = People(
            cluster,
            {
                "police": await cluster.enroll_national(("verifier", "police", "p"), folder / "police"),
                "rental": await cluster.enroll_national(("verifier", "rental", "r"), folder / "rental"),
                "app": await cluster.enroll_national(("verifier", "holder", "app"), folder / "app"),
                "window": await cluster.enroll_at(suzhou, window, folder / "window"),
            },
        )
        try:
            yield people, suzhou, licenses
        finally:
            await people.close()


def held(cluster: Cluster, node: str) -> list[RecordedAccess]:
    """What the registry holds of a node's looks."""
    database = Database(cluster.registry_config.access_log.url, readers=1)
    try:
        return database.read_now(lambda conn: access_store().looks.after(conn, node, START, 10_000))
    finally:
        database.close()


async def test_a_holder_sees_who_looked_from_every_node(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, foreign)):
        began = utc_micros()
        await people.look("police", local)
        await people.look("window", local)
        await people.look("rental", local, holder="某某某")
        await people.look("window", foreign)
        looks = {look.role: look for look in await people.eventually_listed(local, 3)}
        assert set(looks) == {"police", "traffic-window", "rental"}
        police, window, rental = looks["police"], looks["traffic-window"], looks["rental"]
        assert (police.node, police.case_number, police.purpose) == ("registry", "case 1", pb.PURPOSE_CASE_HANDLING)
        assert police.verifier.endswith("/verifier/police/p")
        assert len(police.fields) == 15
        assert (window.node, window.via) == (f"city-{SUZHOU}", "")
        assert window.outcome == police.outcome == pb.OUTCOME_VALID
        assert (rental.outcome, list(rental.fields)) == (pb.OUTCOME_NO_MATCH, [])
        assert all(from_timestamp(look.access_time) >= began for look in looks.values())
        # What was forwarded is recorded once, where it was answered.
        (forwarded,) = await people.eventually_listed(foreign, 1)
        assert (forwarded.node, forwarded.via.rpartition("/")[2]) == ("registry", str(SUZHOU))


async def test_a_holder_sees_looks_under_every_number_they_have_had(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, suzhou, (local, _)):
        numbers = [renumbered(local, by) for by in (0, 2, 4)]
        await people.look("police", local)
        for number in numbers[1:]:
            document = number.holder.document
            await change(suzhou, "ChangeIdentity", local.name, document=document, legal_basis="一")
            await suzhou.replicated()
            await people.look("police", number)
        await people.look("window", local)
        for number in numbers:
            assert len(await people.eventually_listed(number, 4)) == 4
        page = await people.listed(local, size=2)
        seen = list(page.accesses)
        while page.next_page_token:
            page = await people.listed(local, size=2, token=page.next_page_token)
            seen += page.accesses
        assert [look.role for look in seen].count("police") == 3


async def test_a_list_says_up_to_when_it_is_complete(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, _)):
        await people.look("window", local)
        asked = utc_micros()

        async def complete() -> bool:
            page = await people.listed(local, size=1_000)  # with all the looks that this very wait makes
            until = {each.node: from_timestamp(each.complete_until) for each in page.completeness}
            assert set(until) == {"registry", f"city-{SUZHOU}", f"city-{TIANJIN}"}
            if until[f"city-{SUZHOU}"] <= asked:
                return False
            # From then on the look must be there.
            assert [look.role for look in page.accesses if look.role != "holder"] == ["traffic-window"]
            return all(moment > asked for moment in until.values())

        await eventually(complete)


async def test_looks_of_an_outage_arrive_once_and_are_recorded_by_the_city(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, suzhou, (local, foreign)):
        cluster = people.cluster
        await people.look("window", local)
        await people.eventually_listed(local, 1)
        await cluster.stop_registry()
        for _ in range(3):
            assert (await people.look("window", local)).outcome == pb.OUTCOME_VALID
        # What can not be forwarded is answered by the city, and so is the city's to record.
        unreachable = await people.look("window", foreign)
        assert list(unreachable.reasons) == [pb.VERDICT_REASON_REGISTRY_UNREACHABLE]
        both = pb.BatchVerifyLicensesRequest(
            queries=[pb.LicenseQuery(document=each.holder.document) for each in (foreign, local, foreign)],
            context=pb.LookContext(purpose=pb.PURPOSE_WINDOW_SERVICE),
        )
        stub = verification_pb2_grpc.VerificationServiceStub(people.channel("window"))
        verdicts = (await call(stub.BatchVerifyLicenses(both, timeout=DEADLINE_S))).verdicts
        assert [given.outcome for given in verdicts] == [
            pb.OUTCOME_INDETERMINATE,
            pb.OUTCOME_VALID,
            pb.OUTCOME_INDETERMINATE,
        ]
        await people.close()
        await suzhou.stop()
        await suzhou.start()
        people.who["window"] = load_credentials(tmp_path / "window")
        await cluster.start_registry()
        looks = await people.eventually_listed(local, 5)
        assert [look.node for look in looks] == [f"city-{SUZHOU}"] * 5
        others = await people.eventually_listed(foreign, 3)
        assert [look.outcome for look in others] == [pb.OUTCOME_INDETERMINATE] * 3
        # Idle rounds and a second restart of either side change nothing.
        await cluster.stop_registry()
        await people.close()
        await cluster.start_registry()
        assert len(await people.eventually_listed(local, 5)) == 5
        assert [look.position.sequence for look in held(cluster, f"city-{SUZHOU}")] == [1, 2, 3, 4, 5, 6]


async def test_a_list_comes_in_pages_newest_first(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, foreign)):
        for _ in range(7):
            await people.look("police", local)
        await people.eventually_listed(local, 7)
        whole = [look for look in (await people.listed(local, size=1_000)).accesses if look.role == "police"]
        paged, token = [], ""
        while True:
            page = await people.listed(local, size=3, token=token)
            assert len(page.accesses) <= 3
            paged += [look for look in page.accesses if look.role == "police"]
            token = page.next_page_token
            if not token:
                break
        assert paged == whole
        times = [from_timestamp(look.access_time) for look in paged]
        assert times == sorted(times, reverse=True)
        token = (await people.listed(local, size=3)).next_page_token
        for asked, wrong in ((foreign, token), (local, token[:-4]), (local, "x")):
            with pytest.raises(Malformed):
                await people.listed(asked, token=wrong)


async def test_a_list_is_a_look_itself_and_is_kept_from_strangers(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, _)):
        unknown = license_pb2.License()
        unknown.CopyFrom(local)
        unknown.holder.document.number = "11010519491231002X"
        told = []
        for asked, name in ((local, "某某某"), (unknown, None)):
            with pytest.raises(LicenseNotFound) as refused:
                await people.listed(asked, name=name)
            told.append((refused.value.message, refused.value.metadata))
        assert told[0] == told[1]

        async def own() -> list[access_pb2.Access]:
            page = await people.listed(local)
            found = [look for look in page.accesses if look.role == "holder"]
            return found if len(found) > 1 else []

        *_, first = await eventually(own)
        assert (first.method, first.outcome, list(first.fields)) == ("ListAccesses", pb.OUTCOME_NO_MATCH, [])


async def test_a_sealed_look_appears_when_its_delay_is_over(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock) as (people, _, (local, _)):
        await people.look("police", local, sealed_s=86_400)
        await people.look("police", local)
        (shown,) = await people.eventually_listed(local, 1)
        assert not shown.was_sealed
        # A slow machine may take minutes until here.
        clock.offset_us += (86_400 - 600) * 10**6
        assert len(await people.looks(local)) == 1
        clock.offset_us += 601 * 10**6
        looks = await people.looks(local)
        assert [look.was_sealed for look in looks] == [False, True]
        assert looks[1].case_number == "case 1"


async def test_a_city_ships_its_own_looks_and_no_others(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, suzhou, (local, _)):
        await people.look("window", local)
        await people.eventually_listed(local, 1)
        people.who["node"] = load_credentials(suzhou.config.credentials_dir)
        registry = people.cluster.registry
        assert registry is not None
        async with secure_channel(people.who["node"], address=registry.address, retries=False) as channel:
            stub = replication_pb2_grpc.ReplicationServiceStub(channel)

            async def ship(node: str, *numbers: int, caller: str = f"/city/{SUZHOU}/verifier/police/p") -> int:
                request = replication_pb2.ShipAccessesRequest(node=node)
                for number in numbers:
                    sent = request.accesses.add(day=20_000, sequence=number, role="police", purpose=1)
                    sent.access_time.FromMicroseconds(utc_micros())
                    sent.method, sent.verifier = "VerifyLicense", f"spiffe://test.elicense.example{caller}"
                    sent.subjects, sent.outcomes, sent.fields = bytes(16), b"\x01", bytes(4)
                answer = await call(stub.ShipAccesses(request, timeout=DEADLINE_S))
                return int(answer.sequence)

            with pytest.raises(CallerNotAllowed):
                await ship(f"city-{TIANJIN}", 1)
            with pytest.raises(CallerNotAllowed):
                await ship(f"city-{SUZHOU}/b", 1, caller=f"/city/{TIANJIN}/verifier/police/p")
            with pytest.raises(Malformed):
                await ship("registry", 1)
            assert await ship(f"city-{SUZHOU}/b") == 0
            assert await ship(f"city-{SUZHOU}/b", 1, 2) == 2
            assert await ship(f"city-{SUZHOU}/b", 1, 2, 3) == 3
            assert await ship(f"city-{SUZHOU}/b", 2) == 3
            with pytest.raises(SequenceGap) as gap:
                await ship(f"city-{SUZHOU}/b", 5)
            assert gap.value.metadata["expectedIndex"] == "4"
            results = await asyncio.gather(*(ship(f"city-{SUZHOU}/b", 4, 5) for _ in range(5)), return_exceptions=True)
            assert 5 in results
            assert [look.position.sequence for look in held(people.cluster, f"city-{SUZHOU}/b")] == [1, 2, 3, 4, 5]


async def test_a_verifier_that_had_its_looks_is_refused_with_the_time_of_the_next(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, _)):
        for _ in range(VERIFIER_RULES[Role.RENTAL].quota.looks_at_one):
            await people.look("rental", local, holder="某某某")
        with pytest.raises(QuotaExceeded) as refused:
            await people.look("rental", local, holder="某某某")
        assert 0 < int(refused.value.metadata["retryAfterSeconds"]) <= 86_400
        cause = refused.value.__cause__
        assert isinstance(cause, grpc.aio.AioRpcError)
        assert cause.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # The right name does not help any more, and other numbers are not affected.
        with pytest.raises(QuotaExceeded):
            await people.look("rental", local, holder=local.holder.full_name)
        assert (await people.look("rental", people_of(local), holder="某某某")).outcome == pb.OUTCOME_NO_MATCH


def people_of(license_: license_pb2.License) -> license_pb2.License:
    """Somebody else."""
    other = license_pb2.License()
    other.CopyFrom(license_)
    other.holder.document.number = "11010519491231002X"
    return other
