"""What the registry tells Prometheus about erasures that rest on nothing."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class ErasureMetrics:
    """Counts ERASED entries that cite an order which nobody has given, as far as the registry knows.

    A registry that was set back may count one whose order arrives later; otherwise the city breaks a rule, and
    its entry, which holds nothing of a person, stays in its log to show it.

    Args:
        registry: Where to register.
    """

    def __init__(self, *, registry: CollectorRegistry) -> None:
        self._unfounded = Counter(
            "elicense_erasures_unfounded",
            "Erasures of a city that cite an order of another city which has given none.",
            ["city"],
            registry=registry,
        )

    def unfounded(self, city: int, count: int) -> None:
        """Count what was not carried out, of one city."""
        self._unfounded.labels(str(city)).inc(count)
