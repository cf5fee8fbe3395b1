"""A registry and three cities on loopback, in a folder of their own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from elicense.cli.demo.processes import COMMAND_TIMEOUT_S, Child, Household, wait_listening
from elicense.cli.join import join
from elicense.client import AsyncClient, connect_async
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.spiffe import server_name
from elicense.v1 import issuance_pb2_grpc, replication_pb2_grpc, transfer_pb2_grpc

TRUST_DOMAIN: Final = "demo.elicense.example"

SLOWEST_IMPORT: Final = 30_000
"""Bytes a second, a hundred drivers, below which an import is taken to hang: a file of a million is 300 MB."""


def _command(name: str, package: str) -> tuple[str, ...]:
    """Return the installed console command, or how to run it from a source tree."""
    script = Path(sys.executable).with_name(name)
    return (str(script),) if script.exists() else (sys.executable, "-c", f"from {package} import main; main()")


REGISTRY: Final = _command("elicense-registry", "registry.cli")
CITY_NODE: Final = _command("elicense-city", "city_node.cli")
ELICENSE: Final = _command("elicense", "elicense.cli.main")


@dataclass(frozen=True, slots=True)
class City:
    """A city of the demo.

    Attributes:
        code: Division code (GB/T 2260).
        name: English name.
    """

    code: int
    name: str

    @property
    def parent(self) -> str:
        """Its resource name."""
        return f"cities/{self.code}"


TIANJIN: Final = City(120000, "Tianjin")
CHENGDU: Final = City(510100, "Chengdu")
SUZHOU: Final = City(320500, "Suzhou")
CITIES: Final = (TIANJIN, CHENGDU, SUZHOU)
"""The three cities that began on 1 June 2021."""


@dataclass(slots=True)
class Node:
    """One node of the nation.

    Attributes:
        name: For people.
        folder: Its data folder.
        port: Loopback port.
        command: Its console command.
        log: File with its output.
        workers: Processes that serve it.
        database: URL of its PostgreSQL database; None for SQLite in its folder.
        child: The process while it runs.
    """

    name: str
    folder: Path
    port: int
    command: tuple[str, ...]
    log: Path
    workers: int = 1
    database: str | None = None
    child: Child | None = None

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"127.0.0.1:{self.port}"

    @property
    def config(self) -> str:
        """Its configuration file."""
        return str(self.folder / "config.toml")

    @property
    def where(self) -> tuple[str, ...]:
        """The options of a command that sets it up which say where it lies and listens."""
        database = () if self.database is None else ("--database", self.database)
        return ("--data", str(self.folder), "--listen", self.address, *database)

    @property
    def credentials(self) -> Credentials:
        """Its own certificate and key."""
        return load_credentials(self.folder / "credentials")


@dataclass(slots=True)
class Nation:
    """Everything that the demo runs; folders, processes and connections.

    Attributes:
        folder: Folder of it all.
        household: Every process.
        registry: The registry.
        nodes: City nodes by city.
        clerks: Connections of one clerk a city to its node.
        movers: The same connections, to hand licences over.
    """

    folder: Path
    household: Household
    registry: Node
    nodes: dict[City, Node]
    clerks: dict[City, issuance_pb2_grpc.IssuanceServiceStub] = field(default_factory=dict)
    movers: dict[City, transfer_pb2_grpc.TransferServiceStub] = field(default_factory=dict)
    _replications: dict[City, replication_pb2_grpc.ReplicationServiceStub] = field(default_factory=dict)
    _channels: list[grpc.aio.Channel] = field(default_factory=list)
    _clients: list[AsyncClient] = field(default_factory=list)

    def people(self, name: str) -> Path:
        """Return the credentials folder of a clerk or verifier."""
        return self.folder / "people" / name

    def clerk_folder(self, city: City) -> Path:
        """Return the credentials folder of a city's clerk."""
        return self.people(f"clerk-{city.name.lower()}")

    async def found(self) -> None:
        """Make the national root and the registry's keys, and start the registry."""
        node = self.registry
        await self._run(node, "init", "--trust-domain", TRUST_DOMAIN, *node.where)
        await self.start(node)

    async def enroll_city(self, city: City) -> None:
        """Join a city with a one-time token, and start its node."""
        node = self.nodes[city]
        token = await self._token(self.registry, "city", str(city.code))
        await self._run(node, "join", token, *node.where)
        await self.start(node)

    async def enroll_people(self) -> None:
        """Give certificates to a clerk a city, police and an insurer nationwide, a traffic window in Suzhou."""
        await asyncio.gather(
            *(self.admit(self.nodes[city], self.clerk_folder(city), "clerk", "window-1") for city in CITIES),
            self.admit(self.registry, self.people("police"), "verifier", "police", "demo-highway-police"),
            self.admit(self.registry, self.people("insurer"), "verifier", "insurer", "demo-insurance"),
            self.admit(self.nodes[SUZHOU], self.people("window"), "verifier", "traffic-window", "suzhou-window-3"),
            self.admit(self.nodes[CHENGDU], self.people("new-window"), "verifier", "traffic-window", "chengdu-hall"),
        )
        for city in CITIES:
            channel = self.channel(load_credentials(self.clerk_folder(city)))
            self.clerks[city] = issuance_pb2_grpc.IssuanceServiceStub(channel)
            self.movers[city] = transfer_pb2_grpc.TransferServiceStub(channel)

    async def admit(self, node: Node, folder: Path, *what: str) -> None:
        """Give a certificate of a node to a clerk or verifier, into a folder."""
        token = await self._token(node, *what)
        await asyncio.to_thread(join, token, folder)

    async def city_tokens(self, codes: Iterable[int]) -> list[str]:
        """Return a token of the registry for each of these cities."""
        words = ("token", "city", *map(str, codes), "--config", self.registry.config)
        return (await self._run(self.registry, *words)).split()

    async def _token(self, node: Node, *what: str) -> str:
        return (await self._run(node, "token", *what, "--config", node.config)).strip()

    async def _run(self, node: Node, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        name = f"{node.name} {arguments[0]}"
        return await self.household.run([*node.command, *arguments], name=name, log=node.log, timeout_s=timeout_s)

    async def import_file(self, city: City, file: Path, *, rejects: Path, progress: Path) -> str:
        """Import a file of drivers through a city's clerk; returns what the command printed."""
        credentials = ("--credentials", str(self.clerk_folder(city)))
        files = ("--rejects", str(rejects), "--progress", str(progress))
        size = (await asyncio.to_thread(file.stat)).st_size
        timeout_s = COMMAND_TIMEOUT_S + size / SLOWEST_IMPORT
        return await self._run(self.nodes[city], "import", str(file), *credentials, *files, timeout_s=timeout_s)

    async def clerk_command(self, city: City, *arguments: str) -> str:
        """Run a verb as a city's clerk; returns what it printed."""
        return await self._run(self.nodes[city], *arguments, "--credentials", str(self.clerk_folder(city)))

    async def run(self, command: tuple[str, ...], *arguments: str) -> str:
        """Run a command that belongs to no node; returns what it printed."""
        name = f"{Path(command[0]).name} {arguments[0]}"
        return await self.household.run([*command, *arguments], name=name, log=self.folder / "commands.log")

    async def start(self, node: Node) -> None:
        """Start a node and wait until it accepts connections."""
        words = ("serve", "--config", node.config, "--workers", str(node.workers))
        node.child = await self.household.start([*node.command, *words], log=node.log)
        await wait_listening(node.child, node.port, node.name)

    async def stop(self, node: Node) -> int:
        """Stop a node (SIGTERM) and return its exit status."""
        if node.child is None:
            return 0
        status = await node.child.stop()
        node.child = None
        return status

    def police(self) -> AsyncClient:
        """Return a new connection of the police to the registry."""
        return self._client(connect_async(self.people("police")))

    def window(self) -> AsyncClient:
        """Return a new connection of Suzhou's traffic window to Suzhou's node."""
        return self._client(connect_async(self.people("window")))

    def new_window(self) -> AsyncClient:
        """Return a new connection of Chengdu's traffic window to Chengdu's node."""
        return self._client(connect_async(self.people("new-window")))

    def replication_of(self, city: City) -> replication_pb2_grpc.ReplicationServiceStub:
        """Return the connection to the registry under a city's own certificate."""
        if city not in self._replications:
            self._replications[city] = self.replication(self.nodes[city].credentials)
        return self._replications[city]

    def replication(self, credentials: Credentials) -> replication_pb2_grpc.ReplicationServiceStub:
        """Return a new connection to the registry for whoever shows those credentials."""
        name = server_name(self.registry.credentials.subject)
        channel = self.channel(credentials, address=self.registry.address, name=name)
        return replication_pb2_grpc.ReplicationServiceStub(channel)

    def channel(
        self, credentials: Credentials, *, address: str | None = None, name: str | None = None
    ) -> grpc.aio.Channel:
        """Return a channel that is closed with the nation."""
        channel = secure_channel(credentials, address=address, server_name=name)
        self._channels.append(channel)
        return channel

    def _client(self, client: AsyncClient) -> AsyncClient:
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close every connection and stop every process."""
        for channel in self._channels:
            await channel.close()
        for client in self._clients:
            await client.close()
        await self.household.stop_all()

    def all_nodes(self) -> Iterable[Node]:
        """Return every node, the registry first."""
        return (self.registry, *self.nodes.values())


def plan_nation(folder: Path, household: Household) -> Nation:
    """Lay out a nation in an empty folder, on ports of its own; nothing runs yet."""
    (folder / "people").mkdir(mode=0o700)
    registry = Node("Registry", folder / "registry", household.port(), REGISTRY, folder / "registry.log")
    nodes = {
        city: Node(
            city.name, folder / city.name.lower(), household.port(), CITY_NODE, folder / f"{city.name.lower()}.log"
        )
        for city in CITIES
    }
    return Nation(folder=folder, household=household, registry=registry, nodes=nodes)
