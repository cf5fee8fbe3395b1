"""What the registry's clock shows, as far as this city can tell."""

from __future__ import annotations

import asyncio

from google.protobuf.timestamp_pb2 import Timestamp

from elicense.clock import SECOND_US, from_timestamp


class RegistryClock:
    """The registry's clock as it answered last, and what has passed since on our monotonic one."""

    def __init__(self) -> None:
        self._heard: tuple[int, float] | None = None

    def hear(self, registry_time: Timestamp) -> None:
        """Note what it answered just now."""
        self._heard = (from_timestamp(registry_time), asyncio.get_running_loop().time())

    def now_us(self) -> int | None:
        """Return what it shows now, or less; None before it was heard.

        Our own clock may be fast, and would then vouch for records that do not exist yet.
        """
        if self._heard is None:
            return None
        answered_us, heard_s = self._heard
        return answered_us + int((asyncio.get_running_loop().time() - heard_s) * SECOND_US)
