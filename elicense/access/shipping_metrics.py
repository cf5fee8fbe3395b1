"""What a process tells Prometheus about the way of its looks to where holders see them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from elicense.clock import SECOND_US


class ShippingMetrics:
    """How far behind the looks are that holders can see.

    Args:
        registry: Where to register.
        clock: UTC microseconds.
    """

    def __init__(self, *, registry: CollectorRegistry, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._age = Gauge(
            "elicense_access_shipped_age_seconds",
            "Age of the moment up to which all looks of a process have reached the registry",
            ["node"],
            registry=registry,
        )

    def complete(self, node: str, until_us: int) -> None:
        """Note up to when all looks of a process have arrived."""
        self._age.labels(node).set_function(lambda: max(0, self._clock() - until_us) / SECOND_US)
