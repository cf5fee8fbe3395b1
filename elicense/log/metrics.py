"""What a log writer counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class LogMetrics:
    """Metrics of one log writer.

    Args:
        registry: Where they are exposed.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.commit_entries = Histogram(
            "elicense_log_commit_entries",
            "Entries appended by one commit.",
            buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048],
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "elicense_log_commit_seconds",
            "Time from the start of a commit until its head is signed.",
            buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
            registry=registry,
        )
        self.waiting = Gauge("elicense_log_waiting_requests", "Requests that wait for a commit.", registry=registry)
        self.size = Gauge("elicense_log_size", "Entries of the log.", registry=registry)
        # The age is left to the reader: time() - this; a gauge of age would stand still with the process.
        self.checkpoint_time = Gauge(
            "elicense_log_checkpoint_timestamp_seconds", "When the newest head was signed.", registry=registry
        )
        self.stopped = Gauge("elicense_log_stopped", "1 once signing has stopped for good.", registry=registry)
