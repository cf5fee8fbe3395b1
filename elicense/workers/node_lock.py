"""Who may work on a node's folder: any number of serving processes, or one command that changes what they rest on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from elicense.errors import Refused

LOCK_FILE: Final = "node.lock"


class NodeBusy(Refused):
    """The node runs, or a command works on it."""

    reason = "NODE_BUSY"


class NodeLockUnusable(Refused):
    """The lock file can not be opened, made or locked."""

    reason = "NODE_LOCK_UNUSABLE"


def hold_serving(folder: Path) -> int:
    """Take the lock of a serving process; close the descriptor to let go, as the end of the process does.

    Raises:
        NodeBusy: A command works on the node.
        NodeLockUnusable: Its file can not be used by this user, or there is no room for it.
    """
    return _lock(folder, fcntl.LOCK_SH, "a command works on this node; start it once that has ended")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep the node from being served meanwhile.

    Raises:
        NodeBusy: It is being served.
        NodeLockUnusable: Its file can not be used by this user, or there is no room for it.
    """
    descriptor = _lock(folder, fcntl.LOCK_EX, "this node is running; stop it first")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, kind: int, busy: str) -> int:
    path = folder / LOCK_FILE
    try:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError as error:
        raise NodeBusy(busy) from error
    except OSError as error:
        raise NodeLockUnusable(
            f"{path} can not be used: {error.strerror}; see that the folder has room and may be written to, and give "
            "it and this file to the user that the node runs as"
        ) from error
    return descriptor


def _open(path: Path) -> int:
    """Open the lock file; a new one belongs to the owner of its folder, since root may make what another user needs."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        # Not given away: a link in its place could be to any file of root's.
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    # Only root may, and nobody on some file systems.
    with suppress(OSError):
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor
