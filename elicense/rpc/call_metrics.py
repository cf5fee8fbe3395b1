"""How often each method was called, with what end, and how long it took.

Counting a call costs well under a microsecond: plain integers, read by a
collector when Prometheus asks.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the handling-time histogram, seconds."""

_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


def code_label(code: grpc.StatusCode) -> str:
    """Return a status code as the metrics of gRPC's Go family spell it: ``PermissionDenied``."""
    match code.name:
        case "OK":
            return "OK"
        case "CANCELLED":
            return "Canceled"
        case name:
            return name.title().replace("_", "")


class MethodStats:
    """Counts of one method; written by the event loop alone."""

    __slots__ = ("buckets", "handled", "labels", "seconds", "started")

    def __init__(self, kind: str, full_name: str) -> None:
        _, service, method = full_name.split("/")
        self.labels = (kind, service, method)
        self.started = 0
        self.handled: dict[grpc.StatusCode, int] = {}
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0

    def finish(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count a call that ended with ``code`` after that many seconds."""
        self.handled[code] = self.handled.get(code, 0) + 1
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds


class RpcMetrics(Collector):
    """Server metrics under the names that dashboards of the gRPC family expect.

    Args:
        registry: Where to register; each process and each test has its own.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: dict[str, MethodStats] = {}
        registry.register(self)

    def method(self, kind: str, full_name: str) -> MethodStats:
        """Return the counts of a method; ``kind`` is ``unary``, ``server_stream`` and so on."""
        return self._methods.setdefault(full_name, MethodStats(kind, full_name))

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand; called by the thread that serves the metrics port."""
        started = CounterMetricFamily("grpc_server_started", "RPCs started", labels=_LABELS)
        handled = CounterMetricFamily("grpc_server_handled", "RPCs ended", labels=(*_LABELS, "grpc_code"))
        seconds = HistogramMetricFamily("grpc_server_handling_seconds", "Time to handle an RPC", labels=_LABELS)
        for stats in list(self._methods.values()):
            started.add_metric(stats.labels, stats.started)
            for code, count in list(stats.handled.items()):
                handled.add_metric((*stats.labels, code_label(code)), count)
            total, buckets = 0, []
            for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], list(stats.buckets), strict=True):
                total += count
                buckets.append((bound, float(total)))
            seconds.add_metric(stats.labels, buckets=buckets, sum_value=stats.seconds)
        yield started
        yield handled
        yield seconds
