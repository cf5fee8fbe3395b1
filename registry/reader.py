"""The process that reads batches: ``python -m registry.reader`` and the number of its end of the line.

The first thing it hears is the index key, then batches, one at a time.  It ends as
soon as nobody holds the other end of the line, however that came.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
from typing import Final

from elicense.errors import Malformed
from elicense.view.person import PersonIndex
from elicense.workers.frames import receive_frame, send_frame
from registry.reading import answer_to

READY: Final = b"ready"
"""What it says once it can read."""

NOT_READ: Final = b""
"""What it says of a batch that is malformed: whoever asked finds out for itself what is wrong."""

#: A batch makes tens of thousands of objects, and none that would be in a cycle.
_OBJECTS_PER_COLLECTION: Final = 1_000_000


def main() -> None:
    """Read what comes until the line ends."""
    # At a terminal it reaches the whole group; the node drains first, and needs this process to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    with socket.socket(fileno=int(sys.argv[1])) as line:
        try:
            key = receive_frame(line)
            if key is None:
                return
            persons = PersonIndex(key)
            send_frame(line, READY)
            while (question := receive_frame(line)) is not None:
                send_frame(line, _answer(question, persons))
        except ConnectionError:
            return


def _answer(question: bytes, persons: PersonIndex) -> bytes:
    try:
        return answer_to(question, persons)
    except Malformed:
        return NOT_READ


if __name__ == "__main__":
    main()
