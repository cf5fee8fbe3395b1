"""The process that reads batches: ``python -m registry.reader`` and the number of its end of the line."""

from __future__ import annotations

import gc
import sys
from typing import Final

from elicense.errors import Malformed
from elicense.view.person import PersonIndex
from elicense.workers.assistants import Answering, assist
from registry.reading import answer_to

MODULE: Final = "registry.reader"

NOT_READ: Final = b""
"""What it says of a batch that is malformed: whoever asked finds out for itself what is wrong."""

#: A batch makes tens of thousands of objects, and none that would be in a cycle.
_OBJECTS_PER_COLLECTION: Final = 1_000_000


def answering(index_key: bytes) -> Answering:
    """Return what reads batches under an index key."""
    persons = PersonIndex(index_key)

    def answer(question: bytes) -> bytes:
        try:
            return answer_to(question, persons)
        except Malformed:
            return NOT_READ

    return answer


if __name__ == "__main__":
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    assist(int(sys.argv[1]), answering)
