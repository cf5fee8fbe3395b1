from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import AlreadyExists, Error, Malformed, NotFound
from elicense.trust.signer import FileSigner, Signer, generate_key_file, load_signer


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "log key.pem"
    generate_key_file(path)
    return path


def write_private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_a_new_key_signs_and_its_public_key_verifies(key_file: Path) -> None:
    signer: Signer = FileSigner.load(key_file)
    signature = signer.sign(b"message")
    assert signer.algorithm == "ed25519"
    assert len(signature) == 64
    assert signer.sign(b"message") == signature
    Ed25519PublicKey.from_public_bytes(signer.public_key()).verify(signature, b"message")


def test_a_key_file_gives_the_same_key_every_time(tmp_path: Path) -> None:
    made = generate_key_file(tmp_path / "key.pem")
    assert FileSigner.load(tmp_path / "key.pem").public_key() == made.public_key()


def test_a_new_key_file_is_its_owners_alone(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o7777 == 0o600


def test_the_mode_of_a_new_key_file_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        generate_key_file(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert (tmp_path / "key.pem").stat().st_mode & 0o7777 == 0o600


def test_a_key_is_never_overwritten(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(AlreadyExists):
        generate_key_file(key_file)
    assert key_file.read_bytes() == before


def test_a_key_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        generate_key_file(tmp_path / "missing" / "key.pem")
    (tmp_path / "file").touch()
    with pytest.raises(Malformed):
        generate_key_file(tmp_path / "file" / "key.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700, 0o601])
def test_a_key_file_that_others_may_touch_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(Malformed, match="0600"):
        FileSigner.load(key_file)


def test_a_read_only_key_file_is_accepted(key_file: Path) -> None:
    key_file.chmod(0o400)
    FileSigner.load(key_file)


def test_a_missing_key_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        FileSigner.load(tmp_path / "key.pem")


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    ed25519 = Ed25519PrivateKey.generate()
    p256 = ec.generate_private_key(ec.SECP256R1())
    contents = [
        b"",
        b"not a key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        bytes(20_000),
        p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ed25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        ed25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ]
    for number, content in enumerate(contents):
        with pytest.raises(Malformed):
            FileSigner.load(write_private(tmp_path / f"{number}.pem", content))


def test_a_folder_or_pipe_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        FileSigner.load(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Malformed):
        FileSigner.load(tmp_path / "pipe")


def test_a_refused_key_file_is_closed_again(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(8):
        with pytest.raises(Malformed):
            FileSigner.load(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_key_that_could_not_be_written_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        generate_key_file(tmp_path / "key.pem")
    assert list(tmp_path.iterdir()) == []


def test_a_signer_does_not_show_its_private_key(key_file: Path) -> None:
    signer = FileSigner.load(key_file)
    assert repr(signer) == f"FileSigner({signer.public_key().hex()})"


def test_a_file_uri_names_a_key_file(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = FileSigner.load(key_file).public_key()
    encoded = str(key_file).replace(" ", "%20")
    monkeypatch.chdir(key_file.parent)
    for uri in (f"file:{encoded}", f"file://{encoded}", f"file://localhost{encoded}", "file:log%20key.pem"):
        assert load_signer(uri).public_key() == expected


@pytest.mark.parametrize(
    "uri",
    ["", "key.pem", "file:", "file://", "file://host/key", "file:/a?b=c", "file:/a#b", "file:/a%00b", "http://[/"],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(Malformed, match="file:"):
        load_signer(uri)


def test_a_hardware_key_is_refused_with_what_is_supported() -> None:
    with pytest.raises(Malformed, match=r"pkcs11.*file: URI"):
        load_signer("pkcs11:token=city;object=log")


@given(st.one_of(st.text(st.characters()), st.text(st.characters()).map("file:".__add__)))
def test_reading_a_uri_raises_typed_errors_only(uri: str) -> None:
    with pytest.raises(Error):
        load_signer(uri)
