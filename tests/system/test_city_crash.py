"""A city's node and its import, as real processes, killed without warning again and again.

The number of kills comes from FAULT_KILLS; the short form is for every change,
a long one for the night.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from city_node.config import load_city_config
from city_node.store import CityStore
from elicense.cli.demo.drivers import generate
from elicense.cli.join import join as join_person
from elicense.clock import china_date, utc_micros
from elicense.license.csv_format import COLUMNS
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.v1.license_pb2 import LicenseRecord
from registry.config import load as load_registry_config
from registry.store import RegistryStore
from tests.support.ports import HeldPorts

SUZHOU = 320500
KILLS = int(os.environ.get("FAULT_KILLS", "3"))
ROWS = 120 * (KILLS + 2)
#: Longer than anything takes on a machine that is slow and busy with other tests.
DEADLINE_S = 180.0 + 10 * KILLS


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def command(module: str) -> list[str]:
    """Return a console command as it runs without being installed."""
    return [sys.executable, "-c", f"from {module} import main; main()"]


@dataclass
class Machine:
    """Processes of one test; none outlives it."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, module: str, *arguments: str) -> str:
        done = subprocess.run(
            [*command(module), *arguments], check=False, capture_output=True, timeout=DEADLINE_S, text=True
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        return done.stdout.strip()

    def start(self, name: str, module: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*command(module), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()

    def ended(self, name: str) -> bool:
        return self.running[name].poll() is not None


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    one = Machine(folder)
    try:
        yield one
    finally:
        for name in list(one.running):
            one.kill(name)


def listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def write_drivers(file: Path) -> tuple[set[str], set[int]]:
    """Write a file; return the document numbers to be imported and the rows to be refused."""
    good, bad = set(), set()
    with file.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        people = generate(SUZHOU, ROWS, seed=5, on=china_date(utc_micros()), bad_share=0.05)
        for number, (row, accepted) in enumerate(people, start=1):
            writer.writerow(row)
            if accepted:
                good.add(row["document_number"])
            else:
                bad.add(number)
    return good, bad


def next_row(progress: Path) -> int:
    with suppress(FileNotFoundError):
        return int(json.loads(progress.read_text())["next_row"])
    return 0


@pytest.mark.parametrize("victims", [("city",), ("import", "city")], ids="-and-".join)
def test_kills_during_an_import_lose_nothing_and_repeat_nothing(tmp_path: Path, victims: tuple[str, ...]) -> None:
    registry, city = tmp_path / "registry", tmp_path / "suzhou"
    file, rejects, progress = tmp_path / "d.csv", tmp_path / "rejects.csv", tmp_path / "progress"
    good, bad = write_drivers(file)
    with HeldPorts() as ports, machine(tmp_path) as here:
        registry_port, city_port = ports.take(), ports.take()
        listen = f"127.0.0.1:{registry_port}"
        here.run("registry.cli", "init", "--data", str(registry), "--trust-domain", "t.example", "--listen", listen)
        registry_config = str(registry / "config.toml")
        here.start("registry", "registry.cli", "serve", "--config", registry_config)
        until(lambda: listening(registry_port), "the registry listens")
        token = here.run("registry.cli", "token", "city", str(SUZHOU), "--config", registry_config)
        here.run("city_node.cli", "join", token, "--data", str(city), "--listen", f"127.0.0.1:{city_port}")
        city_config = str(city / "config.toml")
        serve = ("city", "city_node.cli", "serve", "--config", city_config)
        here.start(*serve)
        until(lambda: listening(city_port), "the city listens")
        clerk = tmp_path / "clerk"
        join_person(here.run("city_node.cli", "token", "clerk", "w1", "--config", city_config), clerk)
        importing = (
            "import", "city_node.cli", "import", str(file), "--credentials", str(clerk), "--rejects", str(rejects),
            "--progress", str(progress), "--batch", "20", "--json",
        )  # fmt: skip
        here.start(*importing)
        for kill in range(KILLS):
            reached = next_row(progress)
            until(lambda: next_row(progress) > reached or here.ended("import"), "the import goes on")  # noqa: B023
            victim = victims[kill % len(victims)]
            if victim == "import" and here.ended("import"):
                break
            here.kill(victim)
            here.start(*(serve if victim == "city" else importing))
        until(lambda: here.ended("import"), "the import ends")
        assert here.running["import"].returncode == 0
        check_outcome(here, tmp_path, good, bad, rejects)


def check_outcome(here: Machine, folder: Path, good: set[str], bad: set[int], rejects: Path) -> None:
    with rejects.open(encoding="utf-8", newline="") as lines:
        refused = [int(row["row"]) for row in csv.DictReader(lines)]
    assert refused == sorted(bad)
    registry = load_registry_config(folder / "registry" / "config.toml")
    city = load_city_config(folder / "suzhou" / "config.toml")
    theirs, ours = Database(registry.database.url), Database(city.database_url)
    key = LogKey(SUZHOU, 1)
    try:
        until(lambda: size_and_root(theirs, RegistryStore(), key)[0] == len(good), "the registry holds every record")
        assert size_and_root(theirs, RegistryStore(), key) == size_and_root(ours, CityStore(), key)
        entries = ours.read_now(lambda conn: CityStore().logs.entries(conn, key, 0, 2 * ROWS))
        numbers = [LicenseRecord.FromString(entry.record or b"").license.holder.document.number for entry in entries]
    finally:
        theirs.close()
        ours.close()
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == good
    here.run("city_node.cli", "fsck", "--config", str(folder / "suzhou" / "config.toml"))
    here.run("registry.cli", "fsck", "--config", str(folder / "registry" / "config.toml"))


def size_and_root(database: Database, store: CityStore | RegistryStore, key: LogKey) -> tuple[int, bytes]:
    head = database.read_now(lambda conn: store.logs.head(conn, key))
    assert head is not None
    return head.size, head.root
