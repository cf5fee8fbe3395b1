"""Scenario files: what a load test does, for how long, and what it must come to.  Strict TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from elicense.config import Section, load_config

Kind = Literal["issue", "verify", "batch", "mixed", "replicate", "day-one", "cities"]

NATION_ON_DAY_ONE = 2_720_000
"""Licences that 28 cities issued on 1 September 2021."""


class WorldSection(Section):
    """``[world]``: the nodes that a test brings up for itself; without effect on nodes that run already.

    Attributes:
        cities: City nodes, or simulated cities for ``replicate`` and ``cities``.
        licenses: Licences that each city node has issued before the test begins.
        registry_workers: Processes of the registry.
        city_workers: Processes of each city node.
    """

    cities: Annotated[int, Field(ge=1, le=340)] = 1
    licenses: Annotated[int, Field(ge=60, le=100_000)] = 1_000
    registry_workers: Annotated[int, Field(ge=1, le=16)] = 1
    city_workers: Annotated[int, Field(ge=1, le=16)] = 1


class LoopSection(Section):
    """``[loop]``: when calls are made, and when it is enough.

    Attributes:
        kind: ``open``: at set times, whatever the answers do; ``closed``: each caller asks again once answered.
        rate: Calls a second of an open loop; ``day-one`` has its own.
        in_flight: Callers of a closed loop; most calls at once of an open one.
        connections: Connections that share them.
        seconds: How long calls are made.
        max_calls: Most calls; a test that has made them before its time is over was cut short, and fails.
        timeout_seconds: How long one call may take.
    """

    kind: Literal["open", "closed"] = "open"
    rate: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    in_flight: Annotated[int, Field(ge=1, le=10_000)] = 64
    connections: Annotated[int, Field(ge=1, le=256)] = 4
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    max_calls: Annotated[int, Field(ge=1)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0


class MixSection(Section):
    """``[mix]``: shares of the calls of ``mixed``.

    Attributes:
        verify: Of verifications.
        batch: Of batch verifications.
        issue: Of issues.
    """

    verify: Annotated[float, Field(ge=0)] = 94.0
    batch: Annotated[float, Field(ge=0)] = 1.0
    issue: Annotated[float, Field(ge=0)] = 5.0

    @model_validator(mode="after")
    def _some(self) -> MixSection:
        if self.verify + self.batch + self.issue <= 0:
            raise ValueError("give at least one share above 0")
        return self


class DayOneSection(Section):
    """``[day_one]``: a first day.

    Attributes:
        licenses: Licences asked for in the whole day, in all cities.
        share: Share of them that the cities of this test issue.
        from_hour: Hour of the day in China at which the test begins.
        speed: How much faster than the sun the day passes; the rate grows along.
    """

    licenses: Annotated[int, Field(ge=1, le=100_000_000)] = NATION_ON_DAY_ONE
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    from_hour: Annotated[float, Field(ge=0, lt=24)] = 9.0
    speed: Annotated[float, Field(gt=0, le=10_000)] = 1.0


class Thresholds(Section):
    """``[thresholds]``: what must hold; what is left out is not looked at.

    Attributes:
        p50_ms: Half of the calls take no longer.
        p99_ms: All but one in a hundred take no longer.
        error_rate: Share of calls that may fail, 0 to 1.
        min_rate: Units (licences, verdicts, entries) a second at least.
    """

    p50_ms: Annotated[float, Field(gt=0)] | None = None
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    error_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    min_rate: Annotated[float, Field(gt=0)] | None = None


class Scenario(Section):
    """The whole file.

    Attributes:
        name: Short name, for reports.
        about: What it stands for, in a sentence.
        kind: What calls are made.
        batch: Licences in a batch verification, entries in a batch of replication.
        seed: The same seed asks for the same people.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    about: Annotated[str, Field(max_length=300)] = ""
    kind: Kind
    batch: Annotated[int, Field(ge=1, le=1_000)] = 100
    seed: int = 1
    world: WorldSection = WorldSection()
    loop: LoopSection = LoopSection()
    mix: MixSection = MixSection()
    day_one: DayOneSection = DayOneSection()
    thresholds: Thresholds = Thresholds()

    @property
    def simulated(self) -> bool:
        """Whether its cities are keys and logs of the test itself instead of nodes."""
        return self.kind in ("replicate", "cities")

    @property
    def issues(self) -> bool:
        """Whether it issues licences."""
        return self.kind in ("issue", "day-one", "mixed")

    @property
    def verifies(self) -> bool:
        """Whether it verifies licences."""
        return self.kind in ("verify", "batch", "mixed")

    @model_validator(mode="after")
    def _few_nodes(self) -> Scenario:
        if not self.simulated and self.world.cities > 3:
            raise ValueError("world.cities: at most 3 city nodes; more cities are simulated by replicate and cities")
        if self.kind == "day-one" and self.loop.kind != "open":
            raise ValueError("loop.kind: the curve of a day needs an open loop")
        return self


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigInvalid: It is missing, not TOML, or breaks the rules; every problem is named.
    """
    return load_config(path, Scenario)
