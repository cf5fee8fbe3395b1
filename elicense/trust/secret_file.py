"""Files that hold secrets: whole or absent, durable, and for their owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from elicense.errors import AlreadyExists, Malformed, NotFound

SECRET_MODE: Final = 0o600


def write_secret(path: Path, secret: bytes) -> None:
    """Write a secret to a new file; a kill at any moment leaves the whole file or none.

    Raises:
        AlreadyExists: There is such a file; a secret is never written over.
    """
    if path.exists():
        raise AlreadyExists(f"{path.name} exists already; move it away first")
    replace_file(path, secret, SECRET_MODE)


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file as a whole and durably, over an older one if there is one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    # Created with its mode, so that a key is never open to others, not even briefly.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(path: Path, size: int) -> bytes:
    """Read a secret of ``size`` bytes.

    Raises:
        NotFound: The file is missing.
        Malformed: Others may read it, or it has another length.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            secret = file.read(size + 1)
    except FileNotFoundError as error:
        raise NotFound(f"{path.name} is missing; has this node been set up?") from error
    except OSError as error:
        raise Malformed(f"{path.name} can not be read: {error.strerror}") from error
    if mode & ~SECRET_MODE:
        raise Malformed(f"{path.name} is open to others (mode {mode:04o}); set mode {SECRET_MODE:04o}")
    if len(secret) != size:
        raise Malformed(f"{path.name} must hold {size} bytes")
    return secret
