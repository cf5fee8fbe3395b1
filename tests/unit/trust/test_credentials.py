from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from elicense.errors import Malformed, NotFound
from elicense.trust.credentials import (
    load_authority,
    load_credentials,
    make_credentials,
    save_authority,
    save_credentials,
)
from elicense.trust.spiffe import registry_id
from elicense.trust.x509 import chain_from_pem, generate_key
from tests.support.authority import TRUST_DOMAIN, Issued, TestAuthority

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def pki() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def clerk(pki: TestAuthority) -> Issued:
    return pki.issue("/clerk/320500/li", address="node.test:7443", node=registry_id(TRUST_DOMAIN))


def test_credentials_survive_their_folder(clerk: Issued, tmp_path: Path) -> None:
    save_credentials(tmp_path / "clerk", clerk.credentials)
    assert load_credentials(tmp_path / "clerk") == clerk.credentials
    assert load_credentials(tmp_path / "clerk").server_name == "registry.elicense.test"


def test_the_key_is_the_owners_alone(clerk: Issued, tmp_path: Path) -> None:
    folder = clerk.save(tmp_path / "clerk")
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_key_that_others_may_read_is_refused(clerk: Issued, tmp_path: Path, mode: int) -> None:
    folder = clerk.save(tmp_path)
    (folder / "key.pem").chmod(mode)
    with pytest.raises(Malformed, match="0600"):
        load_credentials(folder)


@pytest.mark.parametrize("name", ["key.pem", "chain.pem", "root.pem", "identity.toml"])
def test_a_missing_file_is_named(clerk: Issued, tmp_path: Path, name: str) -> None:
    folder = clerk.save(tmp_path)
    (folder / name).unlink()
    with pytest.raises(NotFound, match=name):
        load_credentials(folder)


@pytest.mark.parametrize("name", ["key.pem", "chain.pem", "root.pem", "identity.toml"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"rubbish", b"x" * 70_000])
def test_a_damaged_file_is_refused(clerk: Issued, tmp_path: Path, name: str, content: bytes) -> None:
    folder = clerk.save(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(Malformed):
        load_credentials(folder)


def test_a_certificate_for_another_key_is_refused(pki: TestAuthority, clerk: Issued, tmp_path: Path) -> None:
    folder = clerk.save(tmp_path)
    (folder / "chain.pem").write_bytes(pki.issue("/clerk/320500/li").credentials.chain_pem)
    with pytest.raises(Malformed, match="belong together"):
        load_credentials(folder)
    with pytest.raises(Malformed):
        make_credentials(
            key=generate_key(), chain=chain_from_pem(clerk.credentials.chain_pem), root=pki.root.certificate
        )


def test_a_folder_that_names_somebody_else_is_refused(clerk: Issued, tmp_path: Path) -> None:
    save_credentials(tmp_path, replace(clerk.credentials, subject=registry_id(TRUST_DOMAIN)))
    with pytest.raises(Malformed, match="somebody else"):
        load_credentials(tmp_path)


def test_an_address_can_not_smuggle_in_other_values(clerk: Issued, tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        save_credentials(tmp_path, replace(clerk.credentials, address='x"\nsubject = "y'))


def test_saving_leaves_no_other_file_behind(clerk: Issued, tmp_path: Path) -> None:
    folder = clerk.save(tmp_path)
    clerk.save(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["chain.pem", "identity.toml", "key.pem", "root.pem"]


def test_an_authority_survives_its_folder(pki: TestAuthority, tmp_path: Path) -> None:
    save_authority(tmp_path, pki.city(320500))
    loaded = load_authority(tmp_path, random=secrets.token_bytes)
    assert loaded.certificate == pki.city(320500).certificate
    assert loaded.issuers == pki.city(320500).issuers
    save_authority(tmp_path / "root", pki.root)
    assert load_authority(tmp_path / "root", random=secrets.token_bytes).is_root


def test_an_authority_with_the_wrong_key_is_refused(pki: TestAuthority, tmp_path: Path) -> None:
    save_authority(tmp_path / "a", pki.root)
    save_authority(tmp_path / "b", pki.registry)
    (tmp_path / "a" / "authority-key.pem").write_bytes((tmp_path / "b" / "authority-key.pem").read_bytes())
    with pytest.raises(Malformed):
        load_authority(tmp_path / "a", random=secrets.token_bytes)


def test_keys_are_not_printed(clerk: Issued) -> None:
    assert "PRIVATE" not in repr(clerk.credentials)
