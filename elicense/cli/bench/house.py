"""What is measured: a registry filled with synthetic licences, and the bare echo beside it, on loopback over mTLS."""

from __future__ import annotations

import asyncio
import compileall
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from elicense.cli.bench.database import Database
from elicense.cli.bench.rounds import DATABASE, SERVER
from elicense.cli.bench.usage import Processes
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.nation import REGISTRY, TRUST_DOMAIN
from elicense.cli.demo.processes import Child, Household, last_line, wait_listening
from elicense.cli.join import join
from elicense.trust.credentials import Credentials, load_credentials

_BENCH: Final = (sys.executable, "-m", "registry.bench")
_PACKAGES: Final = ("elicense", "registry", "city_node", "buf")
_ECHO: Final = (sys.executable, "-m", "elicense.cli.bench.echo")

LOAD_TIMEOUT_S: Final = 3_600.0
"""Filling ten million takes minutes; longer than this it hangs."""

#: A verifier that asks as fast as it can would have had its looks of the day within seconds.
_QUOTAS: Final = '\n[quotas]\nlooks_per_day = { insurer = 1_000_000_000, "traffic-window" = 1_000_000_000 }\n'


@dataclass(slots=True)
class House:
    """A registry in a folder, and the processes around it.

    Attributes:
        folder: Folder of it all.
        household: Every process.
        database: Where licences are.
        port: Port of the registry.
        licenses: How many it holds.
        cities: Of how many.
        loaded_s: How long filling it took.
    """

    folder: Path
    household: Household
    database: Database
    port: int
    licenses: int = 0
    cities: int = 0
    loaded_s: float = 0.0
    _loader: asyncio.subprocess.Process | None = field(default=None)

    @property
    def registry(self) -> Path:
        """Data folder of the registry."""
        return self.folder / "registry"

    @property
    def config(self) -> str:
        """Configuration file of the registry."""
        return str(self.registry / "config.toml")

    @property
    def log(self) -> Path:
        """File with what every process says."""
        return self.folder / "bench.log"

    def address(self, port: int) -> str:
        """Return the address of a port here."""
        return f"127.0.0.1:{port}"

    def files(self) -> list[Path]:
        """Return the files of the registry's SQLite database."""
        return list(self.registry.glob("registry.db*"))

    async def found(self, settings: str = "") -> None:
        """Set the registry up, empty.

        Args:
            settings: What its configuration says besides, TOML.

        Raises:
            ExpectationFailed: A command failed.
        """
        await asyncio.to_thread(compile_code)
        url = ("--database", self.database.url) if self.database.url else ()
        where = ("--data", str(self.registry), "--listen", self.address(self.port), *url)
        await self.command(*REGISTRY, "init", "--trust-domain", TRUST_DOMAIN, *where)
        self._configure(_QUOTAS + settings)

    def _configure(self, settings: str) -> None:
        with Path(self.config).open("a", encoding="utf-8") as sink:
            sink.write(settings)

    async def fill(self, licenses: int, cities: int, *, view_only: bool = False) -> None:
        """Fill the registry before it is served; with ``view_only`` only with what a verification reads.

        Raises:
            ExpectationFailed: A command failed.
        """
        await self._load(licenses, cities, *(("--view-only",) if view_only else ()))
        await asyncio.to_thread(self.database.settle)

    async def _load(self, licenses: int, cities: int, *options: str) -> None:
        numbers = ("--licenses", str(licenses), "--cities", str(cities), *options)
        with self.log.open("ab") as sink:
            self._loader = await asyncio.create_subprocess_exec(
                *_BENCH, "load", "--config", self.config, *numbers,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=sink, process_group=0,
            )  # fmt: skip
        assert self._loader.stdout is not None  # noqa: S101  # a pipe was asked for
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            line = await self._loader.stdout.readline()
        if not line.startswith(b"loaded "):
            raise ExpectationFailed(f"the registry could not be filled: {last_line(self.log)}")
        self.licenses, self.cities, self.loaded_s = licenses, cities, float(line.split()[2])

    async def admit(self, role: str) -> Credentials:
        """Return the credentials of a verifier, enrolled at a registry that runs on its own port."""
        folder = self.folder / role
        if not folder.exists():
            token = await self.command(*REGISTRY, "token", "verifier", role, "bench", "--config", self.config)
            await asyncio.to_thread(join, token.strip(), folder)
        return self.admitted(role)

    def admitted(self, role: str) -> Credentials:
        """Return the credentials of a verifier that was enrolled before."""
        return load_credentials(self.folder / role)

    async def serve(self, *, recorded: bool = True) -> Child:
        """Start the registry; with ``recorded`` unset it makes no look durable, to show what that costs."""
        command = (*REGISTRY, "serve") if recorded else (*_BENCH, "serve-unlogged")
        child = await self.household.start([*command, "--config", self.config], log=self.log)
        await wait_listening(child, self.port, "the registry")
        return child

    async def echo(self) -> tuple[Child, str]:
        """Start the bare echo with the registry's credentials, and return it with its address."""
        return await run_echo(self.household, self.registry / "credentials", self.log)

    async def raw_reads(self, keys: int) -> str:
        """Return what the store takes for that many look-ups with nothing around it, as JSON."""
        numbers = ("--licenses", str(self.licenses), "--keys", str(keys))
        return await self.command(*_BENCH, "reads", "--config", self.config, *numbers)

    def payers(self, child: Child) -> Mapping[str, Processes]:
        """Return whose CPU pays for what a server does."""
        payers = {SERVER: Processes(child.pid)}
        if self.database.pid is not None:
            payers[DATABASE] = Processes(self.database.pid)
        return payers

    async def close(self) -> None:
        """Stop every process."""
        if self._loader is not None and self._loader.returncode is None:
            # It keeps nothing that would be missed, and one that still fills would not look at its input for minutes.
            self._loader.terminate()
            await self._loader.wait()
        await self.household.stop_all()

    async def command(self, *arguments: str) -> str:
        """Run a command to its end and return what it printed.

        Raises:
            ExpectationFailed: It ended with an error, or did not end.
        """
        return await self.household.run(arguments, name=arguments[-1], log=self.log)


def compile_code() -> None:
    """Compile what the processes run, as an installation does; what is compiled already stays.

    A source tree may never be: where ``PYTHONDONTWRITEBYTECODE`` is set, each start would compile all of it.
    """
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            compileall.compile_dir(folder, quiet=2)


async def run_echo(household: Household, credentials: Path, log: Path) -> tuple[Child, str]:
    """Start the bare echo with a node's credentials, and return it with its address."""
    port = household.port()
    address = f"127.0.0.1:{port}"
    child = await household.start([*_ECHO, "--credentials", str(credentials), "--listen", address], log=log)
    await wait_listening(child, port, "the echo")
    return child, address


@asynccontextmanager
async def open_house(
    folder: Path, household: Household, database: Database, *, licenses: int, cities: int, view_only: bool = False
) -> AsyncIterator[House]:
    """Set a filled registry up and stop everything at the end."""
    house = House(folder, household, database, household.port())
    try:
        await house.found()
        await house.fill(licenses, cities, view_only=view_only)
        yield house
    finally:
        await house.close()
