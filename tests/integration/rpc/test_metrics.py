from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from elicense.errors import PeerUnreachable
from elicense.rpc.call_metrics import RpcMetrics
from elicense.rpc.telemetry import MetricsServer
from tests.support.authority import TestAuthority


def fetch(port: int, context: ssl.SSLContext) -> str:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_the_metrics_port_asks_for_a_certificate(pki: TestAuthority, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    RpcMetrics(registry).method("unary", "/a.B/C").started += 1
    node = pki.issue("/registry").save(tmp_path / "node")
    auditor = pki.issue("/auditor/zhao").save(tmp_path / "auditor")
    server = MetricsServer(registry, host="127.0.0.1", port=0, credentials=node)
    try:
        context = ssl.create_default_context(cafile=str(node / "root.pem"))
        with pytest.raises((ssl.SSLError, OSError)):
            fetch(server.port, context)
        context.load_cert_chain(str(auditor / "chain.pem"), str(auditor / "key.pem"))
        shown = fetch(server.port, context)
    finally:
        server.close()
    assert 'grpc_server_started_total{grpc_method="C",grpc_service="a.B",grpc_type="unary"} 1.0' in shown


def test_a_metrics_port_in_use_is_told_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PeerUnreachable, match="is it in use"):
            MetricsServer(CollectorRegistry(), host="127.0.0.1", port=taken.getsockname()[1], credentials=None)
