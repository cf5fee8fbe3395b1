"""The configuration of a city node: one TOML file, strict, every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field

from elicense.config import Address, ConfigInvalid, Section, load_config
from elicense.errors import Violation
from elicense.license.retention import RETENTION_DAYS
from elicense.log.model import FIRST_EPOCH
from elicense.quota.config import QuotasSection
from elicense.sql.engines import sqlite_url

DATABASE_FILE = "city.db"
ACCESS_FILE = "access.db"
RESERVE_FILE = "access.reserve"
KEYS_FOLDER = "keys"
CREDENTIALS_FOLDER = "credentials"
LOG_KEY_FILE = "log.pem"
ANSWERS_KEY_FILE = "answers.pem"
INDEX_KEY_FILE = "index.key"
SUBJECT_KEY_FILE = "subject.key"
AUTHORITY_FOLDER = "authority"
ANCHOR_FILE = "anchor"
CONFIG_FILE = "config.toml"

_EPOCH = "{epoch}"


class NodeSection(Section):
    """Who and where the node is.

    Attributes:
        trust_domain: Trust domain of the nation.
        listen: Address to listen on, host:port; port 0 takes any that is free.
        advertise: Address under which others reach the node; the one listened on when empty.
        data_dir: Folder of keys, credentials and SQLite files; relative to the configuration file.
    """

    trust_domain: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,100}$")]
    listen: Address
    advertise: Address | Literal[""] = ""
    data_dir: Path = Path()


class DatabaseSection(Section):
    """A database by URL; empty means an SQLite file in the data folder."""

    url: str = ""


class MetricsSection(Section):
    """Where metrics are served; only to clients with a certificate below the national root."""

    listen: Address


class KeysSection(Section):
    """Keys by URI; empty means the file that ``join`` or ``restore`` made in the data folder.

    Attributes:
        log: Key of the city's log; ``{epoch}`` in it stands for the number of the epoch.
        answers: Key of signed answers.
    """

    log: str = ""
    answers: str = ""


class AnchorSection(Section):
    """Where the last signed head is kept beside the database; empty means a file in the data folder.

    On another disk than the database it tells even after that one was lost or set back.
    """

    path: Path = Path()


class LimitsSection(Section):
    """Limits that a city may choose.

    Attributes:
        heartbeat_seconds: How often the registry hears from an idle node.
        bulk_backlog: Entries without a receipt beyond which an import waits.
        claim_seconds: How long a single issue waits for the registry before policy decides.
        drain_seconds: How long running calls may take when the node stops.
        retention_days: Days after its cancellation for which a licence can not be erased.
    """

    heartbeat_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    bulk_backlog: Annotated[int, Field(ge=1, le=1_000_000)] = 4_096
    claim_seconds: Annotated[float, Field(gt=0, le=30)] = 3.0
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    retention_days: Annotated[int, Field(ge=0, le=36_600)] = RETENTION_DAYS


class CitySection(Section):
    """The city and its registry.

    Attributes:
        code: Division code (GB/T 2260).
        registry_address: Address of the registry, host:port.
        registry_log_key: Verification key of the registry's log, in C2SP vkey form.
        cosigner_key: Key of the registry's cosignatures, in C2SP vkey form.
        provisional_policy: Whether to issue provisional licences while the registry is away.
    """

    code: Annotated[int, Field(ge=100_000, le=999_999)]
    registry_address: Address
    registry_log_key: Annotated[str, Field(max_length=400)]
    cosigner_key: Annotated[str, Field(max_length=400)]
    provisional_policy: Literal["issue", "refuse"] = "issue"


class CityConfig(Section):
    """The whole file."""

    node: NodeSection
    city: CitySection
    database: DatabaseSection = DatabaseSection()
    access_log: DatabaseSection = DatabaseSection()
    metrics: MetricsSection | None = None
    keys: KeysSection = KeysSection()
    anchor: AnchorSection = AnchorSection()
    limits: LimitsSection = LimitsSection()
    quotas: QuotasSection = QuotasSection()

    @property
    def data_dir(self) -> Path:
        """Folder of keys, credentials and SQLite files."""
        return self.node.data_dir

    @property
    def credentials_dir(self) -> Path:
        """Folder with the node's certificate."""
        return self.data_dir / CREDENTIALS_FOLDER

    @property
    def keys_dir(self) -> Path:
        """Folder with every other key of the node."""
        return self.data_dir / KEYS_FOLDER

    @property
    def database_url(self) -> str:
        """URL of the city's database."""
        return self.database.url or sqlite_url(self.data_dir / DATABASE_FILE)

    @property
    def anchor_path(self) -> Path:
        """File with the head that was signed last; a relative one counts from the data folder."""
        return self.data_dir / (self.anchor.path if self.anchor.path != Path() else ANCHOR_FILE)

    @property
    def access_log_url(self) -> str:
        """URL of the access log's own database."""
        return self.access_log.url or sqlite_url(self.data_dir / ACCESS_FILE)

    @property
    def reserve_path(self) -> Path:
        """File with the access log's reserve."""
        return self.data_dir / RESERVE_FILE

    @property
    def evidence_dir(self) -> Path:
        """Folder with what proves that the registry signed two histories."""
        return self.data_dir / "evidence"

    @property
    def authority_dir(self) -> Path:
        """Folder of the authority that signs for the city's own people."""
        return self.keys_dir / AUTHORITY_FOLDER

    @property
    def advertised(self) -> str:
        """Address under which others reach the node."""
        return self.node.advertise or self.node.listen

    def log_key_uri(self, epoch: int) -> str:
        """URI of the key that signs the city's log in an epoch.

        Raises:
            ConfigInvalid: One key is named for all epochs, but each has its own.
        """
        if not self.keys.log:
            name = LOG_KEY_FILE if epoch == FIRST_EPOCH else f"log-{epoch}.pem"
            return f"file:{quote(str((self.keys_dir / name).absolute()))}"
        if epoch != FIRST_EPOCH and _EPOCH not in self.keys.log:
            problem = "every epoch of the log has a key of its own: write {epoch} where its number goes"
            raise ConfigInvalid(problem, violations=[Violation("keys.log", "EPOCH_MISSING", problem)])
        return self.keys.log.replace(_EPOCH, str(epoch))

    @property
    def answers_key_uri(self) -> str:
        """URI of the key that signs answers."""
        return self.keys.answers or f"file:{quote(str((self.keys_dir / ANSWERS_KEY_FILE).absolute()))}"


def load_city_config(path: Path) -> CityConfig:
    """Read a configuration; a relative data folder counts from the file's own.

    Raises:
        ConfigInvalid: The file is missing or wrong; has one violation a problem.
    """
    config = load_config(path, CityConfig)
    data_dir = (path.absolute().parent / config.node.data_dir).resolve()
    return config.model_copy(update={"node": config.node.model_copy(update={"data_dir": data_dir})})
