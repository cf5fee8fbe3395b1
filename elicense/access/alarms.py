"""Alarms over who looks at whom: counted and logged, never with personal data."""

from __future__ import annotations

from enum import StrEnum

import structlog
from prometheus_client import CollectorRegistry, Counter

_log = structlog.stdlib.get_logger(__name__)


class Alarm(StrEnum):
    """What is out of the ordinary."""

    SUBJECT_LOOKED_AT_OFTEN = "subject_looked_at_often"
    """One person was looked at very often in a day, by whomever; nothing is refused for it."""
    SEALED_TOO_OFTEN = "sealed_too_often"
    """A verifier sealed very many looks in a day."""
    SEALING_EXTENDED = "sealing_extended"
    """Looks at one person were sealed again and again, beyond the longest time that one sealing may last."""
    RESERVE_SPENT = "reserve_spent"
    """The access log is full and officials spend its reserve."""
    LOG_SET_BACK = "log_set_back"
    """The registry holds looks of a node that the node's own log no longer has."""


class AccessAlarms:
    """Counts and logs alarms.

    Args:
        registry: Where the counter is registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "elicense_access_alarms",
            "Alarms over looks at licences, by kind",
            ["kind"],
            registry=registry,
        )
        for alarm in Alarm:
            self._counter.labels(alarm.value)

    def sound(self, alarm: Alarm, **numbers: int | str) -> None:
        """Note an alarm; ``numbers`` must hold nothing about a person."""
        self._counter.labels(alarm.value).inc()
        _log.warning("access_alarm", kind=alarm.value, **numbers)
