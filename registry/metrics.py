"""What the registry tells Prometheus about each city's replication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.batch import Batch, Taken
from registry.model import CityState

_BATCH_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 2048)
_US: Final = 1_000_000


@dataclass(slots=True)
class _City:
    """What was last seen of a city by this process."""

    lag: int = 0
    skew_us: int = 0
    as_of_us: int = 0
    entries: int = 0
    heartbeats: int = 0


class CityMetrics(Collector):
    """Lag, age and skew of each city that this process heard.

    Args:
        registry: Where to register.
        clock: UTC microseconds.
    """

    def __init__(self, *, registry: CollectorRegistry, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._cities: dict[int, _City] = {}
        self._batches = Histogram(
            "elicense_replication_batch_entries",
            "Entries in a batch that was taken in",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        registry.register(self)

    def seed(self, states: Iterable[CityState]) -> None:
        """Begin with what is stored, so that a city that stays silent after a restart is not forgotten."""
        for state in states:
            city = self._cities.setdefault(state.city, _City())
            city.lag = max(0, state.tip_size - state.next_index)
            city.skew_us = state.city_clock_us - state.received_us
            city.as_of_us = state.as_of_us

    def took(self, batch: Batch, taken: Taken) -> None:
        """Note a batch or heartbeat that was accepted."""
        city = self._cities.setdefault(batch.city, _City())
        city.lag = max(0, batch.tip_size - taken.next_index)
        city.skew_us = batch.city_us - taken.now_us
        city.as_of_us = taken.as_of_us
        if batch.entries:
            city.entries += len(batch.entries)
            self._batches.observe(len(batch.entries))
        else:
            city.heartbeats += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand; called by the thread that serves the metrics port."""
        label = ["city"]
        lag = GaugeMetricFamily("elicense_replication_lag_entries", "Entries that the registry lacks", labels=label)
        age = GaugeMetricFamily("elicense_replication_as_of_age_seconds", "Age of what is held in full", labels=label)
        skew = GaugeMetricFamily("elicense_replication_clock_skew_seconds", "City clock minus ours", labels=label)
        entries = CounterMetricFamily("elicense_replication_entries", "Entries received", labels=label)
        beats = CounterMetricFamily("elicense_replication_heartbeats", "Heartbeats received", labels=label)
        now_us = self._clock()
        for code, city in sorted(self._cities.items()):
            of = [str(code)]
            lag.add_metric(of, city.lag)
            if city.as_of_us:
                age.add_metric(of, (now_us - city.as_of_us) / _US)
            skew.add_metric(of, city.skew_us / _US)
            entries.add_metric(of, city.entries)
            beats.add_metric(of, city.heartbeats)
        yield from (lag, age, skew, entries, beats)
