"""A registry and a city served by several processes each: real commands, real ports, real kills."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import city_node.enrollment
import registry.enrollment
from city_node.config import load_city_config
from city_node.keys import load_keys as load_city_keys
from city_node.setup import Plan as CityPlan
from city_node.setup import join as join_city
from city_node.store import CityStore
from elicense.cli.join import join as join_person
from elicense.clock import utc_micros
from elicense.sql.database import Database
from elicense.trust.enrollment import Enrollment
from elicense.trust.spiffe import SpiffeId, city_id
from elicense.trust.token import JoinToken, format_token
from registry.config import RegistryConfig
from registry.config import load as load_registry_config
from registry.init import Plan as RegistryPlan
from registry.init import initialize
from registry.keys import load_keys as load_registry_keys
from registry.store import RegistryStore
from tests.support.ports import HeldPorts
from tests.support.postgres import PostgresServer

T = TypeVar("T")

SUZHOU, TRUST_DOMAIN = 320500, "t.example"
#: Longer than anything takes on a machine that is slow and busy with other tests.
DEADLINE_S = 180.0


def until(holds: Callable[[], T], what: str) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)
    return answer


@dataclass
class Served:
    """One node.

    Attributes:
        module: Module of its command.
        folder: Its data folder.
        port: Where it listens.
        metrics_port: Where the metrics of its first process are.
        process: The process that keeps its workers.
    """

    module: str
    folder: Path
    port: int
    metrics_port: int
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder.with_suffix(".log")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def config(self) -> str:
        return str(self.folder / "config.toml")

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", self.module, *words], check=False, capture_output=True, timeout=DEADLINE_S, text=True
        )
        assert done.returncode == 0, done.stderr[-2_000:] + done.stdout[-2_000:]
        return done.stdout.strip()

    def start(self, workers: int) -> None:
        words = ("serve", "--config", self.config, "--workers", str(workers))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        # One process serves by itself; several have one that keeps them.
        ready = "workers_ready" if workers > 1 else "city_ready" if "city" in self.module else "registry_ready"
        until(lambda: self.said(ready) or self.process_ended(), "every worker is ready")
        assert not self.process_ended(), self.log.read_text()[-2_000:]

    def process_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log with that event."""
        if not self.log.exists():
            return []
        # The last one may be half written, or half seen.
        *lines, _ = self.log.read_bytes().split(b"\n")
        found = [json.loads(line) for line in lines if f'"{event}"'.encode() in line]
        return [line for line in found if line.get("event") == event]

    def pids(self) -> dict[int, int]:
        """Return the process of each worker, by number; that of the newest start."""
        (first, *_) = self.said("workers_ready")
        running = {each["worker"]: each["pid"] for each in first["workers"]}
        return running | {line["worker"]: line["pid"] for line in self.said("worker_ready")}

    def kill(self, worker: int) -> None:
        """Kill a worker without warning, and wait until another has taken its place."""
        started = len(self.said("worker_ready"))
        os.kill(self.pids()[worker], signal.SIGKILL)
        until(lambda: len(self.said("worker_ready")) > started, "the worker that was killed is ready again")

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)

    def metrics(self, process: int, reader: Path) -> str:
        """Return everything that one process shows on its own metrics port."""
        context = ssl.create_default_context(cafile=str(reader / "root.pem"))
        context.check_hostname = False  # the certificate has the node's own name
        context.load_cert_chain(str(reader / "chain.pem"), str(reader / "key.pem"))
        connection = http.client.HTTPSConnection(
            "localhost", self.metrics_port + process, context=context, timeout=DEADLINE_S
        )
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, process: int, name: str, reader: Path, **labels: str) -> float:
        """Return the sum of a metric's samples that one process shows on its own port."""
        text = self.metrics(process, reader)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))


@dataclass
class Pair:
    """A registry, a city, and people.

    Attributes:
        folder: Where all is.
        registry: The registry.
        city: The city.
        clerk: Credentials of a clerk of the city.
        police: Credentials of the police at the registry.
    """

    folder: Path
    registry: Served
    city: Served

    @property
    def clerk(self) -> Path:
        return self.folder / "clerk"

    @property
    def police(self) -> Path:
        return self.folder / "police"

    def found(self, workers: int, urls: tuple[str | None, str | None]) -> None:
        """Set both up in this process, which is quicker than by commands, and start them."""
        registry_plan = RegistryPlan(
            data_dir=self.registry.folder,
            trust_domain=TRUST_DOMAIN,
            listen=self.registry.address,
            database_url=urls[0],
            metrics=f"127.0.0.1:{self.registry.metrics_port}",
        )
        path = initialize(registry_plan, clock=utc_micros, random=secrets.token_bytes)
        config = load_registry_config(path)
        self.registry.start(workers)
        plan = CityPlan(
            token=self._national(config, city_id(TRUST_DOMAIN, SUZHOU)),
            data_dir=self.city.folder,
            listen=self.city.address,
            database_url=urls[1],
            metrics=f"127.0.0.1:{self.city.metrics_port}",
        )
        join_city(plan, random=secrets.token_bytes)
        self.city.start(workers)
        join_person(self._local(("clerk", str(SUZHOU), "w1")), self.clerk)
        join_person(self._national(config, SpiffeId(TRUST_DOMAIN, ("verifier", "police", "highway"))), self.police)

    def _national(self, config: RegistryConfig, subject: SpiffeId) -> str:
        keys = load_registry_keys(config, random=secrets.token_bytes)
        return _token(
            config.database.url,
            lambda database: registry.enrollment.enrollment(
                config, keys, database, RegistryStore(), clock=utc_micros, random=secrets.token_bytes
            ),
            subject,
            self.registry.address,
        )

    def _local(self, path: tuple[str, ...]) -> str:
        config = load_city_config(Path(self.city.config))
        keys = load_city_keys(config, random=secrets.token_bytes)
        return _token(
            config.database_url,
            lambda database: city_node.enrollment.enrollment(
                config, keys, database, CityStore(), clock=utc_micros, random=secrets.token_bytes
            ),
            SpiffeId(TRUST_DOMAIN, path),
            self.city.address,
        )


def _token(url: str, use_case: Callable[[Database], Enrollment], subject: SpiffeId, address: str) -> str:
    async def make() -> JoinToken:
        database = Database(url, readers=1, writers=1)
        try:
            return await use_case(database).create_token(subject=subject, address=address, issued_by="spiffe://t/setup")
        finally:
            database.close()

    # On a thread of its own: the test's may have a loop.
    with ThreadPoolExecutor(1) as threads:
        return format_token(threads.submit(lambda: asyncio.run(make())).result())


@contextmanager
def pair(folder: Path, *, workers: int, postgres: PostgresServer | None = None) -> Iterator[Pair]:
    """Run a registry and a city with that many workers each; on SQLite unless there is a PostgreSQL server."""
    with ExitStack() as stack:
        ports = stack.enter_context(HeldPorts())
        served = Pair(
            folder,
            Served("registry.cli", folder / "registry", ports.take(), ports.take_row(workers + 1)),
            Served("city_node.cli", folder / "city", ports.take(), ports.take_row(workers + 1)),
        )
        urls: tuple[str | None, str | None] = (None, None)
        if postgres is not None:
            urls = stack.enter_context(postgres.database()), stack.enter_context(postgres.database())
        try:
            served.found(workers, urls)
            yield served
        finally:
            for node in (served.city, served.registry):
                if node.process is not None and not node.process_ended():
                    node.process.kill()  # its workers end by themselves
                    node.process.wait()
