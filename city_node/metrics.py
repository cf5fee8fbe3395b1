"""What a city node shows of itself to Prometheus, besides its calls and its log."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReplicationMetrics:
    """How far the registry is behind this city.

    Args:
        registry: Where to register.
        city: Division code, the label of every metric.
        clock: UTC microseconds.
    """

    def __init__(self, *, registry: CollectorRegistry, city: int, clock: Callable[[], int]) -> None:
        labels = {"city": str(city)}
        self._clock = clock
        self._oldest_us = 0
        lag = Gauge(
            "elicense_replication_lag_entries",
            "Entries that the registry has not confirmed.",
            ["city"],
            registry=registry,
        )
        self._lag = lag.labels(**labels)
        age = Gauge(
            "elicense_replication_lag_seconds",
            "Age of the oldest entry that the registry has not confirmed; 0 when it has all.",
            ["city"],
            registry=registry,
        )
        age.labels(**labels).set_function(self._seconds)
        failures = Counter(
            "elicense_replication_failures_total",
            "Calls to the registry that failed.",
            ["city", "reason"],
            registry=registry,
        )
        self._failures = failures
        self._city = str(city)

    def confirmed(self, left: int) -> None:
        """Note that a call went through and how many entries are still to go."""
        self._lag.set(left)
        if left == 0:
            self._oldest_us = 0

    def waiting(self, entries: int, oldest_us: int) -> None:
        """Note how many entries wait and when the oldest of them was recorded."""
        self._lag.set(entries)
        self._oldest_us = oldest_us

    def failed(self, reason: str) -> None:
        """Count a failed call by its reason."""
        self._failures.labels(city=self._city, reason=reason).inc()

    def _seconds(self) -> float:
        return max(0, self._clock() - self._oldest_us) / 1_000_000 if self._oldest_us else 0.0
