"""Keys that sign for a node, named by URI.

A signer holds its private key and never gives it out.  ``file:`` URIs name a
key file; a hardware module would be another class behind the same protocol.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from elicense.errors import AlreadyExists, Malformed, NotFound

KEY_FILE_MODE: Final = 0o600
"""Mode of a key file: its owner alone may read it."""

MAX_KEY_FILE_SIZE: Final = 16_384
"""Most bytes of a key file; an Ed25519 key takes about 120."""

ED25519_NAME: Final = "ed25519"


class Signer(Protocol):
    """Something that signs with one private key."""

    @property
    def algorithm(self) -> str:
        """Name of the algorithm; ``ed25519`` is the only one so far."""

    def public_key(self) -> bytes:
        """The raw public key; 32 bytes for Ed25519."""

    def sign(self, message: bytes) -> bytes:
        """The raw signature over a message; 64 bytes for Ed25519, the same every time."""


class FileSigner:
    """An Ed25519 key that was read from a file.

    Args:
        private_key: The key.
    """

    __slots__ = ("_private_key", "_public_key")

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._public_key = private_key.public_key().public_bytes_raw()

    @classmethod
    def load(cls, path: Path) -> FileSigner:
        """Read a key file: PEM, PKCS #8, not encrypted.

        Raises:
            NotFound: There is no such file.
            Malformed: Others may read the file, or it is not an Ed25519 key.
        """
        pem = _read_private_file(path)
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The cause is dropped: its message may quote the file.
            raise Malformed("the key file is not an unencrypted PEM private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Malformed("the key file does not hold an Ed25519 key")
        return cls(key)

    @property
    def algorithm(self) -> str:
        """Always ``ed25519``."""
        return ED25519_NAME

    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature over a message, 64 bytes (RFC 8032; the same every time)."""
        return self._private_key.sign(message)

    def __repr__(self) -> str:
        return f"FileSigner({self._public_key.hex()})"


def load_signer(uri: str) -> Signer:
    """The signer that a URI names.

    Args:
        uri: ``file:/absolute/path``, ``file:///absolute/path`` or ``file:relative/path``, percent-encoded where needed.

    Raises:
        NotFound: There is no such key file.
        Malformed: The URI is of another kind, or the file can not be used.
    """
    supported = "a signing key must be named by a file: URI"
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise Malformed(supported) from None
    if parts.scheme == "pkcs11":
        raise Malformed(f"pkcs11: keys are not supported; {supported}")
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise Malformed(supported)
    path = unquote(parts.path, errors="surrogateescape")
    if not path or "\0" in path:
        raise Malformed(supported)
    return FileSigner.load(Path(path))


def generate_key_file(path: Path) -> FileSigner:
    """Make an Ed25519 key and keep it in a new file, durable on return.

    Args:
        path: The file to make; its folder exists.

    Raises:
        AlreadyExists: The file exists; a key is never overwritten.
        NotFound: The folder does not exist.
        Malformed: No file can be made there.
        OSError: The key could not be written; no file is left behind.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # The mode is given at creation, so the key is never open to others, not even for a moment.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE)
    except FileExistsError:
        raise AlreadyExists("the key file exists; move it away before making a new key") from None
    except FileNotFoundError:
        raise NotFound("the folder of the key file does not exist") from None
    except (OSError, ValueError) as cause:
        raise Malformed("the key file can not be made there") from cause
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # Half a key would only stand in the way of the next attempt.
        path.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return FileSigner(key)


def _read_private_file(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound("the key file does not exist") from None
    except (OSError, ValueError) as cause:
        raise Malformed("the key file can not be opened") from cause
    try:
        # Asked of the open file, so that the answer is about the bytes that are read.
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Malformed("the key file must be a regular file")
        if stat.S_IMODE(status.st_mode) & ~KEY_FILE_MODE:
            raise Malformed("the key file must have mode 0600")
        data = os.read(handle, MAX_KEY_FILE_SIZE + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_KEY_FILE_SIZE:
        raise Malformed("the key file is too large")
    return data


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the file system lets folders be synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
