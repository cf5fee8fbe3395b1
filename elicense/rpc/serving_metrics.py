"""What a process tells Prometheus about its health, as it tells callers of the standard health service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from elicense.rpc.server import NodeHealth

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_WHOLE_NODE: Final = "node"


class ServingMetrics(Collector):
    """Which services can do their work.

    Args:
        health: Their health.
        registry: Where to register.
    """

    def __init__(self, health: NodeHealth, registry: CollectorRegistry) -> None:
        self._health = health
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as it stands; called by the thread that serves the metrics port."""
        serving = GaugeMetricFamily("elicense_serving", "1 while the service can do its work", labels=["service"])
        for service, ready in sorted(self._health.ready().items()):
            serving.add_metric([service or _WHOLE_NODE], ready)
        yield serving
