"""What the registry tells Prometheus about conflicts, and when it raises its voice."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, Gauge

_log = structlog.stdlib.get_logger(__name__)


class ConflictMetrics:
    """How many conflicts wait, and for whom.

    Args:
        registry: Where to register.
    """

    def __init__(self, *, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "elicense_conflicts",
            "Conflicts by what they wait for: the cities, an operator (overdue), or a city that must take note",
            ["state"],
            registry=registry,
        )
        self._overdue = 0

    def counted(self, is_open: int, overdue: int, decided: int) -> None:
        """Note how many there are; alarms whenever more are overdue than before."""
        self._waiting.labels("open").set(is_open - overdue)
        self._waiting.labels("overdue").set(overdue)
        self._waiting.labels("decided").set(decided)
        if overdue > self._overdue:
            _log.error("conflicts_overdue", conflicts=overdue)
        self._overdue = overdue

    def forget(self) -> None:
        """Show nothing: another process counts now, and what this one knew grows old."""
        self._waiting.clear()
        self._overdue = 0
