"""Who may work on a node's folder: any number of serving processes, or one command that changes what they rest on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from elicense.errors import Refused

LOCK_FILE: Final = "node.lock"


class NodeBusy(Refused):
    """The node runs, or a command works on it."""

    reason = "NODE_BUSY"


def hold_serving(folder: Path) -> int:
    """Take the lock of a serving process; close the descriptor to let go, as the end of the process does.

    Raises:
        NodeBusy: A command works on the node.
    """
    return _lock(folder, fcntl.LOCK_SH, "a command works on this node; start it once that has ended")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep the node from being served meanwhile.

    Raises:
        NodeBusy: It is being served.
    """
    descriptor = _lock(folder, fcntl.LOCK_EX, "this node is running; stop it first")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, kind: int, busy: str) -> int:
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise NodeBusy(busy) from error
    return descriptor
