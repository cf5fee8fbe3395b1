"""Strict configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from elicense.config import ConfigInvalid, Section, check_address, load_config


class Inner(Section):
    size: int


class Outer(Section):
    name: str
    inner: Inner


def test_a_configuration_file_is_read_into_frozen_values(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('name = "a"\n[inner]\nsize = 3\n')
    assert load_config(path, Outer) == Outer(name="a", inner=Inner(size=3))


def test_every_problem_of_a_configuration_file_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('nmae = "a"\n[inner]\nsize = "many"\ncolour = 1\n')
    with pytest.raises(ConfigInvalid) as caught:
        load_config(path, Outer)
    assert {violation.field for violation in caught.value.violations} == {"name", "nmae", "inner.size", "inner.colour"}


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"[inner]\n[inner]\n"])
def test_a_file_that_is_not_toml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigInvalid, match="not a TOML file"):
        load_config(path, Outer)


def test_a_missing_configuration_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"node\.toml: No such file"):
        load_config(tmp_path / "node.toml", Outer)


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:65535", "city_a-1.example:7500"])
def test_an_address_is_a_host_and_a_port(text: str) -> None:
    assert check_address(text) == text


@pytest.mark.parametrize("text", ["", "nonsense", "host:", ":80", "host:65536", "host:99999", "host:80\n", "a b:1"])
def test_an_address_without_a_host_or_with_no_possible_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        check_address(text)
