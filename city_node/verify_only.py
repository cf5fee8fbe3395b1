"""Where a city node remembers that it must not sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from city_node.config import CityConfig
from elicense.workers.stop_mark import StopMark

MARK_FILE: Final = "verify-only.json"


def verify_only_mark(config: CityConfig, clock: Callable[[], int]) -> StopMark:
    """Return the mark of the node with this configuration."""
    return StopMark(config.data_dir / MARK_FILE, clock)
