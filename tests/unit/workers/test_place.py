"""Places: who does what, under which name, on which ports and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from elicense.errors import Malformed
from elicense.workers.place import ALONE, Duty, Place, places


def of(engine: str, workers: int = 2) -> list[Place]:
    return places(workers=workers, engine=engine, run="r", folder=Path("/run/x"), listen="127.0.0.1:7500")


def test_sqlite_has_one_writer_behind_the_workers_that_listen() -> None:
    writer, *verifiers = of("sqlite")
    assert (writer.duty, writer.number, writer.listens, writer.writes) == (Duty.WRITER, 0, False, True)
    assert [(each.number, each.listens, each.writes) for each in verifiers] == [(1, True, False), (2, True, False)]
    assert {each.socket for each in (writer, *verifiers)} == {Path("/run/x/writer.sock")}


def test_workers_on_postgresql_are_equal() -> None:
    assert [(each.duty, each.number, each.listens, each.writes, each.socket) for each in of("postgresql")] == [
        (Duty.EQUAL, 1, True, True, None),
        (Duty.EQUAL, 2, True, True, None),
    ]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_no_two_processes_share_a_name_a_file_or_a_metrics_port(engine: str) -> None:
    everybody = of(engine, 3)
    for shared in (
        [each.named("city-320500") for each in everybody],
        [each.file(Path("/d/access.db")) for each in everybody],
        [each.metrics("127.0.0.1:9100") for each in everybody],
        [each.holder for each in everybody],
    ):
        assert len(set(shared)) == len(everybody)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_one_process_goes_on_with_what_a_node_of_one_process_left(engine: str) -> None:
    first = of(engine)[0]
    assert first.named("registry") == ALONE.named("registry") == "registry"
    assert first.file(Path("/d/access.db")) == ALONE.file(Path("/d/access.db")) == Path("/d/access.db")
    assert first.metrics("127.0.0.1:9100") == ALONE.metrics("127.0.0.1:9100") == "127.0.0.1:9100"


def test_a_place_survives_the_way_to_the_process_that_takes_it() -> None:
    for place in (*of("sqlite"), *of("postgresql")):
        assert Place.model_validate_json(place.model_dump_json()) == place


def test_metrics_ports_beyond_the_last_one_are_refused() -> None:
    with pytest.raises(Malformed, match="worker 2 has no metrics port"):
        of("sqlite")[2].metrics("127.0.0.1:65534")


@pytest.mark.parametrize("workers", [0, 65])
def test_too_few_and_too_many_workers_are_refused(workers: int) -> None:
    with pytest.raises(Malformed):
        of("sqlite", workers)
