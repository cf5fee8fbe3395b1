"""The files that people start from: they load, they show every key, and they agree with each other.

There is no YAML parser among the dependencies, so the two YAML files are read
line by line as far as their agreement goes.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from city_node.config import CityConfig, load_city_config
from elicense.config import ConfigInvalid
from registry.config import RegistryConfig
from registry.config import load as load_registry_config

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
COMPOSE = DEPLOY / "container" / "compose.yaml"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
ENTRYPOINT = DEPLOY / "container" / "entrypoint.sh"


def keys_of(model: type[BaseModel]) -> dict[str, set[str]]:
    """Every section of a configuration with its keys."""
    sections = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        section = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
        sections[name] = set(section.model_fields)
    return sections


@pytest.mark.parametrize(
    ("file", "model"), [("registry.toml", RegistryConfig), ("city.toml", CityConfig)], ids=["registry", "city"]
)
def test_an_example_shows_every_key_with_a_comment(file: str, model: type[BaseModel]) -> None:
    path = DEPLOY / "config" / file
    shown = {section: set(values) for section, values in tomllib.loads(path.read_text(encoding="utf-8")).items()}
    assert shown == keys_of(model)
    assert path.read_text(encoding="utf-8").count("\n#") > sum(map(len, shown.values()))


def test_the_examples_load() -> None:
    assert load_registry_config(DEPLOY / "config" / "registry.toml").node.trust_domain == "elicense.example"
    assert load_city_config(DEPLOY / "config" / "city.toml").city.code == 320500


@pytest.mark.parametrize("file", ["registry.toml", "city.toml"])
def test_every_wrong_key_of_a_configuration_is_named_at_once(file: str, tmp_path: Path) -> None:
    text = (DEPLOY / "config" / file).read_text(encoding="utf-8")
    text = text.replace("trust_domain =", "trust_domian =").replace("[limits]", "[limits]\nsparkle = 1")
    wrong = tmp_path / file
    wrong.write_text(text, encoding="utf-8")
    load = load_registry_config if file == "registry.toml" else load_city_config
    with pytest.raises(ConfigInvalid) as caught:
        load(wrong)
    fields = {violation.field for violation in caught.value.violations}
    assert {"node.trust_domian", "node.trust_domain", "limits.sparkle"} <= fields


def test_no_example_holds_a_password_or_a_key() -> None:
    for path in (*DEPLOY.rglob("*.toml"), COMPOSE, PROMETHEUS, ALERTS):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://[^/\s]*:[^/\s]*@", text), path
        assert "PRIVATE KEY" not in text, path


def test_the_yaml_files_are_indented_with_spaces() -> None:
    for path in (COMPOSE, PROMETHEUS, ALERTS):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            indent = len(line) - len(line.lstrip())
            assert "\t" not in line, (path, number)
            assert indent % 2 == 0, (path, number)


def test_prometheus_scrapes_every_node_of_the_compose_file_under_its_own_name() -> None:
    compose, prometheus = COMPOSE.read_text(encoding="utf-8"), PROMETHEUS.read_text(encoding="utf-8")
    cities = dict(re.findall(r'^  (\w+):\n    <<: \*city\n    command: \[city, "(\d{6})"\]', compose, re.MULTILINE))
    assert sorted(cities.values()) == ["120000", "320500", "510100"]
    assert re.search(r'CITIES: "([0-9 ]+)"', compose)[1].split() == list(cities.values())  # type: ignore[index]
    (rules,) = re.findall(r"^rule_files: \[(.+)\]$", prometheus, re.MULTILINE)
    assert f"- ../prometheus/{rules}:/etc/prometheus/{rules}:ro\n" in compose
    assert ALERTS.name == rules
    jobs = dict(re.findall(r"server_name: (\S+)\n    static_configs:\n      - targets: \[\"(\S+)\"\]", prometheus))
    assert jobs == {
        "registry.elicense.example": "registry:7501",
        **{f"city-{code}.elicense.example": f"{name}:7601" for name, code in cities.items()},
    }
    for name in cities:
        assert f"CREATE DATABASE {name};" in (DEPLOY / "container" / "databases.sql").read_text(encoding="utf-8")
        assert f"DATABASE_URL: postgresql+psycopg://elicense@postgres/{name}\n" in compose


@pytest.fixture
def container(tmp_path: Path) -> dict[str, str]:
    """The environment of the entry point, with commands that only say how they were called."""
    for command in ("elicense", "elicense-registry", "elicense-city"):
        path = tmp_path / "bin" / command
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            '#!/bin/sh\nif [ "$1" = token ]; then echo "TOKEN-$3"; else echo "$(basename "$0") $*"; fi\n'
            '[ "$1" != init ] || touch "$DATA_DIR/config.toml"\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    for folder in ("data", "join"):
        (tmp_path / folder).mkdir()
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "DATA_DIR": str(tmp_path / "data"),
        "JOIN_DIR": str(tmp_path / "join"),
        "LISTEN": "0.0.0.0:7500",
        "ADVERTISE": "node:7500",
        "METRICS": "0.0.0.0:7501",
        "DATABASE_URL": "postgresql+psycopg://elicense@postgres/node",
        "TRUST_DOMAIN": "elicense.example",
        "CITIES": "120000 320500",
        "AUDITORS": "prometheus",
    }


def enter(container: dict[str, str], *arguments: str) -> list[str]:
    done = subprocess.run(
        ["sh", str(ENTRYPOINT), *arguments], env=container, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.splitlines()


def test_a_registry_sets_itself_up_once_and_leaves_a_token_for_each_city(container: dict[str, str]) -> None:
    data, join = container["DATA_DIR"], Path(container["JOIN_DIR"])
    serve = f"elicense-registry serve --config {data}/config.toml"

    first = enter(container, "registry")
    assert first[0].startswith(f"elicense-registry init --data {data} --trust-domain elicense.example --listen")
    assert first[1:] == [serve]
    assert {path.name for path in join.iterdir()} == {"120000.token", "320500.token", "prometheus.token"}
    assert (join / "320500.token").read_text() == "TOKEN-320500\n"
    assert stat.S_IMODE((join / "320500.token").stat().st_mode) == 0o600

    assert enter(container, "registry") == [serve]


def test_a_city_joins_once_with_its_own_token(container: dict[str, str]) -> None:
    data = Path(container["DATA_DIR"])
    (Path(container["JOIN_DIR"]) / "320500.token").write_text("TOKEN-320500\n")
    serve = f"elicense-city serve --config {data}/config.toml"

    first = enter(container, "city", "320500")
    assert first[0].startswith(f"elicense-city join TOKEN-320500 --data {data} --listen 0.0.0.0:7500")
    assert first[1:] == [serve]

    (data / "config.toml").touch()
    assert enter(container, "city", "320500") == [serve]


def test_prometheus_joins_once(container: dict[str, str]) -> None:
    data = Path(container["DATA_DIR"])
    (Path(container["JOIN_DIR"]) / "prometheus.token").write_text("TOKEN-prometheus\n")
    assert enter(container, "auditor", "prometheus") == [f"elicense join TOKEN-prometheus --into {data}"]
    (data / "key.pem").touch()
    assert enter(container, "auditor", "prometheus") == []


def test_any_other_command_runs_as_it_is(container: dict[str, str]) -> None:
    assert enter(container, "elicense", "--version") == ["elicense --version"]
