"""The registry's configuration file: a TOML document, strict, paths and URLs only, no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from elicense.config import Address, Section, check_values, load_config
from elicense.quota.config import QuotasSection
from elicense.workers.place import STOP_MARK

CONFIG_FILE: Final = "config.toml"

_TRUST_DOMAIN: Final = r"^[a-z0-9._-]{1,100}$"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("write an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class NodeSection(Section):
    """``[node]``: who this is and where it is reached.

    Attributes:
        trust_domain: Trust domain of every certificate and log.
        listen: Where to listen, host:port; port 0 takes a free one.
        advertise: Where others reach it, host:port; ``listen`` when left out.
        data_dir: Folder with credentials and keys.
    """

    trust_domain: str = Field(pattern=_TRUST_DOMAIN)
    listen: Address
    advertise: Address | None = None
    data_dir: AbsolutePath


class StoreSection(Section):
    """``[database]`` and ``[access_log]``: a store by URL."""

    url: str = Field(min_length=1)


class DatabaseSection(StoreSection):
    """``[database]``: the store of logs, national view and trust.

    Attributes:
        readers: Threads and connections that read.
        writers: Threads and connections that write; SQLite has one whatever stands here.
    """

    readers: int = Field(default=2, ge=1, le=64)
    writers: int = Field(default=4, ge=1, le=64)


class KeysSection(Section):
    """``[keys]``: where the keys lie; what is left out lies below ``data_dir``.

    Attributes:
        log: URI of the key that signs the registry's own log.
        cosigner: URI of the key that signs receipts.
        answers: URI of the key that signs answers.
        index: File with the key of person and name tags, 32 bytes.
        subject: File with the key of the tags in access logs, 32 bytes.
        authority: Folder of the certificate authority that signs for cities, verifiers and operators.
    """

    log: str | None = None
    cosigner: str | None = None
    answers: str | None = None
    index: AbsolutePath | None = None
    subject: AbsolutePath | None = None
    authority: AbsolutePath | None = None


class MetricsSection(Section):
    """``[metrics]``: Prometheus over mTLS, with the node's own certificate."""

    listen: Address


class AnchorSection(Section):
    """``[anchor]``: where the head of the registry's own log that was signed last is kept beside the database.

    Attributes:
        path: The file, best on another disk; ``anchor`` below ``data_dir`` when left out.
    """

    path: AbsolutePath | None = None


class LimitsSection(Section):
    """``[limits]``: how long things hold.

    Attributes:
        claim_lease_minutes: How long a granted person waits for its licence.
        conflict_days: How long two cities have to settle a conflict between them.
    """

    claim_lease_minutes: int = Field(default=15, ge=1, le=1_440)
    conflict_days: int = Field(default=15, ge=1, le=365)


class RegistryConfig(Section):
    """The whole file."""

    node: NodeSection
    database: DatabaseSection
    access_log: StoreSection
    keys: KeysSection = KeysSection()
    anchor: AnchorSection = AnchorSection()
    metrics: MetricsSection | None = None
    limits: LimitsSection = LimitsSection()
    quotas: QuotasSection = QuotasSection()

    @property
    def keys_dir(self) -> Path:
        """Folder of the keys that are not named one by one."""
        return self.node.data_dir / "keys"

    @property
    def anchor_path(self) -> Path:
        """File with the head of the registry's own log that was signed last."""
        return self.anchor.path or self.node.data_dir / "anchor"

    @property
    def stop_mark_path(self) -> Path:
        """Where the registry remembers, over every restart, that it signed two histories of its own log."""
        return self.node.data_dir / STOP_MARK

    @property
    def reserve_path(self) -> Path:
        """File with the access log's reserve."""
        return self.node.data_dir / "access.reserve"

    @property
    def credentials_dir(self) -> Path:
        """Folder of the TLS key and certificate."""
        return self.node.data_dir / "credentials"

    @property
    def log_key(self) -> str:
        """URI of the key that signs the registry's own log."""
        return self.keys.log or f"file:{self.keys_dir / 'log.pem'}"

    @property
    def cosigner_key(self) -> str:
        """URI of the key that signs receipts."""
        return self.keys.cosigner or f"file:{self.keys_dir / 'cosigner.pem'}"

    @property
    def answers_key(self) -> str:
        """URI of the key that signs answers."""
        return self.keys.answers or f"file:{self.keys_dir / 'answers.pem'}"

    @property
    def index_key(self) -> Path:
        """File with the key of person and name tags."""
        return self.keys.index or self.keys_dir / "index.key"

    @property
    def subject_key(self) -> Path:
        """File with the key of the tags in access logs."""
        return self.keys.subject or self.keys_dir / "subject.key"

    @property
    def authority_dir(self) -> Path:
        """Folder of the registry's certificate authority."""
        return self.keys.authority or self.keys_dir / "authority"

    @property
    def advertised(self) -> str:
        """Where others reach this registry."""
        return self.node.advertise or self.node.listen


def load(path: Path) -> RegistryConfig:
    """Read a configuration file.

    Raises:
        ConfigInvalid: It is missing, not TOML, or breaks the rules; every problem is named.
    """
    return load_config(path, RegistryConfig)


def check(values: Mapping[str, object]) -> RegistryConfig:
    """Return a configuration from values, for whoever is about to write it.

    Raises:
        ConfigInvalid: It breaks the rules; every problem is named.
    """
    return check_values(values, RegistryConfig, subject="this can not be set up")
