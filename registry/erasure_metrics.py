"""What the registry tells Prometheus about erasures that it can not account for itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from registry.erasure import Erasures


class ErasureMetrics:
    """Counts ERASED entries that rest on an order which nobody has given, or on a city's word alone.

    A registry that was set back has reason to see both: an order may arrive later, and what ended a licence comes
    without its content, of which it knows that it held it. Otherwise the city breaks a rule, and its entry, which
    holds nothing of a person, stays in its log to show it.

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
        self._by_word = Counter(
            "elicense_erasures_by_word",
            "Erasures of licences in force here, whose end was held before, and came without its content now.",
            ["city"],
            registry=registry,
        )

    def count(self, city: int, came: Erasures) -> None:
        """Count what came of erasures of one city."""
        # Shown before there is any: only then can an alert see it rise.
        self._unfounded.labels(str(city)).inc(came.unfounded)
        self._by_word.labels(str(city)).inc(came.by_word)
