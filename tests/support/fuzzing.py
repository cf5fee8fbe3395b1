"""How long tests go on that throw bytes at something, and what they report of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Any, Final

import pytest

_WANTED: Final = os.environ.get("ELICENSE_FUZZ")

FUZZED: Final = "fuzzed"
"""Property of a test: what it attacked, how many of them, with how many examples, and how many were refused."""


def seed() -> int:
    """Return what random inputs begin with: always the same, unless somebody asked for more of them."""
    return 1 if _WANTED is None else secrets.randbits(64)


def examples(short: int) -> int:
    """Return how many examples each parser gets: ``ELICENSE_FUZZ``, or ``short`` of them."""
    return short if _WANTED is None else int(_WANTED)


def requests(short: int) -> int:
    """Return how many requests each method gets over the wire: one for 20 examples of a parser, which take as long."""
    return short if _WANTED is None else max(short, int(_WANTED) // 20)


def summary(reports: Sequence[pytest.TestReport]) -> list[str]:
    """Return what a run that somebody asked for has tried, and what came of it; nothing of any other run."""
    if _WANTED is None:
        return []
    value: Any
    attacked: dict[str, list[int]] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == FUZZED:
                kind, *numbers = value
                before = attacked.get(kind, [0, 0, 0])
                attacked[kind] = [old + new for old, new in zip(before, numbers, strict=True)]
    lines = [
        f"fuzzed {count} {kind}: {tried:,} examples, {refused:,} refused with a typed error, the rest taken"
        for kind, (count, tried, refused) in sorted(attacked.items(), reverse=True)
    ]
    failed = sum(report.failed for report in reports)
    return [*lines, f"other exceptions, memory beyond its limit, and inputs that should have been taken: {failed}"]
