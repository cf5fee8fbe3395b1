"""Two cities that were cut off from each other, their clerks, and an operator: a conflict from its birth to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from city_node.cli import main as city_main
from elicense import errors
from elicense.trust.credentials import Credentials
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import conflict_pb2_grpc, license_pb2
from elicense.v1.verification_pb2 import OUTCOME_INDETERMINATE, OUTCOME_VALID, PURPOSE_WINDOW_SERVICE, Verdict
from registry.cli import main as registry_main
from tests.integration.city.test_bans import in_tianjin
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_lifecycle import change
from tests.support.cluster import (
    DEADLINE_S,
    SUZHOU,
    TIANJIN,
    City,
    Cluster,
    call,
    drivers,
    eventually,
    run_cluster,
)
from tests.support.proxy import Proxy


@dataclass
class Nation:
    """Two cities with a window each, and the person whom both licensed.

    Attributes:
        cluster: The registry and the cities.
        folder: Where credentials lie.
        wire: Suzhou's wire to the registry.
        windows: Credentials of each city's traffic window.
        held: The licence with a grant.
        waiting: The licence without.
    """

    cluster: Cluster
    folder: Path
    wire: Proxy
    windows: dict[int, Credentials]
    held: license_pb2.License
    waiting: license_pb2.License

    @property
    def suzhou(self) -> City:
        return self.cluster.cities[SUZHOU]

    @property
    def tianjin(self) -> City:
        return self.cluster.cities[TIANJIN]

    async def verdict(self, code: int) -> Verdict:
        city = self.cluster.cities[code]
        return await self.cluster.verify(
            self.windows[code], city.running.address, self.held.holder.document, purpose=PURPOSE_WINDOW_SERVICE
        )

    async def valid_in(self) -> dict[int, int]:
        """Which city's licence each node calls VALID; never may two differ at one moment."""
        before, between, after = [await self._valid_at(code) for code in (SUZHOU, TIANJIN, SUZHOU)]
        # Suzhou said the same before and after, so it would have said so when Tianjin was asked.
        assert before is None or before != after or between in (None, before), (before, between, after)
        return {code: city for code, city in ((SUZHOU, after), (TIANJIN, between)) if city is not None}

    async def _valid_at(self, code: int) -> int | None:
        verdict = await self.verdict(code)
        return verdict.freshness.city if verdict.outcome == OUTCOME_VALID else None

    async def clerk(self, code: int, *arguments: str) -> str:
        city = self.cluster.cities[code]
        where = ["--credentials", str(city.clerk), "--address", city.running.address]
        result = await asyncio.to_thread(CliRunner().invoke, city_main, ["conflicts", *arguments, *where])
        assert result.exit_code == 0, result.output
        return result.output

    async def told(self, code: int, *arguments: str) -> str:
        """What any command of a city's clerk prints."""
        city = self.cluster.cities[code]
        where = ["--credentials", str(city.clerk), "--address", city.running.address]
        return (await asyncio.to_thread(CliRunner().invoke, city_main, [*arguments, *where])).output

    async def inbox(self, code: int) -> pb.ListConflictsResponse:
        stub = conflict_pb2_grpc.ConflictServiceStub(self.cluster.cities[code].channel())
        answer: pb.ListConflictsResponse = await call(stub.ListConflicts(pb.ListConflictsRequest(), timeout=DEADLINE_S))
        return answer

    async def conflict(self) -> str:
        """The conflict's UUID, once both cities have it in their inbox."""

        async def known() -> str:
            try:
                found = [await self.inbox(code) for code in (SUZHOU, TIANJIN)]
            except errors.RegistryUnreachable:
                return ""
            return found[0].conflicts[0].name.partition("/")[2] if all(each.conflicts for each in found) else ""

        return await eventually(known)

    async def settled_for(self, code: int) -> None:
        """Wait until every node calls the licence of one city valid."""

        async def settled() -> bool:
            return await self.valid_in() == {SUZHOU: code, TIANJIN: code}

        await eventually(settled)

    async def fsck(self) -> None:
        config = self.cluster.registry_config.node.data_dir / "config.toml"
        report = await asyncio.to_thread(CliRunner().invoke, registry_main, ["fsck", "--config", str(config)])
        assert report.exit_code == 0, report.output
        for city in self.cluster.cities.values():
            config = city.folder / "config.toml"
            checked = await asyncio.to_thread(CliRunner().invoke, city_main, ["fsck", "--config", str(config)])
            assert checked.exit_code == 0, checked.output


@pytest.fixture
async def nation(tmp_path: Path) -> AsyncIterator[Nation]:
    """Suzhou licensed a person; Tianjin, cut off, licensed the same person; then the registry came back."""
    async with run_cluster(tmp_path) as cluster, cluster.wire() as wire:
        suzhou, tianjin = await cluster.add_city(SUZHOU, through=wire), await cluster.add_city(TIANJIN)
        windows = {}
        for code, city in cluster.cities.items():
            path = ("city", str(code), "verifier", "traffic-window", "w")
            windows[code] = await cluster.enroll_at(city, path, tmp_path / f"window-{code}")
        (wanted,) = drivers(SUZHOU, 1)
        del wanted.status_letters[:]
        wanted.points = 0
        held = (await suzhou.issue(wanted)).license
        await suzhou.replicated()
        await cluster.stop_registry()
        waiting = (await tianjin.issue(in_tianjin(wanted))).license
        assert waiting.provisional
        nation = Nation(cluster, tmp_path, wire, windows, held, waiting)
        assert await nation.valid_in() == {SUZHOU: SUZHOU}
        await cluster.start_registry()
        yield nation
        wire.heal()


async def test_a_clerk_contests_the_other_concedes_and_cancels_the_void_license(nation: Nation) -> None:
    conflict = await nation.conflict()
    await nation.settled_for(SUZHOU)
    assert "1 open, 0 overdue" in await nation.clerk(TIANJIN, "list")

    async def proved() -> str:
        # A receipt is stored with the next commit of its city's log, so its proof may be a moment behind.
        seen = await nation.clerk(TIANJIN, "show", conflict)
        return seen if seen.count("proved under the registry's receipt") == 2 else ""

    shown = await eventually(proved)
    assert f"of {SUZHOU} Suzhou" in shown
    assert f"of {TIANJIN} Tianjin, your own" in shown
    assert nation.held.holder.document.number not in shown
    status = await asyncio.to_thread(
        CliRunner().invoke, city_main, ["status", "--json", "--config", str(nation.tianjin.folder / "config.toml")]
    )
    assert status.exit_code == 0, (status.output, status.exception)
    assert json.loads(status.output)["conflicts"] == 1
    assert "contest: the file of 2019" in await nation.clerk(
        SUZHOU, "contest", conflict, "--grounds", "the file of 2019"
    )
    # Whatever withholds the licence can not be lifted once it is void, and must not keep it from being cancelled.
    await set_status(nation.tianjin, nation.waiting.name, add_letters=[suspension(), suspension("H")])
    conceded = await nation.clerk(TIANJIN, "concede", conflict, "--grounds", "the holder kept silent about it")
    assert "void" in conceded
    await nation.settled_for(SUZHOU)
    await nation.tianjin.replicated()

    async def told() -> bool:
        return not (await nation.inbox(TIANJIN)).conflicts and (await nation.verdict(TIANJIN)).freshness.city == SUZHOU

    await eventually(told)
    for check_only in (True, False):
        with pytest.raises(errors.IllegalTransition) as refused:
            await set_status(nation.tianjin, nation.waiting.name, add_letters=[suspension()], validate_only=check_only)
        assert [violation.reason for violation in refused.value.violations] == ["LICENSE_VOID"]
    await change(nation.tianjin, "CancelLicense", nation.waiting.name, legal_basis="void")
    await nation.tianjin.replicated()
    assert await nation.valid_in() == {SUZHOU: SUZHOU, TIANJIN: SUZHOU}
    await nation.fsck()


async def test_a_winner_does_not_count_while_the_losing_city_is_cut_off(nation: Nation) -> None:
    conflict = await nation.conflict()
    await nation.cluster.enroll_national(("operator", "wang"), nation.folder / "operator")
    where = ["--credentials", str(nation.folder / "operator")]
    for code in (SUZHOU, TIANJIN):
        await nation.clerk(code, "contest", conflict, "--grounds", "ours")
    # Suzhou is cut off now, and goes on to vouch for its licence.
    nation.wire.hold()
    listed = await asyncio.to_thread(CliRunner().invoke, registry_main, ["conflicts", "list", *where])
    assert "1 open" in listed.output
    stands = nation.waiting.name.rpartition("/")[2]
    decided = await asyncio.to_thread(
        CliRunner().invoke,
        registry_main,
        ["conflicts", "decide", conflict, "--stands", stands, "--basis", "the forged paper of 2019", *where],
    )
    assert decided.exit_code == 0, decided.output
    assert "it counts once the other city has stored" in decided.output
    await nation.cluster.stop_registry()
    await nation.cluster.start_registry()
    await nation.tianjin.replicated()
    assert await nation.valid_in() == {SUZHOU: SUZHOU}
    assert (await nation.verdict(TIANJIN)).outcome == OUTCOME_INDETERMINATE
    nation.wire.heal()
    await nation.settled_for(TIANJIN)
    await nation.fsck()


async def test_a_conceding_holder_hands_the_person_over_and_frees_the_other(nation: Nation) -> None:
    conflict = await nation.conflict()
    await nation.settled_for(SUZHOU)
    await nation.clerk(SUZHOU, "concede", conflict, "--grounds", "issued upon a wrong file")
    await nation.settled_for(TIANJIN)
    await change(nation.suzhou, "CancelLicense", nation.held.name, legal_basis="void")
    await nation.suzhou.replicated()
    assert await nation.valid_in() == {SUZHOU: TIANJIN, TIANJIN: TIANJIN}
    await nation.fsck()


async def test_the_inbox_says_when_the_registry_is_away(nation: Nation) -> None:
    await nation.conflict()
    await nation.cluster.stop_registry()
    with pytest.raises(errors.RegistryUnreachable):
        await nation.inbox(SUZHOU)


async def test_a_clerk_sees_at_the_license_itself_that_it_does_not_count(nation: Nation) -> None:
    conflict = await nation.conflict()
    name = nation.waiting.name

    async def says(word: str) -> bool:
        shown, listed = await nation.told(TIANJIN, "show", name), await nation.told(TIANJIN, "list")
        return f"\n{word}: valid nowhere" in shown and listed.splitlines()[0].endswith(f"  {word}")

    await eventually(lambda: says("CONFLICT"))
    # Resource names do as well as UUIDs, and what is neither is told in one sentence.
    for wrong in (["show", "nonsense"], ["concede", conflict, "--grounds", "x", "--license", "cities/1/licenses/2"]):
        refused = await asyncio.to_thread(CliRunner().invoke, city_main, ["conflicts", *wrong, *_somewhere(nation)])
        assert (refused.exit_code, "give its UUID" in refused.output) == (1, True), refused.output
    grounds = ("--grounds", "the file of 2019", "--license", name)
    assert f"{TIANJIN} Tianjin: withdraw" in await nation.clerk(TIANJIN, "concede", f"conflicts/{conflict}", *grounds)
    await eventually(lambda: says("VOID"))
    (listed, counts) = (await nation.clerk(SUZHOU, "list", "--all")).splitlines()
    assert f"{SUZHOU} Suzhou stands" in listed
    assert "until" not in listed
    assert counts == "0 open, 0 overdue"
    assert "counted   license" in await nation.clerk(SUZHOU, "show", conflict)
    # The operator's command is no way into one city's inbox.
    refused = await asyncio.to_thread(
        CliRunner().invoke, registry_main, ["conflicts", "list", "--credentials", str(nation.suzhou.clerk)]
    )
    assert (refused.exit_code, "give those of an operator" in refused.output) == (1, True), refused.output


def _somewhere(nation: Nation) -> list[str]:
    return ["--credentials", str(nation.tianjin.clerk), "--address", nation.tianjin.running.address]
