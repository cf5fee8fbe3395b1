"""A nation that is set up once, and copied for every seed."""

from __future__ import annotations

import gc
import secrets
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from city_node.config import CityConfig
from city_node.keys import CityKeys
from city_node.keys import load_keys as load_city_keys
from city_node.store import CityStore
from elicense.clock import SECOND_US
from elicense.log.model import FIRST_EPOCH
from elicense.view.person import KEY_SIZE, PersonIndex
from registry.config import RegistryConfig
from registry.keys import RegistryKeys
from registry.keys import load_keys as load_registry_keys
from registry.store import RegistryStore
from tests.simulation.database import SimDatabase
from tests.support.cluster import SUZHOU, TIANJIN, Cluster
from tests.support.ports import HeldPorts

#: Where virtual time begins (18 May 2033): later than any real moment at which the template was made.
START_US: Final = 2_000_000_000 * SECOND_US
CITIES: Final = (SUZHOU, TIANJIN)


@dataclass(frozen=True)
class Template:
    """A nation that was set up once, to be copied for every seed.

    Attributes:
        registry: The registry's configuration.
        cities: The cities' configurations.
        registry_keys: The registry's keys.
        city_keys: The cities' keys.
        folder: Where the files of the seed that runs lie.
        registry_store: Its queries; making them takes longer than a whole seed.
        city_store: Likewise.
    """

    registry: RegistryConfig
    cities: dict[int, CityConfig]
    registry_keys: RegistryKeys
    city_keys: dict[int, CityKeys]
    folder: Path
    registry_store: RegistryStore = field(default_factory=RegistryStore)
    city_store: CityStore = field(default_factory=CityStore)
    _databases: dict[tuple[type, Path], SimDatabase] = field(default_factory=dict)

    def database(self, kind: type[SimDatabase], path: Path) -> SimDatabase:
        """Return a database that nobody uses; what it has compiled before stays compiled."""
        held = self._databases.get((kind, path))
        if held is None:
            held = self._databases[kind, path] = kind(f"sqlite:///{path}")
        held.forget_work()
        return held

    def close(self) -> None:
        """Close whatever the nodes of a seed had open."""
        for database in self._databases.values():
            database.close()


async def make_template(folder: Path, scratch: Path) -> Template:
    """Set up a registry and its cities in the ordinary way, and stop them.

    Args:
        folder: Where they are set up.
        scratch: Where seeds run.
    """
    with HeldPorts() as ports:
        cluster = Cluster(folder, ports=ports)
        await cluster.start_registry()
        for code in CITIES:
            await cluster.add_city(code)
        await cluster.close()
    configs = {code: city.config for code, city in cluster.cities.items()}
    # What has been made so far stays: there is no need to look through it after each seed.
    gc.collect()
    gc.freeze()
    # Rows are read in the order of person tags: with the same tags in every run a seed replays exactly.
    index_key = bytes(KEY_SIZE)
    persons = PersonIndex(index_key)
    registry_keys = load_registry_keys(cluster.registry_config, random=secrets.token_bytes)
    return Template(
        cluster.registry_config,
        configs,
        replace(registry_keys, persons=persons, index_key=index_key),
        {
            code: replace(load_city_keys(config, random=secrets.token_bytes), persons=persons)
            for code, config in configs.items()
        },
        scratch,
    )


def anchor_of(database: Path) -> Path:
    """Return where the anchor of the registry's database lies."""
    return database.with_suffix(".anchor")


def copy_stores(template: Template) -> tuple[Path, dict[int, CityConfig]]:
    """Copy what a template has on disk; return the registry's database and each city's configuration."""
    folder = template.folder
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    registry = folder / "registry.db"
    shutil.copyfile(file_of(template.registry.database.url), registry)
    shutil.copyfile(template.registry.anchor_path, anchor_of(registry))
    cities = {}
    for code, config in template.cities.items():
        node = config.node.model_copy(update={"data_dir": folder / str(code)})
        cities[code] = own = config.model_copy(update={"node": node})
        own.keys_dir.mkdir(parents=True)
        shutil.copyfile(file_of(config.database_url), file_of(own.database_url))
        shutil.copyfile(config.anchor_path, own.anchor_path)
        shutil.copy(file_of(config.log_key_uri(FIRST_EPOCH)), file_of(own.log_key_uri(FIRST_EPOCH)))
    return registry, cities


def file_of(url: str) -> Path:
    """Return the file that a URL names."""
    return Path(unquote(url.removeprefix("sqlite:///").removeprefix("file:")))
