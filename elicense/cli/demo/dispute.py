"""The scenes that hold up in court: two licences of one person, and a question about the day of an accident."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, Final

from elicense.cli.demo.figures import ExpectationFailed, expect
from elicense.cli.demo.nation import CHENGDU, CITIES, ELICENSE, SUZHOU, City
from elicense.cli.demo.scenes import ISSUES
from elicense.cli.demo.stage import Stage, asked_of, until
from elicense.license.model import License

LIMIT_S: Final = 30.0
_GROUNDS: Final = "the holder applied in the other city first"


def applications(stage: Stage) -> dict[City, License]:
    """Return one person's application in Chengdu and in Suzhou: the same driver, each city's own file."""
    person = stage.rolls[CHENGDU].newcomers[ISSUES]
    local = stage.rolls[SUZHOU].newcomers[-1]
    own_file = {name: getattr(local, name) for name in ("division_code", "archive_number", "issuing_authority")}
    return {CHENGDU: person, SUZHOU: replace(person, **own_file)}


async def license_twice(stage: Stage) -> None:
    """Issue to one person in two cities that can not hear of each other."""
    stage.display.scene("Cut off from each other, Chengdu and Suzhou license the same person")
    for city, application in applications(stage).items():
        answer = await stage.issue(city, application)
        expect(answer.license.provisional, f"{city.name} could not know that the person was free")
        stage.display.say(f"{city.name} issues a provisional licence: valid nowhere until the registry confirms it")


async def settle(stage: Stage) -> None:
    """See the conflict in both inboxes, let the city whose licence counts concede, and follow the person."""
    stage.display.scene("The registry found two licences of one person: a conflict, and its resolution")
    person = applications(stage)[CHENGDU]

    async def counted() -> bool:
        return (await stage.ask_registry(person)).valid and len(await _inbox(stage, SUZHOU)) == 1

    await until(counted, within_s=LIMIT_S, what="the conflict in the inbox", pause_s=0.05, patient=True)
    verdict = await stage.ask_registry(person)
    conflict = (await _inbox(stage, SUZHOU))[0]
    expect(await _inbox(stage, CHENGDU) == [conflict], "the two cities see different conflicts")
    first, second = (_city(conflict[side]["city"]) for side in ("counting", "waiting"))
    expect(verdict.freshness is not None and verdict.freshness.city == first.code, "another licence counts")
    name = conflict["name"].partition("/")[2]
    stage.display.say(f"one licence counts, that of {first.name}; {second.name}'s waits, and both clerks see why")
    shown = await stage.nation.clerk_command(second, "conflicts", "show", name)
    for line in shown.splitlines()[:9]:
        stage.display.say(f"  {line}")
    expect(shown.count("proved under the registry's receipt") == 2, "a side of the conflict is not proved")
    began = time.perf_counter()
    await stage.nation.clerk_command(first, "conflicts", "concede", name, "--grounds", _GROUNDS)

    async def moved() -> bool:
        now = await stage.ask_registry(person)
        return now.valid and now.freshness is not None and now.freshness.city == second.code

    await until(moved, within_s=LIMIT_S, what=f"{second.name}'s licence nationwide", pause_s=0.01, patient=True)
    seconds = time.perf_counter() - began
    stage.figures.add("conflict_s", "Conflict conceded → the other licence VALID nationwide", seconds, "s")
    stage.display.say(f"{first.name} concedes: its licence is void, and {second.name}'s counts after {seconds:.1f} s,")
    stage.display.say(f"once {first.name} has stored that its own is void; every step is in the registry's log")
    await stage.nation.clerk_command(first, "cancel", conflict["counting"]["license"], "--basis", "void")
    expect(not await _inbox(stage, first), "the conflict is over, but still in the inbox")


async def accident(stage: Stage) -> None:
    """Let an insurer ask about a moment before a suspension, keep the signed answer, and check it offline."""
    stage.display.scene("An insurer asks: was this licence valid at the time of the accident?")
    if stage.accident is None:
        raise ExpectationFailed("nothing was suspended before")
    license_, moment = stage.accident
    nation = stage.nation
    folder = nation.folder / "insurer"
    folder.mkdir(mode=0o700)
    holder, insurer = license_.holder, str(nation.people("insurer"))
    asked = ["verify", *asked_of(holder.document), "--name", holder.full_name, "--purpose", "insurance", "--json"]
    asked += ["--credentials", insurer]
    evidence = folder / "answer.cose"
    then = json.loads(await nation.run(ELICENSE, *asked, "--at", moment.isoformat(), "--sign", str(evidence)))
    now = json.loads(await nation.run(ELICENSE, *asked))
    expect((then["outcome"], now["outcome"]) == ("VALID", "INVALID"), f"then {then['outcome']}, now {now['outcome']}")
    expect(set(then["license"]) == {"vehicle_classes", "validity"}, f"an insurer was shown {sorted(then['license'])}")
    stage.display.say(f"then: {then['outcome']}; now: {now['outcome']}: it was suspended afterwards")
    stage.display.say("the insurer sees classes and validity, and nothing else of the person")
    keys = folder / "published-keys.txt"
    keys.write_text(await nation.run(nation.registry.command, "keys", "--config", nation.registry.config))
    checked = await nation.run(ELICENSE, "log", "verify", str(evidence), "--key", str(keys))
    stage.display.say(f"the signed answer, checked offline years later: {checked.splitlines()[0]}")
    stage.figures.add("accident_then", "An insurer about the day of an accident", then["outcome"])


async def _inbox(stage: Stage, city: City) -> list[dict[str, Any]]:
    listed = json.loads(await stage.nation.clerk_command(city, "conflicts", "list", "--json"))
    return list(listed.get("conflicts", []))


def _city(code: int) -> City:
    return next(city for city in CITIES if city.code == code)
