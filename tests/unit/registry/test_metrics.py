"""What Prometheus is told of cities."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from registry.metrics import CityMetrics
from registry.model import CityState


def test_a_city_that_stays_silent_after_a_restart_is_still_shown_and_grows_old() -> None:
    shown = CollectorRegistry()
    metrics = CityMetrics(registry=shown, clock=lambda: 100_000_000)
    metrics.seed([CityState(320500, 1, 5, 7, 41_000_000, 40_000_000, 30_000_000, 7, 40_000_000)])
    labels = {"city": "320500"}
    assert shown.get_sample_value("elicense_replication_lag_entries", labels) == 2
    assert shown.get_sample_value("elicense_replication_as_of_age_seconds", labels) == 70
    assert shown.get_sample_value("elicense_replication_clock_skew_seconds", labels) == 1
