"""How long tests go on that throw bytes at something, and what they report of it."""

from __future__ import annotations

import os
import secrets
from typing import Final

_WANTED: Final = os.environ.get("ELICENSE_FUZZ")

FUZZED: Final = "fuzzed"
"""Property of a test: what it attacked, with how many examples, and how many were refused with a typed error."""


def seed() -> int:
    """Return what random inputs begin with: always the same, unless somebody asked for more of them."""
    return 1 if _WANTED is None else secrets.randbits(64)


def examples(short: int) -> int:
    """Return how many examples each parser gets: ``ELICENSE_FUZZ``, or ``short`` of them."""
    return short if _WANTED is None else int(_WANTED)


def requests(short: int) -> int:
    """Return how many requests each method gets over the wire: one for 20 examples of a parser, which take as long."""
    return short if _WANTED is None else max(short, int(_WANTED) // 20)
