"""The mark of a node that must not sign: a file, so that no restart and no other process of the node misses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elicense.errors import (
    DataLoss,
    EpochClosed,
    EpochNotBound,
    Error,
    LogBehind,
    LogForked,
    RootMismatch,
    StoreCorrupt,
)
from elicense.trust.secret_file import SECRET_MODE, replace_file, sync_folder

_BY_REASON: Final = {
    cls.reason: cls for cls in (EpochClosed, EpochNotBound, LogBehind, LogForked, RootMismatch, StoreCorrupt)
}


@dataclass(frozen=True, slots=True)
class StopMark:
    """Where the node remembers why it must not sign.

    A file and not a row: the database may be what is in doubt.

    Attributes:
        path: The file; there is none while the node may sign.
        clock: UTC microseconds.
    """

    path: Path
    clock: Callable[[], int]

    def read(self) -> Error | None:
        """Return why the node must not sign, or None; a mark that can not be read is one as well."""
        try:
            # Asked before every decision, and hardly ever there: opening what is missing takes ten times as long.
            self.path.stat()
            kept = json.loads(self.path.read_bytes())
            reason, message = str(kept["reason"]), str(kept["message"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return DataLoss(f"{self.path.name} can not be read, so the reason is not known")
        return _BY_REASON.get(reason, DataLoss)(message)

    def set(self, reason: Error, evidence: Sequence[bytes] = ()) -> None:
        """Leave the mark, durably; ``evidence`` are signed heads that can not both be true.

        Raises:
            OSError: It can not be written.
        """
        kept: dict[str, object] = {"reason": reason.reason, "message": reason.message, "since_us": self.clock()}
        if evidence:
            kept["signed_heads"] = [note.decode() for note in evidence]
        replace_file(self.path, json.dumps(kept, ensure_ascii=False, indent=2).encode() + b"\n", SECRET_MODE)

    def clear(self) -> None:
        """Take the mark away; a node that runs signs again once it is restarted."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)
