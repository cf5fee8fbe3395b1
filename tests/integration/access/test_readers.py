"""Who looked, read with the SDK and with `elicense accesses`: real nodes, real TLS."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from elicense.client import Access, Accesses, Outcome, Purpose, connect, connect_async
from elicense.errors import CallerNotAllowed, LicenseNotFound, Malformed, PeerUnreachable, Refused
from elicense.license.fields import EVERY_FIELD
from elicense.v1 import license_pb2
from tests.integration.access.test_lists import running
from tests.support.cluster import SUZHOU, TIANJIN, eventually

UNKNOWN = "11010519491231002X"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int | None
    output: str
    errors: str


async def command(number: str, name: str, folder: Path, *words: str) -> Done:
    """Run the command in a process of its own; the nodes of this one write to standard output."""
    arguments = ("accesses", number, "--name", name, "--credentials", str(folder), *words)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "elicense.cli.main", *arguments, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    return Done(process.returncode, output.decode(), errors.decode())


def who(asked: license_pb2.License) -> tuple[str, str]:
    return asked.holder.document.number, asked.holder.full_name


async def test_the_sdk_reads_every_page_and_says_up_to_when_the_list_is_complete(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, _)):
        began = datetime.now(UTC)
        for _ in range(4):
            await people.look("police", local)
        await people.look("window", local)
        await people.eventually_listed(local, 5)
        number, name = who(local)

        def read(page_size: int) -> tuple[Accesses, list[Access]]:
            with connect(tmp_path / "app") as client:
                listed = client.accesses(number, name, page_size=page_size)
                return listed, [look for look in listed if look.role != "holder"]

        async with connect_async(tmp_path / "app") as client:

            async def complete() -> bool:
                until = (await client.accesses(number, name)).complete_until
                return until is not None and until > began

            await eventually(complete)
            ours = [look async for look in await client.accesses(number, name, page_size=2) if look.role != "holder"]
        listed, looks = await asyncio.to_thread(read, 2)
        _, whole = await asyncio.to_thread(read, 1_000)
        assert looks == whole == ours
        assert {each.node for each in listed.completeness} == {"registry", f"city-{SUZHOU}", f"city-{TIANJIN}"}
        assert [look.at for look in looks] == sorted((look.at for look in looks), reverse=True)
        window, *police = looks
        assert (window.role, window.node, window.purpose) == (
            "traffic-window",
            f"city-{SUZHOU}",
            Purpose.WINDOW_SERVICE,
        )
        assert (window.case_number, window.outcome, window.was_sealed) == ("case 1", Outcome.VALID, False)
        assert [look.verifier.rpartition("/")[2] for look in police] == ["p"] * 4
        assert all(set(look.fields) == EVERY_FIELD for look in police)
        assert began <= police[-1].at <= datetime.now(UTC)


async def test_the_command_prints_who_looked_from_where_and_what_they_were_given(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, _, (local, foreign)):
        await people.look("police", foreign)
        await people.look("rental", foreign, holder=foreign.holder.full_name)
        await people.look("window", foreign)  # asked by Suzhou, answered by the registry
        await people.eventually_listed(foreign, 3)
        number, name = who(foreign)

        async def complete() -> Done | None:
            done = await command(number, name, tmp_path / "app")
            assert done.status == 0, done.errors
            return done if done.output.startswith("complete up to 20") else None

        done = await eventually(complete)
        assert done is not None
        first, headings, *rows = done.output.splitlines()
        assert first.endswith(", China time; looks that the police sealed follow when their delay is over")
        assert headings.split("  ")[0] == "when (China)"
        window, rental, police = [row[21:] for row in rows if "  holder  " not in row][-3:]
        assert " ".join(police.split()) == "police p registry case-handling, case case 1 valid every field"
        assert " ".join(rental.split()).startswith("rental r registry car-rental, case case 1 valid full-name, ")
        assert "every" not in rental
        assert window.startswith(f"traffic-window w (city {SUZHOU})")
        assert f"registry, asked by city {SUZHOU}" in window

        cut = (await command(number, name, tmp_path / "app", "--limit", "1")).output.splitlines()
        assert len(cut) == 4
        assert cut[-1] == "older looks are left out; --limit 2 shows more"
        told = json.loads((await command(number, name, tmp_path / "app", "--json", "--limit", "1000")).output)
        assert told["complete_until"] == min(told["completeness"].values())
        assert told["more"] is False
        assert [look["verifier"] for look in told["accesses"] if look["role"] == "rental"] == [
            "spiffe://test.elicense.example/verifier/rental/r"
        ]
        nobody = json.loads((await command(*who(local), tmp_path / "app", "--json")).output)
        assert [look for look in nobody["accesses"] if look["role"] != "holder"] == []


async def test_who_may_not_read_a_list_gets_one_line_and_exit_one(tmp_path: Path) -> None:
    async with running(tmp_path) as (people, suzhou, (local, _)):
        number, name = who(local)
        local_app = tmp_path / "local-app"
        await people.cluster.enroll_at(suzhou, ("city", str(SUZHOU), "verifier", "holder", "app"), local_app)

        async def refused(number: str, name: str, folder: Path) -> str:
            done = await command(number, name, folder)
            assert (done.status, done.output) == (1, "")
            assert done.errors.startswith("error: ")
            assert done.errors.count("\n") == 1, done.errors
            assert number not in done.errors
            return done.errors

        unknown = await refused(UNKNOWN, name, tmp_path / "app")
        assert unknown == await refused(number, "某某某", tmp_path / "app")
        assert LicenseNotFound.reason in unknown
        assert CallerNotAllowed.reason in await refused(number, name, tmp_path / "police")
        assert "ask the registry" in await refused(number, name, local_app)
        async with connect_async(tmp_path / "police") as police, connect_async(local_app) as astray:
            with pytest.raises(CallerNotAllowed):
                await police.accesses(number, name)
            with pytest.raises(Refused):
                await astray.accesses(number, name)
        async with connect_async(tmp_path / "app") as client:
            with pytest.raises(Malformed) as malformed:
                await client.accesses(number, "")
            assert {each.field for each in malformed.value.violations} == {"query.holder_name"}
            await people.look("police", local)
            await people.eventually_listed(local, 1)
            begun = await client.accesses(number, name, page_size=1)
            await anext(aiter(begun))
            await people.close()
            await people.cluster.stop_registry()
            # Pages are asked for as they are reached: what was given stands, what was not can not be had.
            with pytest.raises(PeerUnreachable):
                [look async for look in begun]
        assert PeerUnreachable.reason in await refused(number, name, tmp_path / "app")
