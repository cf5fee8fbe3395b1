from __future__ import annotations

import grpc
import pytest
from prometheus_client import CollectorRegistry

from elicense.rpc.call_metrics import RpcMetrics, code_label

METHOD = "/elicense.v1.VerificationService/VerifyLicense"
LABELS = {"grpc_type": "unary", "grpc_service": "elicense.v1.VerificationService", "grpc_method": "VerifyLicense"}


def test_calls_are_counted_by_code_and_time() -> None:
    registry = CollectorRegistry()
    metrics = RpcMetrics(registry)
    stats = metrics.method("unary", METHOD)
    stats.started += 3
    stats.finish(grpc.StatusCode.OK, 0.0004)
    stats.finish(grpc.StatusCode.OK, 0.003)
    stats.finish(grpc.StatusCode.PERMISSION_DENIED, 60.0)
    assert metrics.method("unary", METHOD) is stats
    assert registry.get_sample_value("grpc_server_started_total", LABELS) == 3
    assert registry.get_sample_value("grpc_server_handled_total", {**LABELS, "grpc_code": "OK"}) == 2
    assert registry.get_sample_value("grpc_server_handled_total", {**LABELS, "grpc_code": "PermissionDenied"}) == 1
    assert registry.get_sample_value("grpc_server_handling_seconds_bucket", {**LABELS, "le": "0.0005"}) == 1
    assert registry.get_sample_value("grpc_server_handling_seconds_bucket", {**LABELS, "le": "0.005"}) == 2
    assert registry.get_sample_value("grpc_server_handling_seconds_bucket", {**LABELS, "le": "+Inf"}) == 3
    assert registry.get_sample_value("grpc_server_handling_seconds_sum", LABELS) == pytest.approx(60.0034)


def test_codes_are_spelt_as_in_the_rest_of_the_family() -> None:
    assert [code_label(c) for c in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.DATA_LOSS)] == [
        "OK",
        "Canceled",
        "DataLoss",
    ]
